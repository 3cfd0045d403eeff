# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Ethernet and IP headers in software: parsed strictly, changed in place, checksums kept right."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from spigate.firmware_py.errors import SpigateError
from spigate.firmware_py.ipsec.sa import AH, ESP, Address
from spigate.hdl.contract.enums import Reason

ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_ARP, ETHERTYPE_VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
ETHERTYPES = {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
IPV6_HEADER_BYTES = 40
MAX_EXTENSIONS = 8
"""Extension headers of an IPv6 packet; more are taken for an attack."""
IKE_PORT, NATT_PORT = 500, 4500
NEIGHBOUR_DISCOVERY = range(133, 138)
"""Types of ICMPv6 (RFC 4861 4)."""
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")


class Refused(SpigateError):
    """A packet goes no further, for ``reason``: dropped, or (reasons from 32 on) handed to the control
    element.
    """

    def __init__(self, reason: Reason):
        super().__init__(reason.name.lower())
        self.reason = reason


@dataclass(frozen=True)
class Ethernet:
    """An Ethernet header, with one 802.1Q tag or none."""

    destination: bytes
    source: bytes
    kind: int
    vlan: int | None = None

    @classmethod
    def parse(cls, frame: bytes) -> tuple["Ethernet", bytes]:
        """The header and what follows. Raises :class:`Refused` (MALFORMED) where the frame is too short."""
        if len(frame) < 14:
            raise Refused(Reason.MALFORMED)
        kind, vlan, size = int.from_bytes(frame[12:14]), None, 14
        if kind == ETHERTYPE_VLAN:
            if len(frame) < 18:
                raise Refused(Reason.MALFORMED)
            vlan, kind, size = int.from_bytes(frame[14:16]), int.from_bytes(frame[16:18]), 18
        return cls(frame[0:6], frame[6:12], kind, vlan), frame[size:]

    def pack(self) -> bytes:
        """The header's bytes."""
        tag = b"" if self.vlan is None else struct.pack(">HH", ETHERTYPE_VLAN, self.vlan)
        return self.destination + self.source + tag + self.kind.to_bytes(2)


@dataclass(frozen=True)
class Ip:
    """What an IP header says, with its options or extension headers.

    Members
    -------
    version : int
    header_bytes : int
        Up to the payload: behind IPv4's options, or IPv6's extension headers (Hop-by-Hop, Routing, Fragment,
        Destination Options).
    tos : int
        IPv6: traffic class.
    total_length : int
        Header and payload.
    dont_fragment : bool
        IPv6: True, for no router fragments there.
    fragment : bool
        A fragment; also one that is all of its packet (RFC 6946).
    ttl : int
        IPv6: hop limit.
    protocol : int
        Of the payload.
    source, destination : Address
    ports : (int, int) or None
        Of TCP and UDP; None for other protocols, fragments but the first, and where they are cut off.
    protocol_at : int
        Where the byte stands that says ``protocol``.
    offset, more, identification : int, bool, int
        Of a fragment: where its payload belongs, in bytes, whether others follow, and which belong together.
    fragment_at : int
        IPv6: where the Fragment header stands; 0: nowhere.
    unfragmentable : (int, int)
        IPv6: the end of the headers that routers look at (RFC 8200 4.5), or, of a fragment, of those before
        its Fragment header, and where the byte stands that names what follows. This is where ESP and AH go
        in. IPv4: ``header_bytes``, ``protocol_at``.
    """

    version: int
    header_bytes: int
    tos: int
    total_length: int
    dont_fragment: bool
    fragment: bool
    ttl: int
    protocol: int
    source: Address
    destination: Address
    ports: tuple[int, int] | None
    protocol_at: int
    offset: int
    more: bool
    identification: int
    fragment_at: int
    unfragmentable: tuple[int, int]

    @classmethod
    def parse(cls, packet: bytes, version: int | None = None) -> "Ip":
        """The header of ``packet``, which must be of ``version``, if that is given.

        Raises
        ------
        Refused
            MALFORMED: a length is wrong, the checksum is, or there are too many headers.
        """
        found = packet[0] >> 4 if packet else 0
        if found not in (4, 6) or version not in (None, found):
            raise Refused(Reason.MALFORMED)
        return cls._parse_ipv4(packet) if found == 4 else cls._parse_ipv6(packet)

    @classmethod
    def _parse_ipv4(cls, packet: bytes) -> "Ip":
        header_bytes = 4 * (packet[0] & 15)
        if not 20 <= header_bytes <= len(packet):
            raise Refused(Reason.MALFORMED)
        _, tos, total_length, identification, fragment, ttl, protocol, _, source, destination = (
            _IPV4.unpack_from(packet)
        )
        if not header_bytes <= total_length <= len(packet) or checksum(packet[:header_bytes]):
            raise Refused(Reason.MALFORMED)
        offset = 8 * (fragment & 0x1FFF)
        return cls(
            4,
            header_bytes,
            tos,
            total_length,
            bool(fragment & 0x4000),
            bool(fragment & 0x3FFF),
            ttl,
            protocol,
            IPv4Address(source),
            IPv4Address(destination),
            _ports(packet, header_bytes, total_length, protocol, offset),
            9,
            offset,
            bool(fragment & 0x2000),
            identification,
            0,
            (header_bytes, 9),
        )

    @classmethod
    def _parse_ipv6(cls, packet: bytes) -> "Ip":
        if len(packet) < IPV6_HEADER_BYTES:
            raise Refused(Reason.MALFORMED)
        first, payload_length, protocol, ttl, source, destination = _IPV6.unpack_from(packet)
        total_length = IPV6_HEADER_BYTES + payload_length
        if total_length > len(packet):
            raise Refused(Reason.MALFORMED)
        at, protocol_at = IPV6_HEADER_BYTES, 6
        unfragmentable = (at, protocol_at)
        fragment_at = offset = more = identification = count = 0
        while protocol in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS) and not offset:
            count += 1
            if (
                at + 8 > total_length
                or count > MAX_EXTENSIONS
                or (protocol == HOP_BY_HOP and at != IPV6_HEADER_BYTES)
            ):
                raise Refused(Reason.MALFORMED)
            kind, protocol, before, protocol_at = protocol, packet[at], protocol_at, at
            if kind == FRAGMENT:
                if fragment_at:
                    raise Refused(Reason.MALFORMED)
                unfragmentable = (at, before)
                word, identification = struct.unpack_from(">HI", packet, at + 2)
                fragment_at, offset, more = at, word & 0xFFF8, word & 1
                at += 8
                continue
            at += 8 * (packet[at + 1] + 1)
            if at > total_length:
                raise Refused(Reason.MALFORMED)
            if kind in (HOP_BY_HOP, ROUTING):
                unfragmentable = (at, protocol_at)
        return cls(
            6,
            at,
            first >> 20 & 0xFF,
            total_length,
            True,
            bool(fragment_at),
            ttl,
            protocol,
            IPv6Address(source),
            IPv6Address(destination),
            _ports(packet, at, total_length, protocol, offset),
            protocol_at,
            offset,
            bool(more),
            identification,
            fragment_at,
            unfragmentable,
        )


