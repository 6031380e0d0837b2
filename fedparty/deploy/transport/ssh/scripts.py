"""What runs on the machine: shell scripts and command lines as pure functions.

Owns everything that is written in shell. Runs nothing. The scripts need a POSIX shell, coreutils, findutils, tar and
flock; names come as arguments, or one on each line of the input, never pasted into a script.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePath

from fedparty.deploy.commands import Command
from fedparty.deploy.transport.holder import LOCK_FILE

ABSENT = 44
"""Exit code: there is no such file or folder."""

NOT_OURS = 45
"""Exit code: it is there, and not a folder of this user."""

NOT_ALLOWED = 46
"""Exit code: this user may not make it."""

DIFFERENT = 47
"""Exit code: what arrived is not what was sent."""

LOCK_LASTS_S = 90
"""How long a lock outlives a deployer that vanished with its network."""

NO_FOLDER = "no-folder"
NO_PROGRAM = "no-program"

_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"

_START = """
mark=$1 folder=$2 program=$3 search=$4; shift 4
if [ -n "$folder" ] && ! cd -- "$folder" 2>/dev/null; then echo "$mark no-folder"; exit 1; fi
PATH=$PATH:SYSTEM; export PATH
if ! (PATH=${search:-$PATH}; command -v "$program") >/dev/null 2>&1; then echo "$mark no-program"; exit 127; fi
LANGUAGE=C; export LANGUAGE
echo "$mark $$"
exec "$@"
""".replace("SYSTEM", _SYSTEM_PATH)


def start(mark: str, command: Command, sudo: Sequence[str] = ()) -> str:
    """Return the line that runs a command.

    Its output begins with a line of `mark` and either its process id or `NO_FOLDER` or `NO_PROGRAM`; what shells write
    when they start comes before.
    """
    search = ""
    argv: tuple[str, ...] = command.argv
    if command.environment is not None:
        search = command.environment.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        argv = ("env", "-i", *(f"{name}={value}" for name, value in command.environment.items()), *argv)
    words = (mark, str(command.cwd or ""), command.argv[0], search, *sudo, *argv)
    return shlex.join(("exec", "sh", "-c", _START, "fedparty", *words))


def kill(process: int, sudo: Sequence[str] = ()) -> str:
    """Return the line that kills a command and all it started: sshd makes each a group of its own."""
    words = shlex.join((*sudo, "kill", "-KILL", "--"))
    return f"{words} -{process} || {words} {process}"


def _script(text: str, *words: object, as_root: bool = False) -> Command:
    return Command(("sh", "-c", text, "fedparty", *map(str, words)), as_root=as_root)


def user_id() -> Command:
    """Print user and group, e.g. ``1000:1000``."""
    return _script('echo "$(id -u):$(id -g)"')


def read(path: PurePath) -> Command:
    """Write a file to the output."""
    return _script(f'[ -e "$1" ] || exit {ABSENT}; cat -- "$1"', path)


def write(path: PurePath, size_bytes: int) -> Command:
    """Make the input a private file, if all of it came."""
    return _script(
        'set -eu; umask 077; t=$(mktemp "$1/.$2.XXXXXX"); trap \'rm -f -- "$t"\' EXIT; cat >"$t"\n'
        'if [ "$(wc -c <"$t")" -ne "$3" ]; then echo "the input was cut off" >&2; exit 1; fi\n'
        'mv -fT -- "$t" "$1/$2"; trap - EXIT',
        path.parent, path.name, size_bytes,
    )  # fmt: skip


def remove(path: PurePath) -> Command:
    """Remove a file, a link, or a folder with all it contains."""
    return _script('rm -rf -- "$1"', path)


def rename(source: PurePath, target: PurePath) -> Command:
    """Rename, never into a folder that has the name."""
    return _script('mv -fT -- "$1" "$2"', source, target)


def make_folder(path: PurePath) -> Command:
    """Make a private folder, or make one of this user's private."""
    return _script(
        'umask 077; if [ -d "$1" ] && [ ! -L "$1" ]; then u=$(id -u)\n'
        f'[ "$u" = 0 ] || [ "$(stat -c %u -- "$1")" = "$u" ] || exit {NOT_OURS}; exec chmod 700 -- "$1"; fi\n'
        f'if [ -e "$1" ] || [ -L "$1" ]; then exit {NOT_OURS}; fi\n'
        f'mkdir -p -- "$1" || exit {NOT_ALLOWED}',
        path,
    )


