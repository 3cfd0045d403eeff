# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.net.align import AddAlignment, RemoveAlignment
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.streams import PAUSES, put_packets, simulate, take, take_packet


def frames(beat_bytes, shortest):
    source = random.Random(beat_bytes)
    lengths = [*range(shortest, 4 * beat_bytes + 2), 60, 61, 62, 63, 64]
    source.shuffle(lengths)
    return [source.randbytes(length) for length in lengths]


def check(block, sent, expected, pauses, abort=lambda at: False):
    source_pause, sink_pause = PAUSES[pauses]()

    async def source(ctx):
        await put_packets(ctx, block.i, sent, source_pause, abort)

    async def sink(ctx):
        for at, packet in enumerate(expected):
            assert await take_packet(ctx, block.o, sink_pause) == (None if abort(at) else packet)

    async def nothing_more(ctx):
        await sink(ctx)
        ctx.set(block.o.ready, 1)
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(block.o.valid)

    simulate(block, source, nothing_more)


ABORTS = {"none": lambda at: False, "some": lambda at: at % 3 == 0}


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("abort", ABORTS)
def test_adds_two_zero_bytes(beat_bytes, pauses, abort):
    sent = frames(beat_bytes, shortest=1)
    check(AddAlignment(beat_bytes), sent, [bytes(2) + frame for frame in sent], pauses, ABORTS[abort])


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("abort", ABORTS)
def test_takes_two_bytes_off(beat_bytes, pauses, abort):
    sent = frames(beat_bytes, shortest=3)
    check(RemoveAlignment(beat_bytes), sent, [frame[2:] for frame in sent], pauses, ABORTS[abort])


async def count(ctx, stream, beats):
    """Takes ``beats`` beats as fast as they come, and says how many clocks that took after the first."""
    await take(ctx, stream)
    ctx.set(stream.ready, 1)
    clocks = 0
    taken = 1
    while taken < beats:
        taken += ctx.get(stream.valid)
        clocks += 1
        await ctx.tick()
    return clocks


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("extra", [1, 2, 3])
def test_sustains_a_beat_a_clock(beat_bytes, extra):
    """Whichever side has more beats has one each clock."""
    length = 4 * beat_bytes + extra
    for block, beats_in, beats_out in [
        (AddAlignment(beat_bytes), 5, 5),
        (RemoveAlignment(beat_bytes), 5, 4 if extra <= 2 else 5),
    ]:

        async def source(ctx, block=block):
            await put_packets(ctx, block.i, [bytes(length)] * 20)

        async def sink(ctx, block=block, beats_in=beats_in, beats_out=beats_out):
            assert await count(ctx, block.o, 20 * beats_out) <= 20 * max(beats_in, beats_out)

        simulate(block, source, sink)
