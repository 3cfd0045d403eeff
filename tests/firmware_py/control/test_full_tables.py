# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A full table means slower, never dropped; and what one host does costs nobody else."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from spigate.firmware_py.control.assignment import INSIDE, QUIET_SECONDS
from spigate.firmware_py.control.programming import IDLE_SECONDS, NO_ROOM
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.control.topology import Neighbour, NetworkRoute, Topology
from spigate.firmware_py.control.ways import RULE_SECONDS
from spigate.firmware_py.ipsec.fragments import fragments
from spigate.firmware_py.ipsec.packet import rewrite
from spigate.firmware_py.ipsec.policy import PolicyAction, PolicyDirection
from spigate.firmware_py.ipsec.sa import Auth, Cipher, Encapsulation, Lifetime
from spigate.firmware_py.tables.interface import GATEWARE, CfeSettings, Source
from spigate.hdl.contract.enums import Direction, Port, Reason
from tests.firmware_py.control.network import (
    LINUX,
    PEER,
    SELF,
    SERVERS,
    TOPOLOGY,
    Bench,
    frame,
    from_server,
    policy,
    sa,
    selectors,
    udp,
)

OUT, FORWARD = PolicyDirection.OUT, PolicyDirection.FORWARD
HERE = "10.2.0.0/24"
SMALL = replace(GATEWARE, dfes=1, sa_entries=5)
"""Room for four SAs."""
SHA512 = {
    "cipher": Cipher.AES_CBC,
    "salt": b"",
    "icv_bytes": 0,
    "auth": Auth.HMAC_SHA512_256,
    "auth_key": bytes(64),
}


def inbound(count, **changes):
    """SAs of one peer, and a policy for each."""
    sas = [sa(0x1000 + n, reqid=n + 1, **changes) for n in range(count)]
    return sas, [
        policy(FORWARD, selectors(f"10.1.{n}.0/24", "10.2.0.10/32"), reqid=n + 1) for n in range(count)
    ]


def outbound(count):
    sas = [sa(0x1000 + n, Direction.OUTBOUND, reqid=n + 1) for n in range(count)]
    return sas, [policy(OUT, selectors(HERE, f"10.1.{n}.0/24"), reqid=n + 1) for n in range(count)]


def arrives(bench, sas, *numbers):
    """Frames delivered of one on each SA."""
    return [
        len(bench.feed(Port.NETWORK, bench.sealed(sas[n], udp(f"10.1.{n}.1", "10.2.0.10")))[1])
        for n in numbers or range(len(sas))
    ]


def reasons(bench, at):
    return {punt.header.reason for punt in bench.loop.punted[at:]}


# SAs


def test_more_inbound_sas_than_places():
    """All arrives; those without a place are known to the CAM, so that no limit on misses is theirs."""
    sas, policies = inbound(7)
    bench = Bench(sas, policies, SMALL)
    assert arrives(bench, sas) == [1] * 7
    at = len(bench.loop.punted)
    assert arrives(bench, sas) == [1] * 7 and reasons(bench, at) == {Reason.SA_ABSENT}
    assert len(bench.loop.punted) - at == 3 and bench.control.software == {"decrypted": 3 + 3}
    assert bench.control.refusals == dict.fromkeys(sas[4:], NO_ROOM) and not bench.loop.drops


def test_more_outbound_sas_than_places():
    sas, policies = outbound(7)
    bench = Bench(sas, policies, SMALL)
    for round_ in range(3):
        at = len(bench.loop.punted)
        for n in range(7):
            assert len(bench.feed(Port.SERVER, from_server(udp("10.2.0.10", f"10.1.{n}.1")))[0]) == 1
        assert reasons(bench, at) == ({Reason.SA_ABSENT} if round_ else {Reason.NO_RULE})
    assert bench.control.software == {"encrypted": 9} and not bench.loop.drops


