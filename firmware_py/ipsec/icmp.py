# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ICMP errors that a router makes, and what those say that it gets (RFC 792, 1191, 1812 4.3.2,
4443, 8201).
"""

import struct

from spigate.firmware_py.ipsec.packet import (
    ICMP,
    ICMPV6,
    Ip,
    Refused,
    checksum,
    ipv4_header,
    ipv6_header,
    transport_checksum,
)
from spigate.firmware_py.ipsec.sa import Address

_TIME_EXCEEDED, _TOO_BIG = {4: (11, 0), 6: (3, 0)}, {4: (3, 4), 6: (2, 0)}
_QUERIES = {4: frozenset({0, 8, 13, 14, 17, 18}), 6: frozenset(range(128, 256))}
"""ICMP types that are no errors."""
_LONGEST = {4: 576, 6: 1280}
"""Of an error (RFC 1812 4.3.2.3, RFC 4443 2.4)."""
_PRECEDENCE = 0xC0
"""Internetwork control (RFC 1812 4.3.2.5)."""


def time_exceeded(packet: bytes, ip: Ip, source: Address) -> bytes | None:
    """The answer of the router ``source`` to a packet that has lived too long; None where none may be
    given.
    """
    return _error(packet, ip, source, _TIME_EXCEEDED[ip.version], 0)


def too_big(packet: bytes, ip: Ip, source: Address, mtu: int) -> bytes | None:
    """The answer to a packet that does not fit into ``mtu`` bytes; None where none may be given."""
    return _error(packet, ip, source, _TOO_BIG[ip.version], mtu)


def _error(packet: bytes, ip: Ip, source: Address, what: tuple[int, int], word: int) -> bytes | None:
    """RFC 1122 3.2.2, RFC 4443 2.4(e): not about errors, later fragments, and what is not from one host."""
    about_error = (
        ip.protocol == {4: ICMP, 6: ICMPV6}[ip.version]
        and packet[ip.header_bytes : ip.header_bytes + 1]
        and packet[ip.header_bytes] not in _QUERIES[ip.version]
    )
    nobody = (
        ip.source.is_multicast or ip.source.is_unspecified or ip.source.is_loopback or ip.source.is_reserved
    )
    if about_error or ip.offset or nobody or ip.destination.is_multicast:
        return None
    header_bytes = {4: 20, 6: 40}[ip.version]
    quoted = packet[: _LONGEST[ip.version] - header_bytes - 8]
    body = struct.pack(">BBHI", *what, 0, word) + quoted
    if ip.version == 4:
        body = body[:2] + checksum(body).to_bytes(2) + body[4:]
        return ipv4_header(source, ip.source, ICMP, len(body), tos=_PRECEDENCE) + body
    value = transport_checksum(source.packed, ip.source.packed, ICMPV6, body)
    body = body[:2] + value.to_bytes(2) + body[4:]
    return ipv6_header(source, ip.source, ICMPV6, len(body)) + body


def path_mtu(packet: bytes, ip: Ip) -> tuple[int, bytes] | None:
    """What a "fragmentation needed" or "packet too big" says: the path's MTU, and the beginning of the
    packet that it is about. None: it is something else, or damaged."""
    body = packet[ip.header_bytes : ip.total_length]
    if (
        ip.fragment
        or len(body) < 8
        or ip.protocol != {4: ICMP, 6: ICMPV6}[ip.version]
        or tuple(body[:2]) != _TOO_BIG[ip.version]
    ):
        return None
    good = (
        not checksum(body)
        if ip.version == 4
        else not transport_checksum(ip.source.packed, ip.destination.packed, ICMPV6, body)
    )
    mtu = int.from_bytes(body[6:8] if ip.version == 4 else body[4:8])
    return (mtu, body[8:]) if good else None


def quoted(packet: bytes) -> Ip | None:
    """The header of a packet of which only the beginning is there; None where that is not one."""
    if len(packet) < 20 or packet[0] >> 4 not in (4, 6) or (packet[0] >> 4 == 6 and len(packet) < 40):
        return None
    missing = (
        int.from_bytes(packet[2:4]) if packet[0] >> 4 == 4 else 40 + int.from_bytes(packet[4:6])
    ) - len(packet)
    try:
        return Ip.parse(packet + bytes(max(missing, 0)))
    except Refused:
        return None
