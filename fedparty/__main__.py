"""``python -m fedparty``: the same as the console command.

Owns nothing.
"""

import sys

from fedparty.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
