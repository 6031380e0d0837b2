#!/usr/bin/env python3
"""Push bundles, start them, wait until healthy, verify with the toy job: the same as ``fedparty deploy``."""

import sys

try:
    from fedparty.cli.main import main
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed for {sys.executable}: run `make lab` once, then `. .venv/bin/activate`")

if __name__ == "__main__":
    sys.exit(main(["deploy", *sys.argv[1:]]))
