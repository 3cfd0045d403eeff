# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""SAs move, go to software and come back while the control element is at work."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, UDP

from spigate.firmware_py.control.assignment import BEYOND, INSIDE, MOVED, QUIET_SECONDS
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.fragments import fragments
from spigate.firmware_py.ipsec.packet import rewrite
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.ipsec.sa import Encapsulation, Lifetime, SaState
from spigate.firmware_py.tables.interface import GATEWARE, SOFTWARE, CfeSettings
from spigate.firmware_py.tables.punt import PuntHeader
from spigate.hdl.contract.enums import Port, Reason
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
from tests.firmware_py.control.network import PEER, SELF, udp
from tests.firmware_py.control.test_slow_path import (
    FORWARD,
    HEADERS,
    HERE,
    OUT,
    incoming,
    network_frame,
    opened,
    outgoing,
    peer,
    policy,
    routed,
    server_frame,
)

# SAs that move


NATT = {"encapsulation": Encapsulation(4500, 4500)}


@pytest.mark.parametrize("version", [4, 6])
def test_a_peer_that_is_heard_from_elsewhere_is_told(version):
    inbound = both.sa(version=version, **NATT)
    bench = Host((inbound,), [policy(FORWARD, version=version)])
    sender = peer(inbound)
    bench.feed(Port.NETWORK, network_frame(sender.encapsulate(incoming())))
    assert not bench.moved
    moved = peer(replace(inbound, sequence=10, encapsulation=Encapsulation(40500, 4500)))
    sealed = moved.encapsulate(incoming())
    forged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    bench.feed(Port.NETWORK, network_frame(forged))
    assert not bench.moved, "whoever it was, it was not the peer"
    _, out = bench.feed(Port.NETWORK, network_frame(sealed))
    [(one, outer)] = bench.moved
    assert one == inbound and outer.ports == (40500, 4500) and len(out) == 1
    bench.feed(Port.NETWORK, network_frame(sealed))
    assert len(bench.moved) == 1, "a replay is no news"


@pytest.mark.parametrize("capabilities", [GATEWARE, SOFTWARE])
def test_sas_that_move_go_on(capabilities):
    bench = Host(capabilities=capabilities)
    sender = peer(INBOUND)
    first = network_frame(sender.encapsulate(incoming()))
    bench.feed(Port.NETWORK, first)
    one, _ = bench.feed(Port.SERVER, server_frame(outgoing()))
    before = {each: bench.do(bench.control.state(each)) for each in (INBOUND, OUTBOUND)}
    now = {each: replace(each, **NATT) for each in (INBOUND, OUTBOUND)}
    for each in (INBOUND, OUTBOUND):
        bench.do(bench.control.move_sa(each, now[each]))
        assert bench.control.refusals[now[each]] == MOVED
    state = bench.do(bench.control.state(now[INBOUND]))
    assert state == before[INBOUND]
    after = bench.do(bench.control.state(now[OUTBOUND]))
    assert after.sequence == before[OUTBOUND].sequence
    assert (after.bytes, after.packets) == (before[OUTBOUND].bytes, before[OUTBOUND].packets)
    # Outbound: in UDP now, with a number that was not used before.
    two, _ = bench.feed(Port.SERVER, server_frame(outgoing()))
    assert HEADERS[4](two[0][14:])[UDP].dport == 4500 and opened(two, now[OUTBOUND]) == [routed(outgoing())]
    assert int.from_bytes(one[0][38:42]) < int.from_bytes(two[0][46:50])
    # Inbound: the same numbers stay used up.
    in_udp = peer(now[INBOUND])
    assert bench.feed(Port.NETWORK, network_frame(in_udp.encapsulate(incoming()))) == ([], [])
    assert bench.loop.drops == {Reason.REPLAY: 1}
    assert len(bench.feed(Port.NETWORK, network_frame(in_udp.encapsulate(incoming())))[1]) == 1
    assert bench.feed(Port.NETWORK, first) == ([], []), "not in UDP any more"
    bench.now += 100 * QUIET_SECONDS
    bench.do(bench.control.give_back())
    assert set(bench.control.refusals) == set(now.values()), "they stay in software"


