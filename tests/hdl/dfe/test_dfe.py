# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Whole DFEs with the real engines, on Verilator, against ESP written on `cryptography`."""

import json
import random
from dataclasses import dataclass
from functools import cache

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from spigate.firmware_py.ipsec.sa import Lifetime
from spigate.firmware_py.tables import rows
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Auth, Port, Reason, Table
from spigate.hdl.crypto.interface import engine_named
from spigate.hdl.dfe.dfe import Dfe
from spigate.hdl.net.descriptor import DFE_COUNTERS, Egress, PacketInfo, Report, SaState, TableWrite, Verdict
from spigate.hdl.net.packet import Beat
from spigate.sim.build import build, verilog
from tests.hdl.dfe.esp import SUITES, Peer
from tests.hdl.dfe.lanes import ETHERNET, TAGGED, frame_info, number, trailer
from tests.hdl.streams import beats

pytestmark = pytest.mark.slow

SHAPES = {
    "16 bytes, 1 lane": (16, 1, "compact"),
    "8 bytes, 2 lanes": (8, 2, "compact"),
    "16 bytes, 4 lanes": (16, 4, "compact"),
    "16 bytes, 2 lanes, gcm": (16, 2, "gcm"),
    "8 bytes, 2 lanes, gcm-small": (8, 2, "gcm-small"),
    "8 bytes, 1 lane, cbc-sha256": (8, 1, "cbc-sha256"),
}
SA_ENTRIES = 64


@cache
def model(shape):
    beat_bytes, lanes, engine = SHAPES[shape]
    dfe = Dfe(
        beat_bytes=beat_bytes, lanes=lanes, sa_entries=SA_ENTRIES, sources=4, engine=engine_named(engine)
    )
    return build([verilog(dfe, "Dfe")], top="Dfe")


def bits(layout, value) -> int:
    return layout.const(value).as_value().value


def place(layout, name) -> int:
    return layout[name].offset


@dataclass
class Played:
    """What came out of a Dfe: frames with their egress, reports, states, and how long it took."""

    frames: list
    reports: list
    states: list
    counters: object
    clocks: int


def entry(index, peer, selectors=None):
    words = rows.sa(peer.sa, selectors)
    values = [
        sum(word << 32 * at for at, word in enumerate(words[first : first + 4]))
        for first in range(0, len(words), 4)
    ]
    return [
        {
            "table": Table.SA,
            "dfe": 2,
            "index": index,
            "row": row,
            "data": value,
            "first": row == 0,
            "last": row == len(values) - 1,
        }
        for row, value in enumerate(values)
    ]


def clear_source(index, address, mask):
    fields = {"address": number(address), "mask": number(mask), "ingress": 1 << Port.SERVER, "valid": 1}
    data = sum(word << 32 * at for at, word in enumerate(rdl.entry("source")["source"].pack(fields)))
    return [{"table": Table.SOURCE, "dfe": 2, "index": index, "row": 0, "data": data, "first": 1, "last": 1}]


def play(shape, tmp_path, tables, packets, requests=(), pause=0.0) -> Played:
    """Sends ``packets``, (frame, info), through a Dfe."""
    beat_bytes, *_ = SHAPES[shape]
    beat = Beat(beat_bytes)
    story = {
        "tables": [bits(TableWrite(), write) for write in tables],
        "beats": [bits(beat, value) for frame, _ in packets for value in beats(frame, beat_bytes)],
        "infos": [bits(PacketInfo(), info) for _, info in packets],
        "requests": list(requests),
        "last_bit": place(beat, "last"),
        "dropped_bit": place(Report(), "dropped"),
        "pause": pause,
        "clocks": 3000 * len(packets) + 20_000,
        "result": str(tmp_path / "result.json"),
    }
    (tmp_path / "story.json").write_text(json.dumps(story))
    model(shape).run("tests.hdl.dfe.bench_dfe", parameters={"story": str(tmp_path / "story.json")})
    result = json.loads((tmp_path / "result.json").read_text())
    frames, frame = [], bytearray()
    for value in result["beats"]:
        got = beat.from_bits(value)
        frame += got.data.to_bytes(beat_bytes, "little")[: got.count if got.last else beat_bytes]
        if got.last:
            frames.append(bytes(frame))
            frame.clear()
    assert not frame and len(frames) == len(result["egress"])
    egress = [Egress().from_bits(value) for value in result["egress"]]
    return Played(
        [(frame, Port(where.port), where.depth) for frame, where in zip(frames, egress, strict=True)],
        [
            (Reason(report.reason), report.sa, report.sequence)
            for report in map(Report().from_bits, result["reports"])
        ],
        [
            (state.sequence, state.window, state.bytes, state.packets)
            for state in map(SaState().from_bits, result["states"])
        ],
        DFE_COUNTERS.from_bits(result["counters"]),
        result["clocks"],
    )


