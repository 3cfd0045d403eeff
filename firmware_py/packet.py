"""Ethernet and IPv4 headers in software: parsed strictly, changed in place, checksums kept right."""
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from spigate.firmware_py.errors import SpigateError
from spigate.firmware_py.punt import Reason

ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_ARP, ETHERTYPE_VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
TCP, UDP = 6, 17
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
IKE_PORT, NATT_PORT = 500, 4500


class Refused(SpigateError):
    """A packet goes no further, for ``reason``: dropped, or (reasons from 32 on) handed to the control element."""

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
class Ipv4:
    """What an IPv4 header says. ``ports`` are those of TCP and UDP, None for other protocols and where they
    are cut off."""

    header_bytes: int
    tos: int
    total_length: int
    dont_fragment: bool
    fragment: bool
    ttl: int
    protocol: int
    source: IPv4Address
    destination: IPv4Address
    ports: tuple[int, int] | None

    @classmethod
    def parse(cls, packet: bytes) -> "Ipv4":
        """Parses the packet; bytes behind its total length (Ethernet padding) are allowed.

        Raises
        ------
        Refused
            MALFORMED: not IPv4, truncated, lengths inconsistent, or header checksum wrong.
        """
        header_bytes = 4 * (packet[0] & 15) if packet else 0
        if len(packet) < 20 or packet[0] >> 4 != 4 or not 20 <= header_bytes <= len(packet):
            raise Refused(Reason.MALFORMED)
        _, tos, total_length, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(packet)
        if not header_bytes <= total_length <= len(packet) or checksum(packet[:header_bytes]):
            raise Refused(Reason.MALFORMED)
        fragmented = bool(fragment & 0x3FFF)
        ports = None
        if protocol in (TCP, UDP) and not fragmented and total_length >= header_bytes + 4:
            ports = struct.unpack_from(">HH", packet, header_bytes)
        return cls(header_bytes, tos, total_length, bool(fragment & 0x4000), fragmented, ttl, protocol,
                   IPv4Address(source), IPv4Address(destination), ports)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes; 0 over a header that carries its right one."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def rewrite(packet: bytes, header_bytes: int, **fields: int) -> bytes:
    """``packet`` with other values in its IPv4 header (``tos``, ``total_length``, ``ttl``, ``protocol``) and
    the checksum that belongs to them."""
    header = bytearray(packet[:header_bytes])
    places = {"tos": (1, 1), "total_length": (2, 2), "ttl": (8, 1), "protocol": (9, 1)}
    for name, value in fields.items():
        at, size = places[name]
        header[at:at + size] = value.to_bytes(size)
    header[10:12] = bytes(2)
    header[10:12] = checksum(bytes(header)).to_bytes(2)
    return bytes(header) + packet[header_bytes:]
