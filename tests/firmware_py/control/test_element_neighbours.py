# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Neighbours turn up, become others and go while the control element is at work."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.l2 import Ether

from spigate.firmware_py.control.topology import Neighbour, Topology
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction
from spigate.firmware_py.ipsec.sa import Selectors
from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE
from spigate.hdl.contract.enums import Direction, Port, Reason
from tests.firmware_py.control import test_slow_path as both
from tests.firmware_py.control.ce_host import (
    INBOUND,
    NEIGHBOURS,
    OUTBOUND,
    Host,
    elsewhere,
    topology,
    without,
)
from tests.firmware_py.control.network import INSIDE_MAC, PEER, PEER_MAC, SERVERS, TOPOLOGY, mac, sa, udp
from tests.firmware_py.control.test_slow_path import (
    FORWARD,
    HERE,
    OUT,
    SERVER_MAC,
    THERE,
    incoming,
    network_frame,
    opened,
    outgoing,
    peer,
    policy,
    routed,
    server_frame,
    template,
)

# Neighbours that nobody knows yet


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_a_clear_packet_waits_for_its_neighbour(version, capabilities):
    bench = Host((), (), capabilities, without(HERE[version]))
    plain = incoming(version)
    assert bench.feed(Port.NETWORK, network_frame(plain)) == ([], [])
    [(port, address, header, kept)] = bench.unresolved
    assert (port, address, kept) == (Port.SERVER, ip_address(HERE[version]), network_frame(plain))
    assert header.ingress == Port.NETWORK and bench.control.consumed == {"no_route": 1}
    assert bench.resolve() == ([], [server_bound(plain)])
    assert not bench.unresolved


def server_bound(plain):
    return bytes(
        Ether(dst=SERVER_MAC, src=INSIDE_MAC, type=0x0800 if plain[0] >> 4 == 4 else 0x86DD)
    ) + routed(plain)


def test_what_has_no_way_waits_for_nobody():
    bench = Host((), (), network=topology())
    bench.feed(Port.NETWORK, network_frame(udp("10.7.7.7", "172.16.0.1")))
    assert not bench.unresolved and bench.control.consumed == {"no_route": 1}


def test_the_router_is_asked_for_not_the_destination():
    bench = Host((), (), network=without(PEER))
    bench.feed(Port.SERVER, server_frame(outgoing()))
    assert [each[:2] for each in bench.unresolved] == [(Port.NETWORK, ip_address(PEER))]


@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_what_is_to_be_protected_waits_for_the_peers_router_and_no_number_is_lost(capabilities):
    bench = Host(capabilities=capabilities, network=without(PEER))
    plain = outgoing()
    assert bench.feed(Port.SERVER, server_frame(plain)) == ([], [])
    assert [each[:2] for each in bench.unresolved] == [(Port.NETWORK, ip_address(PEER))]
    assert bench.do(bench.control.state(OUTBOUND)).sequence == 0
    out, _ = bench.resolve()
    assert opened(out, OUTBOUND) == [routed(plain)] and out[0][:6] == mac(PEER_MAC)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_a_decrypted_packet_waits_as_what_it_has_become(version, capabilities):
    """Encrypted it could not be handled again: it would be a replay."""
    inbound = both.sa(version=version)
    bench = Host(
        (inbound,), [policy(FORWARD, version, version=version)], capabilities, without(HERE[version])
    )
    plain = incoming(version)
    assert bench.feed(Port.NETWORK, network_frame(peer(inbound).encapsulate(plain))) == ([], [])
    [(port, address, header, kept)] = bench.unresolved
    assert (port, address) == (Port.SERVER, ip_address(HERE[version]))
    assert header.ingress == Port.RECIRCULATE and kept[14:][-20:] == plain[-20:]
    _, out = bench.resolve()
    assert out == [server_bound(plain)], "its time to live is counted down once"
    assert not bench.loop.drops


def test_ipv6_inside_ipv4_waits_as_ipv6():
    bench = Host((INBOUND,), [policy(FORWARD, 6)], network=without(HERE[6]))
    bench.feed(Port.NETWORK, network_frame(peer(INBOUND).encapsulate(incoming(6))))
    [(*_, header, kept)] = bench.unresolved
    assert (header.reason, header.ingress, kept[12:14]) == (Reason.IPV6, Port.RECIRCULATE, b"\x86\xdd")
    assert len(bench.resolve()[1]) == 1