def inner_packet(size, **fields):
    return bytes(
        IP(**({"src": "10.1.0.7", "dst": "10.2.0.9", "ttl": 64, "id": size} | fields))
        / UDP(sport=1000, dport=2000)
        / Raw(random.Random(size).randbytes(size))
    )


def knows(shape, suite) -> bool:
    """Whether the shape's engine declares the suite."""
    return set(suite.names) <= set(engine_named(SHAPES[shape][2]).algorithms.names)


def peers(shape, inbound, *, known=True, **more):
    """One SA of each suite and mode, by index: of those that the engine declares, or of all others."""
    seed = random.Random(1)
    return [
        Peer(suite, spi=0x1000 + 2 * at + tunnel, tunnel=bool(tunnel), inbound=inbound, seed=seed, **more)
        for at, suite in enumerate(suite for suite in SUITES if knows(shape, suite) == known)
        for tunnel in (0, 1)
    ]


def protect(peer, index, sequence, packet, *, text=None, damage=None, ethernet=ETHERNET, tail=b"", **info):
    """The frame that ``peer`` sends for ``packet``, and the CFE's descriptor."""
    ip = IP(packet)
    header_bytes = 4 * ip.ihl
    if text is None:
        text = (
            trailer(packet + tail, 4, peer.suite.block)
            if peer.tunnel
            else trailer(packet[header_bytes:], ip.proto, peer.suite.block)
        )
    body = bytearray(peer.seal(sequence, text, random.Random(sequence).randbytes(peer.suite.iv)))
    if damage is not None:
        body[damage] ^= 0x04
    outer = (
        IP(src="192.0.2.1", dst="198.51.100.2", proto=50, ttl=61, id=5)
        if peer.tunnel
        else IP(packet[:header_bytes])
    )
    outer.proto = 50
    del outer.len, outer.chksum
    outer = IP(bytes(outer / Raw(bytes(body))))
    facts = {
        "sa": index,
        "spi": peer.spi,
        "sequence": sequence,
        "ingress": Port.NETWORK,
        "route": {"egress": Port.SERVER},
    } | info
    return ethernet + bytes(outer), frame_info(outer, ethernet, verdict=Verdict.DECRYPT, **facts)


def clear(packet, index=0, *, verdict=Verdict.ENCRYPT, ethernet=ETHERNET, padding=b"", **info):
    facts = {"sa": index, "ingress": Port.SERVER, "route": {"egress": Port.NETWORK}} | info
    described = frame_info(IP(packet), ethernet, verdict=verdict, **facts)
    described["length"] += len(padding)
    return ethernet + packet + padding, described


