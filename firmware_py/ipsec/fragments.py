# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Fragments: put together within bounds of memory and time, and made (RFC 791 3.2, 815, 3168 5.3, 5722,
6946, 8200 4.5).
"""

import struct
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from spigate.firmware_py.ipsec.packet import FRAGMENT, Ip, Refused, checksum, rewrite
from spigate.firmware_py.ipsec.sa import Address
from spigate.hdl.contract.enums import Reason

TIMEOUT_S = 30.0
MAX_PACKETS, MAX_BYTES, MAX_FRAGMENTS = 256, 4 << 20, 256
"""Bounds of a :class:`Reassembly`: packets and bytes held, and fragments of one packet."""
MAX_PACKET = 0xFFFF
ECN_CE = 3

_Key = tuple[Hashable, Address, Address, int | None, int]
"""What the fragments of one packet have in common: way, addresses, IPv4's protocol, identification."""


@dataclass
class _Partial:
    since: float
    pieces: dict[int, bytes] = field(default_factory=dict)
    end: int | None = None
    first: tuple[bytes, Ip] | None = None
    marks: set[int] = field(default_factory=set)
    bytes: int = 0


class Reassembly:
    """Packets of which fragments are there. The oldest goes where there is no room for another.

    Members
    -------
    held : int
        Bytes of fragments, never more than :data:`MAX_BYTES`.
    """

    def __init__(self) -> None:
        self._partials: OrderedDict[_Key, _Partial] = OrderedDict()
        self.held = 0

    def __len__(self) -> int:
        return len(self._partials)

    def add(self, packet: bytes, ip: Ip, now: float, way: Hashable = None) -> bytes | None:
        """The whole packet, when ``packet`` with the header ``ip`` is the last fragment that it lacked;
        else None.

        Parameters
        ----------
        way : hashable
            By which way it came. What came by several is never one packet: who may send by one of them
            would else write into packets of the other ones.

        Raises
        ------
        Refused
            MALFORMED: it does not fit with the others of its packet, which are forgotten (RFC 5722), or the
            packet would be too long.
        """
        self._expire(now)
        if ip.version == 6 and not (ip.offset or ip.more):
            return _whole(packet, ip, packet[ip.fragment_at + 8 : ip.total_length], ip.tos)
        key = (way, ip.source, ip.destination, ip.protocol if ip.version == 4 else None, ip.identification)
        partial = self._partials.get(key) or _Partial(now)
        data = packet[ip.fragment_at + 8 if ip.version == 6 else ip.header_bytes : ip.total_length]
        try:
            self._take(partial, packet, ip, data)
        except Refused:
            self._forget(key)
            raise
        if key not in self._partials:
            self._partials[key] = partial
        whole = partial.end is not None and sum(map(len, partial.pieces.values())) == partial.end
        if whole:
            self._forget(key)
            return self._join(partial)
        while self.held > MAX_BYTES or len(self._partials) > MAX_PACKETS:
            self._forget(next(iter(self._partials)))
        return None

    def _take(self, partial: _Partial, packet: bytes, ip: Ip, data: bytes) -> None:
        end = ip.offset + len(data)
        if not data or (ip.more and len(data) % 8) or end > MAX_PACKET:
            raise Refused(Reason.MALFORMED)
        if partial.pieces.get(ip.offset) == data:
            return  # the same once more
        if any(ip.offset < at + len(other) and at < end for at, other in partial.pieces.items()):
            raise Refused(Reason.MALFORMED)
        last = max((at + len(other) for at, other in partial.pieces.items()), default=0)
        if not ip.more:
            if partial.end is not None or last > end:
                raise Refused(Reason.MALFORMED)
            partial.end = end
        elif partial.end is not None and end > partial.end:
            raise Refused(Reason.MALFORMED)
        if len(partial.pieces) == MAX_FRAGMENTS:
            raise Refused(Reason.MALFORMED)
        if not ip.offset:
            partial.first = packet, ip
        partial.pieces[ip.offset] = data
        partial.marks.add(ip.tos & 3)
        partial.bytes += len(data)
        self.held += len(data)

    def _join(self, partial: _Partial) -> bytes:
        assert partial.first is not None  # all bytes are there, so the first ones too
        packet, ip = partial.first
        tos = ip.tos
        if ECN_CE in partial.marks:
            if 0 in partial.marks:
                raise Refused(Reason.MALFORMED)
            tos |= ECN_CE
        return _whole(packet, ip, b"".join(data for _, data in sorted(partial.pieces.items())), tos)

    def _forget(self, key: _Key) -> None:
        partial = self._partials.pop(key, None)
        if partial:
            self.held -= partial.bytes

    def _expire(self, now: float) -> None:
        while self._partials:
            key, oldest = next(iter(self._partials.items()))
            if now - oldest.since < TIMEOUT_S:
                return
            self._forget(key)


