"""`python run.py` is `authapi serve`, straight from a checkout."""

import sys

from authapi.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
