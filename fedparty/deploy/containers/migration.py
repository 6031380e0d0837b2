"""The database step of a deploy: a dump, then the migrations, before any service of the new release starts.

Owns the order of the step. The migrations themselves are `fedparty.database`'s, run in a container of the new release
under the database's own lock; they only ever add, so the release before runs on their result.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fedparty.deploy.containers import compose, watching
from fedparty.deploy.transport import Completed
from fedparty.errors import DeployError

if TYPE_CHECKING:
    from fedparty.deploy.bundle import Bundle
    from fedparty.deploy.containers.place import Place

DATABASE = "mysql"
START_TIMEOUT_S = 120.0
_TIMEOUT_S = 600.0
_MIGRATE = ("python", "-m", "fedparty", "migrate")


async def migrate(place: Place, bundle: Bundle) -> None:
    """Bring the party's database to the schema of the bundle's release.

    Raises
    ------
    DeployError
        The database does not start, cannot be dumped, or the migration failed; the dump's place is named.
    """
    owner = await place.owner()
    if DATABASE in bundle.services:
        await place.up(DATABASE)
        await watching.require_healthy(place, DATABASE, START_TIMEOUT_S)
    checked = await place.docker(
        compose.run_once(place.home.bundle, owner, "flow", (*_MIGRATE, "--check")), timeout_s=_TIMEOUT_S
    )
    current, needed = _revisions(checked)
    if current is not None and current >= needed:
        return
    dump = await _dump(place, bundle, current) if current is not None else None
    done = await place.docker(
        compose.run_once(place.home.bundle, owner, "flow", _MIGRATE), timeout_s=_TIMEOUT_S, is_required=False
    )
    if done.code != 0:
        raise DeployError(
            f"party {place.party}: the migration to {needed} failed: {done.last_lines()}",
            hint=f"The database as it was: {dump} at {place.transport.place}" if dump else "Nothing was in it before.",
        )


def _revisions(checked: Completed) -> tuple[str | None, str]:
    """Return the revision that the database is at, and the one that the release needs."""
    try:
        found = json.loads(checked.output.splitlines()[-1])
        return found["current"], found["needed"]
    except (IndexError, ValueError, KeyError, TypeError) as exc:
        raise DeployError(f"the database's revision was not told: {checked.last_lines() or 'no answer'}") from exc


async def _dump(place: Place, bundle: Bundle, revision: str) -> str | None:
    """Keep what is in the database; None where its own people look after it."""
    if DATABASE not in bundle.services:
        return None
    await place.transport.make_folder(place.home.backups)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    target = place.home.backups / f"{stamp}-revision-{revision}.sql"
    argv = compose.execute(bundle.containers[DATABASE], ("database", "dump"))
    await place.save_output(argv, target, timeout_s=_TIMEOUT_S)
    return str(target)
