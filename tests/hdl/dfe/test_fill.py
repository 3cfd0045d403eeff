import random
from functools import partial

import pytest

from spigate.hdl.crypto.interface import Auth, Cipher
from spigate.hdl.dfe.fill import Fill
from spigate.hdl.dfe.job import ROWS
from spigate.hdl.net.descriptor import Reason, Table, Verdict
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.dfe.engine import StandIn
from tests.hdl.dfe.frames import Outcome, Packet, Sa, bypassed, decrypted, encrypted, frame, inbound, outbound, unchanged
from tests.hdl.dfe.tables import number, write_entry
from tests.hdl.streams import PAUSES, Pause, never, put, put_packets, simulate, take

SUITES = [(Cipher.AES_GCM, Auth.NONE), (Cipher.AES_CBC, Auth.HMAC_SHA256_128), (Cipher.AES_CBC, Auth.HMAC_SHA1_96),
          (Cipher.NULL, Auth.HMAC_SHA256_128)]


def make(beat_bytes: int = 8, lanes: int = 1, **engine) -> Fill:
    return Fill(beat_bytes=beat_bytes, lanes=lanes, sa_entries=16, sources=4, engine=partial(StandIn, **engine))


async def program(ctx, fill: Fill, sas: dict[int, Sa], sequences: dict[int, int] | None = None) -> None:
    for index, sa in sas.items():
        rows = sa.rows() | {10: 0, 11: 0, 12: number("sa", "replay", sequence=(sequences or {}).get(index, 0))}
        await write_entry(ctx, fill.tables, Table.SA, index, rows)


async def read(ctx, port, count: int, pause: Pause, **where: list[int]) -> list[int]:
    """``count`` reads on a BufferRead or RowRead ``port``: the n-th of where[name][n] for each of its inputs."""
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
    """Takes the next packet in order, as commit does, and compares it with what is expected. Gives the number of its lane."""
    lane = await take(ctx, fill.order, pause)
    port = fill.lane[lane]
    done = await take(ctx, port.done, pause)
    job = done.job
    assert (job.info.verdict, job.info.reason, done.ok) == (expected.verdict, expected.reason, expected.ok)
    unchanged_info = packet.info | {"verdict": expected.verdict, "reason": expected.reason}
    assert {name: getattr(job.info, name) for name in unchanged_info if name != "route"} == {
        name: value for name, value in unchanged_info.items() if name != "route"}
    assert {name: getattr(job, name) for name in expected.job} == expected.job
    beat_bytes = len(port.read.data) // 8
    for at, piece in expected.pieces.items():
        beats = -(-len(piece) // beat_bytes)
        words = await read(ctx, port.read, beats, pause, buffer=[done.buffer] * beats,
                           address=[at + beat_bytes // 4 * beat for beat in range(beats)])
        assert b"".join(word.to_bytes(beat_bytes, "little") for word in words)[:len(piece)] == piece
    if expected.verdict in (Verdict.DECRYPT, Verdict.ENCRYPT):
        rows = packet.sa.rows()
        assert (job.control.spi, job.tunnel.destination) == (packet.sa.spi, rows[1] >> 32 & 0xFFFF_FFFF)
        assert await read(ctx, port.rows, ROWS, pause, buffer=[done.buffer] * ROWS, row=range(ROWS)) == [
            rows[row] for row in range(ROWS)]
    ctx.set(port.release, 1)
    await ctx.tick()
    ctx.set(port.release, 0)
    return lane


def run(fill: Fill, cases: list[tuple[Packet, Outcome]], setup=None, pauses=(never, never), clocks: int = 200_000) -> list[int]:
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

    simulate(fill, start, infos, source, sink, clocks=clocks)
    return lanes


def mixture(sas: dict[int, Sa], seed: int, count: int) -> list[tuple[Packet, Outcome]]:
    source = random.Random(seed)
    sequences = dict.fromkeys(sas, 0)
    cases = []
    for at in range(count):
        options = {"tagged": source.random() < 0.5, "options": source.choice([0, 0, 1, 2, 10]), "padding": source.choice([0, 0, 1, 7, 30]),
                   "ingress": 1}
        index, kind = source.choice(list(sas)), source.random()
        sa, size = sas[index], source.choice([*range(0, 40), 100, 257])
        payload = source.randbytes(size)
        if kind < 0.1:
            packet = frame(payload, verdict=Verdict.PUNT, reason=Reason.IKE, **options)
            cases.append((packet, unchanged(packet, reason=Reason.IKE)))
        elif kind < 0.2:
            packet = frame(payload, verdict=Verdict.BYPASS, injected=1, **options)
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
            packet = inbound(sa, index, source.randbytes(max(block, size // block * block)), at + 1, damaged=at % 5 == 0, **options)
            cases.append((packet, decrypted(packet)))
    return cases


def every_kind_of_sa() -> dict[int, Sa]:
    return {at: Sa(spi=1000 + at, outbound=bool(at & 1), tunnel=bool(at & 2), cipher=SUITES[at >> 2][0], auth=SUITES[at >> 2][1], seed=at)
            for at in range(16)}


@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("word_bytes", [4, 8, 16])
def test_prepares_and_crypts_every_kind_of_packet(beat_bytes, word_bytes, pauses):
    fill = make(beat_bytes, word_bytes=word_bytes, pauses=pauses != "none")
    sas = every_kind_of_sa()
    run(fill, mixture(sas, 10 * beat_bytes + word_bytes, 60), lambda ctx: program(ctx, fill, sas), PAUSES[pauses]())
