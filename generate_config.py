#!/usr/bin/env python3
"""Write the signed bundle of every party from parties.conf: the same as ``fedparty generate``."""

import sys

from fedparty.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
