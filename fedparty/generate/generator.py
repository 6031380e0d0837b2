"""The run: a `Federation` becomes bundles in the output folder.

Owns the order of the steps. Does not own any of them: ports, kept, plan, render, compare, write each have a module.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedparty.config.model import Federation, Party
from fedparty.config.unused import unused_keys
from fedparty.crypto.files import PUBLIC_MODE, SECRET_MODE
from fedparty.errors import BundleError
from fedparty.generate.archive import pack
from fedparty.generate.bundle import Bundle, PlannedFile
from fedparty.generate.compare import differences, is_intact
from fedparty.generate.database import check_replicas, has_own_database, read_authorities
from fedparty.generate.kept import Identity, Kept, NewFile
from fedparty.generate.outputs import Outputs
from fedparty.generate.plan import Trust, plan, tls_addresses, with_engine
from fedparty.generate.ports import Assigned, assign
from fedparty.generate.reach import check_reachable
from fedparty.generate.render import Renderer
from fedparty.generate.report import Change, Report, State
from fedparty.generate.write import Files, Stage, is_same, rehearsal, staging
from fedparty.pki import manifest
from fedparty.pki.authority import Authority
from fedparty.pki.manifest import MANIFEST, SIGNATURE
from fedparty.types import EXCHANGE, PartyId

Announce = Callable[[Change], None]


def run(
    federation: Federation,
    outputs: Path,
    *,
    engine: str | None = None,
    dry_run: bool = False,
    announce: Announce | None = None,
    renderer: Renderer | None = None,
) -> Report:
    """Write the bundle of every party, and of the exchange, and say what changed.

    Parameters
    ----------
    outputs
        The output folder; made if there is none.
    engine
        The engine of every machine; None: as the federation says.
    dry_run
        Find out what would change, and write nothing.
    announce
        Called with each bundle that is to be removed, before anything is put in place.
    renderer
        None: with the templates of this release.

    Raises
    ------
    FedpartyError
        Nothing was written: ports collide, something kept is damaged, another run is at work, or this release cannot do
        what is asked.
    """
    federation = with_engine(federation, engine)
    check_reachable(federation)
    check_replicas(federation)
    authorities = read_authorities(federation)
    place = Outputs(outputs)
    assign(federation, place.read_ports())  # a collision is found before there is so much as a folder
    with _told_where(outputs), rehearsal(place) if dry_run else staging(place) as stage:
        ports = assign(federation, place.read_ports())
        generation = _Generation(federation, place, stage, ports, authorities, renderer or Renderer())
        generation.prepare()
        for change in generation.changes if announce else ():
            if announce and change.state is State.REMOVED:
                announce(change)
        generation.commit()
    return generation.report(is_dry_run=dry_run)


@contextmanager
def _told_where(outputs: Path) -> Iterator[None]:
    """Translate what the file system refuses."""
    try:
        yield
    except OSError as exc:
        raise BundleError(
            f"{exc.filename or outputs}: {exc.strerror}",
            hint="What was there before is whole. The folder must be writable and have room; -o names another.",
        ) from exc


class _Generation:
    """What one run found out and prepared."""

    def __init__(
        self,
        federation: Federation,
        outputs: Outputs,
        stage: Stage,
        ports: Mapping[str, Assigned],
        database_authorities: Mapping[PartyId, bytes],
        renderer: Renderer,
    ) -> None:
        self.changes: list[Change] = []
        self._federation = federation
        self._outputs = outputs
        self._stage = stage
        self._ports = ports
        self._database_authorities = database_authorities
        self._renderer = renderer
        self._made_before = outputs.read_made_from()
        self._made_from: dict[str, dict[str, str]] = {}
        self._new_kept: dict[str, dict[str, NewFile]] = {}
        self._has_authority = (stage.ca / "ca.crt").exists()
        self._rendered: dict[tuple[str, str], bytes] = {}
        self._own_keys: dict[str, tuple[str, ...]] = {}
        self._fingerprint = ""

    def prepare(self) -> None:
        """Make what is missing, and prepare every bundle that is new or changed."""
        with self._open_authority() as authority:
            kept = {party.id: self._keep_all(party, authority) for party in self._federation.parties}
            exchange = self._keep_exchange(authority)
            trust = Trust(authority.fingerprint, authority.certificate_pem, authority.crl_pem())
            self._fingerprint = trust.fingerprint
            for bundle in plan(self._federation, self._ports, kept, exchange, trust, self._database_authorities):
                self.changes.append(self._prepare_bundle(bundle, authority))
                if bundle.own_keys:
                    self._own_keys[bundle.party] = bundle.own_keys
        self.changes += self._remove_stale()

    def commit(self) -> None:
        """Put everything in place."""
        self._stage.commit(self._new_kept, self._ports, self._made_from)

    def report(self, *, is_dry_run: bool) -> Report:
        """Return what happened."""
        kept = ((party, name, file) for party, files in self._new_kept.items() for name, file in files.items())
        return Report(
            federation=self._federation,
            outputs=self._outputs.folder,
            ports=self._ports,
            fingerprint=self._fingerprint if self._has_authority or not is_dry_run else None,
            changes=tuple(self.changes),
            reissued=tuple((party, name, file.why) for party, name, file in kept if file.why),
            own_keys=self._own_keys,
            unused=unused_keys(self._federation),
            is_dry_run=is_dry_run,
        )

    def _open_authority(self) -> Authority:
        return Authority.open_or_create(
            self._stage.ca,
            self._federation.name,
            self._federation.certificate_lifetime_days,
            ca_lifetime_days=self._federation.ca_lifetime_days,
            crl_refresh_days=self._federation.crl_refresh_days,
        )

    def _keep_all(self, party: Party, authority: Authority) -> Kept:
        folder = self._outputs.party(party.id)
        self._new_kept[party.id] = folder.new
        return folder.keep_all(authority, tls_addresses(party), has_database=has_own_database(party))

    def _keep_exchange(self, authority: Authority) -> Identity | None:
        if self._federation.exchange is None:
            return None
        folder = self._outputs.party(EXCHANGE)
        self._new_kept[EXCHANGE] = folder.new
        return folder.keep_tls(authority, tls_addresses(self._federation.exchange))

    def _prepare_bundle(self, bundle: Bundle, authority: Authority) -> Change:
        party, inputs = bundle.party, bundle.digest(self._renderer.digest)
        folder, archive = self._outputs.bundle(party), self._outputs.archive(party)
        before = self._made_before.get(party, {})
        if is_intact(folder, archive, before, inputs):
            self._made_from[party] = before
            return Change(party, State.UNCHANGED)
        files = self._make_files(bundle, authority)
        packed = pack(bundle.name, files)
        self._made_from[party] = _digests(inputs, files, packed)
        return self._compare(party, files, packed)

    def _compare(self, party: str, files: Files, packed: bytes) -> Change:
        folder, archive = self._outputs.bundle(party), self._outputs.archive(party)
        is_new, changed = not folder.exists(), differences(folder, files)
        is_packed = is_same(archive, packed, SECRET_MODE)
        if changed:
            self._stage.add_bundle(party, files)
        if not is_packed:
            self._stage.add_archive(party, packed)
        if is_new:
            return Change(party, State.NEW)
        is_changed = bool(changed) or not is_packed
        return Change(party, State.CHANGED if is_changed else State.UNCHANGED, changed, is_changed and not changed)

    def _make_files(self, bundle: Bundle, authority: Authority) -> Files:
        """Render the files of a bundle, and sign them."""
        contents = bundle.make_files(self._render)
        files = {file.path: (contents[file.path], file.mode) for file in bundle.files}
        entries = {file.path: file.entry(contents[file.path]) for file in bundle.files}
        listed = manifest.build(entries, party=bundle.party, federation=bundle.federation)
        return files | {MANIFEST: (listed, PUBLIC_MODE), SIGNATURE: (authority.sign(listed), PUBLIC_MODE)}

    def _render(self, file: PlannedFile, variables: dict[str, Any]) -> bytes:
        template = file.template or ""
        if not file.is_same_for_many:
            return self._renderer.render(template, variables)
        key = (template, json.dumps(variables))
        if key not in self._rendered:
            self._rendered[key] = self._renderer.render(template, variables)
        return self._rendered[key]

    def _remove_stale(self) -> Iterator[Change]:
        """Remove the bundles of those that an earlier run knew and parties.conf does not name any more."""
        for party in self._outputs.read_ports() | self._made_before:
            if party in self._ports or not self._outputs.bundle(party).exists():
                continue
            self._stage.remove_bundle(party)
            yield Change(party, State.REMOVED)


def _digests(inputs: str, files: Files, packed: bytes) -> dict[str, str]:
    parts = {"manifest": files[MANIFEST][0], "signature": files[SIGNATURE][0], "archive": packed}
    return {"inputs": inputs} | {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
