"""The audit log: who decided what, when and why, in a file that nobody changes unnoticed.

Owns the chain of entries, the file, and the head that the database keeps. Does not own what is worth an entry.
"""

from fedparty.flow.audit.audit import Audit
from fedparty.flow.audit.chain import ALLOWED, REFUSED, Entry

__all__ = ["ALLOWED", "REFUSED", "Audit", "Entry"]
