# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.net.merge import Merge
from spigate.hdl.net.packet import BEAT_BYTES, Beat
from tests.hdl.streams import PAUSES, put, put_packets, simulate, take, take_packet


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("pauses", PAUSES)
def test_loses_nothing_and_keeps_each_streams_order(count, pauses):
    merge = Merge(16, count=count)
    source_pause, sink_pause = PAUSES[pauses]()
    got = [[] for _ in range(count)]

    def source(at):
        async def run(ctx):
            await put(ctx, merge.i[at], [at << 8 | n for n in range(40)], source_pause)

        return run

    async def sink(ctx):
        for _ in range(40 * count):
            item = await take(ctx, merge.o, sink_pause)
            got[item >> 8].append(item & 0xFF)

    simulate(merge, sink, *(source(at) for at in range(count)))
    assert got == [list(range(40))] * count


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
@pytest.mark.parametrize("pauses", PAUSES)
def test_keeps_packets_together(beat_bytes, pauses):
    merge = Merge(Beat(beat_bytes), count=3, last=lambda beat: beat.last)
    source_pause, sink_pause = PAUSES[pauses]()
    rng = random.Random(5)
    sent = [[bytes([at]) * rng.randint(1, 5 * beat_bytes) for _ in range(15)] for at in range(3)]
    got = [[], [], []]

    def source(at):
        async def run(ctx):
            await put_packets(ctx, merge.i[at], sent[at], source_pause)

        return run

    async def sink(ctx):
        for _ in range(45):
            packet = await take_packet(ctx, merge.o, sink_pause)
            assert len(set(packet)) == 1
            got[packet[0]].append(packet)

    simulate(merge, sink, *(source(at) for at in range(3)))
    assert got == sent


def test_each_gets_its_turn_without_gaps():
    merge = Merge(8, count=3)
    order = []

    def source(at):
        async def run(ctx):
            await put(ctx, merge.i[at], [at] * 20)

        return run

    async def sink(ctx):
        ctx.set(merge.o.ready, 1)
        clocks = 0
        while len(order) < 60:
            _, _, valid, payload = await ctx.tick().sample(merge.o.valid, merge.o.payload)
            clocks += 1
            if valid:
                order.append(payload)
        assert clocks <= 65

    simulate(merge, sink, *(source(at) for at in range(3)))
    assert all(set(order[at : at + 3]) == {0, 1, 2} for at in range(0, 57, 3))


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_refuses_to_merge_nothing():
    with pytest.raises(ValueError, match="count must be 1 or more, not 0"):
        Merge(8, count=0)
