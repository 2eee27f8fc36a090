"""``python -m grokinterp``."""

import sys

from grokinterp.cli import main

if __name__ == "__main__":
    sys.exit(main())