def make_folder_for(path: PurePath, owner: str) -> Command:
    """Make a private folder for a user where only root may."""
    return _script('set -eu; mkdir -p -- "$1"; chown -- "$2" "$1"; chmod 700 -- "$1"', path, owner, as_root=True)


def is_folder(path: PurePath) -> Command:
    """Tell by the exit code whether there is a folder."""
    return _script(f'[ -d "$1" ] || exit {ABSENT}', path)


def unpack(target: PurePath, last: str) -> Command:
    """Make the archive of the input a folder, if it ends with the file `last`."""
    return _script(
        'set -eu; umask 077; s=$1.new; rm -rf -- "$s"; mkdir -p -- "$s"; tar -x -p -o -f - -C "$s"\n'
        'if [ ! -e "$s/$2" ]; then echo "the input was cut off" >&2; exit 1; fi\n'
        'rm -f -- "$s/$2"; rm -rf -- "$1"; mv -fT -- "$s" "$1"',
        target, last,
    )  # fmt: skip


def replace(source: PurePath, target: PurePath) -> Command:
    """Move the files that the input names, one on a line."""
    return _script(
        'set -eu; umask 077; while IFS= read -r n; do t=$2/$n; d=${t%/*}\n'
        '[ -d "$d" ] || mkdir -p -- "$d"; mv -fT -- "$1/$n" "$t"; done',
        source, target,
    )  # fmt: skip


def listing(folder: PurePath) -> Command:
    """Write mode and path of every file, nothing, then digest and path of every file, each ended by NUL."""
    return _script(
        f'[ -d "$1" ] || exit {ABSENT}; cd -- "$1" || exit 1\n'
        "find . -type f -exec stat --printf '%a %n\\0' -- {} + && printf '\\0' "
        "&& find . -type f -exec sha256sum -z -- {} +",
        folder,
    )


def partial_size(part: PurePath) -> Command:
    """Print how much of a file is there; what a lost connection still writes is waited for, or given up."""
    return _script(
        'set -eu; umask 077; : >>"$1"\n'
        'if ! flock -w 20 "$1" true; then rm -f -- "$1"; : >>"$1"; fi; exec stat -c %s -- "$1"',
        part,
    )


def append(part: PurePath) -> Command:
    """Add the input to a file, whose lock it holds."""
    return _script('set -eu; umask 077; exec 9>>"$1"; flock -w 20 9; exec cat >&9', part)


def finish(part: PurePath, target: PurePath, sha256: str) -> Command:
    """Give a file its name if it is the right one."""
    return _script(
        f'd=$(sha256sum <"$1") || exit 1; [ "${{d%% *}}" = "$3" ] || {{ rm -f -- "$1"; exit {DIFFERENT}; }}\n'
        'exec mv -fT -- "$1" "$2"',
        part, target, sha256,
    )  # fmt: skip


def hold_lock(folder: PurePath, text: str) -> Command:
    """Print ``mine`` and hold the lock while dots come; or print ``held`` and the text of who holds it."""
    return _script(
        f'umask 077; f=$1/{LOCK_FILE}; exec 9>>"$f" || exit 1\n'
        'if ! flock -n 9; then echo held; exec cat -- "$f"; fi\n'
        'printf "%s\\n" "$2" >"$f"; echo mine\n'
        f'while [ "$(timeout {LOCK_LASTS_S} head -c 1)" = . ]; do :; done; : >"$f"',
        folder, text,
    )  # fmt: skip