@pytest.mark.parametrize("shape", SHAPES)
def test_decrypts_what_another_implementation_encrypted(shape, tmp_path):
    sas = peers(shape, inbound=True)
    packets, expected = [], []
    for at, size in enumerate([0, 1, 2, 3, 18, 40, 200, 1300]):
        for index, peer in enumerate(sas):
            packet = inner_packet(size)
            ethernet = TAGGED if (at + index) % 3 == 0 else ETHERNET
            packets.append(protect(peer, index, at + 1, packet, ethernet=ethernet))
            expected.append((ethernet + packet, Port.SERVER, 0))
    played = play(
        shape,
        tmp_path,
        [write for index, peer in enumerate(sas) for write in entry(index, peer)],
        packets,
        range(len(sas)),
    )
    assert played.frames == expected and not played.reports
    sizes = sum(28 + size for size in [0, 1, 2, 3, 18, 40, 200, 1300])
    assert played.states == [(8, 0xFF, sizes - (0 if peer.tunnel else 8 * 20), 8) for peer in sas]
    counters = played.counters
    assert (counters.packets_in, counters.packets_out, counters.decrypted, counters.punts) == (
        len(packets),
        len(packets),
        len(packets),
        0,
    )
    assert counters.bytes_in == sum(len(frame) - 2 for frame, _ in packets)
    assert counters.bytes_out == sum(len(frame) - 2 for frame, *_ in expected)
    assert 0 < counters.busy_cycles <= played.clocks


@pytest.mark.parametrize("shape", SHAPES)
def test_another_implementation_decrypts_what_it_encrypted(shape, tmp_path):
    sas = peers(shape, inbound=False, sequence=0x1_0000)
    packets = [
        clear(
            inner_packet(size),
            index,
            padding=bytes(size % 3),
            route={"egress": Port.NETWORK, "decrement_ttl": size & 1},
        )
        for size in (0, 1, 2, 3, 18, 41, 200, 1300)
        for index in range(len(sas))
    ]
    played = play(
        shape,
        tmp_path,
        [write for index, peer in enumerate(sas) for write in entry(index, peer)],
        packets,
        range(len(sas)),
    )
    assert len(played.frames) == len(packets) and not played.reports
    identifications = []
    for at, ((frame, port, _), (clear_frame, info)) in enumerate(zip(played.frames, packets, strict=True)):
        peer, sequence = sas[at % len(sas)], 0x1_0001 + at // len(sas)
        counted = IP(clear_frame[16 : 16 + info["total_length"]])
        counted.ttl -= info["route"]["decrement_ttl"]
        del counted.chksum
        packet = bytes(counted)
        outer = IP(frame[16:])
        number_seen, iv, text = peer.open(frame[36:])
        assert (number_seen, iv) == (sequence, peer.nonce(sequence))
        assert text == trailer(
            packet if peer.tunnel else packet[20:], 4 if peer.tunnel else 17, peer.suite.block
        )
        expected = (
            IP(src="192.0.2.1", dst="198.51.100.2", ttl=64, id=outer.id) if peer.tunnel else IP(packet[:20])
        )
        expected.proto, expected.len = 50, len(frame) - 16
        del expected.chksum
        identifications += [outer.id] if peer.tunnel else []
        assert (
            frame[:36] == ETHERNET + bytes(expected) and port == Port.NETWORK and outer.len == len(frame) - 16
        )
    # All tunnels between the same two addresses, with DF clear (RFC 6864 4.3).
    assert len(set(identifications)) == len(identifications) == len(packets) // 2
    sizes = sum(28 + size for size in (0, 1, 2, 3, 18, 41, 200, 1300))
    assert played.states == [(0x1_0008, 0, sizes - (0 if peer.tunnel else 8 * 20), 8) for peer in sas]


