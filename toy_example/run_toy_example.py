#!/usr/bin/env python3
"""The secure sum between a guest and its hosts: run_toy_example.py GUEST HOST [HOST...] WORK_MODE (see --help)."""

import sys

if __name__ == "__main__":
    try:
        from fedparty.cli.toy import main

        sys.exit(main())
    except ModuleNotFoundError as missing:
        advice = "run `make lab` once, then `. .venv/bin/activate`"
        sys.exit(f"{missing.name} is not installed for {sys.executable}: {advice}")
