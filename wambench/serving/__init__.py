"""`wambench serve`: our policies behind a socket, for other people's harnesses and robots; one file a protocol.

`conversation` knows what a client has said and asks the policy; `host` keeps the policy in a thread of its own.
"""
