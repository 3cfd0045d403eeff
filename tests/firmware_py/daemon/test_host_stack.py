# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrFragment,
    fragment6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether

from spigate.firmware_py.control.topology import Interface
from spigate.firmware_py.daemon.host_stack import REMEMBERED, HostStack
from spigate.firmware_py.tables.punt import InjectMode, PuntHeader
from spigate.hdl.contract.enums import Port, Reason
from tests.firmware_py.control.network import INSIDE_MAC, PEER, PEER_MAC, SELF, SELF_MAC, mac

OURS_6, THEIRS_6 = "2001:db8::2", "2001:db8::1"
INTERFACES = {
    each.port: each
    for each in (
        Interface(
            "outside", Port.NETWORK, mac(SELF_MAC), (ip_interface(f"{SELF}/24"), ip_interface(f"{OURS_6}/64"))
        ),
        Interface("inside", Port.SERVER, mac(INSIDE_MAC), (ip_interface("10.2.0.1/24"),)),
    )
}
OUT = Ether(src=SELF_MAC, dst=PEER_MAC)
IKE = UDP(sport=500, dport=500) / bytes(40)
FOR_POLICIES = Port.SERVER


@pytest.fixture
def stack():
    return HostStack(INTERFACES)


def went(stack, *packets, port=Port.NETWORK):
    """Where frames of the host's go: the port as they are, or FOR_POLICIES to be classified;
    None: nowhere.
    """
    found = []
    for packet in packets:
        frame = bytes(packet)
        injection = stack.outward(port, frame)
        assert injection is None or injection[2:] == (0, frame)
        found.append(injection and injection[:2])
    return found


DIRECT, CLASSIFIED, NOWHERE = (InjectMode.DIRECT, Port.NETWORK), (InjectMode.CLASSIFY, FOR_POLICIES), None


@pytest.mark.parametrize(
    ("packet", "where"),
    [
        (OUT / ARP(pdst=PEER), DIRECT),
        (OUT / IP(src=SELF, dst=PEER) / IKE, DIRECT),
        (OUT / IP(src=SELF, dst=PEER) / UDP(sport=4500, dport=4500) / bytes(44), DIRECT),
        (OUT / IP(src=SELF, dst=PEER) / UDP(sport=500, dport=40500) / bytes(44), DIRECT),
        (OUT / IPv6(src=OURS_6, dst=THEIRS_6) / IKE, DIRECT),
        (OUT / IPv6(src="10::99", dst=THEIRS_6) / IKE, CLASSIFIED),
        (OUT / IP(src="10.9.9.9", dst=PEER) / IKE, CLASSIFIED),
        (OUT / IP(src=SELF, dst=PEER) / UDP(sport=501, dport=500) / bytes(9), CLASSIFIED),
        (OUT / IP(src=SELF, dst=PEER) / TCP(sport=500, dport=4500), CLASSIFIED),
        (OUT / IP(src=SELF, dst=PEER) / ICMP(), CLASSIFIED),
        (OUT / IPv6(src=OURS_6, dst=THEIRS_6, hlim=255) / ICMPv6ND_NS(tgt=THEIRS_6), DIRECT),
        (OUT / IPv6(src="fe80::2", dst="ff02::2", hlim=255) / ICMPv6ND_RS(), DIRECT),
        (OUT / IPv6(src=OURS_6, dst=THEIRS_6, hlim=64) / ICMPv6ND_NS(tgt=THEIRS_6), CLASSIFIED),
        (
            OUT / IPv6(src=OURS_6, dst=THEIRS_6, hlim=255) / IPv6ExtHdrFragment() / ICMPv6ND_NS(tgt=THEIRS_6),
            CLASSIFIED,
        ),
        (OUT / IPv6(src=OURS_6, dst=THEIRS_6) / ICMPv6EchoRequest(), CLASSIFIED),
        (OUT / IPv6(src="fe80::2", dst="ff02::16", hlim=1) / ICMPv6MLReport2(), NOWHERE),
        (OUT / IPv6(src="fe80::2", dst=THEIRS_6) / UDP(), NOWHERE),
        (OUT / IP(src=SELF, dst="224.0.0.251") / UDP(sport=5353, dport=5353), NOWHERE),
        (OUT / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67), NOWHERE),
        (OUT / Dot1Q(vlan=7) / IP(src=SELF, dst=PEER) / ICMP(), CLASSIFIED),
        (OUT / Dot1Q(vlan=7) / IP(src=SELF, dst=PEER) / IKE, DIRECT),
        (OUT / Dot1Q(vlan=7) / ARP(pdst=PEER), DIRECT),
        (OUT / Dot1Q(vlan=7) / Dot1Q(vlan=8) / IP(src=SELF, dst=PEER) / ICMP(), NOWHERE),
        (Ether(src=SELF_MAC, dst=PEER_MAC, type=0x88CC) / bytes(46), NOWHERE),
        (bytes(OUT / IP(src=SELF, dst=PEER) / IKE)[:30], NOWHERE),
        (Ether(src=SELF_MAC, dst=PEER_MAC, type=0x0800), NOWHERE),
        (bytes(13), NOWHERE),
        (b"", NOWHERE),
    ],
)
def test_what_becomes_of_what_the_host_sends(stack, packet, where):
    assert went(stack, packet) == [where]


