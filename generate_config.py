#!/usr/bin/env python3
"""Write the signed bundle of every party from parties.conf: the same as ``fedparty generate``."""

import sys

if __name__ == "__main__":
    try:
        from fedparty.cli.main import main

        sys.exit(main(["generate", *sys.argv[1:]]))
    except ModuleNotFoundError as missing:
        advice = "run `make lab` once, then `. .venv/bin/activate`"
        sys.exit(f"{missing.name} is not installed for {sys.executable}: {advice}")
