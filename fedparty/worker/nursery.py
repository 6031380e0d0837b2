"""The fork server's own process: it forks tasks and reaps them.

Owns the birth and the end of task processes. Does not own what a task does (`task`) nor what its end means
(`launcher`). Single-threaded, and without gRPC: what it forks must be able to start that afresh.

Nothing outlives what it belongs to: a task's descendants die with the task, tasks die with the fork server, and that
ends when its control socket closes. The socket's language is in `forkserver`.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

from setproctitle import setproctitle

from fedparty.worker import limits, linux, task
from fedparty.worker.printed import Printed
from fedparty.worker.spec import TaskSpec

ENVIRONMENT = frozenset({"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH"})
"""What tasks inherit; everything else a service was started with stays out of them."""

_READ_BYTES = 1 << 16
_MAX_FD = 1 << 20


def serve(control: socket.socket, parent: int) -> NoReturn:
    """Be the fork server until the control socket closes; never returns."""
    exit_code = 1
    try:
        _become_fork_server(control.fileno(), parent)
        Nursery(control).run()
        exit_code = 0
    except BaseException:  # noqa: BLE001 -- the boundary of a process: the service's log has it
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(exit_code)


def _become_fork_server(control: int, parent: int) -> None:
    os.setsid()  # signals for the service's group are not meant for it
    setproctitle("fedparty: fork server")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    linux.die_with_parent(signal.SIGTERM, parent)
    linux.adopt_orphans()
    os.closerange(3, control)
    os.closerange(control + 1, _MAX_FD)
    for name in os.environ.keys() - ENVIRONMENT:
        del os.environ[name]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Nursery:
    """The loop: commands from the socket, ends of children from SIGCHLD.

    Parameters
    ----------
    control
        The socket to the service.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._tasks: dict[int, str] = {}
        self._printed: dict[int, Printed] = {}
        self._selector = selectors.DefaultSelector()
        self._unread = b""
        self._is_ending = False

    def run(self) -> None:
        """Serve until the socket closes or SIGTERM comes, then end all tasks."""
        signals, wakeup = socket.socketpair()
        signals.setblocking(False)
        wakeup.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_terminate)
        with self._selector:
            self._selector.register(self._control, selectors.EVENT_READ, self._on_commands)
            self._selector.register(signals, selectors.EVENT_READ, lambda: self._on_signals(signals))
            try:
                while not self._is_ending:
                    for key, _ in self._selector.select():
                        if key.fd in self._selector.get_map():  # else a task has just ended, and its pipe
                            key.data()
            finally:
                self._end_all()

    def _on_terminate(self, *_: object) -> None:
        self._is_ending = True

    def _on_signals(self, signals: socket.socket) -> None:
        signals.recv(_READ_BYTES)
        self._reap()

    def _on_commands(self) -> None:
        data = b""
        with suppress(ConnectionError):
            data = self._control.recv(_READ_BYTES)
        if not data:
            self._is_ending = True
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            command = json.loads(line)
            if "start" in command:
                self._start(TaskSpec.from_json(command["start"]))
            else:
                self._kill(command["kill"])

    def _start(self, spec: TaskSpec) -> None:
        parent = os.getpid()
        try:
            printed = Printed(spec.folder, spec.log_limit_bytes)
        except OSError as exc:
            self._refuse(spec, exc)
            return
        try:
            pid = os.fork()
        except OSError as exc:
            printed.close_writer()
            printed.close()
            self._refuse(spec, exc)
            return
        if pid == 0:
            _run_task(spec, parent, printed.writer)
        printed.close_writer()
        self._tasks[pid], self._printed[pid] = spec.key, printed
        self._selector.register(printed.reader, selectors.EVENT_READ, lambda: self._copy(printed))
        self._tell({"started": spec.key, "pid": pid})

    def _refuse(self, spec: TaskSpec, exc: OSError) -> None:
        """Tell of a task that fails for want of processes, memory, files or disk; the fork server goes on."""
        self._tell({"refused": spec.key, "error": f"the process could not be started: {exc.strerror}"})

    def _copy(self, printed: Printed) -> None:
        if not printed.copy():
            self._selector.unregister(printed.reader)  # closed by all who had it; the task may live on

    def _close_printed(self, pid: int) -> None:
        printed = self._printed.pop(pid)
        if printed.reader in self._selector.get_map():
            self._selector.unregister(printed.reader)
        printed.close()

    def _kill(self, key: str) -> None:
        for pid, known in self._tasks.items():
            if known == key:
                _kill_session(pid)

    def _reap(self) -> None:
        """Take note of every child that ended, and leave none of its descendants alive."""
        # Ended, but not yet reaped: until then the kernel gives its number to no other group.
        while ended := _peek():
            if ended in self._tasks:
                _kill_session(ended)
            _, status = os.waitpid(ended, 0)
            key = self._tasks.pop(ended, None)
            self._kill_orphans()
            if key:
                self._close_printed(ended)
                self._tell({"ended": key, "exit_code": os.waitstatus_to_exitcode(status)})

    def _kill_orphans(self) -> None:
        # A living task adopts its own orphans, so a child that is no task was left by one that ended.
        for pid in linux.children_of(os.getpid()) - self._tasks.keys():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _end_all(self) -> None:
        for pid in self._tasks:
            _kill_session(pid)
        linux.end_children()

    def _tell(self, event: dict[str, Any]) -> None:
        with suppress(ConnectionError):  # the service has gone: the closed socket ends the loop
            self._control.sendall(json.dumps(event).encode() + b"\n")


def _peek() -> int:
    """Return the process id of a child that ended, or 0; the child stays unreaped."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return found.si_pid if found else 0


def _kill_session(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(leader, signal.SIGKILL)  # also before its setsid
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _run_task(spec: TaskSpec, parent: int, printed: int) -> NoReturn:
    exit_code = 1
    try:
        _become_task(spec, parent, printed)
        exit_code = task.run(spec)
    except BaseException:  # noqa: BLE001 -- the boundary of a process: the task's output.log has it
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(exit_code)


def _become_task(spec: TaskSpec, parent: int, printed: int) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    linux.die_with_parent(signal.SIGKILL, parent)
    linux.adopt_orphans()
    setproctitle(f"fedparty: task {spec.key}")
    os.umask(0o077)
    os.chdir(spec.folder)
    os.environ.update(limits.environment(spec), HOME=str(spec.folder), TMPDIR=str(spec.folder))
    _redirect_output(printed)
    os.closerange(3, _MAX_FD)
    limits.hold(spec)


def _redirect_output(printed: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 -- open until the process ends
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
