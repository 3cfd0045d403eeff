# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from spigate.firmware_py.control.topology import Neighbour, Topology
from spigate.firmware_py.daemon.dataplane import HELD_PACKETS, Hooks
from spigate.firmware_py.daemon.waiting import MAX_WAITING, RESOLVE_SECONDS, TRAP_SPI, Waiting, trap_policies
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ipsec.decision import Spd
from spigate.firmware_py.ipsec.policy import PolicyAction, PolicyDatabase, PolicyDirection
from spigate.firmware_py.ipsec.sa import Selectors
from spigate.firmware_py.tables.punt import PuntHeader
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason
from tests.firmware_py.control.network import (
    PEER,
    SELF,
    TOPOLOGY,
    frame,
    from_server,
    policy,
    sa,
    selectors,
    udp,
)
from tests.firmware_py.ike.network import child, peer

HERE, THERE = "10.2.0.0/24", "10.1.0.0/24"
PROTECTED = selectors(HERE, THERE, protocol=17)
CLEAR = PuntHeader(Reason.NO_RULE, Port.SERVER)
PACKET = from_server(udp("10.2.0.10", "10.1.0.10"))


class Bench:
    """What waits in a gateway whose peer ``b`` has the child ``net`` that traffic starts, and ``other``
    that it does not.
    """

    def __init__(self, *policies, traffic=(PROTECTED,)):
        self.wanted, self.done, self.expected, self.inbound = [], [], set(), set()
        hooks = Hooks(
            alive=None,
            moved=None,
            expired=None,
            undone=None,
            turn=None,
            expects=lambda number: number in self.expected,
            wanted=lambda *what: self.wanted.append(what),
        )
        children = (replace(child("net"), traffic=traffic), child("other", f"{HERE}=10.9.0.0/24"))
        pad = Pad([peer("b", "a", "b", children=children)])
        self.traps = trap_policies(pad, {("b", "net"): "traffic", ("b", "other"): "now"})
        spd = Spd(PolicyDatabase([*self.traps, *policies]))
        self.waiting = Waiting(
            self.traps, hooks, lambda port, flow: spd.decide(flow, port, None).policies, self.done.extend
        )

    def waits(self, frame=PACKET, header=CLEAR):
        return self.waiting.waits(header, frame, self.inbound.__contains__)


@pytest.fixture
def bench():
    return Bench()


def numbered(number):
    return from_server(udp("10.2.0.10", "10.1.0.10", sport=number))


# Children that traffic starts


def test_a_trap_is_a_policy_that_no_sa_fulfils(bench):
    [(trap, names)] = bench.traps.items()
    assert names == ("b", "net") and trap.selectors == PROTECTED
    assert (trap.direction, trap.action) == (PolicyDirection.OUT, PolicyAction.PROTECT)
    [template] = trap.templates
    assert template.spi == TRAP_SPI
    assert not any(template.accepts(sa(spi, Direction.OUTBOUND)) for spi in (256, 0x1001, 0xFFFFFFFF))
    assert template.mode == Mode.TUNNEL


def test_negotiated_policies_come_first():
    made = Bench(policy(PolicyDirection.OUT, PROTECTED))
    assert not made.waits() and not made.wanted


def test_the_first_packet_asks_and_all_go_on_when_the_child_is_up(bench):
    frames = [numbered(number) for number in range(1, 4)]
    assert all(map(bench.waits, frames))
    assert bench.wanted == [
        ("b", "net", Selectors(ip_network("10.2.0.10"), ip_network("10.1.0.10"), 17, (1, 1), (2000, 2000)))
    ]
    assert bench.done == []
    bench.waiting.child_is_up("b", "other")
    assert bench.done == []
    bench.waiting.child_is_up("b", "net")
    assert bench.done == [(CLEAR, each) for each in frames]
    bench.waiting.child_is_up("b", "net")
    assert len(bench.done) == 3
    assert bench.waits(frames[0]) and len(bench.wanted) == 2, "a later one asks again"


def test_the_last_ones_are_kept(bench):
    frames = [numbered(number) for number in range(HELD_PACKETS + 5)]
    assert all(map(bench.waits, frames))
    bench.waiting.child_is_up("b", "net")
    assert [each for _, each in bench.done] == frames[5:] and len(bench.wanted) == 1


def test_what_waits_for_a_peer_that_is_given_up_is_dropped(bench):
    bench.waits()
    bench.waits()
    bench.waiting.forget("c")
    assert not bench.waiting.drops
    bench.waiting.forget("b")
    assert bench.waiting.drops == {"no_sa": 2}
    bench.waiting.child_is_up("b", "net")
    assert bench.done == []
    assert bench.waits() and len(bench.wanted) == 2


@pytest.mark.parametrize(
    ("header", "packet", "waits"),
    [
        (CLEAR, PACKET, True),
        (replace(CLEAR, reason=Reason.RULE), PACKET, True),
        (replace(CLEAR, reason=Reason.FRAGMENT), PACKET, True),
        (replace(CLEAR, ingress=Port.NETWORK), PACKET, False),
        (replace(CLEAR, ingress=Port.RECIRCULATE), PACKET, False),
        (replace(CLEAR, reason=Reason.TTL_EXPIRED), PACKET, False),
        (replace(CLEAR, reason=Reason.SA_ABSENT), PACKET, False),
        (CLEAR, from_server(udp("10.2.0.10", "10.9.0.1")), False),
        (CLEAR, from_server(udp("10.2.0.10", "10.7.0.1")), False),
        (CLEAR, from_server(bytes(IP(src="10.2.0.10", dst="10.1.0.1", proto=6))), False),
        (CLEAR, PACKET[:20], False),
        (CLEAR, b"", False),
    ],
)
def test_what_starts_a_child(bench, header, packet, waits):
    assert bench.waits(packet, header) == waits
    assert len(bench.wanted) == waits