def test_sas_that_software_does_anyway_take_no_place():
    """p05_capacity b."""
    slow, slow_policies = inbound(6, **SHA512)
    fast = [sa(0x2000 + n, reqid=20 + n) for n in range(4)]
    policies = [
        policy(FORWARD, selectors(f"10.1.{20 + n}.0/24", "10.2.0.10/32"), reqid=20 + n) for n in range(4)
    ]
    bench = Bench([*slow, *fast], [*slow_policies, *policies], SMALL)
    assert arrives(bench, slow) == [1] * 6
    for n, one in enumerate(fast):
        assert len(bench.feed(Port.NETWORK, bench.sealed(one, udp(f"10.1.{20 + n}.1", "10.2.0.10")))[1]) == 1
    assert list(bench.control.refusals) == slow, "there is room for all others"


@pytest.mark.parametrize("direction", [Direction.INBOUND, Direction.OUTBOUND])
def test_an_sa_comes_into_a_dfe_when_a_place_becomes_free(direction):
    sas, policies = (inbound if direction == Direction.INBOUND else outbound)(5)
    bench = Bench(sas, policies, SMALL)

    def one(n):
        if direction == Direction.INBOUND:
            return arrives(bench, sas, n)
        out, _ = bench.feed(Port.SERVER, from_server(udp("10.2.0.10", f"10.1.{n}.1")))
        return [int.from_bytes(each[38:42]) for each in out]

    for n in range(5):
        assert one(n) == [1]
    assert bench.control.placed(sas[4]).soft
    bench.do(bench.control.remove_sa(sas[1]))
    assert one(4) == [1 if direction == Direction.INBOUND else 2], "and it goes on where it was"
    assert not bench.control.placed(sas[4]).soft and not bench.control.refusals
    at = len(bench.loop.punted)
    assert one(4) == [1 if direction == Direction.INBOUND else 3] and len(bench.loop.punted) == at
    assert bench.loop.drops == {}


def test_an_idle_sa_gives_its_place_to_a_busy_one():
    sas, policies = inbound(5)
    bench = Bench(sas, policies, SMALL)
    for _ in range(int(2.5 * IDLE_SECONDS)):
        bench.now += 1
        assert arrives(bench, sas, 0, 1, 3, 4) == [1] * 4
        if bench.now <= 1:
            arrives(bench, sas, 2)
    assert list(bench.control.refusals) == [sas[2]], "it had one packet, long ago"
    before = len(bench.loop.punted)
    assert arrives(bench, sas, 4) == [1] and len(bench.loop.punted) == before
    assert arrives(bench, sas, 2) == [1], "it is done in software meanwhile"


def test_events_of_sas_without_a_place_are_each_its_own():
    sas, policies = inbound(3, **SHA512)
    bench = Bench([replace(one, soft=Lifetime(packets=n + 1)) for n, one in enumerate(sas)], policies, SMALL)
    told = []
    for _ in range(3):
        arrives(bench, sas)
        told.append([(event.reason, about.spi) for event, about in bench.do(bench.control.poll())])
    assert told == [[(Reason.SOFT_LIFETIME, one.spi)] for one in sas]


def test_an_inner_sa_that_had_no_room_stays_where_it_is():
    """One inside another is software's alone, whether or not there is room."""
    sas, policies = outbound(4)
    inner, outer = sa(0x3000, Direction.OUTBOUND, reqid=20), sa(0x3001, Direction.OUTBOUND, reqid=21)
    plain = policy(OUT, selectors(HERE, "10.1.20.0/24"), reqid=20)
    nested = replace(
        plain,
        selectors=selectors(HERE, "10.1.21.0/24"),
        templates=(plain.templates[0], replace(plain.templates[0], reqid=21)),
    )
    bench = Bench([*sas, inner, outer], [*policies, plain, nested], SMALL)

    def goes(n):
        return len(bench.feed(Port.SERVER, from_server(udp("10.2.0.10", f"10.1.{n}.1")))[0])

    assert [goes(n) for n in (0, 1, 2, 3, 20)] == [1] * 5 and bench.control.placed(inner).wanting
    bench.do(bench.control.remove_sa(sas[0]))
    assert [goes(21) for _ in range(3)] == [1] * 3
    assert (
        bench.control.placed(inner).soft and not bench.control.placed(inner).wanting and not bench.loop.drops
    )
    assert bench.control.refusals == {inner: INSIDE, outer: INSIDE}


