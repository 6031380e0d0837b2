"""Components that only `flow_party.ScriptedWorker` plays: any parameters, the roles of the tests' jobs.

Found as an installed package, because its metadata lies beside it.
"""

from typing import Any


class Scripted:
    """Played by a worker that does as it is told."""

    def guest(self, ctx: Any) -> None: ...

    def host(self, ctx: Any) -> None: ...

    def arbiter(self, ctx: Any) -> None: ...
