#!/usr/bin/env python3
"""Push bundles, start them, wait until healthy, verify with the toy job: the same as ``fedparty deploy``."""

import sys

if __name__ == "__main__":
    try:
        from fedparty.cli.main import main

        sys.exit(main(["deploy", *sys.argv[1:]]))
    except ModuleNotFoundError as missing:
        advice = "run `make lab` once, then `. .venv/bin/activate`"
        sys.exit(f"{missing.name} is not installed for {sys.executable}: {advice}")
