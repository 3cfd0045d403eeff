# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What is for the control element's own host, and what that sends."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.ipsec.fragments import fragments
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection
from spigate.firmware_py.ipsec.sa import Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE, Source
from spigate.firmware_py.tables.punt import PuntHeader
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason
from tests.firmware_py.control import test_slow_path as both
from tests.firmware_py.control.ce_host import INBOUND, OUTBOUND, Host
from tests.firmware_py.control.network import (
    INSIDE_MAC,
    LINUX,
    PEER,
    PEER_MAC,
    SELF,
    SELF_MAC,
    TOPOLOGY,
    frame,
    mac,
    udp,
)
from tests.firmware_py.control.network import policy as bed_policy
from tests.firmware_py.control.test_slow_path import (
    FORWARD,
    HEADERS,
    HERE,
    OUT,
    THERE,
    network_frame,
    peer,
    policy,
    server_frame,
)

# What is for the host


IKE = UDP(sport=500, dport=500) / bytes(60)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("port", [500, 4500])
@pytest.mark.parametrize("size", [60, 1500, 4000])
@pytest.mark.parametrize("default", [PolicyAction.BYPASS, PolicyAction.DISCARD])
def test_ike_comes_to_the_host_whole(version, port, size, default):
    """Also what comes in fragments and is longer than the gateway's longest frame."""
    bench = Host(settings=Settings(default=default))
    fields = {"id": 7} if version == 4 else {}
    packet = bytes(
        HEADERS[version](src=str(both.PEER[version]), dst=str(both.SELF[version]), **fields)
        / UDP(sport=port, dport=port)
        / bytes(size)
    )
    pieces = fragments(packet, 1400, 7)
    assert bench.feed(Port.NETWORK, *map(network_frame, pieces)) == ([], [])
    [(header, got)] = bench.got
    assert header.ingress == Port.NETWORK and got == network_frame(packet)
    assert bench.control.consumed["ike"] == 1 and not bench.loop.drops


@pytest.mark.parametrize(
    "sent",
    [
        Ether(src=PEER_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc=PEER, pdst=SELF),
        Ether(src=PEER_MAC, dst="33:33:ff:00:00:02")
        / IPv6(src="2001:db8::1", dst="ff02::1:ff00:2", hlim=255)
        / ICMPv6ND_NS(tgt="2001:db8::2"),
        Ether(src=PEER_MAC, dst=SELF_MAC)
        / IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=255)
        / ICMPv6ND_NS(tgt="2001:db8::2"),
    ],
)
def test_the_gateway_is_found_whatever_the_policies_say(sent):
    bench = Host(settings=Settings(default=PolicyAction.DISCARD))
    bench.feed(Port.NETWORK, bytes(sent))
    assert [got for _, got in bench.got] == [bytes(sent)] and not bench.loop.drops


def test_from_afar_there_is_no_neighbour_discovery():
    bench = Host(settings=Settings(default=PolicyAction.DISCARD))
    bench.feed(
        Port.NETWORK,
        network_frame(
            bytes(IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=254) / ICMPv6ND_NS(tgt="2001:db8::2"))
        ),
    )
    assert not bench.got and bench.loop.drops == {Reason.POLICY: 1}


def test_through_a_tunnel_there_is_no_neighbour_discovery():
    bench = Host((), (), settings=Settings(default=PolicyAction.DISCARD))
    solicitation = bytes(IPv6(src=THERE[6], dst=HERE[6], hlim=255) / ICMPv6ND_NS(tgt=HERE[6]))
    bench.do(
        bench.control.handle(PuntHeader(Reason.IPV6, Port.RECIRCULATE, depth=1), network_frame(solicitation))
    )
    assert not bench.got and bench.control.software == {"bypassed": 1}, "it goes on like any other packet"


def test_what_policies_discard_does_not_come_to_the_host():
    bench = Host(settings=Settings(default=PolicyAction.DISCARD))
    bench.feed(Port.NETWORK, network_frame(bytes(IP(src=PEER, dst=SELF) / ICMP())))
    assert not bench.got and bench.loop.drops == {Reason.POLICY: 1}


@pytest.mark.parametrize("version", [4, 6])
def test_who_may_not_speak_in_the_clear_may_not_to_the_host_either(version):
    bench = Host(
        (),
        (),
        settings=replace(
            LINUX, sources=(Source(ip_network(f"{both.PEER[version]}"), frozenset({Port.NETWORK})),)
        ),
    )
    packets = [
        both.udp(source, str(both.SELF[version]))
        for source in (str(both.PEER[version]), {4: "192.0.2.66", 6: "2001:db8::66"}[version])
    ]
    bench.feed(Port.NETWORK, *map(network_frame, packets))
    bench.feed(Port.SERVER, server_frame(packets[0]))
    assert [(header.ingress, got) for header, got in bench.got] == [(Port.NETWORK, network_frame(packets[0]))]
    assert bench.loop.drops == {Reason.POLICY: 2}


@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_what_is_decrypted_for_the_gateway_itself_comes_to_the_host(capabilities):
    bench = Host(
        (INBOUND,),
        [replace(policy(FORWARD), selectors=Selectors(ip_network("10.1.0.0/24"), ip_network("10.2.0.1/32")))],
        capabilities,
    )
    plain = udp(THERE[4], "10.2.0.1")
    assert bench.feed(Port.NETWORK, network_frame(peer(INBOUND).encapsulate(plain))) == ([], [])
    [(header, got)] = bench.got
    assert header.ingress == Port.RECIRCULATE and got[14:][-20:] == plain[-20:]


