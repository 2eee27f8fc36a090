"""``python -m grokinterp.cli``."""

import sys

from grokinterp.cli import main

if __name__ == "__main__":
    sys.exit(main())
