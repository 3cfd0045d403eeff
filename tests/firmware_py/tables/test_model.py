# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What bad input gets, of the gateway in software; the control element is not asked."""

import asyncio
import random
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from spigate.firmware_py.errors import InputError, TableFull, UnsupportedError
from spigate.firmware_py.ipsec.sa import ANY_IPV4, Lifetime
from spigate.firmware_py.tables.interface import (
    ANY_VLAN,
    GATEWARE,
    Action,
    CamEntry,
    CamKey,
    CfeSettings,
    Route,
    Rule,
    Source,
)
from spigate.firmware_py.tables.model import Dropped, Punted, Sent, SoftGateway
from spigate.firmware_py.tables.punt import InjectMode, Place
from spigate.hdl.contract.enums import Direction, Port, Reason
from tests.firmware_py.control.network import PEER_MAC, SELF_MAC, Bench, frame, mac, sa, udp

INBOUND, OUTBOUND = sa(0x1000), sa(0x1001, Direction.OUTBOUND)
ROUTED = Route(Port.SERVER, mac("02:00:00:00:02:10"), mac("02:00:00:00:02:01"), decrement_ttl=True)
CABLE = Route(Port.SERVER)
OURS, OURS_6 = "10.2.0.1", "2001:db8::1"
ETHER = Ether(src=PEER_MAC, dst=SELF_MAC)
MARTIANS = (
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.255.255.255",
    "224.0.0.5",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
)


def gateway(
    route=ROUTED, action=Action.BYPASS, inbound=INBOUND, outbound=OUTBOUND, selectors=None, **changes
):
    """A gateway that knows one SA a direction, one rule for everything, and one route."""
    made = SoftGateway()

    async def write():
        await made.configure(CfeSettings(**changes))
        await made.write_route(0, route)
        await made.write_route(1, Route(Port.RECIRCULATE))
        if inbound:
            await made.write_sa(1, 7, inbound, selectors)
        await made.write_sa(0, 3, outbound, None)
        await made.add_cam(CamEntry(CamKey(INBOUND.destination, INBOUND.spi), 1, 7, 0))
        if action is not None:
            await made.add_rule(Rule(ANY_IPV4, frozenset(Port), action, dfe=0, sa=3, route=0))
        for dfe in range(2):
            await made.write_source(dfe, 0, Source(ANY_IPV4.source, frozenset({Port.NETWORK, Port.SERVER})))

    asyncio.run(write())
    return made


def outcome(made, sent, port=Port.NETWORK):
    (one,) = made.process(port, bytes(sent))
    return one


def reason(one):
    return one.reason if isinstance(one, Dropped) else one.header.reason


def sealed(packet=None, one=INBOUND):
    return Bench().sealed(one, packet or udp("10.1.0.10", "10.2.0.10"))


