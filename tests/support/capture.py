"""A capture of an interface: every byte that crosses it while the capture is entered (packet(7)).

Owns reading packets and taking the TCP bytes out of them. Takes CAP_NET_RAW: ask `available.require("capture")` first.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading

ETHERNET_ALL = 0x0003
"""ETH_P_ALL, linux/if_ether.h."""

_SOL_PACKET, _ADD_MEMBERSHIP, _PROMISCUOUS = 263, 1, 1
"""SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, linux/if_packet.h."""


class Capture:
    """What crosses one interface.

    Parameters
    ----------
    interface
        Its name; for a bridge, what goes between its ports is seen, too.
    """

    def __init__(self, interface: str = "lo") -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERNET_ALL))
        self._socket.bind((interface, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024**2)
        membership = struct.pack("IHH8s", socket.if_nametoindex(interface), _PROMISCUOUS, 0, b"")
        self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, membership)
        self._wake, self._end = os.pipe()
        self._thread = threading.Thread(target=self._take)
        self.packets: list[bytes] = []

    def _take(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._wake], [], [])
            if self._socket in ready:
                self.packets.append(self._socket.recv(1 << 17))
            elif self._wake in ready:
                return

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.write(self._end, b"x")
        self._thread.join()
        self._socket.close()
        os.close(self._wake)
        os.close(self._end)

    def to_port(self, port: int) -> bytes:
        """Return the TCP bytes that went to a port (20 bytes IPv4 header and more, RFC 791; RFC 9293)."""
        found = []
        for packet in self.packets:
            ip = packet[14:]
            if len(ip) < 40 or ip[0] >> 4 != 4 or ip[9] != socket.IPPROTO_TCP:
                continue
            tcp = ip[(ip[0] & 15) * 4 :]
            if int.from_bytes(tcp[2:4], "big") == port:
                found.append(tcp[(tcp[12] >> 4) * 4 :])
        return b"".join(found)