# Routes and the CAM


def many_hops(count, routes):
    servers = [f"10.2.0.{100 + n}" for n in range(count)]
    known = Topology(
        TOPOLOGY.interfaces.values(),
        [
            TOPOLOGY.neighbours[Port.NETWORK, ip_address(PEER)],
            *(
                Neighbour(ip_address(server), Port.SERVER, bytes([2, 0, 0, 0, 9, n]))
                for n, server in enumerate(servers)
            ),
        ],
        TOPOLOGY.routes,
        complete=False,
    )
    sas = [sa(0x1000 + n, reqid=n + 1) for n in range(count)]
    policies = [
        policy(FORWARD, selectors("10.1.0.0/24", f"{server}/32"), reqid=n + 1)
        for n, server in enumerate(servers)
    ]
    return Bench(sas, policies, replace(GATEWARE, routes=routes), known), sas, servers


def test_more_next_hops_than_routes():
    """full_routes: SAs that find no route are done in software, and are no misses."""
    bench, sas, servers = many_hops(8, 5)
    for round_ in range(3):
        at = len(bench.loop.punted)
        for one, server in zip(sas, servers, strict=True):
            assert len(bench.feed(Port.NETWORK, bench.sealed(one, udp("10.1.0.1", server)))[1]) == 1
        assert reasons(bench, at) == ({Reason.SA_ABSENT} if round_ else {Reason.UNKNOWN_SPI})
    assert len(bench.control.refusals) == 4 and all(
        "routes are full" in why for why in bench.control.refusals.values()
    )
    bench.do(bench.control.remove_sa(sas[0]))
    assert len(bench.feed(Port.NETWORK, bench.sealed(sas[7], udp("10.1.0.1", servers[7])))[1]) == 1
    assert not bench.control.placed(sas[7]).soft, "its route is another's now"


def test_a_full_cam_lifts_the_limit_on_misses():
    sas, policies = inbound(5)
    bench = Bench(
        sas,
        policies,
        replace(GATEWARE, cam_entries=3),
        settings=Settings(cfe=CfeSettings(miss_interval=1 << 22)),
    )
    assert arrives(bench, sas[:3]) == [1] * 3 and bench.gateway._settings.miss_interval == 1 << 22
    for _ in range(3):
        assert arrives(bench, sas) == [1] * 5
    assert bench.gateway._settings.miss_interval == 0 and set(bench.control.refusals) == set(sas[3:])
    for one in sas[:2]:
        bench.do(bench.control.remove_sa(one))
    assert arrives(bench, sas, 3, 4) == [1, 1] and bench.gateway._settings.miss_interval == 1 << 22
    assert not bench.control.refusals and not bench.loop.drops


# Rules and clear sources


@pytest.mark.parametrize("pairs", [20, 31, 33, 40])
def test_flows_do_not_push_each_others_rules_out(pairs):
    """What finds no room goes by software, and gets its turn later. A policy for each flow: nothing wider
    may be written.
    """
    policies = [
        policy(OUT, selectors(f"10.1.0.{k + 1}/32", f"{server}/32"), PolicyAction.BYPASS)
        for k in range(pairs)
        for server in SERVERS
    ]
    bench = Bench(policies=policies)
    flows = [frame(udp(f"10.1.0.{k + 1}", "10.2.0.10")) for k in range(pairs)]
    for _ in range(6):
        for one in flows:
            bench.now += 0.001
            assert len(bench.feed(Port.NETWORK, one)[1]) == 1
    over = max(pairs - GATEWARE.rules, 0)
    assert bench.control.programmed["rule"] == pairs - over
    assert bench.control.punted == {Reason.NO_RULE: pairs - over + 6 * over}
    bench.now += RULE_SECONDS
    assert len(bench.feed(Port.NETWORK, flows[-1])[1]) == 1
    assert bench.control.programmed["rule"] == pairs - over + (over > 0) and not bench.loop.drops


