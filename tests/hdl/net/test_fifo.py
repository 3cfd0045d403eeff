# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.lib import memory

from spigate.hdl.contract.enums import Reason
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.streams import PAUSES, never, put, put_packets, simulate, take, take_packet


def lengths(beat_bytes):
    return [*range(1, 3 * beat_bytes + 2), 100, 64, 65]


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_keeps_packets_and_forgets_aborted_ones(beat_bytes, pauses):
    source_pause, sink_pause = PAUSES[pauses]()
    fifo = PacketFifo(beat_bytes=beat_bytes, depth=32)
    packets = [random.Random(n).randbytes(n) for n in lengths(beat_bytes)]
    kept = [packet for at, packet in enumerate(packets) if at % 3]

    async def source(ctx):
        await put_packets(ctx, fifo.i, packets, source_pause, abort=lambda at: at % 3 == 0)

    async def sink(ctx):
        assert [await take_packet(ctx, fifo.o, sink_pause) for _ in kept] == kept

    simulate(fifo, source, sink)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_shows_nothing_before_the_last_beat(beat_bytes):
    fifo = PacketFifo(beat_bytes=beat_bytes, depth=16)

    async def source(ctx):
        ctx.set(fifo.o.ready, 1)
        ctx.set(fifo.i.payload, {"data": 0, "last": 0, "abort": 0, "count": beat_bytes})
        ctx.set(fifo.i.valid, 1)
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(fifo.o.valid)
        ctx.set(fifo.i.payload, {"data": 0, "last": 1, "abort": 0, "count": 1})
        await ctx.tick()
        ctx.set(fifo.i.valid, 0)
        beats = 0
        for _ in range(30):
            beats += ctx.get(fifo.o.valid)
            await ctx.tick()
        assert beats == 11

    simulate(fifo, source)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_sustains_a_beat_a_clock(beat_bytes):
    fifo = PacketFifo(beat_bytes=beat_bytes, depth=64)
    packets = [bytes(beat_bytes * 4)] * 20

    async def source(ctx):
        await put_packets(ctx, fifo.i, packets)

    async def sink(ctx):
        ctx.set(fifo.o.ready, 1)
        await take(ctx, fifo.o)
        ctx.set(fifo.o.ready, 1)
        taken = 1
        for _ in range(4 * len(packets) - 1):
            await ctx.tick()
            taken += ctx.get(fifo.o.valid)
        assert taken >= 4 * len(packets) - 5

    simulate(fifo, source, sink)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_drops_whole_packets_for_want_of_room(beat_bytes):
    fifo = PacketFifo(beat_bytes=beat_bytes, depth=16, drop=True)
    # Three packets of 7 beats (4 beats wait behind the memory): the third does not fit. One of 40 beats never
    # does. One of 4 beats does.
    packets = [bytes([n]) * (beat_bytes * size) for n, size in enumerate([7, 7, 7, 40, 4])]
    reports = []

    async def source(ctx):
        await put_packets(ctx, fifo.i, packets)
        for expected in (packets[0], packets[1], packets[4]):
            assert await take_packet(ctx, fifo.o) == expected
        ctx.set(fifo.o.ready, 1)
        for _ in range(20):
            await ctx.tick()
            assert not ctx.get(fifo.o.valid)
        assert reports == [Reason.QUEUE_FULL] * 2
        assert ctx.get(fifo.free) == 16

    async def dropped(ctx):
        while True:
            reports.append(await take(ctx, fifo.dropped, never))

    simulate(fifo, source, background=[dropped])


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_refuses_a_depth_that_is_no_power_of_two():
    with pytest.raises(ValueError, match="depth must be a power of two, 16 or more, not 24"):
        PacketFifo(beat_bytes=8, depth=24)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_bytes_beyond_the_end_are_zero(beat_bytes):
    """Whatever comes with them: what stands there may be another packet's (audit row 10)."""
    fifo = PacketFifo(beat_bytes=beat_bytes, depth=16, trim=True)
    full = (1 << 8 * beat_bytes) - 1

    async def source(ctx):
        for count in range(1, beat_bytes + 1):
            await put(
                ctx,
                fifo.i,
                [
                    {"data": full, "last": last, "count": count if last else beat_bytes, "abort": 0}
                    for last in (0, 1)
                ],
            )

    async def sink(ctx):
        for count in range(1, beat_bytes + 1):
            assert (await take(ctx, fifo.o)).data == full
            assert (await take(ctx, fifo.o)).data == full & (1 << 8 * count) - 1

    simulate(fifo, source, sink)


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("drop", [False, True])
def test_nothing_of_a_packet_stays(beat_bytes, drop, monkeypatch):
    """Read, aborted, dropped, or there before a reset: it is gone ``depth`` + 2 clocks later
    (audit row 9).
    """
    depth, rng, made, init = 16, random.Random(beat_bytes), [], memory.Memory.__init__
    monkeypatch.setattr(
        memory.Memory,
        "__init__",
        lambda self, *args, **options: made.append(self) or init(self, *args, **options),
    )
    again, fifo = Signal(), PacketFifo(beat_bytes=beat_bytes, depth=depth, drop=drop)

    async def source(ctx):
        ctx.set(fifo.i.payload.data, (1 << 8 * beat_bytes) - 1)
        ctx.set(fifo.dropped.ready, 1)
        for turn in range(60):
            for _ in range(rng.randrange(1, 40)):
                for name, share in (("last", 0.3), ("abort", 0.5)):
                    ctx.set(fifo.i.payload[name], rng.random() < share)
                ctx.set(
                    fifo.i.payload.count,
                    rng.randrange(1, beat_bytes + 1) if ctx.get(fifo.i.payload.last) else beat_bytes,
                )
                ctx.set(fifo.i.valid, rng.random() < 0.7)
                ctx.set(fifo.o.ready, rng.random() < 0.4)
                await ctx.tick()
            if turn % 3 == 0:
                ctx.set(again, 1)
                ctx.set(fifo.i.valid, 0)
                await ctx.tick()
                ctx.set(again, 0)
            else:
                # The packet in the making ends, and what waits is read.
                ctx.set(fifo.o.ready, 1)
                ctx.set(fifo.i.payload, {"data": 1, "last": 1, "abort": turn % 2, "count": 1})
                ctx.set(fifo.i.valid, 1)
                taken = False
                while not taken:
                    _, _, taken = await ctx.tick().sample(fifo.i.ready)
                ctx.set(fifo.i.valid, 0)
                while ctx.get(fifo.free) != depth:
                    await ctx.tick()
            for _ in range(depth + 4):
                await ctx.tick()
            assert [ctx.get(made[0].data[row]) for row in range(depth)] == [0] * depth
            assert ctx.get(fifo.o.payload.data) == 0

    simulate(ResetInserter(again)(fifo), source)
