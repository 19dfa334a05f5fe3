"""`wambench report`: runs, comparisons, sweeps and attributions as one static page that opens from disk."""

MAX_MB = 60.0  # of a page, as long as nobody asks for more
