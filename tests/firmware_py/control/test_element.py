# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from spigate.firmware_py.control.programming import NO_ROOM, SEQUENCE_MARGIN
from spigate.firmware_py.control.settings import Miss, Settings
from spigate.firmware_py.control.ways import RULE_SECONDS
from spigate.firmware_py.errors import InputError, UnsupportedError
from spigate.firmware_py.ipsec.packet import rewrite
from spigate.firmware_py.ipsec.policy import PolicyAction, PolicyDirection
from spigate.firmware_py.ipsec.sa import ANY_IPV4, Lifetime, Selectors
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.firmware_py.tables.interface import GATEWARE, CfeSettings, Source
from spigate.firmware_py.tables.punt import InjectMode
from spigate.hdl.contract.enums import Direction, Mode, Port, Reason
from tests.firmware_py.control.network import (
    INSIDE_MAC,
    LINUX,
    PEER,
    PEER_MAC,
    SELF,
    SELF_MAC,
    SERVERS,
    Bench,
    frame,
    from_server,
    mac,
    policy,
    sa,
    selectors,
    udp,
)

IN, OUT, FORWARD = PolicyDirection.IN, PolicyDirection.OUT, PolicyDirection.FORWARD
INBOUND, OUTBOUND = sa(0x1000), sa(0x1001, Direction.OUTBOUND)
THERE, HERE = "10.1.0.0/24", "10.2.0.0/24"
ETHER = Ether(src=PEER_MAC, dst=SELF_MAC)
POLICIES = [policy(FORWARD, selectors(THERE, HERE)), policy(OUT, selectors(HERE, THERE))]


def opened(frames, one=OUTBOUND):
    """What the peer finds in frames on the network side."""
    peer = SoftSa(replace(one, direction=Direction.INBOUND))
    return [peer.decapsulate(frame[14:]) for frame in frames]


def test_unknown_spi_of_an_sa_for_several_servers_recirculates_to_each():
    bench = Bench([INBOUND], POLICIES)
    for server, where in SERVERS.items():
        _, out = bench.feed(
            Port.NETWORK, *(bench.sealed(INBOUND, udp("10.1.0.10", server, dport=n)) for n in range(3))
        )
        assert [(one[:6], one[6:12], one[22]) for one in out] == [(mac(where), mac(INSIDE_MAC), 63)] * 3
    assert bench.control.punted == {Reason.UNKNOWN_SPI: 1, Reason.NO_RULE: 3}
    assert bench.control.programmed == {"source": 1, "sa": 1, "cam": 1, "rule": 3, "route": 4}
    assert not bench.loop.drops


def test_what_is_for_no_known_neighbour_ends_here():
    bench = Bench([INBOUND], POLICIES)
    assert bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.99"))) == ([], [])
    assert bench.control.consumed == {"no_route": 1}


def test_unknown_spi_without_an_sa_is_dropped_and_counted():
    bench = Bench([], POLICIES)
    assert bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10"))) == ([], [])
    assert bench.loop.drops == {Reason.NO_SA: 1}


def test_an_outbound_sa_does_not_open_what_comes_in():
    bench = Bench([replace(OUTBOUND, destination=ip_address(SELF), source=ip_address(PEER))], POLICIES)
    bench.feed(Port.NETWORK, frame(bytes(IP(src=PEER, dst=SELF, proto=50) / (b"\0\0\x10\1" + bytes(60)))))
    assert bench.loop.drops == {Reason.NO_SA: 1}


def test_what_a_policy_protects_is_encrypted_from_the_first_packet_on():
    bench = Bench([OUTBOUND], POLICIES)
    sent = [udp("10.2.0.10", "10.1.0.10", dport=n) for n in range(4)]
    out, _ = bench.feed(Port.SERVER, *map(from_server, sent))
    assert [(one[8], one[20:]) for one in opened(out)] == [(63, one[20:]) for one in sent]
    assert bench.control.punted == {Reason.NO_RULE: 1}


