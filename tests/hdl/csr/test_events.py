# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Drop counters and events under floods, with a control element that takes nothing."""

from collections import Counter

import pytest

from spigate.hdl.contract.enums import Reason
from spigate.hdl.contract.reasons import ENDING, JUNK
from spigate.hdl.csr.events import COUNTED, DEPTH, Events
from tests.hdl.streams import put, simulate

MASK = sum(1 << reason for reason in (*JUNK, *ENDING, Reason.SOFT_LIFETIME, Reason.DFE_STALLED))


def report(reason, dropped=1):
    return {"reason": reason, "dropped": dropped}


async def word(ctx, bus, at):
    ctx.set(bus.read_address, at)
    ctx.set(bus.read, 1)
    done = False
    while not done:
        _, _, done, data = await ctx.tick().sample(bus.read_done, bus.read_data)
    ctx.set(bus.read, 0)
    await ctx.tick()
    return data


def run(script, *, reporters=2, feeds=(), mask=MASK):
    events = Events(reporters=reporters)

    async def main(ctx):
        ctx.set(events.mask, mask)
        await ctx.tick().repeat(2 * COUNTED)
        await script(ctx, events)

    def feeder(at, reports):
        async def feed(ctx):
            await put(ctx, events.reports[at], reports)

        return feed

    simulate(events, main, *(feeder(at, reports) for at, reports in enumerate(feeds)))


async def kinds(ctx, events):
    """The reasons of all events, which leave the queue."""
    found = []
    while ctx.get(events.pending):
        what = await word(ctx, events.view, 0)
        found.append(Reason(what & 63))
        ctx.set(events.pop, 1)
        ctx.set(events.pop_written, 1)
        await ctx.tick()
        ctx.set(events.pop_written, 0)
        await ctx.tick().repeat(2)
    return found


@pytest.mark.parametrize("reason", [*JUNK, *ENDING])
def test_what_comes_often_pushes_out_nothing_that_is_told_once(reason):
    """Three times as many as the queue holds, then a stalled DFE and a soft lifetime: both are there."""

    async def script(ctx, events):
        await put(ctx, events.reports[0], [report(reason)] * 3 * DEPTH)
        await put(ctx, events.reports[1], [report(Reason.DFE_STALLED, 0), report(Reason.SOFT_LIFETIME, 0)])
        await ctx.tick().repeat(30)
        assert await word(ctx, events.drops, reason) == 3 * DEPTH
        lost = ctx.get(events.lost)
        found = await kinds(ctx, events)
        assert found[-2:] == [Reason.DFE_STALLED, Reason.SOFT_LIFETIME] and set(found[:-2]) == {reason}
        assert len(found) - 2 + lost == 3 * DEPTH

    run(script)


def test_strangers_push_out_no_end_of_an_sa():
    async def script(ctx, events):
        await put(ctx, events.reports[0], [report(Reason.RESERVED_SPI)] * 2 * DEPTH)
        await put(ctx, events.reports[1], [report(Reason.LIFETIME)])
        await ctx.tick().repeat(30)
        assert (await kinds(ctx, events))[-1] == Reason.LIFETIME

    run(script)


def test_counts_a_drop_a_clock_of_any_reason():
    """Two reporters that never pause, with an event queue that is full: nobody waits but for his turn."""
    count = 200
    feeds = [
        [report(Reason.BAD_FRAME)] * count,
        [report((Reason.ICV, Reason.QUEUE_FULL)[at % 2]) for at in range(count)],
    ]
    clocks = []

    async def script(ctx, events):
        await put(ctx, events.reports[2], [report(Reason.ICV)] * DEPTH)
        begun = 0
        while await_room(ctx, events):
            await ctx.tick()
            begun += 1
        clocks.append(begun)

    def await_room(ctx, events):
        return any(ctx.get(each.valid) for each in events.reports[:2])

    async def main(ctx, events):
        await script(ctx, events)
        await ctx.tick().repeat(20)
        found = {
            reason: await word(ctx, events.drops, reason)
            for reason in (Reason.BAD_FRAME, Reason.ICV, Reason.QUEUE_FULL)
        }
        assert found == {
            Reason.BAD_FRAME: count,
            Reason.ICV: count // 2 + DEPTH,
            Reason.QUEUE_FULL: count // 2,
        }

    run(main, reporters=3, feeds=feeds)
    # DEPTH / 2 events are stored in 8 clocks each; all others take one, or two of one reporter alone.
    assert clocks[0] <= 8 * DEPTH // 2 + 2 * 2 * count + 40


def test_counters_are_read_while_they_count():
    async def script(ctx, events):
        seen = [await word(ctx, events.drops, Reason.QUEUE_FULL) for _ in range(20)]
        assert seen == sorted(seen)
        await ctx.tick().repeat(400)
        assert await word(ctx, events.drops, Reason.QUEUE_FULL) == 100
        assert await word(ctx, events.drops, COUNTED + Reason.QUEUE_FULL) == 0

    run(script, feeds=[[report(Reason.QUEUE_FULL)] * 100])


def test_all_begin_at_zero():
    async def script(ctx, events):
        assert Counter([await word(ctx, events.drops, at) for at in range(64)]) == {0: 64}

    run(script)
