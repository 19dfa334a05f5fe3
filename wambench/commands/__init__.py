"""The commands, by what they are for: their options, and the one function that each of them calls."""