def martian(ip: Ip, *, group: bool) -> bool:
    """Whether a packet is never forwarded, for one of its addresses, or because it came in a link-layer
    broadcast or multicast (``group``) and is for one host. IPv4: RFC 1812 5.3.7, 4.2.3.1, 5.3.5.1, 5.3.4
    and RFC 5771 4 (224.0.0.0/24 stays on its link); IPv6: RFC 4291 2.5.2, 2.5.3, 2.7."""
    if ip.version == 6:
        source, destination = ip.source, ip.destination
        return (
            source.is_multicast
            or source.is_loopback
            or destination.is_loopback
            or destination.is_unspecified
            or (source.is_unspecified or group)
            and not destination.is_multicast
        )
    first, to = int(ip.source) >> 24, int(ip.destination) >> 24
    multicast = 224 <= to < 240
    return (
        first in (0, 127)
        or first >= 224
        or to in (0, 127)
        or to >= 240
        or int(ip.destination) >> 8 == 0xE00000
        or group
        and not multicast
    )


def is_neighbour_discovery(packet: bytes, ip: Ip) -> bool:
    """Of this link, for its hop limit says so (RFC 4861 11.2), and not in fragments (RFC 6980)."""
    return (
        ip.version == 6
        and ip.protocol == ICMPV6
        and ip.ttl == 255
        and not ip.fragment
        and ip.header_bytes < ip.total_length
        and packet[ip.header_bytes] in NEIGHBOUR_DISCOVERY
    )


