# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest
from amaranth.hdl import Const, Module, Signal
from amaranth.sim import Simulator
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import Dot1Q, Ether

from spigate.hdl.net import headers


def number(value):
    signal, m = Signal(len(value)), Module()
    m.d.comb += signal.eq(value)
    found = []

    async def read(ctx):
        await ctx.delay(0)
        found.append(ctx.get(signal))

    simulator = Simulator(m)
    simulator.add_testbench(read)
    simulator.run()
    return found[0]


PACKET = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / IP(
    src="192.0.2.1", dst="198.51.100.7", tos=0xB9, id=0x1234, flags="DF", frag=5, ttl=63, proto=17
)
CASES = {
    "ethernet": (
        headers.ETHERNET,
        bytes(PACKET),
        {"destination": 0x020000000001, "source": 0x020000000002, "type": 0x0800},
    ),
    "ipv4": (
        headers.IPV4,
        bytes(PACKET)[14:],
        {
            "version": 4,
            "header_words": 5,
            "tos": 0xB9,
            "total_length": 20,
            "identification": 0x1234,
            "dont_fragment": 1,
            "more_fragments": 0,
            "fragment_offset": 5,
            "ttl": 63,
            "protocol": 17,
            "source": 0xC0000201,
            "destination": 0xC6336407,
        },
    ),
    "vlan": (
        headers.VLAN,
        bytes(Dot1Q(vlan=0x234, prio=5, type=0x0800)),
        {"priority": 5, "id": 0x234, "type": 0x0800},
    ),
    "udp": (
        headers.UDP,
        bytes(UDP(sport=500, dport=4500, len=8)),
        {"source": 500, "destination": 4500, "length": 8},
    ),
    "ports": (headers.PORTS, bytes(TCP(sport=443, dport=50000))[:4], {"source": 443, "destination": 50000}),
    "esp": (headers.ESP, bytes(ESP(spi=0xDEADBEEF, seq=7)), {"spi": 0xDEADBEEF, "sequence": 7}),
}


@pytest.mark.parametrize("case", CASES)
def test_reads_what_scapy_writes(case):
    header, wire, expected = CASES[case]
    value = Const(int.from_bytes(wire[: header.length], "little"), 8 * header.length)
    assert {field: number(header.get(field, value)) for field in expected} == expected


def test_reads_from_a_part_and_refuses_what_is_not_in_it():
    wire = bytes(PACKET)[14:]
    part = Const(int.from_bytes(wire[8:12], "little"), 32)
    assert number(headers.IPV4.get("ttl", part, word=2)) == 63
    with pytest.raises(ValueError, match="IPv4.source is not in the 32 bits from word 2 on"):
        headers.IPV4.get("source", part, word=2)


def test_writes_what_scapy_reads():
    wire = headers.IPV4.value(
        version=4, header_words=5, total_length=20, ttl=9, protocol=50, source=0xC0000201
    )
    packet = IP(wire)
    assert (packet.version, packet.ihl, packet.ttl, packet.proto, packet.src) == (4, 5, 9, 50, "192.0.2.1")
    with pytest.raises(ValueError, match="IPv4.ttl must be 0 to 255, not 256"):
        headers.IPV4.value(ttl=256)
    with pytest.raises(ValueError, match="must be whole bytes, not 7 bits"):
        headers.Header("odd", field=7)
