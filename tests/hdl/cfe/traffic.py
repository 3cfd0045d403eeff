# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Frames for the classifier's tests, made by scapy, and broken at random."""

import random

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Timestamp
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RS, IPv6
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import checksum

from spigate.hdl.contract.enums import Reason

ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
ADDRESSES = {"src": "192.0.2.1", "dst": "198.51.100.7"}
TEXT = Raw(bytes(range(1, 40)))


def ip(**fields):
    return IP(**ADDRESSES, **fields)


def options(words):
    return [IPOption_NOP()] * (4 * words)


PACKETS = {
    "esp": (ip() / ESP(spi=0x12345678, seq=9, data=b"x" * 30), None),
    "esp, options": (ip(options=options(3), ttl=7, tos=0x2E) / ESP(spi=256, seq=1, data=b"x" * 30), None),
    "esp, all options": (ip(options=options(10)) / ESP(spi=0xFFFFFFFF, seq=0xFFFFFFFE, data=b"x"), None),
    "esp, other option": (ip(options=IPOption_Timestamp()) / ESP(spi=0x1000, seq=1, data=b"x"), None),
    "esp, nothing behind": (ip() / ESP(spi=0x1000, seq=1), None),
    "esp, half a header": (ip(proto=50) / Raw(b"1234567"), Reason.MALFORMED),
    "esp 255": (ip() / ESP(spi=255, seq=1, data=b"x" * 9), Reason.RESERVED_SPI),
    "esp 0": (ip() / ESP(spi=0, seq=1, data=b"x" * 9), Reason.RESERVED_SPI),
    "udp": (ip(flags="DF") / UDP(sport=1234, dport=53) / TEXT, None),
    "tcp": (ip(options=options(1)) / TCP(sport=50000, dport=443) / TEXT, None),
    "tcp, no ports": (ip(proto=6) / Raw(b"abc"), Reason.MALFORMED),
    "tcp, ports only": (ip(proto=6) / Raw(b"abcd"), None),
    "udp, no ports": (ip(proto=17) / Raw(b"abc"), Reason.MALFORMED),
    "icmp": (ip() / ICMP(), None),
    "nothing": (ip(proto=59), None),
    "icmp, one byte": (ip(proto=1) / Raw(b"a"), None),
    "ike": (ip() / UDP(sport=500, dport=500) / TEXT, None),
    "ike from 500": (ip() / UDP(sport=500, dport=1000) / TEXT, None),
    "ike to 500": (ip(options=options(2)) / UDP(sport=1000, dport=500) / TEXT, None),
    "tcp 500": (ip() / TCP(sport=500, dport=500), None),
    "ike, marker": (ip() / UDP(sport=4500, dport=4500) / Raw(bytes(4) + b"x"), None),
    "ike, marker, options": (ip(options=options(9)) / UDP(sport=1, dport=4500) / Raw(bytes(4)), None),
    "nat-t": (ip() / UDP(sport=4500, dport=4500) / Raw(b"\0\0\1\0" + bytes(20)), None),
    "nat-t, options": (
        ip(options=options(10)) / UDP(sport=4500, dport=4500) / Raw(b"\0\0\0\1" + bytes(20)),
        None,
    ),
    "nat-t keep-alive": (ip() / UDP(sport=4500, dport=4500) / Raw(b"\xff"), None),
    "nat-t, three zeros": (ip() / UDP(sport=4500, dport=4500) / Raw(bytes(3)), None),
    "from 4500": (ip() / UDP(sport=4500, dport=4501) / TEXT, None),
    "ah": (ip() / AH(spi=0x1000, seq=1), Reason.AH),
    "first fragment": (ip(flags="MF") / UDP(dport=500) / TEXT, Reason.FRAGMENT),
    "later fragment": (ip(frag=1, proto=50) / TEXT, Reason.FRAGMENT),
    "last place": (ip(frag=0x1FFF, proto=51) / TEXT, Reason.FRAGMENT),
    "version": (ip(version=5) / UDP() / TEXT, Reason.MALFORMED),
    "header too short": (ip(ihl=4) / UDP() / TEXT, Reason.MALFORMED),
    "header longer than packet": (ip(ihl=15, len=59) / UDP() / TEXT, Reason.MALFORMED),
    "checksum": (ip(chksum=0x1234) / UDP() / TEXT, Reason.MALFORMED),
    "longer than frame": (ip(len=1000) / UDP() / TEXT, Reason.MALFORMED),
    "length 0": (ip(len=0) / UDP() / TEXT, Reason.MALFORMED),
    "length 19": (ip(len=19) / UDP() / TEXT, Reason.MALFORMED),
    "length 65535": (ip(len=65535) / UDP() / TEXT, Reason.MALFORMED),
    "padded": (ip(len=28, proto=17) / Raw(b"\0\1\0\2\0\x08\0\0") / Raw(bytes(18)), None),
}
OTHERS = {
    "arp": (ETHER / ARP(), Reason.NOT_IP),
    "ipv6": (ETHER / IPv6() / UDP(dport=5000), Reason.IPV6),
    "ipv6, ike": (ETHER / IPv6(dst="2001:db8::1") / UDP(sport=500, dport=500) / TEXT, Reason.IPV6),
    "ipv6, from 500": (ETHER / IPv6(dst="2001:db8::1") / UDP(sport=500, dport=501) / TEXT, Reason.IPV6),
    "ipv6, marker, tagged": (
        ETHER / Dot1Q(vlan=5) / IPv6() / UDP(dport=4500) / Raw(bytes(4) + b"x"),
        Reason.IPV6,
    ),
    "ipv6, no marker": (ETHER / IPv6() / UDP(dport=4500) / TEXT, Reason.IPV6),
    "ipv6, tcp": (ETHER / IPv6() / TCP(sport=500, dport=500), Reason.IPV6),
    "ipv6, neighbour": (
        ETHER / IPv6(dst="ff02::1", hlim=255) / ICMPv6ND_NS(tgt="2001:db8::1"),
        Reason.NEIGHBOUR,
    ),
    "ipv6, router, tagged": (ETHER / Dot1Q(vlan=5) / IPv6(hlim=255) / ICMPv6ND_RS(), Reason.NEIGHBOUR),
    "ipv6, neighbour from afar": (ETHER / IPv6(hlim=254) / ICMPv6ND_NA(), Reason.IPV6),
    "ipv6, ping": (ETHER / IPv6(hlim=255) / ICMPv6EchoRequest(), Reason.IPV6),
    "ipv6, tagged": (ETHER / Dot1Q(vlan=5) / IPv6() / UDP(), Reason.IPV6),
    "arp, tagged": (ETHER / Dot1Q(vlan=5) / ARP(), Reason.NOT_IP),
    "two tags": (ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6) / ip() / UDP(), Reason.NOT_IP),
    "service tag": (ETHER / Dot1AD(vlan=5) / ip() / UDP(), Reason.NOT_IP),
    "802.3": (ETHER.copy() / Raw(b"\xaa\xaa\x03" + bytes(40)), None),
}
OTHERS["802.3"][0][Ether].type = 43
OTHERS["802.3"] = (OTHERS["802.3"][0], Reason.NOT_IP)


