"""A world action model in the place of the simulator: policies act in it, and what comes of it is compared.

`simulator` plays episodes in it, `key_point_goals` reads progress from key points, `ranking` plays several policies in
both worlds and `agreement` says how alike they are ranked; `horizon` says for how long imagined key points hold.
"""