def test_an_sa_that_is_missing_means_drop_and_not_clear_text():
    bench = Bench([], POLICIES)
    assert bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.0.10"))) == ([], [])
    assert bench.loop.drops == {Reason.NO_SA: 1}
    bench.do(bench.control.add_sa(OUTBOUND))
    out, _ = bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.0.10")))
    assert len(opened(out)) == 1


def test_what_should_have_been_protected_and_comes_in_the_clear_is_dropped():
    bench = Bench([INBOUND], POLICIES)
    clear = frame(udp("10.1.0.10", "10.2.0.10"))
    assert bench.feed(Port.NETWORK, clear, clear) == ([], [])
    assert bench.loop.drops == {Reason.POLICY: 2}
    assert bench.control.punted[Reason.NO_RULE] == 1, "the second was dropped by a rule"


def test_the_protected_side_cannot_be_faked_from_outside():
    """Where nothing says that what no policy names may come in; otherwise it goes the way of what has come
    in (RFC 4301 5.2, 5.1).
    """
    for default, count in ((PolicyAction.DISCARD, 0), (PolicyAction.BYPASS, 1)):
        bench = Bench([OUTBOUND], POLICIES, settings=Settings(default=default))
        bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.0.10")))
        out, _ = bench.feed(Port.NETWORK, frame(udp("10.2.0.10", "10.1.0.10")))
        assert len(opened(out)) == count and bench.loop.drops[Reason.POLICY] == 1 - count


def test_what_no_policy_names_is_forwarded_as_a_router_does():
    bench = Bench([], POLICIES)
    for _ in range(3):
        _, out = bench.feed(Port.NETWORK, frame(udp("10.1.7.7", "10.2.0.11", ttl=9)))
        assert (out[0][:6], out[0][22]) == (mac(SERVERS["10.2.0.11"]), 8)
    out, _ = bench.feed(Port.SERVER, from_server(udp("10.2.0.11", "10.1.7.7"), "10.2.0.11"))
    assert len(out) == 1
    assert bench.control.punted == {Reason.NO_RULE: 2}


def test_or_dropped_where_that_is_the_default():
    bench = Bench([OUTBOUND], POLICIES, settings=Settings(default=PolicyAction.DISCARD))
    for _ in range(5):
        assert bench.feed(Port.NETWORK, frame(udp("10.1.7.7", "10.2.0.11"))) == ([], [])
    assert bench.control.punted == {Reason.NO_RULE: 1}
    sent = [from_server(udp("10.2.0.10", destination)) for destination in ("10.1.0.10", "10.9.0.1")]
    out, _ = bench.feed(Port.SERVER, *sent)
    assert len(opened(out)) == 1 and bench.loop.drops == {Reason.POLICY: 6}


@pytest.mark.parametrize("first", [0, 1])
def test_rules_have_the_order_of_the_policies_whatever_comes_first(first):
    narrow = policy(
        OUT,
        selectors("10.2.0.10/32", THERE, protocol=17, destination_ports=(53, 53)),
        PolicyAction.DISCARD,
        priority=1,
    )
    wide = policy(OUT, selectors(HERE, THERE), priority=2)
    bench = Bench([OUTBOUND], [wide, narrow])
    packets = [from_server(udp("10.2.0.10", "10.1.0.10", dport=port)) for port in (53, 80)]
    for one in (packets[first], packets[1 - first], *packets):
        bench.feed(Port.SERVER, one)
    assert bench.loop.drops == {Reason.POLICY: 2}
    assert len(opened(bench.loop.sent[Port.NETWORK])) == 2


def test_a_policy_added_later_has_its_place():
    bench = Bench([OUTBOUND], POLICIES)
    one = from_server(udp("10.2.0.10", "10.1.0.10"))
    bench.feed(Port.SERVER, one)
    narrow = policy(OUT, selectors("10.2.0.10/32", "10.1.0.10/32"), PolicyAction.DISCARD, priority=-1)
    bench.do(bench.control.add_policy(narrow))
    assert bench.feed(Port.SERVER, one, one) == ([], [])
    bench.do(bench.control.remove_policy(narrow))
    out, _ = bench.feed(Port.SERVER, one)
    assert len(out) == 1
    with pytest.raises(InputError, match="No such policy"):
        bench.do(bench.control.remove_policy(narrow))


