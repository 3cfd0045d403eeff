# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Devices and sockets of Linux: TUN and TAP devices, UDP for IKE and ESP in UDP, raw sockets for ESP, AH
and all that is sent.

They all carry one mark, so that what leaves here never goes into the TUN device (see :mod:`.routes`). They
want root, or CAP_NET_ADMIN and CAP_NET_RAW.
"""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from spigate.firmware_py.errors import InputError, SpigateError
from spigate.firmware_py.ike.engine.actions import Datagram, Socket
from spigate.firmware_py.ipsec.packet import UDP, ipv4_header, ipv6_header, transport_checksum
from spigate.firmware_py.ipsec.sa import Address

MARK = 0x5350
_TUNSETIFF, _IFF_TUN, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0001, 0x0002, 0x1000
_IP_TOS, _IP_PKTINFO, _IP_RECVTOS = 1, 8, 13
_IPV6_RECVPKTINFO, _IPV6_PKTINFO, _IPV6_RECVTCLASS, _IPV6_TCLASS = 49, 50, 66, 67
_PACKET_BYTES, _ANCILLARY_BYTES = 0xFFFF, 256
BURST = 64
"""Packets that are read from one source before another has its turn."""
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def versions() -> list[int]:
    """The IP versions that this host has."""
    return [4, 6] if Path("/proc/net/if_inet6").exists() else [4]


class Changes:
    """Readable when Linux has changed something that ``groups`` (``RTMGRP_``) are about; what it was nobody
    reads.
    """

    NEIGHBOURS, ADDRESSES = 0x4, 0x110

    def __init__(self, groups: int):
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self.fileno, self.close = self._socket.fileno, self._socket.close
        self._socket.bind((0, groups))

    def seen(self) -> None:
        """What has changed so far is looked at next."""
        while True:
            try:
                self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more changes than it holds
                    raise


class DeviceGone(SpigateError):
    """Somebody has taken a TUN or TAP device away."""


class Tun:
    """A TUN device, which vanishes with the process. InputError where it cannot be made."""

    _KIND = _IFF_TUN

    def __init__(self, name: str):
        kind, self._name = type(self).__name__.upper(), name
        try:
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            raise InputError(f"{kind} device {name}: /dev/net/tun: {error.strerror}") from None
        try:
            fcntl.ioctl(self.fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), self._KIND | _IFF_NO_PI))
        except OSError as error:
            os.close(self.fd)
            raise InputError(
                f"{kind} device {name}: {error.strerror}; it wants root, and no other process that has it"
            ) from None

    def fileno(self) -> int:
        return self.fd

    def packets(self) -> Iterator[bytes]:
        """What the host wants sent, at most :data:`BURST`. DeviceGone where somebody has taken it away."""
        for _ in range(BURST):
            try:
                yield os.read(self.fd, _PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                raise DeviceGone(f"{self._name} is gone: {error.strerror}") from None

    def write(self, packet: bytes) -> None:
        """Gives the host a packet. OSError where the device is down or full."""
        os.write(self.fd, packet)

    def close(self) -> None:
        os.close(self.fd)


class Tap(Tun):
    """The same with Ethernet frames: packets are frames, without their frame check sequence."""

    _KIND = _IFF_TAP


def _marked(family: int, kind: int, protocol: int = 0) -> socket.socket:
    try:
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    except PermissionError:
        raise InputError("raw and marked sockets want root, or CAP_NET_ADMIN and CAP_NET_RAW") from None
    made.setblocking(False)
    return made


class _Receiver:
    """A socket that knows to which address a packet came, and with which traffic class."""

    def __init__(self, made: socket.socket, version: int):
        self._socket, self.version = made, version
        if version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVTCLASS, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            made.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> Iterator[tuple[bytes, Address | None, int, tuple[str, int]]]:
        """Data, local address, traffic class, and host and port that it came from, at most :data:`BURST`."""
        for _ in range(BURST):
            try:
                data, ancillary, _, sender = self._socket.recvmsg(_PACKET_BYTES, _ANCILLARY_BYTES)
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    return
                continue  # an ICMP error about something that was sent
            local: Address | None = None
            tos = 0
            for level, kind, value in ancillary:
                if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                    local = ip_address(value[8:12])
                elif (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
                    local = ip_address(value[:16])
                elif (level, kind) in ((socket.IPPROTO_IP, _IP_TOS), (socket.IPPROTO_IPV6, _IPV6_TCLASS)):
                    tos = value[0]
            yield data, local, tos, sender[:2]


class UdpLink(_Receiver):
    """A UDP port at all addresses of one IP version. InputError where somebody else has it."""

    def __init__(self, version: int, port: int):
        made = _marked(FAMILIES[version], socket.SOCK_DGRAM)
        if version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().__init__(made, version)
        self.port = port
        try:
            made.bind(("::" if version == 6 else "0.0.0.0", port))
        except OSError as error:
            made.close()
            raise InputError(
                f"UDP port {port}, IPv{version}: {error.strerror}; is another IKE daemon running?"
            ) from None

    def datagrams(self) -> Iterator[tuple[bytes, Socket, Socket, int]]:
        """Data, local end, remote end, traffic class."""
        for data, local, tos, (host, port) in self._receive():
            if local is not None:
                yield data, Socket(local, self.port), Socket(ip_address(host.split("%")[0]), port), tos

    def send(self, datagram: Datagram) -> None:
        """Raises OSError."""
        source, destination = datagram.source.address.packed, datagram.destination
        if self.version == 6:
            info = (socket.IPPROTO_IPV6, _IPV6_PKTINFO, source + bytes(4))
        else:
            info = (socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + source + bytes(4))
        self._socket.sendmsg([datagram.data], [info], 0, (str(destination.address), destination.port))


class RawLink(_Receiver):
    """ESP or AH of one IP version, as it comes: whole, for the kernel puts fragments together."""

    def __init__(self, version: int, protocol: int):
        super().__init__(_marked(FAMILIES[version], socket.SOCK_RAW, protocol), version)
        self._protocol = protocol

    def packets(self) -> Iterator[bytes]:
        """IP packets. With IPv6 the header is made anew, for the kernel keeps it: hop limit and flow label,
        which nothing here depends on, are not what they were."""
        for data, local, tos, (host, _) in self._receive():
            if self.version == 4:
                yield data
            elif local is not None:
                remote = ip_address(host.split("%")[0])
                yield ipv6_header(remote, local, self._protocol, len(data), tos=tos) + data


class Sender:
    """Sends whole IP packets of one version."""

    def __init__(self, version: int):
        self._socket = _marked(FAMILIES[version], socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)

    def send(self, packet: bytes) -> None:
        """Raises OSError: no way, no room, or longer than the link's MTU."""
        destination = packet[24:40] if packet[0] >> 4 == 6 else packet[16:20]
        self._socket.sendto(packet, (str(ip_address(destination)), 0))

    def close(self) -> None:
        self._socket.close()


def in_udp(data: bytes, local: Socket, remote: Socket, tos: int) -> bytes:
    """The packet that a UDP datagram was, for the software path."""
    udp = struct.pack(">HHHH", remote.port, local.port, 8 + len(data), 0) + data
    if local.address.version == 4:
        return ipv4_header(remote.address, local.address, UDP, len(udp), tos=tos) + udp
    value = transport_checksum(remote.address.packed, local.address.packed, UDP, udp) or 0xFFFF
    return (
        ipv6_header(remote.address, local.address, UDP, len(udp), tos=tos)
        + udp[:6]
        + value.to_bytes(2)
        + udp[8:]
    )
