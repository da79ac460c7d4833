"""``python -m redunet``: the same as the command ``redunet``."""

import sys

from redunet.cli import main

if __name__ == "__main__":
    sys.exit(main())
