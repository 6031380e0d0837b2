"""What the REST paths work on.

Owns nothing: names the parts of the flow that they may use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedparty.flow.admission import Admission
from fedparty.flow.audit import Audit
from fedparty.flow.codes import Codes
from fedparty.flow.leadership import Term
from fedparty.flow.logs import Logs
from fedparty.flow.peers import Peers
from fedparty.flow.people import People
from fedparty.flow.policy import PolicyFile
from fedparty.flow.scheduler import Scheduler
from fedparty.flow.site import Site
from fedparty.flow.store import Store
from fedparty.flow.viewing import Viewing
from fedparty.types import PartyId


@dataclass(frozen=True)
class Backend:
    """The parts of a party's flow."""

    party: PartyId
    federation: str
    store: Store
    scheduler: Scheduler
    site: Site
    peers: Peers
    kinds: Mapping[str, Logs]
    """What this party's own tasks write: ``logs`` and ``metrics``."""
    viewing: Viewing
    people: People
    policy: PolicyFile
    admission: Admission
    audit: Audit
    codes: Codes
    ca_certificate: Path
    term: Term
