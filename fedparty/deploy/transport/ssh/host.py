"""Which machine is meant, and as whom: parties.conf first, then ~/.ssh/config, then what SSH does by itself.

Owns how the two are put together. Connects to nothing.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path

import paramiko

from fedparty.errors import ConfigurationError

DEFAULT_PORT = 22


@dataclass(frozen=True)
class SshHost:
    """A machine as parties.conf names it; None: not said."""

    address: str
    port: int | None = None
    user: str | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Route:
    """A machine with all that is needed to connect.

    Parameters
    ----------
    keys
        Private keys to begin with.
    has_agent
        Whether keys that are not named may be tried, too.
    jump
        The machine that the connection goes through.
    """

    address: str
    hostname: str
    port: int
    user: str
    keys: tuple[Path, ...] = ()
    has_agent: bool = True
    jump: Route | None = None

    @property
    def place(self) -> str:
        """The machine in messages."""
        return f"{self.user}@{self.address}:{self.port}"

    @property
    def known_name(self) -> str:
        """The machine in known_hosts."""
        return self.hostname if self.port == DEFAULT_PORT else f"[{self.hostname}]:{self.port}"


def find_route(host: SshHost, configuration: Path) -> Route:
    """Return the way to a machine.

    Raises
    ------
    ConfigurationError
        The SSH configuration cannot be read, or asks for something that is not supported.
    """
    found = _lookup(host.address, configuration)
    if found.get("proxycommand") not in (None, "none"):
        raise ConfigurationError(
            f"{configuration}: {host.address}: ProxyCommand is not supported", hint="Use ProxyJump instead."
        )
    named = [Path(path).expanduser() for path in found.get("identityfile", [])]
    return Route(
        address=host.address,
        hostname=found.get("hostname", host.address),
        port=host.port or int(found.get("port", DEFAULT_PORT)),
        user=host.user or found.get("user") or getpass.getuser(),
        keys=(*((host.key,) if host.key else ()), *(path for path in named if path.is_file())),
        has_agent=found.get("identitiesonly", "no") != "yes",
        jump=_jump(found.get("proxyjump") or "none", configuration),
    )


def _lookup(address: str, configuration: Path) -> paramiko.SSHConfigDict | dict[str, str]:
    if not configuration.is_file():
        return {}
    try:
        return paramiko.SSHConfig.from_path(str(configuration)).lookup(address)
    except (OSError, UnicodeDecodeError, paramiko.SSHException, paramiko.ssh_exception.ConfigParseError) as exc:
        raise ConfigurationError(
            f"{configuration}: {exc}", hint="Correct it; ssh -G HOST shows what ssh reads."
        ) from exc


def _jump(hops: str, configuration: Path) -> Route | None:
    """Return the last of the hops, each of which is reached through those before it."""
    if hops == "none":
        return None
    *before, last = hops.split(",")
    user, _, place = last.rpartition("@")
    name, port = _split_port(place)
    route = find_route(SshHost(name, port, user or None), configuration)
    if not before:
        return route
    return Route(
        route.address, route.hostname, route.port, route.user, route.keys, route.has_agent,
        jump=_jump(",".join(before), configuration),
    )  # fmt: skip


def _split_port(place: str) -> tuple[str, int | None]:
    name, _, port = place.rpartition(":")
    if name and port.isdecimal() and (":" not in name or name.endswith("]")):
        return name.strip("[]"), int(port)
    return place.strip("[]"), None
