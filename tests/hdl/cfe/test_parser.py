# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from spigate.hdl.cfe.parser import Parser
from spigate.hdl.contract.constants import MAX_FRAME
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.net.descriptor import Verdict
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.cfe.bench import ANY_VLAN
from tests.hdl.cfe.frames import classify
from tests.hdl.cfe.traffic import ETHER, frames, ip, mutated
from tests.hdl.streams import PAUSES, beats, put, put_packets, simulate, take


def check(frame, parsed, name="", **where):
    verdict, reason, facts = classify(frame, **where)
    info = parsed.info
    got = (Verdict(info.verdict), Reason(info.reason)) if parsed.decided else (None, Reason.NONE)
    assert got == (verdict, reason), (name, frame.hex())
    assert parsed.own == facts.pop("own", 0), (name, frame.hex())
    ports = facts.pop("ports", None)
    if verdict is None:  # of what is decided nobody looks at the ports
        assert parsed.ports == (ports is not None), (name, frame.hex())
    if verdict is None and parsed.ports:
        assert (info.spi >> 16, info.spi & 0xFFFF) == ports, (name, frame.hex())
    for field, value in facts.items():
        assert getattr(info, field) == value, (name, field, frame.hex())


def parse(wire, beat_bytes, pauses="none", origin=None, control=None):
    parser = Parser(beat_bytes=beat_bytes)
    source_pause, sink_pause = PAUSES[pauses]()
    results = []

    async def source(ctx):
        if origin:
            ctx.set(parser.origin, origin)
        ctx.set(parser.control, {"network_vlan": ANY_VLAN, "server_vlan": ANY_VLAN} | (control or {}))
        await put_packets(ctx, parser.i, [b"\0\0" + frame for frame in wire], source_pause)

    async def sink(ctx):
        for _ in wire:
            results.append(await take(ctx, parser.o, sink_pause))

    simulate(parser, source, sink)
    return results


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_scapys_frames(beat_bytes, pauses):
    cases = list(frames())
    results = parse([frame for _, frame, _ in cases], beat_bytes, pauses)
    for (name, frame, reason), parsed in zip(cases, results, strict=True):
        assert parsed.decided == (reason is not None), name
        assert parsed.info.reason == (reason or 0), name
        check(frame, parsed, name)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_every_length_of_truncated_frames(beat_bytes):
    names = [
        "esp",
        "esp, all options, tagged",
        "nat-t, tagged",
        "ike, marker, options",
        "udp",
        "ipv6, ike",
        "ipv6, marker, tagged",
        "ipv6, neighbour",
        "arp, tagged",
    ]
    cut = [frame[:size] for name, frame, _ in frames() if name in names for size in range(1, len(frame) + 1)]
    for frame, parsed in zip(cut, parse(cut, beat_bytes), strict=True):
        check(frame, parsed)


@pytest.mark.slow
@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_mutated_frames(beat_bytes):
    rng = random.Random(beat_bytes)
    cases = [frame for _, frame, _ in frames()]
    broken = [mutated(rng, cases) for _ in range(800)]
    assert len({classify(frame)[1] for frame in broken}) >= 8
    for frame, parsed in zip(broken, parse(broken, beat_bytes), strict=True):
        check(frame, parsed)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_long_frames(beat_bytes):
    long = [
        bytes(ETHER / ip() / ESP(spi=0x1000, seq=1, data=bytes(size))) for size in (1400, MAX_FRAME - 44, 3)
    ]
    for frame, parsed in zip(long, parse(long, beat_bytes), strict=True):
        check(frame, parsed)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_origin(beat_bytes):
    frame = bytes(ETHER / ARP())
    (parsed,) = parse(
        [frame], beat_bytes, origin={"port": Port.SERVER, "depth": 2, "injected": 1, "direct": 1}
    )
    info = parsed.info
    assert parsed.decided and info.verdict == Verdict.DIRECT
    assert (info.ingress, info.depth, info.injected) == (Port.SERVER, 2, 1)


NETWORK_MAC, SERVER_MAC = 0x02_11_22_33_44_55, 0x02_66_77_88_99_AA
STATIONS = {
    "network_mac_low": NETWORK_MAC & 0xFFFFFFFF,
    "network_mac_high": NETWORK_MAC >> 32,
    "server_mac_low": SERVER_MAC & 0xFFFFFFFF,
    "server_mac_high": SERVER_MAC >> 32,
}


