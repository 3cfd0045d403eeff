# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Nothing passes that policy does not say: what a hostile review found, on the control element with the
gateware's model and in software. What a gateway's host and the daemon's kind of network do (a default route
at the network port, neighbours that turn up) is part of it.
"""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from scapy.layers.inet import ICMP, IP

from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.control.topology import Interface, Neighbour, NetworkRoute, Topology
from spigate.firmware_py.ipsec.fragments import fragments
from spigate.firmware_py.ipsec.packet import Ip, rewrite
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template, exceptions
from spigate.firmware_py.ipsec.sa import AH, Auth, Cipher, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE, Source
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason
from tests.firmware_py.control.ce_host import Host
from tests.firmware_py.control.network import (
    INSIDE_MAC,
    PEER,
    PEER_MAC,
    SELF,
    SELF_MAC,
    SERVERS,
    Bench,
    frame,
    from_server,
    mac,
    sa,
    selectors,
    udp,
)

IN, OUT, FORWARD = PolicyDirection.IN, PolicyDirection.OUT, PolicyDirection.FORWARD
SPOKE, SPOKE_MAC = "192.0.2.3", "02:00:00:00:00:03"
THERE, HERE, FAR = "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"
ANY = ip_address("0.0.0.0")
WHOLE = Topology(
    [
        Interface("outside", Port.NETWORK, mac(SELF_MAC), (ip_interface(f"{SELF}/24"),)),
        Interface("inside", Port.SERVER, mac(INSIDE_MAC), (ip_interface("10.2.0.1/24"),)),
    ],
    [
        Neighbour(ip_address("192.0.2.254"), Port.NETWORK, mac("02:00:00:00:00:fe")),
        Neighbour(ip_address(PEER), Port.NETWORK, mac(PEER_MAC)),
        Neighbour(ip_address(SPOKE), Port.NETWORK, mac(SPOKE_MAC)),
        *(Neighbour(ip_address(address), Port.SERVER, mac(where)) for address, where in SERVERS.items()),
    ],
    [NetworkRoute(ip_network("0.0.0.0/0"), Port.NETWORK, ip_address("192.0.2.254"))],
    complete=False,
)
INBOUND, OUTBOUND = sa(0x1001), sa(0x1002, Direction.OUTBOUND)
TO_SPOKE = sa(0x2001, Direction.OUTBOUND, reqid=2, destination=ip_address(SPOKE))
BOTH = pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE], ids=["gateware", "software"])


def by_reqid(direction, what, reqid=1, **more):
    template = Template(source=ANY, destination=ANY, mode=Mode.TUNNEL, reqid=reqid)
    return Policy(
        selectors=what, direction=direction, action=PolicyAction.PROTECT, templates=(template,), **more
    )


def bench(sas, policies, capabilities, default=PolicyAction.DISCARD, topology=WHOLE, kind=Bench, **settings):
    return kind(sas, policies, capabilities, topology, settings=Settings(default=default, **settings))


def opened(frames, one):
    peer = SoftSa(replace(one, direction=Direction.INBOUND))
    return [peer.decapsulate(each[14:]) for each in frames]


SECRET = udp("10.1.0.10", "10.3.0.30", payload=b"TOP-SECRET")


@BOTH
@pytest.mark.parametrize("default", [PolicyAction.DISCARD, PolicyAction.BYPASS])
def test_a_hub_encrypts_for_the_other_spoke(capabilities, default):
    """Decrypted packets that go on towards the network are asked for their outbound policy (RFC 4301 5.1)."""
    policies = [by_reqid(IN, selectors(THERE, FAR)), by_reqid(OUT, selectors(THERE, FAR), 2)]
    made = bench([INBOUND, TO_SPOKE], policies, capabilities, default)
    for _ in range(3):
        out, inside = made.feed(Port.NETWORK, made.sealed(INBOUND, SECRET))
        assert opened(out, TO_SPOKE) == [rewrite(SECRET, 20, ttl=63)] and not inside
        assert [one[:6] for one in out] == [mac(SPOKE_MAC)]


@BOTH
@pytest.mark.parametrize("default", [PolicyAction.DISCARD, PolicyAction.BYPASS])
def test_a_hub_whose_other_spoke_is_down_discards(capabilities, default):
    """No match is discard for what was decrypted, whatever clear packets may do; an SA that is not there,
    too.
    """
    named = by_reqid(IN, selectors(THERE, FAR))
    for policies, reason in (
        ([named], Reason.POLICY),
        ([named, by_reqid(OUT, selectors(THERE, FAR), 2)], Reason.NO_SA),
    ):
        made = bench([INBOUND], policies, capabilities, default)
        for _ in range(3):
            assert made.feed(Port.NETWORK, made.sealed(INBOUND, SECRET)) == ([], [])
        assert made.loop.drops == {reason: 3}


@BOTH
@pytest.mark.parametrize("servers", [HERE, "10.2.0.10/32"])
def test_an_outbound_exception_inside_an_sa_holds(capabilities, servers):
    """Also where all that the SA may carry has one next hop, so that nothing else would stand between it
    and the port.
    """
    block = Policy(
        selectors=selectors(THERE, HERE, protocol=17, destination_ports=(53, 53)),
        direction=OUT,
        action=PolicyAction.DISCARD,
    )
    made = bench([INBOUND], [block, by_reqid(FORWARD, selectors(THERE, servers))], capabilities)
    for _ in range(2):
        for port, count in ((53, 0), (54, 1)):
            assert (
                len(
                    made.feed(Port.NETWORK, made.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10", dport=port)))[
                        1
                    ]
                )
                == count
            )
    assert made.loop.drops == {Reason.POLICY: 2}


@BOTH
def test_what_is_decrypted_leaves_in_the_clear_only_where_policy_says_so(capabilities):
    passed = Policy(selectors=selectors(THERE, FAR), direction=OUT, action=PolicyAction.BYPASS)
    made = bench([INBOUND], [by_reqid(IN, selectors(THERE, "0.0.0.0/0")), passed], capabilities)
    for _ in range(2):
        out, _ = made.feed(Port.NETWORK, made.sealed(INBOUND, SECRET))
        assert [one[14:] for one in out] == [rewrite(SECRET, 20, ttl=63)]
        assert made.feed(Port.NETWORK, made.sealed(INBOUND, udp("10.1.0.10", "10.4.0.1"))) == ([], [])
    if capabilities is GATEWARE:
        assert {rule.clear for rule in made.gateway._rules if rule.action.name == "BYPASS"} == {True}


@BOTH
def test_policies_that_change_reach_sas_at_work(capabilities):
    """Also those whose packets a DFE lets through by a box of its own, or sends straight on."""
    wide = by_reqid(FORWARD, selectors(THERE, "10.2.0.10/32"))
    made = bench([INBOUND], [wide], capabilities)

    def passes(port=80):
        return len(
            made.feed(Port.NETWORK, made.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10", dport=port)))[1]
        )

    assert passes() == passes() == 1
    if capabilities is GATEWARE:
        assert made.control.placed(INBOUND).route.egress == Port.SERVER, "straight"
    dns = selectors(THERE, HERE, protocol=17, destination_ports=(53, 53))
    for direction in (OUT, FORWARD):
        block = Policy(selectors=dns, direction=direction, action=PolicyAction.DISCARD, priority=-1)
        made.do(made.control.add_policy(block))
        assert [passes(53), passes(80), passes(53), passes(80)] == [0, 1, 0, 1]
        made.do(made.control.remove_policy(block))
        assert [passes(53), passes(80)] == [1, 1]
    made.do(made.control.remove_policy(wide))
    assert passes() == 0
    replayed = made.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10"))
    made.do(made.control.add_policy(wide))
    assert passes() == passes() == 1
    assert len(made.feed(Port.NETWORK, replayed, replayed)[1]) == 1, "its window goes on"
    if capabilities is GATEWARE:
        assert made.control.placed(INBOUND).soft is None and not made.control.refusals


# Rules have no order


@pytest.mark.parametrize("dns_first", [True, False])
def test_a_bypass_in_front_of_a_protecting_policy_passes(dns_first):
    """Whichever comes first; one punt a box, and no frame goes round."""
    policies = [
        *exceptions(PolicyAction.BYPASS, selectors(HERE, THERE, protocol=17, destination_ports=(53, 53))),
        by_reqid(OUT, selectors(HERE, THERE), priority=10),
        by_reqid(IN, selectors(THERE, HERE), priority=10),
    ]
    made = bench([OUTBOUND], policies, GATEWARE)
    packets = {
        port: [from_server(udp("10.2.0.10", "10.1.0.10", sport=number, dport=port)) for number in range(3)]
        for port in (53, 80)
    }
    for port in (53, 80) if dns_first else (80, 53):
        out, _ = made.feed(Port.SERVER, *packets[port])
        assert [one[23] for one in out] == [17 if port == 53 else 50] * 3
    assert made.control.punted == {Reason.NO_RULE: 2} and not made.control.consumed and not made.loop.drops
    clear, _ = made.feed(
        Port.NETWORK, frame(udp("10.1.0.10", "10.2.0.10", sport=53, dport=9), PEER_MAC, SELF_MAC)
    )
    assert (
        made.loop.sent[Port.SERVER][-1][14:34]
        == rewrite(udp("10.1.0.10", "10.2.0.10", sport=53, dport=9), 20, ttl=63)[:20]
        and not clear
    )


def test_no_rule_has_the_next_hop_of_another_packet():
    """A bypass policy for many destinations, which are neighbours or behind routers."""
    made = bench(
        [],
        [
            Policy(
                selectors=selectors("0.0.0.0/0", "0.0.0.0/0"), direction=direction, action=PolicyAction.BYPASS
            )
            for direction in (IN, OUT)
        ],
        GATEWARE,
    )
    for _ in range(2):
        for server, where in SERVERS.items():
            _, out = made.feed(Port.NETWORK, frame(udp("10.9.0.1", server)))
            assert [one[:6] for one in out] == [mac(where)]
        for destination, where in (
            (PEER, PEER_MAC),
            (SPOKE, SPOKE_MAC),
            ("198.51.100.1", "02:00:00:00:00:fe"),
        ):
            out, _ = made.feed(Port.SERVER, from_server(udp("10.2.0.10", destination)))
            assert [one[:6] for one in out] == [mac(where)]
    assert made.control.punted == {Reason.NO_RULE: 6}
    assert {(rule.selectors.destination.prefixlen, rule.clear) for rule in made.gateway._rules} >= {
        (32, True),
        (32, False),
    }


@BOTH
def test_who_sent_what_has_lived_too_long_hears_so(capabilities):
    """Also where a DFE sends an SA's packets straight on (RFC 1812 5.3.1)."""
    policies = [
        by_reqid(FORWARD, selectors(THERE, "10.2.0.10/32")),
        by_reqid(OUT, selectors("10.2.0.0/24", THERE)),
    ]
    made = bench([INBOUND, OUTBOUND], policies, capabilities)
    assert len(made.feed(Port.NETWORK, made.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10")))[1]) == 1
    if capabilities is GATEWARE:
        assert made.control.placed(INBOUND).route.egress == Port.SERVER, "straight"
    errors = SoftSa(replace(OUTBOUND, direction=Direction.INBOUND))
    for _ in range(2):
        late = udp("10.1.0.10", "10.2.0.10", ttl=1)
        (out,), inside = made.feed(Port.NETWORK, made.sealed(INBOUND, late))
        error = IP(errors.decapsulate(out[14:]))
        assert (
            (error.src, error.dst, error[ICMP].type) == ("10.2.0.1", "10.1.0.10", 11)
            and bytes(error)[28:][: len(late)] == late
            and not inside
        )


# For the host


IKE_LIKE = [(500, 161), (4500, 161), (500, 53)]


@BOTH
@pytest.mark.parametrize("ports", IKE_LIKE)
@pytest.mark.parametrize("address", [SELF, "10.2.0.1"])
def test_a_source_port_opens_nothing(capabilities, ports, address):
    made = bench([], [], capabilities, kind=Host, own_host=True)
    made.feed(Port.NETWORK, frame(udp("198.51.100.66", address, *ports)))
    assert not made.got and made.loop.drops == {Reason.POLICY: 1}


@BOTH
@pytest.mark.parametrize("address", [SELF, "10.2.0.1"])
def test_ike_is_what_is_sent_to_port_500_of_ours(capabilities, address):
    made = bench([], [], capabilities, kind=Host, own_host=True)
    for ports, payload in (((500, 500), bytes(28)), ((1024, 500), bytes(28)), ((1024, 4500), bytes(28))):
        made.feed(Port.NETWORK, frame(udp("198.51.100.66", address, *ports, payload=payload)))
    assert len(made.got) == 3 and made.control.consumed == {"ike": 3}


@BOTH
@pytest.mark.parametrize("ports", [(500, 500), (4500, 4500), (40000, 500), (500, 53), (40000, 501)])
def test_ike_in_transit_is_traffic(capabilities, ports):
    made = bench(
        [OUTBOUND, INBOUND],
        [by_reqid(OUT, selectors(HERE, THERE)), by_reqid(FORWARD, selectors(THERE, HERE))],
        capabilities,
    )
    packet = udp("10.2.0.10", "10.1.0.10", *ports, payload=bytes(32))
    out, _ = made.feed(Port.SERVER, from_server(packet))
    assert opened(out, OUTBOUND) == [rewrite(packet, 20, ttl=63)] and not made.control.consumed
    back = udp("10.1.0.10", "10.2.0.10", *ports, payload=bytes(32))
    _, out = made.feed(Port.NETWORK, made.sealed(INBOUND, back))
    assert [one[14:] for one in out] == [rewrite(back, 20, ttl=63)]


@BOTH
def test_what_was_in_a_tunnel_for_the_gateway_goes_to_its_host_and_to_no_neighbour(capabilities):
    """One server alone is known behind the port."""
    alone = Topology(
        WHOLE.interfaces.values(),
        [each for each in WHOLE.neighbours.values() if str(each.address) in (PEER, "10.2.0.10")],
    )
    made = bench(
        [INBOUND],
        [by_reqid(IN, selectors(THERE, HERE))],
        capabilities,
        topology=alone,
        kind=Host,
        own_host=True,
    )
    own = udp("10.1.0.10", "10.2.0.1")
    for destination, got in (("10.2.0.10", 1), ("10.2.0.1", 0), ("10.2.0.77", 0)) * 2:
        assert len(made.feed(Port.NETWORK, made.sealed(INBOUND, udp("10.1.0.10", destination)))[1]) == got
    assert [one[14:] for _, one in made.got] == [own, own]
    assert [str(address) for _, address, *_ in made.unresolved] == ["10.2.0.77"] * 2
    # Through another tunnel it is nobody's.
    other = sa(0x1009, reqid=9)
    made.do(made.control.add_sa(other))
    made.feed(Port.NETWORK, made.sealed(other, own))
    assert len(made.got) == 2 and made.loop.drops == {Reason.POLICY: 1}


# Sources, times to live, bundles


def forged(piece):
    """A fragment with other contents, as somebody makes it who has seen where it belongs."""
    return piece[:20] + bytes(len(piece) - 20)


@BOTH
@pytest.mark.parametrize("destination", ["10.2.0.10", "10.2.0.1"])
def test_nobody_writes_into_what_was_decrypted(capabilities, destination):
    """Fragments in the clear, or out of another child's SA, are no part of a packet that came out of this
    one, and do not spoil it.
    """
    dns = Policy(
        selectors=selectors(THERE, HERE, protocol=17, destination_ports=(53, 53)),
        direction=OUT,
        action=PolicyAction.DISCARD,
    )
    other = sa(0x3001, reqid=3)
    policies = [dns, by_reqid(IN, selectors(THERE, HERE)), by_reqid(IN, selectors(FAR, HERE), 3)]
    made = bench([INBOUND, other], policies, capabilities, kind=Host, own_host=True)
    packet = udp("10.1.0.10", destination, payload=bytes(range(100)))
    first, second = fragments(packet, 100, 7)
    made.feed(Port.NETWORK, frame(forged(second)), frame(forged(first)), made.sealed(other, forged(second)))
    made.feed(Port.SERVER, from_server(forged(second)))
    _, out = made.feed(Port.NETWORK, made.sealed(INBOUND, first), made.sealed(INBOUND, second))
    whole = [one[34:] for one in out] if destination == "10.2.0.10" else [one[34:] for _, one in made.got]
    assert whole == [packet[20:]]


@BOTH
def test_fragments_of_one_packet_may_come_out_of_an_sa_and_its_successor(capabilities):
    successor = sa(0x1003)
    dns = Policy(
        selectors=selectors(THERE, HERE, protocol=17, destination_ports=(53, 53)),
        direction=OUT,
        action=PolicyAction.DISCARD,
    )
    made = bench([INBOUND, successor], [dns, by_reqid(IN, selectors(THERE, HERE))], capabilities)
    packet = udp("10.1.0.10", "10.2.0.10", payload=bytes(range(100)))
    first, second = fragments(packet, 100, 7)
    _, out = made.feed(Port.NETWORK, made.sealed(INBOUND, first), made.sealed(successor, second))
    assert [one[34:] for one in out] == [packet[20:]]


@BOTH
@pytest.mark.parametrize("port, protected", [(53, True), (54, False)])
def test_a_later_fragment_that_was_decrypted_goes_the_way_of_its_packet(capabilities, port, protected):
    """It has no ports: what policy protects by them would else leave in the clear (RFC 4301 7)."""
    policies = [
        by_reqid(IN, selectors(THERE, FAR)),
        by_reqid(OUT, selectors(THERE, FAR, protocol=17, destination_ports=(53, 53)), 2),
        Policy(selectors=selectors(THERE, FAR), direction=OUT, action=PolicyAction.BYPASS),
    ]
    made = bench([INBOUND, TO_SPOKE], policies, capabilities)
    packet = udp("10.1.0.10", "10.3.0.30", dport=port, payload=b"TOP-SECRET" * 10)
    out, _ = made.feed(Port.NETWORK, *(made.sealed(INBOUND, piece) for piece in fragments(packet, 100, 7)))
    assert [one[23] for one in out] == [50 if protected else 17]
    plain = opened(out, TO_SPOKE) if protected else [one[14:] for one in out]
    assert [one[20:] for one in plain] == [packet[20:]]


@BOTH
def test_inbound_policy_sees_the_ports_of_decrypted_fragments(capabilities):
    block = Policy(
        selectors=selectors(THERE, HERE, protocol=17, destination_ports=(53, 53)),
        direction=FORWARD,
        action=PolicyAction.DISCARD,
    )
    made = bench([INBOUND], [block, by_reqid(FORWARD, selectors(THERE, HERE))], capabilities)
    for port, count in ((53, 0), (54, 1)):
        pieces = fragments(udp("10.1.0.10", "10.2.0.10", dport=port, payload=bytes(100)), 100, port)
        assert len(made.feed(Port.NETWORK, *(made.sealed(INBOUND, piece) for piece in pieces))[1]) == count


@BOTH
def test_fragments_are_no_way_around_the_clear_sources(capabilities):
    there, here = (
        selectors(HERE, "0.0.0.0/0", protocol=17, destination_ports=(53, 53)),
        selectors("0.0.0.0/0", HERE, protocol=17, source_ports=(53, 53)),
    )
    policies = [
        Policy(selectors=there, direction=OUT, action=PolicyAction.BYPASS),
        Policy(selectors=here, direction=IN, action=PolicyAction.BYPASS),
    ]
    made = bench(
        [], policies, capabilities, sources=(Source(ip_network("10.2.0.10/32"), frozenset({Port.SERVER})),)
    )
    whole = {
        source: udp(source, "198.51.100.1", dport=53, payload=bytes(56))
        for source in ("10.2.0.10", "10.2.0.66")
    }
    assert len(made.feed(Port.SERVER, from_server(whole["10.2.0.10"]))[0]) == 1
    for number in (9, 10):
        pieces = fragments(whole["10.2.0.66"], 60, number)
        assert len(pieces) > 1 and made.feed(
            Port.SERVER, *map(from_server, [whole["10.2.0.66"], *pieces])
        ) == ([], [])
        out, _ = made.feed(Port.SERVER, *map(from_server, fragments(whole["10.2.0.10"], 60, number)))
        assert [one[34:] for one in out] == [whole["10.2.0.10"][20:]], "who may, may in fragments too"


@BOTH
def test_who_sent_what_lived_too_long_hears_so_through_the_tunnel(capabilities):
    """RFC 1812 5.3.1, RFC 4301 6: by the same policies as all that is sent."""
    made = bench(
        [INBOUND, OUTBOUND],
        [by_reqid(FORWARD, selectors(THERE, HERE)), by_reqid(OUT, selectors(HERE, THERE))],
        capabilities,
    )
    out, inside = made.feed(Port.NETWORK, made.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10", ttl=1)))
    [message] = opened(out, OUTBOUND)
    assert (
        inside == []
        and IP(message)[ICMP].type == 11
        and (IP(message).src, IP(message).dst) == ("10.2.0.1", "10.1.0.10")
    )
    assert made.control.consumed == {"ttl_expired": 1}


def test_inside_a_bundle_whose_outermost_sa_is_in_transport_mode_time_to_live_is_counted_down():
    """A tunnel in AH between the gateways; it goes to the peer by its route, not by the frame that came
    from a server.
    """
    inner = sa(0x3001, Direction.OUTBOUND)
    material = {
        "protocol": AH,
        "cipher": Cipher.NULL,
        "key": b"",
        "salt": b"",
        "icv_bytes": 0,
        "auth": Auth.HMAC_SHA1_96,
        "auth_key": bytes(20),
    }
    outer = sa(0x3002, Direction.OUTBOUND, reqid=2, mode=Mode.TRANSPORT, **material)
    templates = (
        Template(source=ANY, destination=ANY, mode=Mode.TUNNEL, reqid=1),
        Template(source=ANY, destination=ANY, mode=Mode.TRANSPORT, reqid=2, protocol=AH),
    )
    made = bench(
        [inner, outer],
        [
            Policy(
                selectors=selectors(HERE, THERE),
                direction=OUT,
                action=PolicyAction.PROTECT,
                templates=templates,
            )
        ],
        GATEWARE,
    )
    packet = udp("10.2.0.10", "10.1.0.10", ttl=9)
    out, _ = made.feed(Port.SERVER, from_server(packet))
    [within] = opened(out, outer)
    assert SoftSa(replace(inner, direction=Direction.INBOUND)).decapsulate(within) == rewrite(
        packet, 20, ttl=8
    )
    assert out[0][:12] == mac(PEER_MAC) + mac(SELF_MAC) and Ip.parse(out[0][14:]).protocol == AH
    assert made.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.0.10", ttl=1)))[
        0
    ] == [] and made.control.consumed == {"ttl_expired": 1}


def test_the_hosts_own_packets_are_asked_for_too():
    between = Selectors(ip_network(SELF), ip_network(SPOKE))
    for policies, count in (
        ([], 0),
        ([Policy(selectors=between, direction=OUT, action=PolicyAction.BYPASS)], 1),
    ):
        made = bench([], policies, GATEWARE, kind=Host, own_host=True)
        made.send(frame(bytes(IP(src=SELF, dst=SPOKE) / ICMP()), SELF_MAC, SPOKE_MAC))
        assert len(made.got) == count and made.loop.drops[Reason.POLICY] == 1 - count