def test_an_sa_at_another_address():
    """Policies name it by ``reqid`` alone, as IKE's do; one that named its old address would not want it
    any more.
    """
    elsewhere, anywhere = replace(INBOUND, source=ip_address("192.0.2.77")), ip_address("0.0.0.0")
    by_reqid = replace(policy(FORWARD).templates[0], source=anywhere, destination=anywhere)
    bench = Host((INBOUND,), [policy(FORWARD, templates=[by_reqid])])
    sender = peer(INBOUND)
    bench.feed(Port.NETWORK, network_frame(sender.encapsulate(incoming())))
    bench.do(bench.control.move_sa(INBOUND, elsewhere))
    sealed = sender.encapsulate(incoming())
    assert len(bench.feed(Port.NETWORK, network_frame(sealed))[1]) == 1
    assert bench.feed(Port.NETWORK, network_frame(sealed)) == ([], []) and bench.loop.drops == {
        Reason.REPLAY: 1
    }
    bench.do(bench.control.remove_sa(elsewhere))
    assert not bench.control.refusals and not bench.gateway._cam


def test_an_sa_that_was_not_at_work_moves_too():
    bench = Host((INBOUND,))
    bench.do(bench.control.move_sa(INBOUND, replace(INBOUND, **NATT)))
    assert not bench.control.refusals
    with pytest.raises(InputError, match="There is no inbound ESP SA 0x00001000"):
        bench.do(bench.control.move_sa(INBOUND, replace(INBOUND, **NATT)))


def test_how_far_an_sa_is_before_its_first_packet():
    bench = Host((replace(OUTBOUND, sequence=7),))
    assert bench.do(bench.control.state(replace(OUTBOUND, sequence=7))) == SaState(sequence=7)


# SAs that are done in software for a while


def in_software(bench, sender):
    """Lets fragments come that no DFE can do; what came out, and the frames."""
    pieces = fragments(sender.encapsulate(incoming(size=4000)), 1500, 5)
    return bench.feed(Port.NETWORK, *map(network_frame, pieces))[1], [
        network_frame(piece) for piece in pieces
    ]


def test_an_inbound_sa_goes_to_software_and_comes_back_with_its_window():
    limited = replace(INBOUND, hard=Lifetime(packets=7), replay_window=64)
    bench = Host((limited,), [policy(FORWARD)])
    sender = peer(INBOUND)
    seen = [network_frame(sender.encapsulate(incoming())) for _ in range(3)]
    late = seen.pop(1)
    assert len(bench.feed(Port.NETWORK, *seen)[1]) == 2
    out, big = in_software(bench, sender)
    assert opened(out) == [routed(incoming(size=4000))] and bench.control.refusals == {limited: BEYOND}
    soft = bench.do(bench.control.state(limited))
    assert (soft.sequence, soft.window, soft.packets) == (4, 0b1011, 3)
    seen.append(network_frame(sender.encapsulate(incoming())))
    assert len(bench.feed(Port.NETWORK, seen[-1])[1]) == 1
    before = bench.do(bench.control.state(limited))
    bench.now += QUIET_SECONDS - 0.1
    bench.do(bench.control.give_back())
    assert bench.control.placed(limited).soft, "not yet"
    bench.now += 0.1
    bench.do(bench.control.give_back())
    assert bench.control.placed(limited).soft is None and not bench.control.refusals
    assert bench.do(bench.control.state(limited)) == before, "it goes on as it was"
    assert bench.feed(Port.NETWORK, *seen) == ([], []), "what came before comes no second time"
    assert bench.loop.drops == {Reason.REPLAY: 3} and bench.control.placed(limited).soft is None
    software = bench.control.software["decrypted"]
    assert len(bench.feed(Port.NETWORK, late)[1]) == 1, "nor is any lost"
    assert bench.control.software["decrypted"] == software, "a DFE has done it"
    assert bench.feed(Port.NETWORK, *big) == ([], []), "the fragments of before are a replay too"
    assert bench.loop.drops == {Reason.REPLAY: 4}
    counts = [
        len(bench.feed(Port.NETWORK, network_frame(sender.encapsulate(incoming())))[1]) for _ in range(3)
    ]
    assert counts == [1, 1, 0] and bench.loop.drops[Reason.LIFETIME] == 1, "seven packets in all"


