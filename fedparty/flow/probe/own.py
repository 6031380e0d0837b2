"""A party's own services and files, as its flow meets them.

Owns the questions to proxy, mailbox, worker and database, and the look at the files that flow reads. Each has an answer
within seconds, whatever hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fedparty.crypto.certificates import TrustedAuthority, read_certificate, serial_of
from fedparty.crypto.files import read_secret
from fedparty.crypto.revocations import Revocations
from fedparty.crypto.tokens import TokenSigner
from fedparty.errors import CertificateError, FedpartyError, RpcError
from fedparty.federation.client import MailboxClient
from fedparty.flow.probe import database
from fedparty.flow.probe.answers import FAIL, OK, WARN, Check
from fedparty.jobs.machine import detect
from fedparty.rpc.channels import open_channel
from fedparty.settings import FlowSettings

_ANSWER_S = 2.0
_EXPIRES_SOON_DAYS = 30
_FILLING, _FULL = 0.8, 0.98
_MIB = 1 << 20
_PRIVATE = 0o077

Question = Callable[[FlowSettings], Awaitable[Sequence[Check]]]


async def examine(settings: FlowSettings) -> tuple[Check, ...]:
    """Return everything that was looked at, in the order of the way of a job through the party."""
    questions: tuple[Question, ...] = (
        _proxy,
        _flow,
        _mailbox,
        _worker,
        database.examine,
        _certificate,
        _secrets,
        _cores,
    )
    answers = await asyncio.gather(*(question(settings) for question in questions))
    return tuple(check for answer in answers for check in answer)


async def _proxy(settings: FlowSettings) -> list[Check]:
    return [await _answers("proxy", "proxy", settings.egress, settings)]


async def _flow(settings: FlowSettings) -> list[Check]:
    """Look for the job server that leads: only it listens, and it need not be this one."""
    own = f"flow-{settings.replica}-"
    addresses = [settings.peer.replace(own, f"flow-{number}-") for number in range(1, settings.replicas + 1)]
    checks = await asyncio.gather(*(_answers("flow", "flow", address, settings) for address in addresses))
    return [next((check for check in checks if check.state == OK), checks[0])]


async def _worker(settings: FlowSettings) -> list[Check]:
    return [await _answers("worker", "worker", settings.worker, settings)]


async def _answers(name: str, service: str, address: str, settings: FlowSettings) -> Check:
    try:
        async with asyncio.timeout(_ANSWER_S), open_channel(address) as channel:
            await channel.channel_ready()
    except TimeoutError:
        return Check(name, FAIL, f"{address} does not answer", _look_at(settings, service))
    return Check(name, OK, "answers")


async def _mailbox(settings: FlowSettings) -> list[Check]:
    """Ask the mailbox what it holds: proves the mailbox, the signing key and the spool at once."""
    try:
        signer = _signer(settings)
        async with open_channel(settings.mailbox) as channel:
            mailbox = MailboxClient(channel, lambda: signer.service("mailbox"), _ANSWER_S)
            held = await mailbox.stats()
    except CertificateError as exc:
        return [Check("token", FAIL, exc.message, exc.hint)]
    except RpcError as exc:
        if exc.code == "TOKEN_REFUSED":
            return [
                Check("mailbox", OK, "answers"),
                Check("token", FAIL, f"the mailbox refuses it: {exc.message}", exc.hint),
            ]
        return [Check("mailbox", FAIL, exc.message, _look_at(settings, "federation"))]
    return [
        Check("mailbox", OK, "answers"),
        Check("token", OK, "accepted by the mailbox"),
        _spool(held.used_bytes, held.quota_bytes),
    ]


def _spool(used_bytes: int, quota_bytes: int) -> Check:
    share = used_bytes / quota_bytes
    detail = f"{used_bytes / _MIB:.0f} of {quota_bytes / _MIB:.0f} MiB are used"
    if share < _FILLING:
        return Check("spool", OK, detail)
    remedy = "Wait for jobs to end, or raise spool_quota in parties.conf, generate and deploy again."
    return Check("spool", FAIL if share >= _FULL else WARN, detail, remedy)


def _signer(settings: FlowSettings) -> TokenSigner:
    return TokenSigner(settings.signing_key, settings.signing_certificate, settings.federation, settings.party)


async def _certificate(settings: FlowSettings) -> list[Check]:
    """Look at the signing certificate; the proxy's own is not among the files that flow can read."""
    renew = f"fedparty pki renew {settings.party} && python deploy.py {settings.party}"
    try:
        authority = read_certificate(settings.ca_certificate)
        certificate = read_certificate(settings.signing_certificate)
        TrustedAuthority(authority).check_signer(certificate)
        if Revocations(settings.revocations).is_revoked(serial_of(certificate)):
            raise CertificateError(f"the certificate {serial_of(certificate)} is revoked", hint=renew)
    except CertificateError as exc:
        return [Check("signing certificate", FAIL, exc.message, renew)]
    days = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    detail = f"valid for {days} more days"
    return [Check("signing certificate", *((OK, detail) if days >= _EXPIRES_SOON_DAYS else (WARN, detail, renew)))]


async def _secrets(settings: FlowSettings) -> list[Check]:
    return [
        _secret("api token", settings.api_token, settings),
        _secret("proxy secret", settings.proxy_secret, settings),
    ]


def _secret(name: str, path: Path, settings: FlowSettings) -> Check:
    """See that a secret is there and private; its content is nobody's business."""
    again = f"python generate_config.py && python deploy.py {settings.party}"
    try:
        read_secret(path)
    except FedpartyError as exc:
        return Check(name, FAIL, exc.message, again)
    if path.stat().st_mode & _PRIVATE:
        return Check(name, WARN, f"{path} can be read by others", again)
    return Check(name, OK, "there, and private")


async def _cores(settings: FlowSettings) -> list[Check]:
    return [Check("offered cores", OK, f"{settings.cores or detect().cores:g} are offered to jobs")]


def _look_at(settings: FlowSettings, service: str) -> str:
    return f"python deploy.py logs {settings.party} {service}"
