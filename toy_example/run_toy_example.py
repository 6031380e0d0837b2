#!/usr/bin/env python3
"""The secure sum between a guest and its hosts: run_toy_example.py GUEST HOST [HOST...] WORK_MODE (see --help)."""

import sys

try:
    from fedparty.cli.toy import main
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed for {sys.executable}: run `make lab` once, then `. .venv/bin/activate`")

if __name__ == "__main__":
    sys.exit(main())
