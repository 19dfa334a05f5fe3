"""Why a failed episode failed: read-out, intervention, first divergence, and the instrument they use."""