def ip(**fields):
    return IP(**({"src": "10.1.7.7", "dst": "10.2.0.10"} | fields))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (bytes(13), Reason.MALFORMED),
        (bytes(ETHER / Dot1Q(vlan=1))[:17], Reason.MALFORMED),
        (ETHER / ARP(), Reason.NOT_IP),
        (ETHER / IPv6(), Reason.IPV6),
        (ETHER / Dot1Q(vlan=1) / IPv6(), Reason.IPV6),
        (bytes(ETHER / ip() / UDP())[:33], Reason.MALFORMED),
        (ETHER / ip(len=29) / UDP(), Reason.MALFORMED),
        (ETHER / ip(len=19) / UDP(), Reason.MALFORMED),
        (ETHER / ip(ihl=4) / UDP(), Reason.MALFORMED),
        (ETHER / ip(version=5) / UDP(), Reason.MALFORMED),
        (ETHER / ip(chksum=1) / UDP(), Reason.MALFORMED),
        (ETHER / ip(proto=6, len=23) / bytes(3), Reason.MALFORMED),
        (ETHER / ip(frag=5) / UDP(), Reason.FRAGMENT),
        (ETHER / ip(flags="MF") / UDP(), Reason.FRAGMENT),
        (ETHER / ip(proto=51) / bytes(20), Reason.AH),
        (ETHER / ip(proto=50) / bytes(7), Reason.MALFORMED),
        (ETHER / ip(proto=50) / bytes(40), Reason.RESERVED_SPI),
        (ETHER / ip(proto=50) / (b"\0\0\0\xff" + bytes(40)), Reason.RESERVED_SPI),
        (ETHER / ip(proto=50) / (b"\0\0\1\0" + bytes(40)), Reason.UNKNOWN_SPI),
        (ETHER / ip(dst=OURS) / UDP(sport=9, dport=500), Reason.IKE),
        (ETHER / ip(dst=OURS) / UDP(sport=9, dport=4500), Reason.NATT),
        (ETHER / ip(dst=OURS) / UDP(sport=9, dport=4500) / bytes(4), Reason.IKE),
        # From port 500, and in transit, it is traffic, which rules decide on.
        (ETHER / ip(dst=OURS, ttl=1) / UDP(sport=500, dport=9), Reason.TTL_EXPIRED),
        (ETHER / ip(ttl=1) / UDP(sport=500, dport=500), Reason.TTL_EXPIRED),
        (ETHER / ip(ttl=1) / UDP(sport=4500, dport=4500), Reason.TTL_EXPIRED),
        (ETHER / IPv6(dst=OURS_6) / UDP(dport=500) / bytes(28), Reason.IKE),
        (ETHER / IPv6(dst="2001:db8::77") / UDP(dport=500) / bytes(28), Reason.IPV6),
        (ETHER / IPv6(hlim=255) / ICMPv6ND_NS(), Reason.NEIGHBOUR),
        (ETHER / IPv6(hlim=64) / ICMPv6ND_NS(), Reason.IPV6),
        (ETHER / ip(ttl=1) / UDP(sport=1, dport=2), Reason.TTL_EXPIRED),
    ],
)
def test_bad_and_foreign_frames(sent, expected):
    made = gateway(network_vlan=ANY_VLAN, own=frozenset({ip_address(OURS), ip_address(OURS_6)}))
    assert reason(outcome(made, sent)) == expected
    assert isinstance(outcome(made, frame(udp("10.1.7.7", "10.2.0.10"))), Sent), "the next packet is unharmed"


@pytest.mark.parametrize("inner", [UDP(sport=1, dport=2) / b"x", TCP(), UDP(sport=4500, dport=9)])
def test_options_tags_and_padding_pass(inner):
    made = gateway(CABLE, network_vlan=ANY_VLAN)
    packet = bytes(IP(src="10.1.7.7", dst="10.2.0.10", options=[IPOption(b"\x94\4\0\0")]) / inner)
    for head in (ETHER, ETHER / Dot1Q(vlan=9, prio=3)):
        plain = bytes(head / IP(packet))
        assert outcome(made, plain + bytes(9)) == Sent(Port.SERVER, plain), (
            "as it is, without Ethernet padding"
        )


def test_other_stations():
    own, other = bytes.fromhex("020000000101"), bytes.fromhex("020000000102")
    made = gateway(network_mac=own)
    for destination, port, foreign in (
        (own, Port.NETWORK, False),
        (b"\xff" * 6, Port.NETWORK, False),
        (bytes.fromhex("01005e000001"), Port.NETWORK, False),
        (other, Port.NETWORK, True),
        (other, Port.SERVER, False),
    ):
        one = outcome(made, destination + bytes(sealed())[6:], port)
        assert (isinstance(one, Dropped) and reason(one) == Reason.OTHER_STATION) == foreign
    assert (
        reason(outcome(made, other + bytes(8))) == Reason.OTHER_STATION
    )  # Before what it carries is looked at.


@pytest.mark.parametrize("address", MARTIANS)
@pytest.mark.parametrize("which", ["src", "dst"])
def test_martians_go_nowhere(which, address):
    made = gateway()
    sent = ETHER / ip(**{which: address}) / UDP(sport=1, dport=2)
    martian = which == "src" or not address.startswith("239")
    assert (outcome(made, sent) == Dropped(Reason.MARTIAN)) == martian
    assert (
        made.inject(InjectMode.CLASSIFY, Port.RECIRCULATE, 1, bytes(sent)) == [Dropped(Reason.MARTIAN)]
    ) == martian


