"""Images of releases that do not exist: made from this tree's, to be upgraded to.

Owns what differs in them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deployment import IMAGES, image
from machines import outer

_PACKAGE = "/opt/fedparty/lib/python3.11/site-packages/fedparty"
_MIGRATION = """
import sqlalchemy as sa
from fedparty.database.migrations import expand

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    expand.create_table("extra_{revision}", sa.Column("id", sa.String(40), primary_key=True))
    expand.add_column("jobs", sa.Column("extra_{revision}", sa.String(40)))
"""


@contextmanager
def release(tag: str, *, revisions: Mapping[str, str], broken: str = "") -> Iterator[None]:
    """Give all images of a release, by its tag, for the length of a block.

    Parameters
    ----------
    revisions
        Revisions of the database's schema that it adds: each with the one before.
    broken
        A module of the package that ends its process when it is imported, e.g. ``worker/service``.
    """
    lines = [f"FROM {image('party')}", "USER root"]
    for revision, before in revisions.items():
        file = f"{_PACKAGE}/database/migrations/versions/v{revision}_extra.py"
        lines.append(f"RUN printf %s {_quoted(_MIGRATION.format(revision=revision, before=before))} > {file}")
    newest = max(revisions)
    module = f"{_PACKAGE}/database/migrate"
    lines.append(f"RUN sed -i 's/^REVISION = .*/REVISION = \"{newest}\"/' {module}.py")
    lines.append(f"RUN rm -f {_PACKAGE}/database/__pycache__/migrate.*")
    if broken:
        lines.append(f"RUN echo 'raise SystemExit(\"broken on purpose\")' >> {_PACKAGE}/{broken}.py")
        lines.append(f"RUN rm -rf {_PACKAGE}/{broken.rpartition('/')[0]}/__pycache__")
    lines.append("USER 10001:10001")
    for name in IMAGES:
        outer("tag", image(name), image(name, tag))
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", image("party", tag), "-"],
        input="\n".join(lines),
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        outer("rmi", *(image(name, tag) for name in IMAGES))


def _quoted(text: str) -> str:
    """Return a text as one word of the shell, on one line of a Dockerfile."""
    escaped = text.replace("\n", "\\n").replace("'", "'\\''")
    return f"\"$(printf '{escaped}')\""
