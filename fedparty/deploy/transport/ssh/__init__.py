"""Another machine, by SSH.

Owns the connection and the shell scripts that stand behind each method of `Transport`. What the machine needs: sshd, a
POSIX shell, coreutils, findutils, tar and flock.
"""

from __future__ import annotations

from fedparty.deploy.transport.ssh.host import SshHost
from fedparty.deploy.transport.ssh.transport import SshTransport

__all__ = ["SshHost", "SshTransport"]
