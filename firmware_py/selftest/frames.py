# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The frames that a self-test injects, and those that it expects back."""

import struct
from ipaddress import IPv4Address

from spigate.firmware_py.ipsec.packet import Ethernet, Ip, Refused, ipv4_header, rewrite
from spigate.hdl.contract.protocols import ESP, ETHERTYPE_IPV4, UDP

ETHERNET = Ethernet(bytes.fromhex("025350494701"), bytes.fromhex("025350494702"), ETHERTYPE_IPV4)
"""The header of every frame that is injected: locally administered addresses, of nobody."""
HOST, PEER, GATE, INSIDE = (IPv4Address(0xC612_0001 + at) for at in range(4))
"""Addresses for measuring (198.18.0.0/15, RFC 2544 and 5735), where the test does not vary them."""
SMALL = 8
"""Bytes of the payload of a small packet, behind UDP's header."""


def framed(packet: bytes, ethernet: Ethernet = ETHERNET) -> bytes:
    """A frame with an IP packet."""
    return ethernet.pack() + packet


def ip_packet(
    protocol: int,
    payload: bytes,
    source: IPv4Address | int = HOST,
    destination: IPv4Address | int = PEER,
    *,
    ttl: int = 64,
    tos: int = 0,
    dont_fragment: bool = True,
) -> bytes:
    """An IPv4 packet without options."""
    return (
        ipv4_header(
            IPv4Address(source),
            IPv4Address(destination),
            protocol,
            len(payload),
            ttl=ttl,
            tos=tos,
            dont_fragment=dont_fragment,
        )
        + payload
    )


def udp_packet(
    tag: int,
    source: IPv4Address | int = HOST,
    destination: IPv4Address | int = PEER,
    ports: tuple[int, int] = (1000, 2000),
    *,
    size: int = SMALL,
    ttl: int = 64,
    dont_fragment: bool = True,
) -> bytes:
    """A UDP packet whose payload of ``size`` bytes, 4 or more, begins with ``tag``, by which it is known
    again. It has no checksum (RFC 768).
    """
    payload = tag.to_bytes(4) + bytes((tag + 7 * at) % 256 for at in range(size - 4))
    udp = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
    return ip_packet(UDP, udp, source, destination, ttl=ttl, dont_fragment=dont_fragment)


def esp_packet(
    spi: int, sequence: int, body: bytes = b"", destination: IPv4Address | int = GATE, *, ttl: int = 64
) -> bytes:
    """A packet of ESP with ``body`` behind its header."""
    return ip_packet(ESP, struct.pack(">II", spi, sequence) + body, PEER, destination, ttl=ttl)


def normal(frame: bytes) -> bytes:
    """``frame`` without what nobody can know before: the Identification of an IPv4 packet that may be
    fragmented, and what its checksum owes to it. A frame whose checksum is wrong stays as it is.
    """
    try:
        ethernet, packet = Ethernet.parse(frame)
        ip = Ip.parse(packet, 4)
    except Refused:
        return frame
    if ip.dont_fragment:
        return frame
    return framed(rewrite(packet, ip.header_bytes, identification=0), ethernet)