def test_an_exception_for_inbound_clear_text_passes_single_flows():
    passed = policy(
        FORWARD,
        selectors("10.1.0.0/24", HERE, protocol=17, destination_ports=(53, 53)),
        PolicyAction.BYPASS,
        priority=-1,
    )
    bench = Bench([INBOUND], [*POLICIES, passed])
    dns, other = (frame(udp("10.1.0.10", "10.2.0.10", dport=port)) for port in (53, 80))
    for _ in range(2):
        for one, count in ((dns, 1), (other, 0)):
            assert len(bench.feed(Port.NETWORK, one)[1]) == count
    assert bench.loop.drops == {Reason.POLICY: 2}
    assert bench.control.punted == {Reason.NO_RULE: 2}


def test_an_sa_carries_only_what_its_policies_name():
    bench = Bench([INBOUND], POLICIES)
    good, bad = (bench.sealed(INBOUND, udp(source, "10.2.0.10")) for source in ("10.1.0.10", "10.1.7.7"))
    assert [len(bench.feed(Port.NETWORK, one)[1]) for one in (good, bad)] == [1, 0]
    assert bench.loop.drops == {Reason.POLICY: 1}


def test_an_sa_that_no_policy_names_carries_nothing():
    bench = Bench([INBOUND], [])
    bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10")))
    assert bench.loop.drops == {Reason.POLICY: 1} and bench.control.placed(INBOUND) is None


def test_selectors_of_an_sa_narrow_what_its_policies_name():
    narrow = selectors("10.0.0.0/8", "10.2.0.10/32", protocol=17)
    for policies, counts in ((POLICIES, [1, 0, 0]), ([], [0, 0, 0])):
        bench = Bench([replace(INBOUND, selectors=narrow)], policies)
        ways = (("10.1.0.1", "10.2.0.10"), ("10.1.0.1", "10.2.0.11"), ("10.1.7.1", "10.2.0.10"))
        assert [len(bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp(*way)))[1]) for way in ways] == counts
    elsewhere = replace(INBOUND, selectors=selectors("172.16.0.0/12", HERE))
    bench = Bench([elsewhere], POLICIES)
    bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp("10.1.0.1", "10.2.0.10")))
    assert bench.loop.drops == {Reason.POLICY: 1}


def test_esp_that_a_policy_wants_inside_esp_is_encrypted_once_more():
    bench = Bench([OUTBOUND], POLICIES)
    other = bytes(IP(src="10.2.0.10", dst="10.1.0.10", proto=50, ttl=9) / (b"\0\0\x50\0" + bytes(60)))
    out, _ = bench.feed(Port.SERVER, from_server(other))
    assert opened(out, OUTBOUND) == [rewrite(other, 20, ttl=8)]


def test_two_policies_of_one_sa_are_checked_in_software():
    policies = [policy(FORWARD, selectors(f"10.1.{n}.0/24", HERE)) for n in (0, 5)]
    bench = Bench([INBOUND], policies)
    counts = [
        len(bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp(source, "10.2.0.10")))[1])
        for source in ("10.1.0.1", "10.1.5.1", "10.1.7.1", "10.1.0.2")
    ]
    assert counts == [1, 1, 0, 1]
    assert bench.control.refusals == {INBOUND: "more than one selector for an SA"}
    assert bench.control.software == {"decrypted": 3} and bench.loop.drops == {Reason.POLICY: 1}
    assert bench.control.punted[Reason.SA_ABSENT] == 3, "the CAM knows it, the DFE has it not"


