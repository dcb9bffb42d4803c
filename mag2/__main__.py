"""`python -m mag2` is the command `mag2`."""

import sys

from mag2.command import main

if __name__ == "__main__":
    sys.exit(main())