@pytest.mark.parametrize("address", MARTIANS)
@pytest.mark.parametrize("which", ["src", "dst"])
def test_martians_inside_go_nowhere(which, address):
    made = gateway()
    packet = bytes(ip(**{which: address}) / UDP(sport=1, dport=2))
    martian = which == "src" or not address.startswith("239")
    assert (outcome(made, sealed(packet)) == Dropped(Reason.MARTIAN)) == martian


@pytest.mark.parametrize("group", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"])
def test_unicast_in_a_group_frame_goes_nowhere(group):
    """RFC 1812 5.3.4: what came to everybody on the link is nobody's to forward."""
    made = gateway()
    for packet in (udp("10.1.7.7", "10.2.0.10"), bytes(sealed())[14:]):
        sent = bytes(Ether(src=PEER_MAC, dst=group) / IP(packet))
        assert outcome(made, sent) == Dropped(Reason.MARTIAN)
        assert made.inject(InjectMode.CLASSIFY, Port.NETWORK, 0, sent) == [Dropped(Reason.MARTIAN)]
    assert isinstance(
        outcome(made, Ether(src=PEER_MAC, dst=group) / ip(dst="239.1.1.1") / UDP(sport=1, dport=2)), Sent
    )


@pytest.mark.parametrize(
    ("port", "tags", "passes"),
    [
        (None, [], True),
        (None, [(0, 5)], True),
        (None, [(100, 0)], False),
        (None, [(0xFFF, 0)], False),
        (100, [], False),
        (100, [(0, 0)], False),
        (100, [(100, 7)], True),
        (100, [(101, 0)], False),
        (ANY_VLAN, [], True),
        (ANY_VLAN, [(7, 0)], True),
    ],
)
def test_a_port_takes_frames_of_its_vlan(port, tags, passes):
    for at, name in ((Port.NETWORK, "network_vlan"), (Port.SERVER, "server_vlan")):
        made = gateway(**{name: port})
        head = ETHER
        for vlan, priority in tags:
            head = head / Dot1Q(vlan=vlan, prio=priority)
        one = outcome(made, head / ip() / UDP(sport=1, dport=2), at)
        assert isinstance(one, Sent) if passes else one == Dropped(Reason.VLAN)
        arp = outcome(made, head / ARP(), at)
        assert isinstance(arp, Punted) if passes else arp == Dropped(Reason.VLAN)


@pytest.mark.parametrize("vlan", [0, 4095, -1, "all", 1.5])
def test_a_vlan_that_there_is_not(vlan):
    with pytest.raises(InputError, match="network_vlan must be 1 to 4094, 'any' or None, not"):
        CfeSettings(network_vlan=vlan)


OUTSIDE = Route(Port.NETWORK, mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02"), decrement_ttl=True)


def test_the_guard_lets_out_what_was_protected_bypassed_expressly_or_injected():
    """What a SA decrypted, and what a rule bypasses that does not say `clear`, does not leave at the
    network port, whatever its route.
    """
    clear = frame(udp("10.1.7.7", "10.2.0.10"))
    made = gateway(OUTSIDE)
    assert outcome(made, sealed()) == Dropped(Reason.GUARD)
    assert outcome(made, clear) == Dropped(Reason.GUARD)
    events = asyncio.run(made.events())
    assert [(event.reason, event.dropped, event.dfe, event.sa) for event in events] == [
        (Reason.GUARD, True, 1, 7),
        (Reason.GUARD, True, 14, 0),
    ]
    assert made.drops == {Reason.GUARD: 2} and "network_out" not in asyncio.run(made.counters()).forward
    assert isinstance(made.inject(InjectMode.DIRECT, Port.NETWORK, 0, clear)[0], Sent)
    assert outcome(gateway(OUTSIDE, Action.PROTECT), clear).port == Port.NETWORK
    made = gateway(OUTSIDE, None)
    asyncio.run(made.add_rule(Rule(ANY_IPV4, frozenset({Port.NETWORK}), Action.BYPASS, clear=True)))
    assert outcome(made, clear).port == Port.NETWORK
    assert outcome(made, sealed()) == Dropped(Reason.GUARD)


def test_a_packet_of_another_generation_finds_no_sa():
    """Audit `race`: a packet that was classified for the SA that was in its place before."""
    made = gateway(OUTSIDE, Action.PROTECT)
    asyncio.run(made.write_sa(0, 3, OUTBOUND, None, generation=1))
    asyncio.run(made.write_sa(1, 7, INBOUND, None, generation=255))
    for sent, dfe, index in ((frame(udp("10.1.7.7", "10.2.0.10")), 0, 3), (sealed(), 1, 7)):
        header = outcome(made, sent).header
        assert (header.reason, header.dfe, header.sa) == (Reason.SA_ABSENT, dfe, index)
    asyncio.run(made.add_cam(CamEntry(CamKey(INBOUND.destination, INBOUND.spi), 1, 7, 1, 255)))
    asyncio.run(made.remove_rule(made._rules[0]))
    header = outcome(made, sealed()).header
    assert (header.ingress, header.depth, header.out_of) == (Port.RECIRCULATE, 1, Place(1, 7, 255)), (
        "which SA it came out of"
    )


def test_punts_name_the_rule():
    made = gateway(action=None)
    for action in (Action.DISCARD, Action.PUNT):
        asyncio.run(made.add_rule(Rule(replace(ANY_IPV4, protocol=action), frozenset(Port), action)))
    assert outcome(made, ETHER / ip(proto=Action.PUNT)).header.rule == 1
    assert outcome(made, ETHER / ip(proto=9)).header.rule is None


def test_a_vlan_of_the_route():
    made = gateway(replace(ROUTED, vlan=0x3007))
    assert outcome(made, frame(udp("10.1.7.7", "10.2.0.10"))).frame[12:18] == b"\x81\x00\x30\x07\x08\x00"


def test_verdicts_of_rules():
    assert outcome(gateway(action=Action.DISCARD), frame(udp("1.2.3.4", "5.6.7.8"))) == Dropped(Reason.POLICY)
    assert reason(outcome(gateway(action=Action.PUNT), frame(udp("1.2.3.4", "5.6.7.8")))) == Reason.RULE
    punt = outcome(gateway(action=None), frame(udp("1.2.3.4", "5.6.7.8")), Port.SERVER)
    assert (
        punt.header.reason == Reason.NO_RULE
        and punt.header.ingress == Port.SERVER
        and punt.header.dfe in (0, 1)
    )
    made = gateway(action=None, rule_miss=Action.DISCARD)
    assert outcome(made, frame(udp("1.2.3.4", "5.6.7.8"))) == Dropped(Reason.POLICY)


def test_clear_sources():
    made = gateway()
    for dfe in range(2):
        asyncio.run(made.write_source(dfe, 0, None))
    one = frame(udp("10.1.7.7", "10.2.0.10"))
    assert outcome(made, one) == Dropped(Reason.POLICY)
    for depth in (0, 1):
        assert made.inject(InjectMode.CLASSIFY, Port.NETWORK, depth, one) == [Dropped(Reason.POLICY)], (
            "put together from fragments, say"
        )
    assert isinstance(made.inject(InjectMode.CLASSIFY, Port.RECIRCULATE, 1, one)[0], Sent), (
        "it did not come in the clear"
    )


def test_sa_absent():
    for changed in (None, replace(INBOUND, spi=0x1002), replace(INBOUND, direction=Direction.OUTBOUND)):
        punt = outcome(gateway(inbound=changed), sealed())
        assert (punt.header.reason, punt.header.dfe, punt.header.sa) == (Reason.SA_ABSENT, 1, 7)
    made = gateway(action=Action.PROTECT)
    asyncio.run(made.erase_sa(0, 3))
    assert reason(outcome(made, frame(udp("1.2.3.4", "5.6.7.8")))) == Reason.SA_ABSENT


def test_dfes_that_are_off():
    assert reason(outcome(gateway(enable=1), sealed())) == Reason.DFE_DOWN
    made = gateway(enable=0)
    assert outcome(made, frame(udp("1.2.3.4", "5.6.7.8"))) == Dropped(Reason.NO_DFE)
    assert outcome(made, sealed(one=sa(0x7777))) == Dropped(Reason.NO_DFE)


def test_unknown_spi_may_be_dropped():
    assert outcome(gateway(miss_drop=True), sealed(one=sa(0x7777))) == Dropped(Reason.NO_SA)


def test_layers_have_a_limit():
    made = gateway(Route(Port.RECIRCULATE), Action.BYPASS)
    assert outcome(made, frame(udp("1.2.3.4", "5.6.7.8"))) == Dropped(Reason.NESTED)
    deep = sealed()
    assert made.inject(InjectMode.CLASSIFY, Port.NETWORK, 3, deep) == [Dropped(Reason.NESTED)]
    made = gateway(depth_limit=1)
    assert isinstance(made.inject(InjectMode.CLASSIFY, Port.NETWORK, 1, sealed())[0], Sent)
    assert made.inject(InjectMode.CLASSIFY, Port.NETWORK, 2, sealed()) == [Dropped(Reason.NESTED)]


def test_injected_frames_leave_as_they_are():
    made = gateway()
    assert made.inject(InjectMode.DIRECT, Port.SERVER, 0, b"anything") == [Sent(Port.SERVER, b"anything")]
    (one,) = made.inject(InjectMode.CLASSIFY, Port.SERVER, 2, bytes(ETHER / ARP()))
    assert (one.header.ingress, one.header.depth) == (Port.SERVER, 2)


def test_counters_state_and_events():
    made = gateway(
        inbound=replace(INBOUND, soft=Lifetime(packets=1)), selectors=replace(ANY_IPV4, protocol=17)
    )
    good = sealed()
    for sent in (good, good, frame(udp("10.1.7.7", "10.2.0.10"))):
        outcome(made, sent)
    counters = asyncio.run(made.counters())
    assert counters.cfe == {"network_in": 3, "hits": 2, "clear": 1} and counters.drops == {Reason.REPLAY: 1}
    assert counters.forward == {"server_out": 2}
    for name in ("decrypted", "bypassed"):
        assert sum(dfe.get(name, 0) for dfe in counters.dfes) == 1
    state = asyncio.run(made.read_state(1, 7))
    assert (state.sequence, state.window, state.packets, state.bytes) == (1, 1, 1, 35)
    events = asyncio.run(made.events())
    assert [(event.reason, event.dropped, event.spi, event.sequence) for event in events] == [
        (Reason.SOFT_LIFETIME, False, 0x1000, 1),
        (Reason.REPLAY, True, 0x1000, 1),
    ]
    assert asyncio.run(made.events()) == []


def test_tables_refuse():
    made = gateway()
    with pytest.raises(UnsupportedError, match="The gateway lacks extended sequence numbers"):
        asyncio.run(made.write_sa(0, 0, replace(INBOUND, esn=True), None))
    with pytest.raises(InputError, match="route index must be 0 to 63, not 64"):
        asyncio.run(made.write_route(64, ROUTED))
    small = SoftGateway(capabilities=replace(GATEWARE, rules=0, cam_entries=0))
    with pytest.raises(TableFull, match="The rules are full: 0 entries"):
        asyncio.run(small.add_rule(Rule(ANY_IPV4, frozenset(), Action.PUNT)))
    with pytest.raises(TableFull, match="The CAM is full: 0 entries"):
        asyncio.run(small.add_cam(CamEntry(CamKey(INBOUND.destination, 256), 0, 0, 0)))
    with pytest.raises(InputError, match="must be there"):
        asyncio.run(made.replace_rule(*[Rule(ANY_IPV4, frozenset(), Action.PUNT)] * 2))


@settings(max_examples=300)
@given(st.binary(max_size=120), st.integers(0, 3), st.sampled_from([Port.NETWORK, Port.SERVER]))
def test_every_frame_has_one_fate(data, kind, port):
    """Any bytes, alone, behind an Ethernet header, behind an IP header; and a good packet with some bytes
    changed.
    """
    source = random.Random(data)
    good = bytearray(sealed())
    for _ in range(source.randrange(4)):
        good[source.randrange(len(good))] = source.randrange(256)
    esp = bytes(IP(src="1.2.3.4", dst="5.6.7.8", proto=50) / data)
    sent = [data, bytes(ETHER)[:12] + b"\x08\0" + data, frame(esp), bytes(good)][kind]
    made = gateway()
    one = outcome(made, sent, port)
    assert isinstance(one, Sent | Punted | Dropped)
    counters = asyncio.run(made.counters())
    assert sum(counters.drops.values()) + sum(counters.forward.values()) == 1
