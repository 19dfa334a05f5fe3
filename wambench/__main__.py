"""`python -m wambench` is `wambench`."""

import sys

from wambench.cli import main

if __name__ == "__main__":
    sys.exit(main())