def _whole(packet: bytes, ip: Ip, payload: bytes, tos: int) -> bytes:
    """The packet of the first fragment ``packet``, its fragments' payloads together."""
    if ip.version == 6:
        named_at = ip.unfragmentable[1]
        header = (
            packet[:named_at]
            + packet[ip.fragment_at : ip.fragment_at + 1]
            + packet[named_at + 1 : ip.fragment_at]
        )
    else:
        header = packet[:6] + bytes(2) + packet[8 : ip.header_bytes]
    total_length = len(header) + len(payload)
    if total_length > MAX_PACKET:
        raise Refused(Reason.MALFORMED)
    return rewrite(header + payload, len(header), total_length=total_length, tos=tos)


def fragments(packet: bytes, mtu: int, identification: int | None = None) -> list[bytes]:
    """``packet`` in pieces of ``mtu`` bytes or less, in order; itself, where it is no longer.

    Parameters
    ----------
    identification : int or None
        None: as a router does, which may not with IPv6 or IPv4's DF. Otherwise the packet begins on this
        machine, and its pieces get this identification.

    Raises
    ------
    Refused
        TOO_BIG: it may not be fragmented, or ``mtu`` is too small for any.
    """
    ip = Ip.parse(packet)
    packet = packet[: ip.total_length]
    if len(packet) <= mtu:
        return [packet]
    if identification is None:
        if ip.dont_fragment:
            raise Refused(Reason.TOO_BIG)
        identification = ip.identification
    if ip.version == 6:
        return _ipv6_fragments(packet, ip, mtu, identification)
    first, payload, pieces = packet[: ip.header_bytes], packet[ip.header_bytes :], []
    header, at = first, 0
    later = _copied_options(first)
    while at < len(payload):
        size = (mtu - len(header)) & ~7
        if size <= 0:
            raise Refused(Reason.TOO_BIG)
        data = payload[at : at + size]
        more = ip.more or at + len(data) < len(payload)
        word = struct.pack(">HH", identification & 0xFFFF, more << 13 | (ip.offset + at) // 8)
        pieces.append(
            rewrite(header[:4] + word + header[8:] + data, len(header), total_length=len(header) + len(data))
        )
        header, at = later, at + len(data)
    return pieces


def _ipv6_fragments(packet: bytes, ip: Ip, mtu: int, identification: int) -> list[bytes]:
    end, named_at = ip.unfragmentable
    kind, header, payload = packet[named_at], packet[:end], packet[end:]
    header = header[:named_at] + bytes([FRAGMENT]) + header[named_at + 1 :]
    size = (mtu - len(header) - 8) & ~7
    if size <= 0:
        raise Refused(Reason.TOO_BIG)
    pieces = []
    for at in range(0, len(payload), size):
        data = payload[at : at + size]
        extension = struct.pack(
            ">BBHI", kind, 0, at | (at + size < len(payload)), identification & 0xFFFF_FFFF
        )
        pieces.append(
            rewrite(header + extension + data, len(header), total_length=len(header) + 8 + len(data))
        )
    return pieces


def _copied_options(header: bytes) -> bytes:
    """The header of all fragments but the first: only options whose type says so (RFC 791 3.1)."""
    options, at = b"", 20
    while at < len(header) and header[at]:
        length = 1 if header[at] == 1 else header[at + 1] if at + 1 < len(header) else 0
        if length < 1 or (header[at] != 1 and length < 2) or at + length > len(header):
            break
        if header[at] & 0x80:
            options += header[at : at + length]
        at += length
    options += bytes(-len(options) % 4)
    short = bytes([0x40 | (20 + len(options)) // 4]) + header[1:10] + bytes(2) + header[12:20] + options
    return short[:10] + checksum(short).to_bytes(2) + short[12:]
