"""Holding code that the site does not trust, by the kernel and without rights of one's own.

Owns what such a task can reach. Does not own who may bring code (the site's policy), nor loading it
(`fedparty.worker.code`).
"""

from fedparty.worker.isolation.isolation import KERNEL, NONE, hold, unheld

__all__ = ["KERNEL", "NONE", "hold", "unheld"]
