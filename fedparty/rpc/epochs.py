"""The highest epoch in which a party's flow has called a service of this party: a former leader is refused.

Owns remembering it, in a file, across restarts of the service. Does not own how it travels (`fedparty.crypto.tokens`).
"""

from __future__ import annotations

from pathlib import Path

from fedparty.crypto.files import SECRET_MODE, replace_file
from fedparty.errors import ConfigurationError, RpcError
from fedparty.rpc import catalogue


class HighestEpoch:
    """The highest epoch seen.

    Parameters
    ----------
    file
        Where it is kept; absent until a flow with replicas calls.

    Raises
    ------
    ConfigurationError
        The file cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._highest = _read(file)

    def admit(self, epoch: int) -> None:
        """Let a call in an epoch pass, and remember it; 0, of a flow without replicas, always passes.

        Raises
        ------
        RpcError
            STALE_LEADER: a newer leader has called.
        """
        if epoch > self._highest:
            replace_file(self._file, b"%d\n" % epoch, mode=SECRET_MODE)  # once an election: may take its time
            self._highest = epoch
        elif 0 < epoch < self._highest:
            raise stale(epoch, self._highest)


def stale(epoch: int, highest: int, whose: str = "this party") -> RpcError:
    """Return the error of a leader after which another was elected."""
    message = f"the flow of {whose} that asks led in epoch {epoch}; now another replica does, in epoch {highest}"
    return catalogue.error("STALE_LEADER", message)


def _read(file: Path) -> int:
    try:
        return int(file.read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as exc:
        hint = "Stop the party's flows, remove the file, and start them again."
        raise ConfigurationError(f"{file}: the epoch of the leader cannot be read: {exc}", hint=hint) from exc
