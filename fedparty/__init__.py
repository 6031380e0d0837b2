"""fedparty: one parties.conf becomes a running, verified federation.

Owns the version. Imports nothing, so that every command starts fast.
"""

__version__ = "0.1.0"
