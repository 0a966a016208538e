"""`python run.py` is `authapi serve`, straight from a checkout."""

import sys

from authapi.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