def addressed(destination):
    return destination.to_bytes(6) + bytes(ETHER / ip() / ESP(spi=0x1000, seq=1, data=bytes(22)))[6:]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize(
    ("port", "own", "other"),
    [(Port.NETWORK, NETWORK_MAC, SERVER_MAC), (Port.SERVER, SERVER_MAC, NETWORK_MAC)],
)
def test_other_stations(beat_bytes, port, own, other):
    broadcast, group = (1 << 48) - 1, 0x01_00_5E_00_00_01
    strangers = [own ^ 1 << bit for bit in range(48) if bit != 40] + [other]  # Bit 40 makes it a group's.
    cases = [addressed(station) for station in [own, broadcast, group, *strangers]]
    # Too short to have an IP header, but for somebody else all the same.
    short = [own.to_bytes(6) + bytes(8), other.to_bytes(6) + bytes(8)]
    for ports in range(4):
        results = parse(
            cases + short, beat_bytes, origin={"port": port}, control={"station_filter": ports, **STATIONS}
        )
        filtered = ports >> int(port) & 1
        for at, (frame, parsed) in enumerate(zip(cases, results, strict=False)):
            if at < 3 or not filtered:
                check(frame, parsed)
            else:
                assert parsed.decided, frame.hex()
                assert (parsed.info.verdict, parsed.info.reason) == (Verdict.DROP, Reason.OTHER_STATION), (
                    frame.hex()
                )
        reasons = [parsed.info.reason for parsed in results[-2:]]
        assert (reasons[0] == reasons[1]) != bool(filtered) and reasons[0] != Reason.OTHER_STATION


@pytest.mark.parametrize(
    "origin", [{"port": Port.RECIRCULATE}, {"port": Port.NETWORK, "injected": 1}, {"port": Port.CE}]
)
def test_only_ports_filter_stations(origin):
    frame = addressed(SERVER_MAC)
    (parsed,) = parse([frame], 16, origin=origin, control={"station_filter": 3, **STATIONS})
    check(frame, parsed)


ADDRESSES = (
    "0.0.0.0",
    "0.255.0.1",
    "1.0.0.0",
    "10.0.0.1",
    "126.255.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "128.0.0.0",
    "223.255.255.255",
    "224.0.0.0",
    "224.0.0.255",
    "224.0.1.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.254",
    "255.255.255.255",
)


@pytest.mark.slow
@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize(
    "origin",
    [{"port": Port.NETWORK}, {"port": Port.SERVER, "injected": 1}, {"port": Port.RECIRCULATE, "depth": 1}],
)
def test_martians(beat_bytes, origin):
    """RFC 1812 5.3.7 and 5.3.4, on either side of every limit, in frames for one station, for all, and for
    a group; fragments too.
    """
    stations = ("02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01")
    cases = [
        bytes(
            Ether(src="02:00:00:00:00:02", dst=station)
            / IP(src=source, dst=destination, frag=at % 2)
            / UDP(sport=1, dport=2)
        )
        for station in stations
        for at, (source, destination) in enumerate((one, other) for one in ADDRESSES for other in ADDRESSES)
    ]
    link = origin["port"] != Port.RECIRCULATE
    found = [parsed.info.reason for parsed in parse(cases, beat_bytes, origin=origin)]
    assert found == [classify(frame, link=link)[1] for frame in cases]
    assert found.count(Reason.MARTIAN) > len(cases) / 2 and found.count(Reason.NONE) > 20


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("port", [Port.NETWORK, Port.SERVER])
def test_vlans(beat_bytes, port):
    """A port takes untagged frames and those with identifier 0 alone, or those of its VLAN alone; whatever
    they carry.
    """
    heads = [
        ETHER,
        *(ETHER / Dot1Q(vlan=vlan, prio=prio) for vlan in (0, 1, 2, 0x800, 0xFFE, 0xFFF) for prio in (0, 7)),
    ]
    cases = [
        bytes(head / payload) for head in heads for payload in (ip() / UDP(sport=1, dport=2), ARP(), IPv6())
    ]
    name, other = ("network_vlan", "server_vlan") if port == Port.NETWORK else ("server_vlan", "network_vlan")
    for vlan in (0, 2, 0x800, 0xFFE):
        for origin in ({"port": port}, {"port": port, "injected": 1}, {"port": Port.RECIRCULATE}):
            results = parse(cases, beat_bytes, origin=origin, control={name: vlan, other: 77})
            outside = origin == {"port": port}
            assert [parsed.info.reason for parsed in results] == [
                classify(frame, vlan=vlan if outside else None)[1] for frame in cases
            ]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_which_sa_it_came_out_of_goes_with_it(beat_bytes):
    out_of = {"sa": 0xA55A, "dfe": 6, "valid": 1, "generation": 0xC3}
    (parsed,) = parse(
        [bytes(ETHER / ip() / UDP())],
        beat_bytes,
        origin={"port": Port.RECIRCULATE, "depth": 1, "out_of": out_of},
    )
    assert {name: getattr(parsed.info.out_of, name) for name in out_of} == out_of


def test_clocks_a_short_frame():
    """Eight clocks or fewer for a 64-byte frame at 16 bytes a beat."""
    parser = Parser(beat_bytes=16)
    frame = b"\0\0" + bytes(ETHER / ip() / ESP(spi=0x1000, seq=1, data=bytes(22)))
    assert len(frame) == 66
    count = 30

    async def source(ctx):
        await put(ctx, parser.i, beats(frame, 16) * count)

    async def sink(ctx):
        ctx.set(parser.o.ready, 1)
        taken = clocks = 0
        while taken < count:
            _, _, valid = await ctx.tick().sample(parser.o.valid)
            clocks += 1
            taken += valid
        assert clocks <= 8 * count + 10

    simulate(parser, source, sink)
