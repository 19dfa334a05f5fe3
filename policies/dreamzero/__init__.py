"""DreamZero: one transformer that imagines video and actions together, from tiny to 14B."""