def test_at_the_other_port_it_goes_out_there(stack):
    assert went(stack, Ether(src=INSIDE_MAC) / ARP(), port=Port.SERVER) == [(InjectMode.DIRECT, Port.SERVER)]


@pytest.mark.parametrize(
    "pieces",
    [
        fragment(IP(src=SELF, dst=PEER, id=9) / UDP(sport=500, dport=500) / bytes(3000), 1000),
        fragment6(
            IPv6(src=OURS_6, dst=THEIRS_6)
            / IPv6ExtHdrFragment(id=9)
            / UDP(sport=500, dport=500)
            / bytes(3000),
            1280,
        ),
    ],
)
def test_ike_in_fragments(stack, pieces):
    frames = [OUT / piece for piece in pieces]
    assert len(frames) > 2
    assert went(stack, frames[1]) == [CLASSIFIED], "of what, nobody knows"
    assert went(stack, *frames) == [DIRECT] * len(frames)
    assert went(stack, frames[-1]) == [CLASSIFIED], "a later datagram may have the same number"


def test_few_datagrams_in_fragments_are_remembered(stack):
    pieces = [
        fragment(IP(src=SELF, dst=PEER, id=number) / UDP(sport=500, dport=500) / bytes(1500), 1000)
        for number in range(REMEMBERED + 1)
    ]
    went(stack, *(OUT / first for first, _ in pieces))
    assert went(stack, *(OUT / last for _, last in pieces)) == [CLASSIFIED] + [DIRECT] * REMEMBERED


def test_fragments_of_others_are_not_ikes(stack):
    first, last = fragment(IP(src=SELF, dst=PEER, id=9) / UDP(sport=500, dport=500) / bytes(1500), 1000)
    other = last.copy()
    other.dst = "192.0.2.9"
    assert went(stack, OUT / first, OUT / other) == [DIRECT, CLASSIFIED]
    other = last.copy()
    other.proto = 6
    assert went(stack, OUT / other) == [CLASSIFIED]


OWN = bytes(OUT / IP(src=SELF, dst=PEER) / ICMP())


def test_what_policies_let_pass_goes_out_where_the_host_sent_it(stack):
    assert stack.back(PuntHeader(Reason.NO_RULE, Port.SERVER), OWN) == (
        InjectMode.DIRECT,
        Port.NETWORK,
        0,
        OWN,
    )
    ike = bytes(OUT / IP(src=SELF, dst=PEER) / UDP(sport=9, dport=500))
    assert stack.back(PuntHeader(Reason.IKE, Port.SERVER), ike) == (
        InjectMode.DIRECT,
        Port.NETWORK,
        0,
        ike,
    ), "policy was asked"
    inside = bytes(Ether(src=INSIDE_MAC) / IP(src=SELF, dst="10.2.0.10") / ICMP())
    assert stack.back(PuntHeader(Reason.RULE, Port.SERVER), inside) == (
        InjectMode.DIRECT,
        Port.SERVER,
        0,
        inside,
    )