def _ports(packet: bytes, at: int, end: int, protocol: int, offset: int) -> tuple[int, int] | None:
    if protocol not in (TCP, UDP) or offset or end < at + 4:
        return None
    source, destination = struct.unpack_from(">HH", packet, at)
    return source, destination


def ipv4_header(
    source: Address,
    destination: Address,
    protocol: int,
    payload_bytes: int,
    *,
    tos: int = 0,
    ttl: int = 64,
    dont_fragment: bool = False,
    identification: int = 0,
) -> bytes:
    """An IPv4 header without options, between addresses of IPv4."""
    header = _IPV4.pack(
        0x45,
        tos,
        20 + payload_bytes,
        identification,
        0x4000 * dont_fragment,
        ttl,
        protocol,
        0,
        source.packed,
        destination.packed,
    )
    return header[:10] + checksum(header).to_bytes(2) + header[12:]


def ipv6_header(
    source: Address, destination: Address, protocol: int, payload_bytes: int, *, tos: int = 0, ttl: int = 64
) -> bytes:
    """An IPv6 header without extension headers, between addresses of IPv6."""
    return _IPV6.pack(6 << 28 | tos << 20, payload_bytes, protocol, ttl, source.packed, destination.packed)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over a header that carries its right one."""
    total: int = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def transport_checksum(source: bytes, destination: bytes, protocol: int, payload: bytes) -> int:
    """The checksum of TCP, UDP and ICMPv6 with its pseudo header (RFC 9293 3.1, 768, 8200 8.1); 0 over a
    payload that carries its right one. ``source`` and ``destination`` are packed addresses."""
    return checksum(source + destination + struct.pack(">II", len(payload), protocol) + payload)


def rewrite(packet: bytes, header_bytes: int, *, protocol_at: int = 9, **fields: int) -> bytes:
    """``packet`` with other values in its IP header (``tos``, ``total_length``, ``ttl``, ``protocol``,
    IPv4: ``identification``), and, IPv4, the checksum that belongs to them. ``protocol`` goes to
    ``protocol_at``."""
    header = bytearray(packet[:header_bytes])
    if packet[0] >> 4 == 6:
        for name, value in fields.items():
            if name == "tos":
                header[:2] = (int.from_bytes(header[:2]) & 0xF00F | value << 4).to_bytes(2)
            elif name == "total_length":
                header[4:6] = (value - IPV6_HEADER_BYTES).to_bytes(2)
            else:
                header[{"ttl": 7, "protocol": protocol_at}[name]] = value
        return bytes(header) + packet[header_bytes:]
    places = {
        "tos": (1, 1),
        "total_length": (2, 2),
        "identification": (4, 2),
        "ttl": (8, 1),
        "protocol": (9, 1),
    }
    for name, value in fields.items():
        at, size = places[name]
        header[at : at + size] = value.to_bytes(size)
    header[10:12] = bytes(2)
    header[10:12] = checksum(bytes(header)).to_bytes(2)
    return bytes(header) + packet[header_bytes:]


def spi(packet: bytes, ip: Ip) -> int | None:
    """The SPI of an ESP or AH packet, also of ESP in UDP; None where it ends before."""
    at = {ESP: 0, AH: 4, UDP: 8}.get(ip.protocol)
    if at is None or ip.total_length < ip.header_bytes + at + 4:
        return None
    return int.from_bytes(packet[ip.header_bytes + at : ip.header_bytes + at + 4])
