"""`python -m nanoocr` is the installed command `nanoocr`."""

import sys

from nanoocr.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