def test_what_the_host_says_in_the_clear_comes_back_to_it_to_be_sent():
    passed = Policy(
        selectors=Selectors(ip_network(f"{SELF}/32"), ip_network(f"{PEER}/32")),
        direction=OUT,
        action=PolicyAction.BYPASS,
    )
    bench = Host((), [passed], settings=Settings(default=PolicyAction.DISCARD))
    own = frame(bytes(IP(src=SELF, dst=PEER) / ICMP()), SELF_MAC, PEER_MAC)
    other = frame(bytes(IP(src=SELF, dst="192.0.2.9") / ICMP()), SELF_MAC, PEER_MAC)

    async def inject():
        for one in (own, other):
            for outcome in bench.gateway.inject(0, Port.SERVER, 0, one):
                if hasattr(outcome, "header"):
                    await bench.control.handle(outcome.header, outcome.frame)

    bench.do(inject())
    assert [(header.ingress, got) for header, got in bench.got] == [(Port.SERVER, own)]
    assert bench.loop.drops == {Reason.POLICY: 1}


# Transport mode: for the control element's own host, or for one behind the server port


@pytest.mark.parametrize("own_host", [True, False])
@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_transport_mode_is_for_its_host(capabilities, own_host):
    inbound, outbound = (replace(each, mode=Mode.TRANSPORT) for each in (INBOUND, OUTBOUND))
    between = Selectors(ip_network(SELF), ip_network(PEER)), Selectors(ip_network(PEER), ip_network(SELF))
    policies = [
        bed_policy(direction, what, mode=Mode.TRANSPORT)
        for direction, what in zip((PolicyDirection.OUT, PolicyDirection.IN), between, strict=True)
    ]
    bench = Host(
        (inbound, outbound),
        policies,
        capabilities,
        settings=Settings(default=PolicyAction.DISCARD, own_host=own_host),
    )
    plain = udp(PEER, SELF)
    for _ in range(2):
        out = bench.feed(Port.NETWORK, bench.sealed(inbound, plain))
        if own_host:
            assert out == ([], []) and bench.got.pop()[1][14:] == plain and not bench.got
        else:
            assert out[0] == [] and [one[14:] for one in out[1]] == [plain] and not bench.got
    answer = udp(SELF, PEER)
    one = frame(answer, SELF_MAC, PEER_MAC)
    sent = bench.send(one) if own_host else bench.feed(Port.SERVER, one)[0]
    opened_here = SoftSa(replace(outbound, direction=Direction.INBOUND)).decapsulate(sent[0][14:])
    assert opened_here == answer and sent[0][:12] == mac(PEER_MAC) + mac(SELF_MAC)
    assert bool(bench.control.refusals) == (capabilities is SOFTWARE)


@pytest.mark.parametrize("own_host", [True, False])
def test_frames_of_others_at_the_server_port_are_taken_only_in_front_of_a_host(own_host):
    policies = [
        bed_policy(PolicyDirection.OUT, Selectors(ip_network(SELF), ip_network(PEER)), mode=Mode.TRANSPORT)
    ]
    bench = Host((), policies, settings=Settings(own_host=own_host))
    bench.feed(Port.SERVER, frame(udp(SELF, PEER), SELF_MAC, "02:00:00:00:00:77"))
    assert bench.gateway.drops[Reason.OTHER_STATION] == own_host


def test_the_host_hears_that_its_own_packet_is_too_long():
    policies = [
        bed_policy(PolicyDirection.OUT, Selectors(ip_network("10.2.0.0/24"), ip_network("10.1.0.0/16")))
    ]
    bench = Host((OUTBOUND,), policies, network=TOPOLOGY, settings=Settings(own_host=True))
    long = bytes(IP(src="10.2.0.1", dst="10.1.0.10", flags="DF") / UDP(sport=1, dport=2) / bytes(1440))
    assert bench.feed(Port.SERVER, frame(long, INSIDE_MAC, INSIDE_MAC)) == ([], [])
    [(_, message)] = bench.got
    assert IP(message[14:])[ICMP].type == 3 and IP(message[14:]).dst == "10.2.0.1"


@pytest.mark.parametrize("pieces", [1, 2])
def test_neighbours_of_another_link_are_none_of_ours(pieces):
    """A peer that may speak to the gateway's own address does not say there which Ethernet address a server
    has (RFC 4861 3.1).
    """
    inbound = both.sa(version=6)
    made = Host((inbound,), [both.policy(both.FORWARD, 6, version=6)], settings=Settings(own_host=True))
    target, end = "2001:db8:2::10", "2001:db8:2::1"
    claim = ICMPv6ND_NA(tgt=target, O=1) / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:66:66")
    sender = both.peer(inbound)

    def hears(packet, count):
        whole = bytes(packet)
        parts = fragments(whole, len(whole) if count == 1 else 71, 7)
        assert len(parts) == count
        before = len(made.got)
        made.feed(Port.NETWORK, *(network_frame(sender.encapsulate(part)) for part in parts))
        return len(made.got) - before

    there = IPv6(src=both.THERE[6], dst=end, hlim=255)
    assert hears(there / ICMPv6EchoRequest(data=bytes(24)), pieces) == 1
    assert hears(there / claim, pieces) == 0 and made.loop.drops == {Reason.MARTIAN: 1}
