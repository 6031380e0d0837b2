"""A `Federation` becomes one signed bundle a party: plan (pure), render, write.

Owns the output folder but for ``ca/``. Does not own certificates (`fedparty.pki`) nor starting anything
(`fedparty.deploy`).
"""

from fedparty.generate.generator import run
from fedparty.generate.report import Change, Report, State

__all__ = ["Change", "Report", "State", "run"]