@pytest.mark.parametrize("pause", [0.0, 0.5], ids=["steady", "paused"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_wrong_is_dropped_with_its_reason(shape, pause, tmp_path):
    sas = peers(shape, inbound=True)
    packet = inner_packet(60)
    packets, frames, reports = [], [], []

    def expect(reason, *arguments, **more):
        frame, info = protect(*arguments, **more)
        packets.append((frame, info))
        if reason == Reason.NONE:
            frames.append((ETHERNET + packet, Port.SERVER, 0))
        else:
            reports.append((reason, info["sa"], info["sequence"]))

    for index, peer in enumerate(sas):
        block = peer.suite.block
        text = trailer(packet, 4, block) if peer.tunnel else trailer(packet[20:], 17, block)
        wrong_padding = text[:-2] + bytes([text[-2] + 1, text[-1]])
        long_padding = text[:-2] + bytes([255, text[-1]])
        expect(Reason.NONE, peer, index, 100, packet)
        expect(Reason.REPLAY, peer, index, 100, packet)
        for damage in (8, 20, -1, -peer.suite.icv, -peer.suite.icv - 1):
            expect(Reason.ICV, peer, index, 101, packet, damage=damage)
        expect(Reason.ICV, peer, index, 5000, packet, damage=-2)
        expect(Reason.NONE, peer, index, 101, packet)
        expect(Reason.NONE, peer, index, 38, packet)
        expect(Reason.REPLAY, peer, index, 37, packet)
        expect(Reason.REPLAY, peer, index, 0, packet)
        expect(Reason.PADDING, peer, index, 102, packet, text=wrong_padding)
        expect(Reason.PADDING, peer, index, 103, packet, text=long_padding)
        expect(Reason.DUMMY, peer, index, 104, packet, text=text[:-1] + b"\x3b")
        expect(Reason.REPLAY, peer, index, 104, packet)
        expect(Reason.REPLAY, peer, index, 38, packet)
        expect(Reason.NONE, peer, index, 105, packet, **({"tail": bytes(100)} if peer.tunnel else {}))
    played = play(
        shape,
        tmp_path,
        [write for index, peer in enumerate(sas) for write in entry(index, peer)],
        packets,
        pause=pause,
    )
    assert played.frames == frames
    assert played.reports == reports


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_at_once(shape, tmp_path):
    """In and out, clear, punted and dropped, in one order."""
    source = random.Random(7)
    inside, outside = peers(shape, inbound=True), peers(shape, inbound=False, hard=Lifetime(packets=3))
    tables = [write for index, peer in enumerate(inside + outside) for write in entry(index, peer)]
    tables += clear_source(0, "10.1.0.0", "255.255.0.0")
    packets, frames, reports = [], [], []
    sent, received = dict.fromkeys(range(len(outside)), 0), dict.fromkeys(range(len(inside)), 0)
    for _at in range(300):
        packet = inner_packet(source.choice([0, 7, 30, 100, 500]))
        index = source.randrange(len(inside))
        kind = source.choice(["in", "in", "in", "out", "clear", "forbidden", "absent", "drop"])
        if kind == "in":
            received[index] += 1
            packets.append(protect(inside[index], index, received[index], packet))
            frames.append((ETHERNET + packet, Port.SERVER, 0))
        elif kind == "out":
            sent[index] += 1
            packets.append(clear(packet, index + len(inside)))
            if sent[index] <= 3:
                frames.append((index, packet))
            else:
                reports.append((Reason.LIFETIME, index + len(inside), sent[index]))
        elif kind in ("clear", "forbidden"):
            packet = packet if kind == "clear" else inner_packet(30, src="10.7.0.1")
            packets.append(clear(packet, verdict=Verdict.BYPASS))
            if kind == "clear":
                frames.append((ETHERNET + packet, Port.NETWORK, 0))
            else:
                reports.append((Reason.POLICY, 0, 0))
        elif kind == "absent":
            packets.append(clear(packet, SA_ENTRIES - 1))
            frames.append(
                (
                    bytes([1, Reason.SA_ABSENT, 1, 2, SA_ENTRIES - 1, 0, 0, 0])
                    + b"\x4d"
                    + bytes(7)
                    + ETHERNET
                    + packet,
                    Port.CE,
                    0,
                )
            )
        else:
            packets.append(clear(packet, verdict=Verdict.DROP, reason=Reason.NO_DFE))
            reports.append((Reason.NO_DFE, 0, 0))
    played = play(shape, tmp_path, tables, packets, pause=0.2)
    assert played.reports == reports and len(played.frames) == len(frames)
    for got, expected in zip(played.frames, frames, strict=True):
        if isinstance(expected[0], int):
            peer, packet = outside[expected[0]], expected[1]
            assert peer.open(got[0][36:])[2] == trailer(
                packet if peer.tunnel else packet[20:], 4 if peer.tunnel else 17, peer.suite.block
            )
        else:
            assert got == expected
    counters = played.counters
    assert counters.packets_in == len(packets) == counters.packets_out + counters.punts + len(reports)
    assert counters.punts == sum(frame[0] != 0 for frame, *_ in played.frames)
    assert counters.packets_out == counters.decrypted + counters.encrypted + counters.bypassed


def with_control(writes, **fields):
    """Table writes of an SA, with other values in its control row."""
    control = rdl.entry("sa")["control"].fields
    data = writes[0]["data"]
    for name, value in fields.items():
        field = control[name]
        data &= ~((1 << field.width) - 1 << field.low)
        data |= value << field.low
    return [writes[0] | {"data": data}, *writes[1:]]


def undeclared(shape):
    """For each value of ``cipher``, ``key_size`` and ``auth`` that the engine does not declare, the fields
    of a control row that has it; the others are of a suite that it declares.
    """
    declared = engine_named(SHAPES[shape][2]).algorithms
    known = {
        "cipher": declared.ciphers,
        "key_size": declared.key_sizes,
        "auth": {Auth.NONE, *declared.auths},
    }
    control = rdl.entry("sa")["control"].fields
    return [
        {name: value}
        for name, values in known.items()
        for value in set(range(1 << control[name].width)) - set(values)
    ]


@pytest.mark.parametrize(
    "shape", ["16 bytes, 1 lane", "8 bytes, 2 lanes, gcm-small", "8 bytes, 1 lane, cbc-sha256"]
)
def test_an_sa_whose_algorithms_the_engine_lacks_is_as_none(shape, tmp_path):
    """Its packets are punted as they came, in both directions. Nothing leaves, and nothing waits."""
    tables, packets, expected = [], [], []
    inside, outside = peers(shape, inbound=True)[1], peers(shape, inbound=False)[1]
    for at, fields in enumerate(undeclared(shape)):
        for index, peer in ((2 * at, inside), (2 * at + 1, outside)):
            tables += with_control(entry(index, peer), **fields)
            packet = inner_packet(40 + at)
            sent = protect(peer, index, 1, packet) if peer is inside else clear(packet, index)
            packets.append(sent)
            expected.append((Reason.SA_ABSENT, index, sent[0], Port.CE))
    # One that it knows comes last: the engine is as it was.
    good = SA_ENTRIES - 2
    tables += entry(good, inside)
    packets.append(protect(inside, good, 1, inner_packet(40)))
    played = play(shape, tmp_path, tables, packets)
    assert len(expected) >= 22 and not played.reports
    assert played.frames[-1] == (ETHERNET + inner_packet(40), Port.SERVER, 0)
    assert [(frame[1], frame[4], frame[16:], port) for frame, port, _ in played.frames[:-1]] == expected


@pytest.mark.parametrize("shape", ["8 bytes, 2 lanes, gcm-small", "8 bytes, 1 lane, cbc-sha256"])
def test_suites_of_other_engines_are_as_none(shape, tmp_path):
    """With an SA's rows as the driver writes them where an engine knows it."""
    tables, packets, expected = [], [], []
    for inbound in (True, False):
        for peer in peers(shape, inbound=inbound, known=False):
            index = len(expected)
            tables += entry(index, peer)
            packets.append(
                protect(peer, index, 1, inner_packet(50)) if inbound else clear(inner_packet(50), index)
            )
            expected.append((Reason.SA_ABSENT, index, packets[-1][0], Port.CE))
    played = play(shape, tmp_path, tables, packets)
    assert len(expected) >= 32 and not played.reports
    assert [(frame[1], frame[4], frame[16:], port) for frame, port, _ in played.frames] == expected
