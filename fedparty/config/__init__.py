"""parties.conf: the one file that a user edits.

Owns the way from the file to a frozen, checked `Federation`, and the file's reference documentation. Does not own
anything that is derived from it: ports, keys, bundles.
"""

from fedparty.config.errors import ConfigurationErrors, Finding
from fedparty.config.loader import load
from fedparty.config.model import FIRST_PORTS, Database, Exchange, Federation, Machine, Party
from fedparty.config.unused import Unused, unused_keys
from fedparty.config.validate import Loaded

__all__ = [
    "FIRST_PORTS",
    "ConfigurationErrors",
    "Database",
    "Exchange",
    "Federation",
    "Finding",
    "Loaded",
    "Machine",
    "Party",
    "Unused",
    "load",
    "unused_keys",
]
