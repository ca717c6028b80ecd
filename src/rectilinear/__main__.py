"""The command line, as ``python -m rectilinear``."""

import sys

from rectilinear.cli import main

if __name__ == "__main__":
    sys.exit(main())
