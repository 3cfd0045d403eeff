# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random
from dataclasses import replace

import pytest
from scapy.utils import checksum as scapy_checksum

from spigate.hdl.contract.enums import Auth, Cipher, Port, Reason, Table
from spigate.hdl.dfe.fill import Fill
from spigate.hdl.dfe.job import BUFFERS, ROWS, STORE_BYTES
from spigate.hdl.net.descriptor import Verdict
from spigate.hdl.net.packet import BEAT_BYTES, MAX_FRAME
from tests.hdl.dfe.engine import StandIn, stand_in
from tests.hdl.dfe.frames import (
    Outcome,
    Packet,
    Sa,
    bypassed,
    decrypted,
    encrypted,
    frame,
    inbound,
    outbound,
    unchanged,
)
from tests.hdl.dfe.tables import number, write_entry
from tests.hdl.streams import PAUSES, Pause, never, put, put_packets, simulate, take

pytestmark = pytest.mark.slow

SUITES = [
    (Cipher.AES_GCM, Auth.NONE),
    (Cipher.AES_CBC, Auth.HMAC_SHA256_128),
    (Cipher.AES_CBC, Auth.HMAC_SHA1_96),
    (Cipher.NULL, Auth.HMAC_SHA256_128),
]


def make(beat_bytes: int = 8, lanes: int = 1, **engine) -> Fill:
    return Fill(beat_bytes=beat_bytes, lanes=lanes, sa_entries=16, sources=4, engine=stand_in(**engine))


async def program(ctx, fill: Fill, sas: dict[int, Sa], sequences: dict[int, int] | None = None) -> None:
    for index, sa in sas.items():
        rows = sa.rows() | {
            10: 0,
            11: 0,
            12: number("sa", "replay", sequence=(sequences or {}).get(index, 0)),
        }
        await write_entry(ctx, fill.tables, Table.SA, index, rows)


async def read(ctx, port, count: int, pause: Pause, **where: list[int]) -> list[int]:
    """``count`` reads on a BufferRead or RowRead ``port``: the n-th of where[name][n] for each of its
    inputs.
    """
    asked, answers = 0, []
    while len(answers) < count:
        enable = asked < count and not pause()
        ctx.set(port.enable, enable)
        for name, values in where.items():
            ctx.set(getattr(port, name), values[min(asked, count - 1)])
        _, _, ready, valid, answer = await ctx.tick().sample(port.ready, port.valid, port.data)
        asked += enable and ready
        if valid:
            answers.append(answer)
    ctx.set(port.enable, 0)
    return answers


