"""The commented example and the reference table, both rendered from the schema.

Owns the layout of ``parties.conf`` and ``docs/parties.conf.md``; ``python -m fedparty.config.reference`` writes both in
the current folder. Does not own a word about any key: that is in `schema`.
"""

from __future__ import annotations

from pathlib import Path

from fedparty.config.schema import FOREIGN, GROUPS, Key, Scope

EXAMPLE_FILE = Path("parties.conf")
REFERENCE_FILE = Path("docs/parties.conf.md")

_SHOWN = ("party_list", "party_ip_list")

_EXAMPLE_HEAD = """\
# parties.conf: the one file that describes a federation.
#
# As it stands: two parties on this machine. Then: python generate_config.py, python deploy.py all; both take
# --engine process, which needs no Docker.
# It looks like bash, but is read and never executed: key=value, lists in brackets, # before a comment. A file of
# KubeFATE works as it is. A line #key=value is not in force: it shows the default or, where there is none, an example.
"""

_EXAMPLE_TAIL = """\

# ---- Sections ----
# A section changes keys for one party, or for the exchange, alone:
#
#[9999]
#rest_port=0
#cores=2
"""

_REFERENCE_HEAD = """\
# parties.conf

<!-- Written by python -m fedparty.config.reference from fedparty/config/schema.py. -->

The one file that describes a federation. It looks like bash and is *parsed, never executed*:

```bash
party_list=(10000 9999)             # lists are matched by position
party_ip_list=( 192.168.1.1
                party-b.example.org )
spool_quota=50GiB                   # holds for every party ...

[9999]
spool_quota=5GiB                    # ... but this one
mysql_password='$ecret'             # in single quotes everything is text
```

- `key=value`; spaces around `=` and indentation are allowed. Quotes, `\\` and `#` mean what they mean in bash. A
  value ends on its line; a list may take any number of lines. `key=` is the same as leaving the key out.
- `$`, backticks and `$(...)` outside single quotes are errors, as are `;`, `&`, `|`, `<`, `>` outside quotes.
- `[10000]` starts a section that overrides keys for this party; `[exchange]` one for the exchange. The section's value
  counts, else the one above the sections, else the default.
- Sizes are whole numbers with `B`, `KiB`, `MiB`, `GiB` or `TiB`; without one they are bytes.
- Every fault is reported at once with file, line and key, and nothing is written.

In the column *place*, `top` is above the first section.
"""

_FOREIGN_HEAD = """
## Keys of KubeFATE without a meaning here

A KubeFATE file works as it is; these keys are named in a warning. Published passwords (`admin`, `fate_dev`) are
never used: every secret is random.

| key | instead |
|---|---|
"""


def example() -> str:
    """Return the shipped parties.conf."""
    parts = [_EXAMPLE_HEAD]
    for title, keys in GROUPS.items():
        parts.append(f"\n# ---- {title} ----\n")
        parts += (_example_key(key) for key in keys)
    return "".join(parts) + _EXAMPLE_TAIL


def reference() -> str:
    """Return docs/parties.conf.md."""
    parts = [_REFERENCE_HEAD]
    for title, keys in GROUPS.items():
        parts.append(f"\n## {title}\n\n| key | value | default | place | meaning |\n|---|---|---|---|---|\n")
        parts += (_reference_row(key) for key in keys)
    rows = (f"| `{name}` | {replacement}. |\n" for name, replacement in FOREIGN.items())
    return "".join(parts) + _FOREIGN_HEAD + "".join(rows)


def main() -> None:
    """Write both files."""
    EXAMPLE_FILE.write_text(example(), encoding="utf-8")
    REFERENCE_FILE.write_text(reference(), encoding="utf-8")


def _example_key(key: Key) -> str:
    is_shown = key.name in _SHOWN
    unit = f"Unit: {key.unit}. Default: {key.default or key.unset}.{_only(key)}"
    return f"# {key.doc}\n# {unit}\n{'' if is_shown else '#'}{key.name}={key.default or key.example}\n"


def _reference_row(key: Key) -> str:
    names = ", ".join(f"`{name}`" for name in key.spellings)
    default = f"`{key.default}`" if key.default else key.unset
    place = "top" if key.scope is Scope.FEDERATION else f"`{key.scope.value}`"
    doc = key.doc.replace("<", "&lt;")
    return f"| {names} | {key.unit} | {default} | {place} | {doc}{_only(key)} |\n"


def _only(key: Key) -> str:
    return f" Only with engine={key.engine}." if key.engine else ""


if __name__ == "__main__":
    main()