@pytest.mark.parametrize("pairs", [20, 40])
def test_pairs_of_hosts_through_one_sa_need_few_rules(pairs):
    """p08_thrash."""
    one = sa(0x1000)
    bench = Bench([one], [policy(FORWARD, selectors("10.1.0.0/24", HERE))])
    for _ in range(6):
        for k in range(pairs):
            bench.now += 0.001
            packet = bench.sealed(one, udp(f"10.1.0.{k + 1}", f"10.2.0.{10 + k % 2}"))
            assert len(bench.feed(Port.NETWORK, packet)[1]) == 1
    assert bench.control.programmed["rule"] == 2 and not bench.loop.drops


def test_addresses_that_somebody_makes_up_take_no_place_of_a_clear_source():
    """p09_sources: nobody has to be listed where policy alone says who may speak."""
    routes = [*TOPOLOGY.routes, NetworkRoute(ip_network("0.0.0.0/0"), Port.NETWORK, ip_address(PEER))]
    known = Topology(TOPOLOGY.interfaces.values(), TOPOLOGY.neighbours.values(), routes)
    bench = Bench(topology=known)
    made_up = [f"{n}.7.{n}.1" for n in range(1, 220, 5) if n not in (10, 126)]
    for source in made_up:
        out, _ = bench.feed(Port.SERVER, from_server(udp(source, "10.1.0.10")))
        assert len(out) == 1, source
    bench.now += RULE_SECONDS
    for _ in range(2):
        at = len(bench.loop.punted)
        assert len(bench.feed(Port.NETWORK, frame(udp("203.0.113.5", "10.2.0.10")))[1]) == 1
        assert len(bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "203.0.113.5")))[0]) == 1
    assert len(bench.loop.punted) == at, "they are done by DFEs"
    assert bench.control.programmed["source"] == 1 and not bench.loop.drops


def test_sources_that_are_configured_and_find_no_place_go_by_software():
    """Neighbouring ones are one; the others are slower, and nobody else may speak."""
    ingress = frozenset({Port.NETWORK})
    sources = tuple(Source(ip_network(f"10.1.{n}.0/24"), ingress) for n in (0, 1, 4, 8, 12))
    bench = Bench(capabilities=replace(GATEWARE, sources=2), settings=replace(LINUX, sources=sources))
    assert bench.gateway.programmed["source"] == 2 * GATEWARE.dfes
    for _ in range(2):
        for n in (0, 1, 4, 8, 12):
            assert len(bench.feed(Port.NETWORK, frame(udp(f"10.1.{n}.1", "10.2.0.10")))[1]) == 1
    assert bench.feed(Port.NETWORK, frame(udp("10.1.2.1", "10.2.0.10"))) == ([], [])
    assert bench.loop.drops == {Reason.POLICY: 1}


def test_all_that_a_policy_lets_pass_may_speak():
    """Not only the network of whoever came first."""
    sent = [
        policy(direction, selectors("10.0.0.0/8", HERE), PolicyAction.BYPASS) for direction in (FORWARD, OUT)
    ]
    bench = Bench(policies=sent, settings=Settings(default=PolicyAction.DISCARD))
    for source in ("10.1.0.1", "10.77.0.1"):
        for _ in range(2):
            assert len(bench.feed(Port.NETWORK, frame(udp(source, "10.2.0.10")))[1]) == 1
    assert not bench.loop.drops


# Neighbours


