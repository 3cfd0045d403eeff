"""What bad input gets, of the gateway in software; the control element is not asked."""
import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from spigate.firmware_py.errors import InputError, TableFull, UnsupportedError
from spigate.firmware_py.punt import InjectMode, Port, Reason
from spigate.firmware_py.sa import ANY_IPV4, Direction, Lifetime
from spigate.firmware_py.soft.gateway import Dropped, Punted, Sent, SoftGateway
from spigate.firmware_py.tables import (
    GATEWARE,
    Action,
    CamEntry,
    CamKey,
    CfeSettings,
    Route,
    Rule,
    Source,
)
from tests.firmware_py.network import PEER_MAC, SELF_MAC, Bench, frame, mac, sa, udp

INBOUND, OUTBOUND = sa(0x1000), sa(0x1001, Direction.OUTBOUND)
ROUTED = Route(Port.SERVER, mac("02:00:00:00:02:10"), mac("02:00:00:00:02:01"), decrement_ttl=True)
CABLE = Route(Port.SERVER)
ETHER = Ether(src=PEER_MAC, dst=SELF_MAC)


def gateway(route=ROUTED, action=Action.BYPASS, inbound=INBOUND, outbound=OUTBOUND, selectors=None, **changes):
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
    one, = made.process(port, bytes(sent))
    return one


def reason(one):
    return one.reason if isinstance(one, Dropped) else one.header.reason


def sealed(packet=None, one=INBOUND):
    return Bench().sealed(one, packet or udp("10.1.0.10", "10.2.0.10"))


@pytest.mark.parametrize(("sent", "expected"), [
    (bytes(13), Reason.MALFORMED), (bytes(ETHER / Dot1Q(vlan=1))[:17], Reason.MALFORMED),
    (ETHER / ARP(), Reason.NOT_IP), (ETHER / IPv6(), Reason.IPV6), (ETHER / Dot1Q(vlan=1) / IPv6(), Reason.IPV6),
    (bytes(ETHER / IP() / UDP())[:33], Reason.MALFORMED),
    (ETHER / IP(len=29) / UDP(), Reason.MALFORMED), (ETHER / IP(len=19) / UDP(), Reason.MALFORMED),
    (ETHER / IP(ihl=4) / UDP(), Reason.MALFORMED), (ETHER / IP(version=5) / UDP(), Reason.MALFORMED),
    (ETHER / IP(chksum=1) / UDP(), Reason.MALFORMED), (ETHER / IP(proto=6, len=23) / bytes(3), Reason.MALFORMED),
    (ETHER / IP(frag=5) / UDP(), Reason.FRAGMENT), (ETHER / IP(flags="MF") / UDP(), Reason.FRAGMENT),
    (ETHER / IP(proto=51) / bytes(20), Reason.AH), (ETHER / IP(proto=50) / bytes(7), Reason.MALFORMED),
    (ETHER / IP(proto=50) / bytes(40), Reason.RESERVED_SPI),
    (ETHER / IP(proto=50) / (b"\0\0\0\xff" + bytes(40)), Reason.RESERVED_SPI),
    (ETHER / IP(proto=50) / (b"\0\0\1\0" + bytes(40)), Reason.UNKNOWN_SPI),
    (ETHER / IP() / UDP(sport=500, dport=9), Reason.IKE), (ETHER / IP() / UDP(sport=9, dport=4500), Reason.NATT),
    (ETHER / IP() / UDP(sport=9, dport=4500) / bytes(4), Reason.IKE),
    (ETHER / IP(ttl=1) / UDP(sport=1, dport=2), Reason.TTL_EXPIRED),
])
def test_bad_and_foreign_frames(sent, expected):
    made = gateway()
    assert reason(outcome(made, sent)) == expected
    assert isinstance(outcome(made, frame(udp("10.1.7.7", "10.2.0.10"))), Sent), "the next packet is unharmed"


@pytest.mark.parametrize("inner", [UDP(sport=1, dport=2) / b"x", TCP(), UDP(sport=4500, dport=9)])
def test_options_tags_and_padding_pass(inner):
    made = gateway(CABLE)
    packet = bytes(IP(src="10.1.7.7", dst="10.2.0.10", options=[IPOption(b"\x94\4\0\0")]) / inner)
    for head in (ETHER, ETHER / Dot1Q(vlan=9, prio=3)):
        plain = bytes(head / IP(packet))
        assert outcome(made, plain + bytes(9)) == Sent(Port.SERVER, plain), "as it is, without Ethernet padding"


def test_other_stations():
    own, other = bytes.fromhex("020000000101"), bytes.fromhex("020000000102")
    made = gateway(network_mac=own)
    for destination, port, foreign in (
            (own, Port.NETWORK, False), (b"\xff" * 6, Port.NETWORK, False), (bytes.fromhex("01005e000001"), Port.NETWORK, False),
            (other, Port.NETWORK, True), (other, Port.SERVER, False)):
        one = outcome(made, destination + bytes(sealed())[6:], port)
        assert (isinstance(one, Dropped) and reason(one) == Reason.OTHER_STATION) == foreign
    assert reason(outcome(made, other + bytes(8))) == Reason.OTHER_STATION  # Before what it carries is looked at.


def test_a_vlan_of_the_route():
    made = gateway(replace(ROUTED, vlan=0x3007))
    assert outcome(made, frame(udp("10.1.7.7", "10.2.0.10"))).frame[12:18] == b"\x81\x00\x30\x07\x08\x00"


def test_verdicts_of_rules():
    assert outcome(gateway(action=Action.DISCARD), frame(udp("1.2.3.4", "5.6.7.8"))) == Dropped(Reason.POLICY)
    assert reason(outcome(gateway(action=Action.PUNT), frame(udp("1.2.3.4", "5.6.7.8")))) == Reason.RULE
    punt = outcome(gateway(action=None), frame(udp("1.2.3.4", "5.6.7.8")), Port.SERVER)
    assert punt.header.reason == Reason.NO_RULE and punt.header.ingress == Port.SERVER and punt.header.dfe in (0, 1)
    made = gateway(action=None, rule_miss=Action.DISCARD)
    assert outcome(made, frame(udp("1.2.3.4", "5.6.7.8"))) == Dropped(Reason.POLICY)


def test_clear_sources():
    made = gateway()
    for dfe in range(2):
        asyncio.run(made.write_source(dfe, 0, None))
    one = frame(udp("10.1.7.7", "10.2.0.10"))
    assert outcome(made, one) == Dropped(Reason.POLICY)
    assert isinstance(made.inject(InjectMode.CLASSIFY, Port.NETWORK, 0, one)[0], Sent), "the control element has looked"


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
    one, = made.inject(InjectMode.CLASSIFY, Port.SERVER, 2, bytes(ETHER / ARP()))
    assert (one.header.ingress, one.header.depth) == (Port.SERVER, 2)


def test_counters_state_and_events():
    made = gateway(inbound=replace(INBOUND, soft=Lifetime(packets=1)), selectors=replace(ANY_IPV4, protocol=17))
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
        (Reason.SOFT_LIFETIME, False, 0x1000, 1), (Reason.REPLAY, True, 0x1000, 1)]
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
    """Any bytes, alone, behind an Ethernet header, behind an IP header; and a good packet with some bytes changed."""
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
