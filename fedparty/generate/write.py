"""A run's results come into the output folder together.

Everything is made in ``.staging/`` and put in place by renames at the very end. A run that fails takes its renames
back; one that is killed leaves each bundle as it was or as it is to be, and the next run tidies up.

Owns preparing, putting in place and tidying up. Does not own what the files contain, nor the layout (`outputs`).
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Protocol

from fedparty.crypto.files import PRIVATE_FOLDER_MODE, SECRET_MODE, make_private_folder, replace_file
from fedparty.generate.bundle import bundle_name
from fedparty.generate.kept import NewFile
from fedparty.generate.outputs import MadeFrom, Outputs
from fedparty.generate.ports import Assigned

Files = Mapping[str, tuple[bytes, int]]
"""Path within a bundle -> (content, mode)."""


class Stage(Protocol):
    """Where a run leaves its results."""

    @property
    def ca(self) -> Path:
        """The folder of the CA, existing or to be made."""

    def add_bundle(self, party: str, files: Files) -> None:
        """Prepare a bundle."""

    def add_archive(self, party: str, content: bytes) -> None:
        """Prepare the archive of a bundle."""

    def remove_bundle(self, party: str) -> None:
        """Remove a bundle and its archive; what is kept for the party stays."""

    def commit(
        self, kept: Mapping[str, Mapping[str, NewFile]], ports: Mapping[str, Assigned], made_from: MadeFrom
    ) -> None:
        """Put everything in place: first what is made only once, then what can be made again.

        Parameters
        ----------
        kept
            New kept files by party id and file name.
        """


@contextmanager
def rehearsal(outputs: Outputs) -> Iterator[Stage]:
    """Give a stage that leaves the output folder alone: it issues from a copy of the CA, and drops every result."""
    with tempfile.TemporaryDirectory(prefix="fedparty-") as folder:
        ca = Path(folder) / "ca"
        make_private_folder(ca)
        for path in outputs.ca.iterdir() if outputs.ca.is_dir() else ():
            if path.suffix == ".key":
                (ca / path.name).symlink_to(path.resolve())  # no second copy of the one secret that matters most
            else:
                shutil.copy2(path, ca / path.name)
        yield Rehearsal(ca)


@contextmanager
def staging(outputs: Outputs) -> Iterator[Stage]:
    """Keep other runs out, tidy up after a killed one, and give a place to prepare results.

    Raises
    ------
    BundleError
        Another run is at work here.
    """
    with outputs.locked():
        _tidy_up(outputs)
        try:
            yield Staging(outputs)
        finally:
            if outputs.staging.exists():
                shutil.rmtree(outputs.staging)


class Rehearsal:
    """A `Stage` that drops everything; get it by `rehearsal`."""

    def __init__(self, ca: Path) -> None:
        self.ca = ca

    def add_bundle(self, party: str, files: Files) -> None:
        """See `Stage`."""

    def add_archive(self, party: str, content: bytes) -> None:
        """See `Stage`."""

    def remove_bundle(self, party: str) -> None:
        """See `Stage`."""

    def commit(
        self, kept: Mapping[str, Mapping[str, NewFile]], ports: Mapping[str, Assigned], made_from: MadeFrom
    ) -> None:
        """See `Stage`."""


class Staging:
    """The results of one run before they are in place; get it by `staging`.

    Parameters
    ----------
    outputs
        Where they go.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._folders: dict[str, Path] = {}
        self._arriving: list[str] = []
        self._leaving: list[str] = []

    @property
    def ca(self) -> Path:
        """Where to open the CA: in place, or here if there is none yet."""
        return self._outputs.ca if self._outputs.ca.exists() else self._folder("new-ca")

    def add_bundle(self, party: str, files: Files) -> None:
        """Prepare a bundle; a file that did not change stays the very same one."""
        name = bundle_name(party)
        target, current = self._folder("new") / name, self._outputs.bundle(party)
        for folder in sorted({folder for path in files for folder in PurePath(path).parents}):
            (target / folder).mkdir()
        for path, (content, mode) in files.items():
            if not (is_same(current / path, content, mode) and _linked(current / path, target / path)):
                _write(target / path, content, mode)
        self._arriving.append(name)

    def add_archive(self, party: str, content: bytes) -> None:
        """Prepare the archive of a bundle; only its owner may read it, for it holds secrets."""
        name = self._outputs.archive(party).name
        _write(self._folder("new") / name, content, SECRET_MODE)
        self._arriving.append(name)

    def remove_bundle(self, party: str) -> None:
        """See `Stage`."""
        self._leaving += [self._outputs.bundle(party).name, self._outputs.archive(party).name]

    def commit(
        self, kept: Mapping[str, Mapping[str, NewFile]], ports: Mapping[str, Assigned], made_from: MadeFrom
    ) -> None:
        """See `Stage`."""
        if not self._outputs.ca.exists():
            self._folder("new-ca").rename(self._outputs.ca)
        self._keep(kept)
        self._outputs.write_ports(ports)
        with _undone_on_failure() as undo:
            for name in self._leaving:
                self._move_away(name, undo)
            for name in self._arriving:
                self._move_away(name, undo)
                self._put_in_place(name, undo)
        self._outputs.write_made_from(made_from)

    def _keep(self, kept: Mapping[str, Mapping[str, NewFile]]) -> None:
        """Write kept files; a party's first ones appear together."""
        make_private_folder(self._outputs.parties)
        for party, files in kept.items():
            folder = self._outputs.parties / party
            if folder.exists():
                for name, file in files.items():
                    replace_file(folder / name, file.content, mode=file.mode)
            elif files:
                prepared = self._folder("new-parties") / party
                prepared.mkdir(mode=PRIVATE_FOLDER_MODE)
                for name, file in files.items():
                    _write(prepared / name, file.content, file.mode)
                prepared.rename(folder)

    def _move_away(self, name: str, undo: list[Callable[[], object]]) -> None:
        target, aside = self._outputs.folder / name, self._folder("old") / name
        if target.exists():
            target.rename(aside)
            undo.append(lambda: aside.rename(target))

    def _put_in_place(self, name: str, undo: list[Callable[[], object]]) -> None:
        prepared, target = self._folder("new") / name, self._outputs.folder / name
        prepared.rename(target)
        undo.append(lambda: target.rename(prepared))

    def _folder(self, name: str) -> Path:
        """Return a folder of the staging folder, made only when needed: a run that changes nothing leaves no trace."""
        if name not in self._folders:
            make_private_folder(self._outputs.staging)
            make_private_folder(self._outputs.staging / name)
            self._folders[name] = self._outputs.staging / name
        return self._folders[name]


def is_same(path: Path, content: bytes, mode: int) -> bool:
    """Return whether `path` is a plain file with this content and mode."""
    try:
        return path.lstat().st_mode == stat.S_IFREG | mode and path.read_bytes() == content
    except (FileNotFoundError, NotADirectoryError):
        return False


def _tidy_up(outputs: Outputs) -> None:
    """Put back what a killed run had moved away and not yet replaced; drop the rest of it."""
    old = outputs.staging / "old"
    for path in old.iterdir() if old.is_dir() else ():
        if not (outputs.folder / path.name).exists():
            path.rename(outputs.folder / path.name)
    if outputs.staging.is_dir():
        shutil.rmtree(outputs.staging)


@contextmanager
def _undone_on_failure() -> Iterator[list[Callable[[], object]]]:
    undo: list[Callable[[], object]] = []
    try:
        yield undo
    except BaseException:
        for step in reversed(undo):
            step()
        raise


def _linked(path: Path, target: Path) -> bool:
    """Give an unchanged file its new name as well; False where the file system cannot."""
    try:
        os.link(path, target)
    except OSError:
        return False
    return True


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a new file, with its mode from its first byte, whatever the umask."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