async def commit(ctx, fill: Fill, packet: Packet, expected: Outcome, pause: Pause = never) -> int:
    """Takes the next packet in order, as commit does, and compares it with what is expected. Gives the number
    of its lane.
    """
    lane = await take(ctx, fill.order, pause)
    port = fill.lane[lane]
    done = await take(ctx, port.done, pause)
    job = done.job
    assert (job.info.verdict, job.info.reason, done.ok) == (expected.verdict, expected.reason, expected.ok)
    unchanged_info = packet.info | {"verdict": expected.verdict, "reason": expected.reason}
    assert {
        name: getattr(job.info, name) for name in unchanged_info if name not in ("route", "generation")
    } == {name: value for name, value in unchanged_info.items() if name not in ("route", "generation")}
    assert {name: getattr(job, name) for name in expected.job} == expected.job
    beat_bytes = len(port.read.data) // 8
    for at, piece in expected.pieces.items():
        beats = -(-len(piece) // beat_bytes)
        words = await read(
            ctx,
            port.read,
            beats,
            pause,
            buffer=[done.buffer] * beats,
            address=[at + beat_bytes // 4 * beat for beat in range(beats)],
        )
        assert b"".join(word.to_bytes(beat_bytes, "little") for word in words)[: len(piece)] == piece
    if expected.verdict in (Verdict.DECRYPT, Verdict.ENCRYPT):
        rows = packet.sa.rows()
        assert (job.control.spi, job.tunnel.destination) == (packet.sa.spi, rows[1] >> 32 & 0xFFFF_FFFF)
        assert await read(ctx, port.rows, ROWS, pause, buffer=[done.buffer] * ROWS, row=range(ROWS)) == [
            rows[row] for row in range(ROWS)
        ]
    ctx.set(port.release, 1)
    await ctx.tick()
    ctx.set(port.release, 0)
    return lane


def run(
    fill: Fill, cases: list[tuple[Packet, Outcome]], setup=None, pauses=(never, never), background=()
) -> list[int]:
    """Sends the packets through ``fill`` and compares. ``setup(ctx)`` comes first. Gives the lanes used."""
    source_pause, sink_pause = pauses
    lanes, started = [], []

    async def start(ctx):
        if setup:
            await setup(ctx)
        started.append(True)

    async def begin(ctx):
        while not started:
            await ctx.tick()

    async def infos(ctx):
        await begin(ctx)
        await put(ctx, fill.info, [packet.info for packet, _ in cases], source_pause)

    async def source(ctx):
        await begin(ctx)
        await put_packets(ctx, fill.i, [packet.frame for packet, _ in cases], source_pause)

    async def sink(ctx):
        for packet, expected in cases:
            lanes.append(await commit(ctx, fill, packet, expected, sink_pause))

    simulate(fill, start, infos, source, sink, background=background)
    return lanes


def mixture(sas: dict[int, Sa], seed: int, count: int) -> list[tuple[Packet, Outcome]]:
    source = random.Random(seed)
    sequences = dict.fromkeys(sas, 0)
    cases = []
    for at in range(count):
        options = {
            "tagged": source.random() < 0.5,
            "options": source.choice([0, 0, 1, 2, 10]),
            "padding": source.choice([0, 0, 1, 7, 30]),
            "ingress": 1,
        }
        index, kind = source.choice(list(sas)), source.random()
        sa, size = sas[index], source.choice([*range(0, 40), 100, 257])
        payload = source.randbytes(size)
        if kind < 0.1:
            packet = frame(
                payload,
                verdict=Verdict.BYPASS,
                ttl=1,
                route={"decrement_ttl": 1},
                **options | {"ingress": Port.RECIRCULATE},
            )
            cases.append((packet, unchanged(packet, reason=Reason.TTL_EXPIRED)))
        elif kind < 0.2:
            packet = frame(payload, verdict=Verdict.BYPASS, **options | {"ingress": Port.RECIRCULATE})
            cases.append((packet, bypassed(packet)))
        elif kind < 0.25:
            packet = frame(payload, verdict=Verdict.DROP, reason=Reason.POLICY, **options)
            cases.append((packet, Outcome(Verdict.DROP, Reason.POLICY)))
        elif sa.outbound:
            sequences[index] += 1
            packet = outbound(sa, index, payload, route={"decrement_ttl": at % 2}, **options)
            cases.append((packet, encrypted(packet, sequences[index], at % 2)))
        else:
            block = 16 if sa.cipher == Cipher.AES_CBC else 4
            packet = inbound(
                sa,
                index,
                source.randbytes(max(block, size // block * block)),
                at + 1,
                damaged=at % 5 == 0,
                **options,
            )
            cases.append((packet, decrypted(packet)))
    return cases


def every_kind_of_sa() -> dict[int, Sa]:
    return {
        at: Sa(
            spi=1000 + at,
            outbound=bool(at & 1),
            tunnel=bool(at & 2),
            cipher=SUITES[at >> 2][0],
            auth=SUITES[at >> 2][1],
            seed=at,
        )
        for at in range(16)
    }


@pytest.mark.parametrize("pauses", ["none", "both"])
@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("word_bytes", [4, 8, 16])
def test_prepares_and_crypts_every_kind_of_packet(beat_bytes, word_bytes, pauses):
    fill = make(beat_bytes, word_bytes=word_bytes, pauses=pauses != "none")
    sas = every_kind_of_sa()
    run(
        fill,
        mixture(sas, 10 * beat_bytes + word_bytes, 30),
        lambda ctx: program(ctx, fill, sas),
        PAUSES[pauses](),
    )


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_pads_every_length(beat_bytes):
    fill = make(beat_bytes, word_bytes=16)
    sas = {
        at: Sa(spi=300 + at, outbound=True, tunnel=False, cipher=cipher, auth=auth, seed=at)
        for at, (cipher, auth) in enumerate(SUITES)
    }
    cases, sequences = [], dict.fromkeys(sas, 0)
    for size in range(34):
        for index, sa in sas.items():
            if sa.cipher == Cipher.AES_CBC or size < 10:
                packet = outbound(sa, index, bytes(range(100, 100 + size)), tagged=size & 1, protocol=6)
                sequences[index] += 1
                cases.append((packet, encrypted(packet, sequences[index])))
    run(fill, cases, lambda ctx: program(ctx, fill, sas))


@pytest.mark.parametrize("lanes", [2, 3])
def test_lanes_share_the_packets_of_an_sa_in_order(lanes):
    fill = make(8, lanes=lanes, pauses=True)
    sas = {3: Sa(spi=4711, outbound=True, seed=1)}
    source = random.Random(lanes)
    packets = [outbound(sas[3], 3, source.randbytes(source.choice([1, 20, 200]))) for _ in range(24)]
    used = run(
        fill,
        [(packet, encrypted(packet, at + 1)) for at, packet in enumerate(packets)],
        lambda ctx: program(ctx, fill, sas),
        (never, PAUSES["sink"]()[1]),
    )
    assert min(used.count(lane) for lane in range(lanes)) >= 24 // lanes // 2


def test_the_longest_frame_fits():
    fill = make(8, word_bytes=16)
    sas = {
        0: Sa(spi=300, outbound=True, cipher=Cipher.AES_CBC, auth=Auth.HMAC_SHA256_128, seed=1),
        1: Sa(spi=301, seed=2),
    }
    longest = random.Random(1).randbytes(MAX_FRAME - 20 - 20)
    out = outbound(sas[0], 0, longest, tagged=True)
    into = inbound(sas[1], 1, longest[: MAX_FRAME - 16 - 20 - 8 - 8 - 16])
    assert len(out.frame) == len(into.frame) == MAX_FRAME
    run(fill, [(out, encrypted(out, 1)), (into, decrypted(into))], lambda ctx: program(ctx, fill, sas))


def test_only_known_sources_speak_in_the_clear():
    fill = make(8)
    entries = {
        0: {"address": 0x0A000100, "mask": 0xFFFFFF00, "ingress": 2, "valid": 1},
        3: {"address": 0x0A000001, "mask": 0xFFFFFFFF, "ingress": 9, "valid": 1},
        1: {"address": 0, "mask": 0, "ingress": 15, "valid": 0},
    }

    async def setup(ctx):
        for index, entry in entries.items():
            await write_entry(ctx, fill.tables, Table.SOURCE, index, {0: number("source", "source", **entry)})

    cases = []
    for source, ingress, extra, allowed in (
        ("10.0.1.7", 1, {}, True),
        ("10.0.1.7", 0, {}, False),
        ("10.0.2.7", 1, {}, False),
        ("10.0.0.1", 0, {}, True),
        ("10.0.0.1", 3, {}, True),
        ("10.0.0.1", 1, {}, False),
        ("10.0.0.2", 0, {}, False),
        # What the control element put together from fragments, and what came to be this deep, came in the
        # clear all the same.
        ("10.0.0.2", 0, {"injected": 1}, False),
        ("10.0.0.2", 1, {"injected": 1, "depth": 1}, False),
        ("10.0.0.2", 1, {"depth": 2}, False),
        ("10.0.0.2", 3, {"depth": 1}, True),
        ("10.0.0.2", 3, {}, True),
    ):
        packet = frame(b"clear text", verdict=Verdict.BYPASS, source=source, ingress=ingress, **extra)
        cases.append((packet, bypassed(packet) if allowed else Outcome(Verdict.DROP, Reason.POLICY)))
    run(fill, cases, setup)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_counts_time_to_live_down_and_mends_the_checksum(beat_bytes):
    fill = make(beat_bytes)
    sas = {0: Sa(spi=300, outbound=True, seed=1), 1: Sa(spi=301, outbound=True, tunnel=False, seed=2)}
    cases, sequences = [], {0: 0, 1: 0}
    for ttl in (0, 1, 2, 255):
        for tagged in (0, 1):
            packet = frame(
                b"abc",
                verdict=Verdict.BYPASS,
                ingress=Port.RECIRCULATE,
                ttl=ttl,
                tagged=tagged,
                route={"decrement_ttl": 1},
            )
            cases.append(
                (packet, bypassed(packet, True) if ttl > 1 else unchanged(packet, reason=Reason.TTL_EXPIRED))
            )
            packet = frame(b"abc", verdict=Verdict.BYPASS, ingress=Port.RECIRCULATE, ttl=ttl, tagged=tagged)
            cases.append((packet, bypassed(packet)))
            for index, sa in sas.items():
                packet = outbound(sa, index, b"abc", ttl=ttl, tagged=tagged, route={"decrement_ttl": 1})
                if ttl > 1:
                    sequences[index] += 1
                    cases.append((packet, encrypted(packet, sequences[index], True)))
                else:
                    cases.append((packet, unchanged(packet, reason=Reason.TTL_EXPIRED)))
    # Checksums around the carry: the identification field makes the sum what it shall be.
    for checksum in (0xFEFE, 0xFEFF, 0xFF00, 0xFFFE, 0x0000, 0x00FF):
        packet = with_checksum(
            frame(b"", verdict=Verdict.BYPASS, ingress=Port.RECIRCULATE, route={"decrement_ttl": 1}), checksum
        )
        cases.append((packet, bypassed(packet, True)))
    run(fill, cases, lambda ctx: program(ctx, fill, sas))


def with_checksum(packet: Packet, checksum: int) -> Packet:
    """``packet`` with an IP identification for which scapy finds ``checksum``."""
    at = packet.ip_at
    content = bytearray(packet.frame)
    for identification in range(1 << 16):
        content[at + 4 : at + 6] = identification.to_bytes(2, "big")
        content[at + 10 : at + 12] = bytes(2)
        if scapy_checksum(bytes(content[at : at + 20])) == checksum:
            content[at + 10 : at + 12] = checksum.to_bytes(2, "big")
            return replace(packet, frame=bytes(content))
    raise ValueError(f"No identification gives the checksum {checksum:#06x}")


def test_punts_unchanged_what_an_outbound_sa_cannot_take():
    fill = make(8)
    sas = {
        0: Sa(spi=300, outbound=True, mtu=60, seed=1),
        1: Sa(spi=301, outbound=True, valid=False, seed=2),
        2: Sa(spi=302, seed=3),
        4: Sa(spi=303, outbound=True, seed=4),
    }
    last = (1 << 32) - 1
    absent, cases = [1, 2, 3, 16, 20, 1 << 15], []
    for index in absent:
        packet = outbound(sas.get(index, sas[0]), index, b"payload", route={"decrement_ttl": 1}, padding=9)
        cases.append((packet, unchanged(packet, reason=Reason.SA_ABSENT)))
    for at, size in enumerate((39, 40, 41, 1000)):
        packet = outbound(sas[0], 0, bytes(size), route={"decrement_ttl": 1})
        cases.append(
            (
                packet,
                encrypted(packet, at + 1, True) if size <= 40 else unchanged(packet, reason=Reason.TOO_BIG),
            )
        )
    for sequence in (last - 1, last, last + 1, last + 1):
        packet = outbound(sas[4], 4, b"last ones")
        cases.append(
            (
                packet,
                encrypted(packet, sequence)
                if sequence <= last
                else Outcome(Verdict.DROP, Reason.SEQUENCE_OVERFLOW),
            )
        )
    answers = []

    async def setup(ctx):
        await program(ctx, fill, sas, {4: last - 2})

    async def states(ctx):
        while True:
            await put(ctx, fill.sequence_request, [4])
            answers.append(await take(ctx, fill.sequence))

    run(fill, cases, setup, background=[states])
    assert sorted(set(answers)) == answers[:1] + [last - 2, last - 1, last] and answers == sorted(answers)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_packet_of_another_generation_finds_no_sa(lanes):
    """Audit `race`: its place has another SA since it was classified. In both directions, whichever bit
    differs.
    """
    fill = make(8, lanes=lanes)
    sas = {0: Sa(spi=300, seed=1, generation=0xA5), 1: Sa(spi=301, outbound=True, seed=2, generation=0x5A)}
    cases, sequence = [], 0
    for other in (None, *range(8), None):
        into, out = inbound(sas[0], 0, bytes(16), len(cases) + 1), outbound(sas[1], 1, b"text")
        if other is None:
            sequence += 1
            cases += [(into, decrypted(into)), (out, encrypted(out, sequence))]
            continue
        for packet in (into, out):
            packet = replace(
                packet, info=packet.info | {"generation": packet.info["generation"] ^ 1 << other}
            )
            cases.append((packet, unchanged(packet, reason=Reason.SA_ABSENT)))
    run(fill, cases, lambda ctx: program(ctx, fill, sas))


@pytest.mark.parametrize("cipher,auth", SUITES)
def test_takes_inbound_text_of_whole_blocks_only(cipher, auth):
    fill = make(8)
    sas = {
        0: Sa(spi=300, cipher=cipher, auth=auth, seed=1),
        1: Sa(spi=301, outbound=True, seed=2),
        2: Sa(spi=302, valid=False, seed=3),
    }
    block = 16 if cipher == Cipher.AES_CBC else 4
    cases = []
    for index, spi in ((0, 301), (1, 301), (2, 302), (3, 300), (0, 300 | 1 << 31)):
        packet = inbound(Sa(spi=spi, cipher=cipher, auth=auth), index, bytes(16))
        cases.append((packet, unchanged(packet, reason=Reason.SA_ABSENT)))
    for size in range(36):
        packet = inbound(sas[0], 0, bytes(size), size + 1, padding=size % 5)
        whole = size and size % block == 0
        cases.append((packet, decrypted(packet) if whole else Outcome(Verdict.DROP, Reason.MALFORMED)))
    for size in (1, 8, 11, 12, 20):
        packet = frame(bytes(size), protocol=50, verdict=Verdict.DECRYPT, sa=0, spi=300)
        cases.append((packet, Outcome(Verdict.DROP, Reason.MALFORMED)))
    run(fill, cases, lambda ctx: program(ctx, fill, sas))


def test_a_new_entry_counts_as_a_whole_while_packets_run():
    fill = make(8, lanes=2, word_bytes=16)
    versions = [Sa(spi=300, outbound=True, seed=seed) for seed in range(1, 9)]
    sent = [outbound(versions[0], 5, bytes([at]) * 20) for at in range(60)]
    seen = []

    async def control(ctx):
        for sa in versions:
            await write_entry(ctx, fill.tables, Table.SA, 5, sa.rows())
            await ctx.tick().repeat(80)

    async def infos(ctx):
        await ctx.tick().repeat(30)
        await put(ctx, fill.info, [packet.info for packet in sent])

    async def source(ctx):
        await put_packets(ctx, fill.i, [packet.frame for packet in sent])

    async def sink(ctx):
        for at, packet in enumerate(sent):
            port = fill.lane[await take(ctx, fill.order)]
            done = await take(ctx, port.done)
            assert (done.job.info.verdict, done.job.sequence) == (Verdict.ENCRYPT, at + 1)
            (row,) = await read(ctx, port.rows, 1, never, buffer=[done.buffer], row=[9])
            sa = next(sa for sa in versions if sa.rows()[9] == row)
            expected = encrypted(replace(packet, sa=sa), at + 1).pieces[10]
            reads = -(-len(expected) // STORE_BYTES)
            beats = await read(
                ctx,
                port.read,
                reads,
                never,
                buffer=[done.buffer] * reads,
                address=range(10, 10 + STORE_BYTES // 4 * reads, STORE_BYTES // 4),
            )
            assert (
                b"".join(beat.to_bytes(STORE_BYTES, "little") for beat in beats)[: len(expected)] == expected
            )
            seen.append(sa.seed)
            ctx.set(port.release, 1)
            await ctx.tick()
            ctx.set(port.release, 0)
        assert seen == sorted(seen) and len(set(seen)) > 4

    simulate(fill, control, infos, source, sink)


def test_the_queue_says_what_fits():
    fill = make(8)
    packet = frame(bytes(200), verdict=Verdict.BYPASS, ingress=Port.RECIRCULATE)
    beats = -(-len(packet.frame) // 8)

    async def run(ctx):
        assert ctx.get(fill.free) == 512
        for _ in range(BUFFERS + 4):  # Some in the buffers, one decided, the others in the queue.
            await put_packets(ctx, fill.i, [packet.frame])
            await put(ctx, fill.info, [packet.info])
        await ctx.tick().repeat(100)
        waiting = 512 - ctx.get(fill.free)
        assert 3 * beats <= waiting + 4 <= 4 * beats + 4, "four beats wait behind the queue's memory"
        await put(ctx, fill.info, [packet.info] * 13)
        await ctx.tick()
        assert ctx.get(fill.free) == 0, "no room for another descriptor"

    simulate(fill, run)


def clocks_a_packet(fill: Fill, packets: list[Packet], setup) -> float:
    """Clocks from packet to packet in steady state, where commit takes at once what is done."""
    times, clock, started = [], [0], []

    async def source(ctx):
        await setup(ctx)
        started.append(True)
        await put_packets(ctx, fill.i, [packet.frame for packet in packets])

    async def infos(ctx):
        while not started:
            await ctx.tick()
        await put(ctx, fill.info, [packet.info for packet in packets])

    async def ticks(ctx):
        while True:
            await ctx.tick()
            clock[0] += 1

    async def sink(ctx):
        for _ in packets:
            port = fill.lane[await take(ctx, fill.order)]
            await take(ctx, port.done)
            times.append(clock[0])
            ctx.set(port.release, 1)
            await ctx.tick()
            ctx.set(port.release, 0)

    simulate(fill, source, infos, sink, background=[ticks])
    begin = len(times) // 3
    return (times[-1] - times[begin]) / (len(times) - 1 - begin)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_a_packet_costs_few_clocks(beat_bytes):
    sas = {0: Sa(spi=300, seed=1), 1: Sa(spi=301, outbound=True, seed=2)}
    small = {
        "bypass": [frame(bytes(18), verdict=Verdict.BYPASS, ingress=Port.RECIRCULATE)] * 20,
        "decrypt": [inbound(sas[0], 0, bytes(20), at) for at in range(20)],
        "encrypt": [outbound(sas[1], 1, bytes(18))] * 20,
    }
    large = [frame(bytes(400), verdict=Verdict.BYPASS, ingress=Port.RECIRCULATE)] * 12
    for name, packets, limit in (
        ("bypass", small["bypass"], 14),
        ("large", large, -(-len(large[0].frame) // beat_bytes) + 4),
        ("decrypt", small["decrypt"], 24),
        ("encrypt", small["encrypt"], 24),
    ):
        fill = make(beat_bytes, word_bytes=16)
        clocks = clocks_a_packet(fill, packets, lambda ctx, fill=fill: program(ctx, fill, sas))
        assert clocks <= limit, name


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
@pytest.mark.parametrize(
    "change,message",
    [
        ({"beat_bytes": 4}, "beat_bytes must be one of .* not 4"),
        ({"lanes": 0}, "lanes must be 1 to 8, not 0"),
        ({"sa_entries": 100}, "sa_entries must be a power of two, 2 or more, not 100"),
        ({"sources": 0}, "sources must be 1 or more, not 0"),
    ],
)
def test_refuses_what_it_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        Fill(**({"beat_bytes": 8, "lanes": 1, "sa_entries": 16, "sources": 4, "engine": StandIn} | change))