def neighbours(**others):
    """The bench's network with other Ethernet addresses; None: nobody."""
    changed = {ip_address(address.replace("_", ".")[1:]): mac for address, mac in others.items()}
    kept = [each for each in TOPOLOGY.neighbours.values() if each.address not in changed]
    return Topology(
        TOPOLOGY.interfaces.values(),
        [
            *kept,
            *(
                Neighbour(address, Port.SERVER if address in ip_network(HERE) else Port.NETWORK, mac)
                for address, mac in changed.items()
                if mac
            ),
        ],
        TOPOLOGY.routes,
        complete=False,
    )


def known_flows(bench, sas):
    """Frames that come up of all flows of the bench."""
    at = len(bench.loop.punted)
    for n, one in enumerate(sas):
        if one.direction == Direction.OUTBOUND:
            assert len(bench.feed(Port.SERVER, from_server(udp("10.2.0.10", f"10.1.{n}.1")))[0]) == 1
    for server in SERVERS:
        assert len(bench.feed(Port.NETWORK, frame(udp("10.1.9.9", server)))[1]) == 1
    return len(bench.loop.punted) - at


def test_one_neighbour_costs_nobody_elses_rules():
    """p11_neigh."""
    sas, policies = outbound(10)
    bench = Bench(sas, policies, topology=neighbours())
    assert known_flows(bench, sas) == 13 and known_flows(bench, sas) == 0
    programmed = bench.control.programmed.total()
    for n in range(3):
        bench.do(bench.control.change_topology(neighbours(_192_0_2_66=bytes([2, 0, 0, 1, 0, n]))))
        assert known_flows(bench, sas) == 0
    bench.do(bench.control.change_topology(neighbours()))
    assert known_flows(bench, sas) == 0 and bench.control.programmed.total() == programmed, (
        "nothing was written"
    )


def test_a_neighbours_new_address_is_one_write():
    sas, policies = outbound(10)
    bench = Bench(sas, policies, topology=neighbours())
    known_flows(bench, sas)
    programmed = bench.control.programmed.total()
    bench.do(bench.control.change_topology(neighbours(_192_0_2_1=b"\2moved")))
    assert bench.control.programmed.total() == programmed + 1
    assert bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.3.1")))[0][0][:6] == b"\2moved"
    assert known_flows(bench, sas) == 0


def test_two_neighbours_that_change_their_addresses_with_each_other():
    bench = Bench(topology=neighbours())
    first, second, third = (
        (server, bytes.fromhex(where.replace(":", ""))) for server, where in SERVERS.items()
    )

    def macs():
        return [bench.feed(Port.NETWORK, frame(udp("10.1.9.9", server)))[1][0][:6] for server in SERVERS]

    assert macs() == [first[1], second[1], third[1]]
    bench.do(bench.control.change_topology(neighbours(_10_2_0_10=second[1], _10_2_0_11=first[1])))
    assert macs() == [second[1], first[1], third[1]]
    bench.do(bench.control.change_topology(neighbours(_10_2_0_10=third[1], _10_2_0_11=third[1])))
    assert macs() == [third[1]] * 3, "one takes over from the others"
    bench.do(bench.control.change_topology(neighbours(_10_2_0_10=first[1])))
    assert macs() == [first[1], second[1], third[1]], "and they part again"


def test_what_led_to_a_neighbour_that_is_gone_is_asked_for_again_alone():
    sas, policies = outbound(3)
    bench = Bench(sas, policies, topology=neighbours())
    known_flows(bench, sas)
    bench.do(bench.control.change_topology(neighbours(_10_2_0_11=None)))
    at = len(bench.loop.punted)
    assert bench.feed(Port.NETWORK, frame(udp("10.1.9.9", "10.2.0.11"))) == ([], [])
    assert len(bench.loop.punted) == at + 1 and bench.control.consumed == {"no_route": 1}
    bench.do(bench.control.change_topology(neighbours()))
    assert known_flows(bench, sas) == 1