def test_ipv6_starts_a_child():
    made = Bench(traffic=(selectors("fd00:2::/64", "fd00:1::/64"),))
    packet = udp6("fd00:2::1", "fd00:1::1")
    assert made.waits(packet, replace(CLEAR, reason=Reason.IPV6))
    assert made.wanted[0][2].source == ip_network("fd00:2::1")


def udp6(source, destination):
    return bytes(Ether() / IPv6(src=source, dst=destination) / UDP() / b"x")


# Inbound SAs that are not there yet


def esp(number, protocol=50):
    header = number.to_bytes(4) if protocol == 50 else bytes(4) + number.to_bytes(4)
    return frame(bytes(IP(src=PEER, dst=SELF, proto=protocol) / (header + bytes(40))))


def natt(number):
    return frame(udp(PEER, SELF, 4500, 4500, payload=number.to_bytes(4) + bytes(40)))


UNKNOWN = PuntHeader(Reason.UNKNOWN_SPI, Port.NETWORK)


@pytest.mark.parametrize(
    ("reason", "made"),
    [(Reason.UNKNOWN_SPI, esp), (Reason.AH, lambda number: esp(number, 51)), (Reason.NATT, natt)],
)
def test_what_comes_before_its_sa_waits_for_it(bench, reason, made):
    header = replace(UNKNOWN, reason=reason)
    assert not bench.waits(made(0x3000), header), "nobody expects it"
    bench.expected = {0x3000, 0x3001}
    frames = [made(0x3000) + bytes([number]) for number in range(HELD_PACKETS + 2)]
    assert all(bench.waits(each, header) for each in frames)
    assert bench.waits(made(0x3001), header)
    bench.waiting.inbound_is_up(bench.inbound.__contains__)
    assert bench.done == [] and not bench.waiting.drops
    bench.inbound, bench.expected = {0x3000}, set()
    bench.waiting.inbound_is_up(bench.inbound.__contains__)
    assert bench.done == [(header, each) for each in frames[2:]]
    assert bench.waiting.drops == {"no_sa": 1}, "the other one will not be"
    assert not bench.waits(frames[0], header), "now it is there"


def test_few_spis_are_waited_for(bench):
    bench.expected = set(range(0x3000, 0x3000 + MAX_WAITING + 1))
    assert [bench.waits(esp(number), UNKNOWN) for number in sorted(bench.expected)] == [
        True
    ] * MAX_WAITING + [False]
    assert bench.waits(esp(0x3000), UNKNOWN), "who waits already may have more"


# Neighbours


def known(*addresses):
    return Topology(
        TOPOLOGY.interfaces.values(),
        [Neighbour(ip_address(each), Port.SERVER, bytes(6)) for each in addresses],
        complete=False,
    )


def test_what_waits_for_a_neighbour_goes_on_when_that_is_known(bench):
    one, other = ip_address("10.2.0.10"), ip_address("10.2.0.11")
    punts = [(CLEAR, bytes([number])) for number in range(HELD_PACKETS + 3)]
    asked = [bench.waiting.for_neighbour(0.0, Port.SERVER, one, punt) for punt in punts]
    assert asked == [True] + [False] * (len(punts) - 1), "once"
    assert bench.waiting.for_neighbour(0.0, Port.SERVER, other, punts[0])
    assert bench.waiting.for_neighbour(0.0, Port.NETWORK, one, punts[0]), (
        "at the other port it is another one"
    )
    bench.waiting.neighbours_are(known("10.2.0.99"))
    assert bench.done == []
    bench.waiting.neighbours_are(known("10.2.0.10", "10.2.0.99"))
    assert bench.done == punts[3:], "the last ones"
    assert bench.waiting.for_neighbour(0.0, Port.SERVER, one, punts[0]), "it is asked again"


def test_who_does_not_answer_is_given_up(bench):
    one, other = ip_address("10.2.0.10"), ip_address("10.2.0.11")
    for at in (0.0, 1.0):
        bench.waiting.for_neighbour(at, Port.SERVER, one, (CLEAR, b""))
    bench.waiting.for_neighbour(RESOLVE_SECONDS - 1, Port.SERVER, other, (CLEAR, b""))
    bench.waiting.tick(RESOLVE_SECONDS - 0.1)
    assert not bench.waiting.drops
    bench.waiting.tick(RESOLVE_SECONDS)
    assert bench.waiting.drops == {"no_neighbour": 2}
    bench.waiting.neighbours_are(known(str(one), str(other)))
    assert bench.done == [(CLEAR, b"")]
    assert bench.waiting.drops == Counter(no_neighbour=2)


def test_few_neighbours_are_waited_for(bench):
    """Somebody who tries all addresses of a network is not remembered without end."""
    addresses = [ip_address("10.2.0.0") + number for number in range(MAX_WAITING + 1)]
    asked = [bench.waiting.for_neighbour(0.0, Port.SERVER, address, (CLEAR, b"")) for address in addresses]
    assert asked == [True] * MAX_WAITING + [False] and bench.waiting.drops == {"no_neighbour": 1}
    bench.waiting.tick(RESOLVE_SECONDS)
    assert bench.waiting.drops == {"no_neighbour": MAX_WAITING + 1}
    assert bench.waiting.for_neighbour(RESOLVE_SECONDS, Port.SERVER, addresses[-1], (CLEAR, b""))
