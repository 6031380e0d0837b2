#!/usr/bin/env python3
"""Write the signed bundle of every party from parties.conf: the same as ``fedparty generate``."""

import sys

try:
    from fedparty.cli.main import main
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed for {sys.executable}: run `make lab` once, then `. .venv/bin/activate`")

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
