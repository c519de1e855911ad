"""`python -m rnnlab.cli` is `rnnlab`."""

import sys

from rnnlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