def test_an_outbound_sa_comes_back_with_greater_numbers():
    bench = Host((OUTBOUND,), [policy(OUT)])
    numbers = []

    def send(size=20):
        out, _ = bench.feed(Port.SERVER, server_frame(outgoing(size=size)))
        numbers.append(int.from_bytes(out[0][38:42]))
        assert opened(out, OUTBOUND) == [routed(outgoing(size=size))]

    for _ in range(3):
        send()
        send(1450)
        assert bench.control.refusals == {OUTBOUND: BEYOND}
        send()
        bench.now += QUIET_SECONDS
        bench.do(bench.control.give_back())
        assert not bench.control.refusals
        send()
    assert numbers == sorted(set(numbers)) and len(numbers) == 3 * 4
    assert bench.do(bench.control.state(OUTBOUND)).packets == 3 * 4


def test_what_a_dfe_could_have_done_does_not_keep_an_sa_in_software():
    bench = Host((OUTBOUND,), [policy(OUT)])
    bench.feed(Port.SERVER, server_frame(outgoing(size=1450)))
    for _ in range(4):
        bench.now += QUIET_SECONDS / 4
        bench.feed(Port.SERVER, server_frame(outgoing()))
    bench.do(bench.control.give_back())
    assert not bench.control.refusals
    bench.feed(Port.SERVER, server_frame(outgoing(size=1450)))
    bench.now += QUIET_SECONDS / 2
    bench.feed(Port.SERVER, *map(server_frame, fragments(outgoing(size=2000), 1000)))
    bench.now += QUIET_SECONDS / 2
    bench.do(bench.control.give_back())
    assert bench.control.refusals == {OUTBOUND: BEYOND}, "that one kept it"


def test_for_want_of_room_an_sa_is_in_software_for_a_while_too():
    """Not given back at once, to be taken over again by the next packet: each time costs numbers."""
    bench = Host((OUTBOUND,), [policy(OUT)], replace(GATEWARE, rules=0))
    bench.now = 100 * QUIET_SECONDS
    for _ in range(4):
        bench.feed(Port.SERVER, server_frame(outgoing()))
        bench.do(bench.control.give_back())
        assert bench.control.refusals == {OUTBOUND: BEYOND}
        bench.now += QUIET_SECONDS / 4
    bench.do(bench.control.give_back())
    assert not bench.control.refusals


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"esn": True}, "extended sequence numbers"),
        ({"replay_window": 1024}, "replay windows of 1024"),
        ({**NATT}, "ESP in UDP"),
    ],
)
def test_what_a_dfe_cannot_do_does_not_come_back(changes, why):
    inbound = replace(INBOUND, **changes)
    bench = Host((inbound,), [policy(FORWARD)])
    bench.feed(Port.NETWORK, network_frame(peer(inbound).encapsulate(incoming())))
    bench.now += 100 * QUIET_SECONDS
    bench.do(bench.control.give_back())
    assert bench.control.refusals == {inbound: why}


def test_an_sa_inside_another_stays():
    sas, policies = both.bundle()
    bench = Host(sas, policies)
    plain = udp(str(PEER), str(SELF), 300)
    bench.feed(Port.NETWORK, network_frame(peer(sas[1]).encapsulate(peer(sas[0]).encapsulate(plain))))
    bench.now += 100 * QUIET_SECONDS
    bench.do(bench.control.give_back())
    assert bench.control.refusals[sas[0]] == INSIDE


def test_lifetimes_last_over_several_moves():
    """From DFE to DFE and through software: bytes and packets count on, and the state says all of them."""
    size = 20
    packet_bytes = 28 + size
    limited = replace(INBOUND, soft=Lifetime(packets=6), hard=Lifetime(packets=8, bytes=100 * packet_bytes))
    bench = Host((limited,), [policy(FORWARD)])
    sender = peer(INBOUND)

    def one():
        return len(bench.feed(Port.NETWORK, network_frame(sender.encapsulate(incoming(size=size))))[1])

    done = one() + one()
    for _ in range(4):
        dfe = bench.control.placed(limited).dfe
        bench.do(bench.control.configure(CfeSettings(enable=1 << 1 - dfe)))
        assert bench.do(bench.control.state(limited)) == SaState(
            done, (1 << done) - 1, packet_bytes * done, done
        )
        done += one()
        assert bench.control.placed(limited).dfe == 1 - dfe, "it has moved"
    assert bench.do(bench.control.state(limited)) == SaState(6, 0b111111, 6 * packet_bytes, 6)
    assert [event.reason for event, _ in bench.do(bench.control.poll())] == [Reason.SOFT_LIFETIME]
    assert [one() for _ in range(4)] == [1, 1, 0, 0]
    assert bench.do(bench.control.state(limited)).packets == 8
    assert bench.loop.drops == {Reason.LIFETIME: 2}


