"""Building blocks that the networks of all families share."""
