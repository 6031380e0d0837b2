"""Listening addresses: Unix sockets and ports, claimed only when nobody answers there.

Owns the claim on an address. Does not own what is served.
"""

from __future__ import annotations

import socket
from pathlib import Path

from fedparty.errors import ConfigurationError

UNIX_PREFIX = "unix:"
_MAX_UNIX_PATH = 107  # sun_path without its final zero


def claim(address: str) -> None:
    """Make `address` free to listen on: the folder of a Unix socket exists, a socket left by a dead process is gone.

    Raises
    ------
    ConfigurationError
        The path is too long, is not a socket, or somebody answers there.
    """
    path = unix_path(address)
    if path is None:
        return
    if len(str(path)) > _MAX_UNIX_PATH:
        raise ConfigurationError(f"{address}: the path of a Unix socket has at most {_MAX_UNIX_PATH} characters")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        _remove_dead(path)


def bind(address: str) -> socket.socket:
    """Claim `address` and return a socket that listens on it; a Unix socket is only for its owner.

    Raises
    ------
    ConfigurationError
        The address is taken or cannot be used.
    """
    claim(address)
    path = unix_path(address)
    listener = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path is None:
            host, _, port = address.rpartition(":")
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, int(port)))
        else:
            listener.bind(str(path))
            path.chmod(0o600)
        listener.listen(128)
    except OSError as exc:
        listener.close()
        raise taken(address) from exc
    return listener


def unix_path(address: str) -> Path | None:
    """Return the path of a Unix socket's address, None for ``host:port``."""
    return Path(address.removeprefix(UNIX_PREFIX)) if address.startswith(UNIX_PREFIX) else None


def release(address: str) -> None:
    """Remove the file of a Unix socket that is no longer served."""
    path = unix_path(address)
    if path is not None:
        path.unlink(missing_ok=True)


def taken(address: str) -> ConfigurationError:
    """Return the error of an address that cannot be listened on."""
    return ConfigurationError(
        f"{address}: cannot listen here", hint="Stop the program that uses the address, or give another one."
    )


def _remove_dead(path: Path) -> None:
    if not path.is_socket():
        raise ConfigurationError(f"{path}: a file that is not a socket is in the way", hint="Remove it.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as exc:
            raise taken(f"{UNIX_PREFIX}{path}") from exc
    raise ConfigurationError(
        f"{UNIX_PREFIX}{path}: a running process already answers here", hint="Stop the service that runs already."
    )
