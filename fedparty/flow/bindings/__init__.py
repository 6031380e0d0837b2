"""Tables by name: what this party's people bound, and what a task is given.

Owns which names are bound to which files. Does not own reading them, which only the worker can (`fedparty.worker`), nor
who may use which table (the site's policy).
"""

from fedparty.flow.bindings.bindings import TABLE_NAME, Binding, Bindings

__all__ = ["TABLE_NAME", "Binding", "Bindings"]