def unnumbered(left):
    """What left at both ports without the identification of IPv4, which is a decryptor's own, and header
    checksums.
    """
    return [[each[:18] + bytes(2) + each[20:24] + bytes(2) + each[26:] for each in frames] for frames in left]


def test_software_path_and_hardware_send_the_same():
    sas = [INBOUND, OUTBOUND]
    hard, soft = Bench(sas, POLICIES), Bench(sas, POLICIES, replace(GATEWARE, ciphers=frozenset()))
    frames = [
        (Port.NETWORK, hard.sealed(INBOUND, udp("10.1.0.10", server, ttl=n + 3)))
        for n, server in enumerate(SERVERS)
    ]
    frames += [(Port.SERVER, from_server(udp("10.2.0.10", "10.1.0.10", ttl=n))) for n in (1, 2, 3)]
    for port, one in frames:
        assert unnumbered(hard.feed(port, one)) == unnumbered(soft.feed(port, one))
    assert soft.control.software == {"decrypted": 3, "encrypted": 2}
    assert hard.control.consumed == soft.control.consumed == {"ttl_expired": 1}
    assert hard.control.made == soft.control.made == {"icmp": 1}


def test_miss_drop_programs_and_drops():
    bench = Bench([INBOUND, OUTBOUND], POLICIES, settings=Settings(miss=Miss.DROP))
    incoming = [bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10")) for _ in range(4)]
    counts = [len(bench.feed(Port.NETWORK, one)[1]) for one in incoming]
    assert counts == [0, 0, 1, 1], "the first misses the CAM, the second the rule of its inner addresses"
    outgoing = [len(bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.0.10")))[0]) for _ in range(2)]
    assert outgoing == [0, 1]
    assert bench.loop.drops == {Reason.NO_SA: 3}


def test_the_balancer_chooses_the_dfe():
    sas = [sa(0x2000 + n, reqid=n + 1) for n in range(8)]
    policies = [policy(FORWARD, selectors(f"10.1.{n}.0/24", "10.2.0.10/32"), reqid=n + 1) for n in range(8)]
    bench = Bench(sas, policies, replace(GATEWARE, dfes=4))
    for n, one in enumerate(sas):
        bench.feed(Port.NETWORK, bench.sealed(one, udp(f"10.1.{n}.1", "10.2.0.10")))
    assert len({bench.control.placed(one).dfe for one in sas}) == 4


def test_a_full_sad_goes_to_another_dfe_and_full_rules_to_software():
    sas = [sa(0x2000 + n, reqid=n + 1) for n in range(4)]
    policies = [policy(FORWARD, selectors(f"10.1.{n}.0/24", "10.2.0.10/32"), reqid=n + 1) for n in range(4)]
    bench = Bench(sas, policies, replace(GATEWARE, sa_entries=2, rules=2))
    for n, one in enumerate(sas):
        assert len(bench.feed(Port.NETWORK, bench.sealed(one, udp(f"10.1.{n}.1", "10.2.0.10")))[1]) == 1
    places = [
        (bench.control.placed(one).dfe, bench.control.placed(one).index)
        for one in sas
        if not bench.control.placed(one).soft
    ]
    assert sorted(places) == [(0, 0), (0, 1), (1, 0)] and list(bench.control.refusals.values()) == [NO_ROOM]
    for written in (2, 4):
        for n in range(6):
            assert len(bench.feed(Port.NETWORK, frame(udp("10.1.9.9", f"10.2.0.{10 + n % 3}")))[1]) == 1
        assert bench.control.programmed["rule"] == written, (
            "single flows give way to one another, but not round and round"
        )
        bench.now += RULE_SECONDS


def test_protected_flows_go_by_software_while_the_rules_are_full():
    sas = [sa(0x3000 + n, Direction.OUTBOUND, reqid=n + 1) for n in range(3)]
    policies = [policy(OUT, selectors(HERE, f"10.1.{n}.0/24"), reqid=n + 1) for n in range(3)]
    bench = Bench(sas, policies, replace(GATEWARE, rules=2))
    for n, one in enumerate(sas):
        out, _ = bench.feed(Port.SERVER, from_server(udp("10.2.0.10", f"10.1.{n}.1")))
        assert len(opened(out, one)) == 1
    assert bench.control.software == {"encrypted": 1} and list(bench.control.refusals) == sas[2:]
    bench.now += RULE_SECONDS
    bench.do(bench.control.give_back())
    out, _ = bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.2.1")))
    assert len(opened(out, sas[2])) == 1 and not bench.control.refusals, "then the oldest rule gives way"


def test_explicit_sources_are_the_only_ones():
    source = Source(ip_network("10.1.7.0/24"), frozenset({Port.NETWORK}))
    bench = Bench(settings=replace(LINUX, sources=(source,)))
    counts = [len(bench.feed(Port.NETWORK, frame(udp(f"10.1.{n}.1", "10.2.0.10")))[1]) for n in (7, 8)]
    assert counts == [1, 0] and bench.loop.drops == {Reason.POLICY: 1}


def test_removing_an_sa_takes_its_entries_back():
    bench = Bench([INBOUND, OUTBOUND], POLICIES)
    bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10")))
    bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.0.10")))
    for one in (INBOUND, OUTBOUND):
        bench.do(bench.control.remove_sa(one))
        assert bench.control.placed(one) is None
    assert bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10"))) == ([], [])
    assert bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.0.10"))) == ([], [])
    assert bench.loop.drops == {Reason.NO_SA: 2}


def test_a_new_sa_takes_over_from_the_old_one():
    bench = Bench([OUTBOUND], POLICIES)
    one = from_server(udp("10.2.0.10", "10.1.0.10"))
    bench.feed(Port.SERVER, one)
    newer = sa(0x1003, Direction.OUTBOUND)
    bench.do(bench.control.add_sa(newer))
    out, _ = bench.feed(Port.SERVER, one)
    assert len(opened(out, newer)) == 1
    with pytest.raises(InputError, match="already an SA with the name of outbound ESP SA 0x00001003"):
        bench.do(bench.control.add_sa(newer))


def test_hard_lifetime_in_seconds():
    bench = Bench([replace(INBOUND, hard=Lifetime(seconds=10))], POLICIES)
    assert bench.do(bench.control.expire()) == []
    bench.now = 10.0
    assert [one.spi for one in bench.do(bench.control.expire())] == [0x1000]
    bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10")))
    assert bench.loop.drops == {Reason.NO_SA: 1}


def test_limits_that_were_reached_are_told_as_long_as_the_sa_is_there():
    """Whatever else happens, however often it is asked (audit row 12); in a DFE and in software."""
    for elsewhere in ({}, {"esn": True}):
        one = replace(INBOUND, **elsewhere)
        limited = replace(one, soft=Lifetime(packets=2), hard=Lifetime(packets=3))
        bench = Bench([limited], POLICIES)
        for worn in ([], [(limited, False)], [(limited, False)], [(limited, True)]):
            bench.feed(Port.NETWORK, bench.sealed(one, udp("10.1.0.10", "10.2.0.10")))
            for _ in range(2):
                bench.do(bench.control.poll())
                assert bench.do(bench.control.worn()) == worn
        assert bool(bench.control.placed(limited).soft) == bool(elsewhere)
        bench.do(bench.control.remove_sa(limited))
        assert bench.do(bench.control.worn()) == []


def test_events_name_their_sa():
    limited = replace(INBOUND, soft=Lifetime(packets=2), hard=Lifetime(packets=3))
    bench = Bench([limited], POLICIES)
    for _ in range(4):
        bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10")))
    events = bench.do(bench.control.poll())
    assert [(event.reason, event.dropped, one) for event, one in events] == [
        (Reason.SOFT_LIFETIME, False, limited),
        (Reason.LIFETIME, True, limited),
    ]


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (ETHER / ARP(), "not_ip"),
        (ETHER / IPv6(dst="2001:db8::1"), "no_route"),
        (ETHER / frame(udp(PEER, SELF, 500, 500))[14:], "ike"),
        (ETHER / frame(udp(PEER, SELF, 4500, 4500, payload=bytes(4) + b"x"))[14:], "ike"),
        (ETHER / frame(udp(PEER, SELF, 4500, 4500, payload=b"\xff"))[14:], "keepalive"),
        (ETHER / IP(src=PEER, dst=SELF, proto=50, flags="MF") / bytes(24), "fragment"),
        (ETHER / IP(src=PEER, dst=SELF) / ICMP(), "local"),
        (ETHER / IP(src="10.1.7.7", dst="172.16.0.1") / ICMP(), "no_route"),
    ],
)
def test_what_ends_here_is_counted(sent, what):
    raw = bytearray(bytes(sent))
    if IPv6 not in sent and what != "not_ip":
        raw[12:14] = b"\x08\x00"
    bench = Bench()
    assert bench.feed(Port.NETWORK, bytes(raw)) == ([], [])
    assert bench.control.consumed == {what: 1}


def test_esp_on_its_way_to_somebody_else_passes():
    bench = Bench([INBOUND], POLICIES)
    other = frame(bytes(IP(src="10.1.7.7", dst="10.2.0.10", proto=50) / (b"\0\0\x50\0" + bytes(60))))
    _, out = bench.feed(Port.NETWORK, other)
    assert out[0][34:] == other[34:] and out[0][22] == 63
    assert bench.control.injected == {InjectMode.DIRECT: 1}


def test_transport_mode_stands_before_its_host():
    host = {"mode": Mode.TRANSPORT}
    inbound, outbound = replace(INBOUND, **host), replace(OUTBOUND, **host)
    between = [
        policy(IN, selectors(f"{PEER}/32", f"{SELF}/32"), mode=Mode.TRANSPORT),
        policy(OUT, selectors(f"{SELF}/32", f"{PEER}/32"), mode=Mode.TRANSPORT),
    ]
    bench = Bench([inbound, outbound], between)
    plain = udp(PEER, SELF, ttl=5)
    for _ in range(2):
        _, out = bench.feed(Port.NETWORK, bench.sealed(inbound, plain))
        assert out == [frame(plain)], "Ethernet header and time to live are as they came"
    answer = frame(udp(SELF, PEER, ttl=5), SELF_MAC, "02:00:00:00:00:01")
    out, _ = bench.feed(Port.SERVER, answer)
    assert out[0][:14] == answer[:14] and opened(out, outbound) == [answer[14:]]
    # What the host says to others passes as it is.
    aside = frame(udp(SELF, "192.0.2.9"), SELF_MAC, "02:00:00:00:00:09")
    assert bench.feed(Port.SERVER, aside) == ([aside], [])
    assert bench.feed(Port.NETWORK, frame(udp("192.0.2.9", SELF))) == ([], [frame(udp("192.0.2.9", SELF))])


def test_transport_mode_may_come_later():
    """A router takes only its own frames; as soon as it stands before a host, the host's too."""
    bench = Bench([OUTBOUND], [])
    aside = frame(udp("10.2.0.10", "192.0.2.9"), SELF_MAC, "02:00:00:00:00:09")
    later = policy(OUT, selectors(f"{SELF}/32", f"{PEER}/32"), mode=Mode.TRANSPORT)
    foreign = []
    for change in (None, bench.control.add_policy, bench.control.remove_policy):
        if change:
            bench.do(change(later))
        before = bench.loop.drops[Reason.OTHER_STATION]
        bench.feed(Port.SERVER, aside)
        foreign.append(bench.loop.drops[Reason.OTHER_STATION] - before)
    assert foreign == [1, 0, 1]


def test_a_vlan_tag_stays_in_transport_mode():
    inbound = replace(INBOUND, mode=Mode.TRANSPORT)
    bench = Bench(
        [inbound],
        [policy(IN, selectors(f"{PEER}/32", f"{SELF}/32"), mode=Mode.TRANSPORT)],
        settings=Settings(cfe=CfeSettings(network_vlan=7)),
    )
    one = bench.sealed(inbound, udp(PEER, SELF))
    tagged = one[:12] + b"\x81\0\0\7" + one[12:]
    _, out = bench.feed(Port.NETWORK, tagged)
    assert Ether(out[0])[Dot1Q].vlan == 7 and out[0][18:] == udp(PEER, SELF)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_dfe_that_is_down_loses_its_sas_to_another(stopped):
    async def stop_sa(dfe, index):
        return stopped

    bench = Bench([INBOUND, OUTBOUND], POLICIES)
    bench.gateway.stop_sa = stop_sa
    bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10")))
    first, _ = bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.0.10")))
    before = bench.control.placed(OUTBOUND).dfe
    bench.do(bench.control.configure(CfeSettings(enable=1 << 1 - before)))
    for _ in range(2):
        second, _ = bench.feed(Port.SERVER, from_server(udp("10.2.0.10", "10.1.0.10")))
    assert bench.control.placed(OUTBOUND).dfe == 1 - before
    assert int.from_bytes(second[0][38:42]) == 3 + SEQUENCE_MARGIN * (not stopped), "no number can come twice"
    assert len(opened([first[0], second[0]])) == 2
    assert bench.control.punted[Reason.DFE_DOWN] == 1


def test_a_table_that_forgets_makes_no_loop():
    bench = Bench([INBOUND], POLICIES)
    one = bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10"))

    async def forget(entry):
        pass

    bench.gateway.add_cam = forget
    assert bench.feed(Port.NETWORK, one) == ([], [])
    assert bench.control.consumed == {"loop": 1}


def test_an_sa_that_moves_keeps_its_window_and_what_it_has_left():
    limited = replace(INBOUND, hard=Lifetime(packets=3))
    bench = Bench([limited], POLICIES)
    first, second, third, fourth = (bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10")) for _ in range(4))
    bench.feed(Port.NETWORK, first, third)
    bench.do(bench.control.configure(CfeSettings(enable=1 << 1 - bench.control.placed(limited).dfe)))
    counts = [len(bench.feed(Port.NETWORK, one)[1]) for one in (first, third, second, fourth)]
    assert counts == [0, 0, 1, 0]
    assert bench.loop.drops == {Reason.REPLAY: 2, Reason.LIFETIME: 1}


def test_without_another_dfe_an_sa_is_done_in_software_until_there_is_one():
    bench = Bench([OUTBOUND], POLICIES)
    one = from_server(udp("10.2.0.10", "10.1.0.10"))
    sent = []
    for enable, software in ((3, 0), (0, 1), (0, 2), (2, 2), (2, 2)):
        bench.do(bench.control.configure(CfeSettings(enable=enable)))
        out, _ = bench.feed(Port.SERVER, one)
        sent += [int.from_bytes(each[38:42]) for each in out]
        assert bench.control.software["encrypted"] == software
    assert sent == [1, 2, 3, 4, 5] and not bench.loop.drops and not bench.control.refusals


def test_refuses_policies_that_select_by_what_is_not_looked_at():
    icmp = policy(OUT, Selectors(ANY_IPV4.source, ANY_IPV4.destination, 1, (8, 8)))
    with pytest.raises(UnsupportedError, match="ports of TCP and UDP only, not of protocol 1"):
        Bench(policies=[icmp])


def test_settings_reach_the_classifier():
    bench = Bench(settings=Settings(cfe=CfeSettings(miss_drop=True)))
    bench.feed(Port.NETWORK, bench.sealed(INBOUND, udp("10.1.0.10", "10.2.0.10")))
    assert bench.loop.drops == {Reason.NO_SA: 1} and not bench.control.punted
    with pytest.raises(InputError, match="default must be bypass or discard"):
        Settings(default=PolicyAction.PROTECT)
