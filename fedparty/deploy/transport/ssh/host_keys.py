"""Whether a machine is the one it was.

Owns the decision about a host key: known, new or changed. Reads and writes known_hosts by `known_hosts`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from fedparty.deploy.transport.prompt import Prompt
from fedparty.deploy.transport.ssh import known_hosts
from fedparty.deploy.transport.ssh.host import Route
from fedparty.deploy.transport.ssh.known_hosts import HostKey
from fedparty.errors import DeployError

_RSA = ("rsa-sha2-512", "rsa-sha2-256")
"""The signatures that a key of the type ``ssh-rsa`` makes today."""


class HostKeys:
    """What is trusted.

    Parameters
    ----------
    file
        The user's known_hosts, which new keys are added to.
    is_new_accepted
        Whether a machine that is not known is trusted unasked.
    """

    def __init__(self, file: Path, prompt: Prompt, *, is_new_accepted: bool) -> None:
        self._file = file
        self._prompt = prompt
        self._is_new_accepted = is_new_accepted

    def kinds(self, route: Route) -> tuple[str, ...]:
        """Return the key algorithms to ask the machine for first: those it is known by."""
        found = dict.fromkeys(key.kind for key in self._find(route) if not key.is_revoked)
        return tuple(name for kind in found for name in (_RSA if kind == "ssh-rsa" else (kind,)))

    async def check(self, route: Route, key: HostKey) -> None:
        """Return if the machine may be trusted.

        Raises
        ------
        DeployError
            Its key is another than the one that is known, is revoked, or is new and nobody accepted it.
        """
        if self._is_known(route, key):
            return
        async with self._prompt.turn:
            # Somebody may have accepted it while this waited for its turn.
            if not self._is_known(route, key):
                await self._accept(route, key)
                await asyncio.to_thread(known_hosts.append, self._file, route.known_name, key)

    def _find(self, route: Route) -> tuple[HostKey, ...]:
        return known_hosts.find(route.known_name, (self._file, known_hosts.SYSTEM_FILE))

    def _is_known(self, route: Route, key: HostKey) -> bool:
        found = self._find(route)
        same = [known for known in found if known.blob == key.blob]
        if any(known.is_revoked for known in same):
            raise DeployError(f"{route.place}: its host key {key.fingerprint} is revoked in {same[0].place}")
        valid = [known for known in found if not known.is_revoked]
        if valid and not same:
            raise self._changed(route, key, valid)
        return bool(same)

    def _changed(self, route: Route, key: HostKey, known: list[HostKey]) -> DeployError:
        expected = ", ".join(f"{each.fingerprint} ({each.kind}, {each.place})" for each in known)
        return DeployError(
            f"{route.place}: the host key has changed; this may be another machine than before.\n"
            f"known:   {expected}\noffered: {key.fingerprint} ({key.kind})",
            hint="If its people confirm the new fingerprint, forget the old one: "
            f"ssh-keygen -f '{self._file}' -R '{route.known_name}'",
        )

    async def _accept(self, route: Route, key: HostKey) -> None:
        if self._is_new_accepted:
            return
        shown = f"{route.place} is not known yet; its host key is {key.fingerprint} ({key.kind})"
        if not self._prompt.is_there:
            raise DeployError(
                f"{shown}, and nobody can be asked whether that is right",
                hint="Compare the fingerprint with its people, then run this again with --accept-host-key.",
            )
        if not await self._prompt.confirm(f"{shown}. Trust it?"):
            raise DeployError(f"{shown}, and it was not accepted", hint="Ask its people for the fingerprint.")