def test_from_one_tunnel_into_another_whose_peer_is_not_known():
    spoke = both.sa(0x3001, Direction.OUTBOUND, reqid=7)
    there, far = ip_network("10.1.0.0/24"), ip_network("10.1.9.0/24")
    policies = [
        Policy(
            selectors=Selectors(there, far),
            direction=direction,
            action=PolicyAction.PROTECT,
            templates=(template(direction, reqid=reqid),),
        )
        for direction, reqid in ((FORWARD, 1), (OUT, 7))
    ]
    for capabilities in (GATEWARE, SOFTWARE):
        bench = Host((INBOUND, spoke), policies, capabilities, topology())
        plain = udp(THERE[4], "10.1.9.9")
        bench.feed(Port.NETWORK, network_frame(peer(INBOUND).encapsulate(plain)))
        [(*_, header, _)] = bench.unresolved
        assert header.ingress == Port.RECIRCULATE
        out, _ = bench.resolve()
        assert opened(out, spoke) == [routed(plain)] and not bench.loop.drops


# Neighbours that are others now


def test_a_neighbours_new_address_is_that_of_all_later_frames():
    narrow = [
        replace(
            policy(FORWARD),
            selectors=replace(policy(FORWARD).selectors, destination=ip_network(f"{HERE[4]}/32")),
        ),
        policy(OUT),
    ]
    bench = Host(policies=narrow, network=topology(*NEIGHBOURS))
    sender = peer(INBOUND)

    def both_ways():
        _, inward = bench.feed(Port.NETWORK, network_frame(sender.encapsulate(incoming())))
        outward, _ = bench.feed(Port.SERVER, server_frame(outgoing()))
        return outward[0][:6], inward[0][:6]

    assert both_ways() == (mac(PEER_MAC), mac(SERVER_MAC))
    routes = len(bench.gateway._routes)
    assert routes == 2, "straight to the only destination"
    for number in range(3 * GATEWARE.routes):
        bench.do(bench.control.change_topology(elsewhere(number)))
        assert both_ways() == (b"\x02\0\1" + number.to_bytes(3),) * 2
        assert len(bench.gateway._routes) == routes, "routes are given back"
    assert not bench.control.refusals and not bench.loop.drops


def test_new_neighbours_change_nothing_that_is_there():
    bench = Host(network=without(HERE[6]))
    bench.feed(Port.SERVER, server_frame(outgoing()))
    rules, programmed = list(bench.gateway._rules), bench.control.programmed.total()
    bench.do(bench.control.change_topology(topology(*NEIGHBOURS)))
    assert bench.gateway._rules == rules and bench.control.programmed.total() == programmed


def test_a_neighbour_that_is_gone_is_asked_for_again():
    bench = Host(network=topology(*NEIGHBOURS))
    bench.feed(Port.SERVER, server_frame(outgoing()))
    bench.do(bench.control.change_topology(without(PEER)))
    assert bench.feed(Port.SERVER, server_frame(outgoing())) == ([], [])
    assert [each[:2] for each in bench.unresolved] == [(Port.NETWORK, ip_address(PEER))]


def test_more_new_routes_than_there_is_room_for():
    """SAs that find no room for another route are done in software."""
    sas = [sa(0x2000 + n, reqid=n + 1) for n in range(3)]
    policies = [
        replace(
            policy(FORWARD, templates=[template(FORWARD, reqid=n + 1)]),
            selectors=Selectors(ip_network("10.1.0.0/24"), ip_network(server)),
        )
        for n, server in enumerate(SERVERS)
    ]
    known = Topology(
        TOPOLOGY.interfaces.values(), TOPOLOGY.neighbours.values(), TOPOLOGY.routes, complete=False
    )
    bench = Host(sas, policies, replace(GATEWARE, routes=4), known)
    senders = [peer(one) for one in sas]

    def macs():
        return [
            bench.feed(Port.NETWORK, network_frame(sender.encapsulate(udp(THERE[4], server))))[1][0][:6]
            for sender, server in zip(senders, SERVERS, strict=True)
        ]

    assert macs() == [mac(where) for where in SERVERS.values()]
    for number in range(4):
        others = [
            Neighbour(ip_address(server), Port.SERVER, bytes([2, 9, number, 0, 0, at]))
            for at, server in enumerate(SERVERS)
        ]
        changed = Topology(
            known.interfaces.values(),
            [known.neighbours[Port.NETWORK, ip_address(PEER)], *others],
            known.routes,
            complete=False,
        )
        bench.do(bench.control.change_topology(changed))
        assert macs() == [each.mac for each in others]