@pytest.mark.parametrize(
    ("header", "frame"),
    [
        (PuntHeader(Reason.NO_RULE, Port.NETWORK), OWN),
        (PuntHeader(Reason.NO_RULE, Port.RECIRCULATE), OWN),
        (PuntHeader(Reason.IKE, Port.SERVER), bytes(OUT / IP(src=SELF, dst=SELF) / IKE)),
        (PuntHeader(Reason.NOT_IP, Port.SERVER), bytes(OUT / ARP())),
        (
            PuntHeader(Reason.NO_RULE, Port.SERVER),
            bytes(Ether(src=PEER_MAC, dst=SELF_MAC) / IP(src=SELF, dst=PEER) / ICMP()),
        ),
        (PuntHeader(Reason.NO_RULE, Port.SERVER), bytes(OUT / IP(src="10.2.0.10", dst=PEER) / ICMP())),
        (PuntHeader(Reason.NO_RULE, Port.SERVER), bytes(OUT / IP(src="10.2.0.10", dst=SELF) / ICMP())),
        (PuntHeader(Reason.NO_RULE, Port.SERVER), bytes(OUT / IP(src=SELF, dst="10.2.0.1") / ICMP())),
        (
            PuntHeader(Reason.IPV6, Port.SERVER),
            bytes(OUT / IPv6(src=OURS_6, dst=THEIRS_6, hlim=255) / ICMPv6ND_NA(tgt=OURS_6)),
        ),
        (PuntHeader(Reason.NO_RULE, Port.SERVER), OWN[:20]),
        (PuntHeader(Reason.NO_RULE, Port.SERVER), b""),
    ],
)
def test_a_senders_address_alone_lets_nothing_out(stack, header, frame):
    """Who is at a port can send with the gateway's own Ethernet address."""
    assert stack.back(header, frame) is None


@pytest.mark.parametrize("ingress", list(Port))
def test_the_host_gets_what_is_for_it(stack, ingress):
    frame = bytes(Ether(src=PEER_MAC, dst="02:00:00:00:00:77") / IP(src=PEER, dst=SELF) / IKE)
    port, got = stack.inward(ingress, frame)
    assert port == Port.NETWORK, "whose address it is"
    assert got[:6] == INTERFACES[port].mac and got[6:] == frame[6:]


@pytest.mark.parametrize(
    ("packet", "comes"),
    [
        (Ether(dst="ff:ff:ff:ff:ff:ff", src=PEER_MAC) / ARP(), True),
        (
            Ether(dst="33:33:ff:00:00:02", src=PEER_MAC)
            / IPv6(src=THEIRS_6, dst="ff02::1:ff00:2", hlim=255)
            / ICMPv6ND_NS(),
            True,
        ),
        (
            Ether(dst=SELF_MAC, src=PEER_MAC) / IPv6(src="fe80::1", dst="fe80::2", hlim=255) / ICMPv6ND_NA(),
            True,
        ),
        (Ether(dst=SELF_MAC, src=PEER_MAC) / Dot1Q(vlan=7) / IP(src=PEER, dst=SELF) / IKE, True),
        (Ether(dst=SELF_MAC, src=PEER_MAC) / IP(src=PEER, dst="10.2.0.10") / IKE, False),
        (Ether(dst=SELF_MAC, src=PEER_MAC) / IPv6(src=THEIRS_6, dst="2001:db8::77") / IKE, False),
        (Ether(dst=SELF_MAC, src=PEER_MAC, type=0x0800) / b"E", False),
        (b"\2", False),
        (b"", False),
    ],
)
def test_of_what_ends_here_the_host_gets_its_own(stack, packet, comes):
    frame = bytes(packet)
    assert stack.inward(Port.NETWORK, frame) == ((Port.NETWORK, frame) if comes else None)


WHOLE = [
    bytes(each)
    for each in (
        OUT / IP(src=SELF, dst=PEER) / IKE,
        OUT / IPv6(src=OURS_6, dst=THEIRS_6) / IKE,
        OUT / ARP(),
        OUT / Dot1Q(vlan=7) / IP(src=SELF, dst=PEER) / IKE,
        OUT / IPv6(src=OURS_6, dst=THEIRS_6, hlim=255) / ICMPv6ND_NS(tgt=THEIRS_6),
        *(
            OUT / piece
            for piece in fragment6(IPv6(src=OURS_6, dst=THEIRS_6) / IPv6ExtHdrFragment(id=9) / IKE, 1280)
        ),
    )
]


@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=4),
    st.integers(0, 120),
    st.sampled_from(Port),
)
def test_whatever_the_frame_there_is_an_answer(frame, changes, length, ingress):
    spoilt = bytearray(frame)
    for at, value in changes:
        spoilt[at % len(spoilt)] = value
    raw, made = bytes(spoilt[:length]), HostStack(INTERFACES)
    for got in (made.outward(Port.NETWORK, raw), made.back(PuntHeader(Reason.NO_RULE, ingress), raw)):
        assert got is None or got[3] == raw
    got = made.inward(ingress, raw)
    assert got is None or (got[0] in INTERFACES and got[1][6:] == raw[6:])
