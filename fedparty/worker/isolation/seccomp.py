"""A filter of system calls: no network but Unix sockets, no looking into other processes, no new namespaces, and no
change of a file's mode, owner, times or attributes, which Landlock does not cover.

Owns the filter's program. Does not own paths (`landlock`).

**Source** seccomp(2), linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct

_PR_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_X32 = 0x40000000

# First: ptrace, process_vm_readv, process_vm_writev, pidfd_getfd, perf_event_open, bpf, userfaultfd, open_by_handle_at,
# keyctl, add_key, request_key, io_uring_setup (it would pass by this filter), unshare, setns. Then all forms of chmod,
# chown, setxattr, removexattr, utime.
_FORBIDDEN = {
    "x86_64": (
        *(101, 310, 311, 438, 298, 321, 323, 304, 250, 248, 249, 425, 272, 308),
        *(90, 91, 268, 452, 92, 93, 94, 260, 188, 189, 190, 463, 197, 198, 199, 466, 132, 235, 261, 280),
    ),
    "aarch64": (
        *(117, 270, 271, 438, 241, 280, 282, 265, 219, 217, 218, 425, 97, 268),
        *(52, 53, 452, 54, 55, 5, 6, 7, 463, 14, 15, 16, 466, 88),
    ),
}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def is_known() -> bool:
    """Return whether there is a filter for this machine's processor."""
    return platform.machine() in _SOCKET


def restrict() -> None:
    """Put the filter on this process and all that it starts; ``no_new_privs`` is set before.

    Raises
    ------
    OSError
        The kernel takes no filter.
    """
    program = _program(platform.machine())
    code = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    argument = ctypes.create_string_buffer(described, len(described))
    if _libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(argument), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _program(machine: str) -> bytes:
    """Return the filter; a comparison says how many lines to skip where it holds, and where it does not."""
    refused = [(_AT_LEAST, _X32), *((_EQUAL, number) for number in _FORBIDDEN[machine])]
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((kind, len(refused) + 3 - index, 0, number) for index, (kind, number) in enumerate(refused)),
        (_EQUAL, 0, 2, _SOCKET[machine]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_EQUAL, 0, 1, socket.AF_UNIX),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)