# What is never sent in the clear


def test_no_change_lets_anything_out_in_the_clear():
    """What a policy protects is encrypted or dropped, whatever happens to its SA and its peer's router
    meanwhile.
    """
    bench = Host(
        (OUTBOUND,),
        [policy(OUT)],
        settings=Settings(default=PolicyAction.DISCARD),
        network=topology(*NEIGHBOURS),
    )
    now = OUTBOUND

    def moved():
        nonlocal now
        before, now = now, replace(now, **NATT)
        return bench.control.move_sa(before, now)

    changes = [
        lambda: bench.control.change_topology(elsewhere(1)),
        lambda: bench.control.change_topology(without(PEER)),
        lambda: bench.control.change_topology(topology(*NEIGHBOURS)),
        bench.control.give_back,
        moved,
        lambda: bench.control.remove_sa(now),
    ]
    for change in changes:
        bench.do(change())
        bench.now += QUIET_SECONDS
        out, back = bench.feed(Port.SERVER, server_frame(outgoing()), server_frame(outgoing(size=1450)))
        assert not any(bytes(range(8, 20)) in each for each in out) and not back
    assert bench.loop.drops == {Reason.NO_SA: 2}


def test_a_punted_packet_whose_sa_is_outbound_is_not_opened_with_it():
    """ESP of somebody behind the gateway with the name of an outbound SA."""
    bench = Host((OUTBOUND,), [policy(OUT)], settings=Settings(default=PolicyAction.DISCARD))
    bench.feed(Port.SERVER, server_frame(outgoing(size=1450)))
    assert bench.control.placed(OUTBOUND).soft
    foreign = bytes(IP(src=HERE[4], dst=PEER, proto=50) / (OUTBOUND.spi.to_bytes(4) + bytes(60)))
    header = PuntHeader(
        Reason.SA_ABSENT,
        Port.SERVER,
        bench.control.placed(OUTBOUND).dfe,
        bench.control.placed(OUTBOUND).index,
    )
    bench.do(bench.control.handle(header, server_frame(rewrite(foreign, 20))))
    assert bench.loop.drops == {Reason.POLICY: 1}


def test_a_path_that_takes_more_again_is_used_again():
    """A DFE's limit is that of the time when its SA was written: what fits by now is not refused."""
    bench = Host()
    bench.feed(Port.SERVER, server_frame(outgoing()))
    bench.control.placed(OUTBOUND).mtu = 600
    placed = bench.control.placed(OUTBOUND)
    bench.do(
        bench.gateway.write_sa(
            placed.dfe, placed.index, replace(OUTBOUND, mtu=600), None, generation=placed.generation
        )
    )
    out, back = bench.feed(Port.SERVER, server_frame(outgoing(size=1000, flags="DF")))
    assert len(out) == 1 and back == [] and bench.control.refusals == {OUTBOUND: BEYOND}
    bench.now += QUIET_SECONDS
    bench.do(bench.control.give_back())
    out, back = bench.feed(Port.SERVER, server_frame(outgoing(size=1000, flags="DF")))
    assert len(out) == 1 and back == [] and not bench.control.refusals


@pytest.mark.parametrize(("inside", "why"), [((6,), "IPv6"), ((4, 6), BEYOND)])
def test_an_sa_for_ipv6_alone_never_goes_to_a_dfe(inside, why):
    bench = Host((OUTBOUND,), [both.policy(OUT, version) for version in inside])
    plain = outgoing(6)
    for _ in range(2):
        out, _ = bench.feed(Port.SERVER, server_frame(plain))
        assert opened(out, OUTBOUND) == [routed(plain)] and bench.control.refusals == {OUTBOUND: why}
        bench.now += QUIET_SECONDS
        bench.do(bench.control.give_back())
        assert bool(bench.control.refusals) == (why != BEYOND)