@pytest.mark.parametrize("there", [True, False])
def test_an_sa_goes_straight_as_soon_as_its_only_next_hop_is_known(there):
    one = sa(0x1000)
    bench = Bench(
        [one],
        [policy(FORWARD, selectors("10.1.0.0/24", "10.2.0.10/32"))],
        topology=neighbours() if there else neighbours(_10_2_0_10=None),
    )
    for _ in range(2):
        bench.feed(Port.NETWORK, bench.sealed(one, udp("10.1.0.1", "10.2.0.10")))
    assert bench.control.placed(one).route.egress == (Port.SERVER if there else Port.RECIRCULATE)
    bench.do(bench.control.change_topology(neighbours()))
    assert bench.control.placed(one).route.egress == Port.SERVER
    at = len(bench.loop.punted)
    assert (
        len(bench.feed(Port.NETWORK, bench.sealed(one, udp("10.1.0.1", "10.2.0.10")))[1]) == 1
        and len(bench.loop.punted) == at
    )


# What who has no keys can do to an SA in a DFE


def forged(size=2200, spi=0x1000):
    """p15_two_fragments: ESP of nobody, too long for a decryptor, in two pieces."""
    body = spi.to_bytes(4) + (7).to_bytes(4) + bytes(size)
    packet = (
        bytes.fromhex("45000000000540004032")
        + bytes(2)
        + ip_address("198.51.100.66").packed
        + ip_address(SELF).packed
        + body
    )
    return [frame(piece) for piece in fragments(rewrite(packet, 20, total_length=len(packet)), 1420, 5)]


def test_forged_fragments_leave_an_sa_where_it_is():
    one = sa(0x1000)
    bench = Bench([one], [policy(FORWARD, selectors("10.1.0.0/24", HERE))])
    assert arrives(bench, [one]) == [1]
    for size in (2200, 1900, 8000):
        assert bench.feed(Port.NETWORK, *forged(size)) == ([], [])
    assert not bench.control.placed(one).soft and not bench.control.software
    assert bench.loop.drops == {Reason.ICV: 3}
    assert [(event.reason, event.spi, about) for event, about in bench.do(bench.control.poll())] == [
        (Reason.ICV, 0x1000, one)
    ] * 3
    at = len(bench.loop.punted)
    assert arrives(bench, [one]) == [1] and len(bench.loop.punted) == at


def test_an_authentic_packet_that_is_too_long_moves_its_sa_and_its_replay_does_not():
    one = sa(0x1000)
    bench = Bench([one], [policy(FORWARD, selectors("10.1.0.0/24", HERE))])
    assert arrives(bench, [one]) == [1]
    long = bench.sealed(one, udp("10.1.0.1", "10.2.0.10", payload=bytes(3000)))[14:]
    assert len(bench.feed(Port.NETWORK, *map(frame, fragments(long, 1400, 7)))[1]) == 3
    assert bench.control.placed(one).soft
    bench.now += QUIET_SECONDS
    bench.do(bench.control.give_back())
    assert not bench.control.placed(one).soft
    assert bench.feed(Port.NETWORK, *map(frame, fragments(long, 1400, 8))) == ([], [])
    assert not bench.control.placed(one).soft and bench.loop.drops == {Reason.REPLAY: 1}
    assert arrives(bench, [one]) == [1]


@pytest.mark.parametrize("in_udp", [True, False])
def test_esp_that_comes_otherwise_than_agreed_moves_no_sa(in_udp):
    """One datagram to port 4500 with the SPI of an SA in a DFE, or plain ESP with that of one in UDP."""
    one = sa(0x1000, encapsulation=None if in_udp else Encapsulation(4500, 4500))
    bench = Bench([one], [policy(FORWARD, selectors("10.1.0.0/24", HERE))])
    sealed = bench.sealed(sa(0x1000), udp("10.1.0.1", "10.2.0.10"))
    if in_udp:
        bench.feed(Port.NETWORK, sealed)
        sealed = frame(udp("198.51.100.66", SELF, 4500, 4500, payload=sealed[34:]))
    before = dict(bench.control.refusals)
    assert bench.feed(Port.NETWORK, sealed) == ([], [])
    assert bench.control.refusals == before and bench.loop.drops == {Reason.NO_SA: 1}