def frames():
    """All frames, tagged and untagged, with the reason expected (None: tables decide)."""
    for name, (packet, reason) in PACKETS.items():
        yield name, bytes(ETHER / packet), reason
        yield f"{name}, tagged", bytes(ETHER / Dot1Q(vlan=0x123, prio=3) / packet), reason
    for name, (packet, reason) in OTHERS.items():
        yield name, bytes(packet), reason


def mutated(rng: random.Random, cases: list[bytes]) -> bytes:
    """One of ``cases`` with a few bytes changed, often with its checksum mended so that the change gets
    further, and sometimes cut."""
    frame = bytearray(rng.choice(cases))
    for _ in range(rng.choice([1, 1, 2, 4])):
        frame[rng.choice([rng.randrange(len(frame)), rng.randrange(min(45, len(frame)))])] = rng.choice(
            [0, 0xFF, 4, 0x45, 0x50, 0x81, 17, 50, 51, rng.randrange(256)]
        )
    start = 18 if frame[12:14] == b"\x81\0" else 14
    if rng.random() < 0.7 and len(frame) >= start + 20:
        words = max(frame[start] & 15, 5)
        frame[start + 10 : start + 12] = bytes(2)
        frame[start + 10 : start + 12] = checksum(bytes(frame[start : start + 4 * words])).to_bytes(2, "big")
    return bytes(frame[: rng.choice([len(frame), rng.randint(1, len(frame))])])
