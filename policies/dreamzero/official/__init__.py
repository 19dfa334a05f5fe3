"""The released DreamZero 14B: its checkpoints, encoders, DROID protocol and training objective."""
