# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest
from amaranth.hdl import ResetInserter, Signal

from spigate.hdl.cfe.misses import MissLimiter
from tests.hdl.streams import simulate


def run(script, *, interval=0, rows=256):
    limiter = MissLimiter(rows=rows)

    async def testbench(ctx):
        ctx.set(limiter.interval, interval)
        ctx.set(limiter.open, 1)
        await ctx.tick().repeat(rows)  # in which it forgets
        await script(ctx, limiter)

    async def clock(ctx):
        now = 0xFFFF_FF00
        while True:
            ctx.set(limiter.time, now)
            await ctx.tick()
            now = now + 1 & 0xFFFF_FFFF

    simulate(limiter, testbench, background=[clock])


async def ask(ctx, limiter, spi, destination=1):
    """Whether a punt is allowed. Takes LATENCY + 1 clocks."""
    ctx.set(limiter.start, 1)
    ctx.set(limiter.key, {"destination": destination, "spi": spi})
    await ctx.tick()
    ctx.set(limiter.start, 0)
    for _ in range(limiter.LATENCY - 1):
        assert not ctx.get(limiter.done)
        await ctx.tick()
    assert ctx.get(limiter.done)
    allowed = ctx.get(limiter.allowed)
    await ctx.tick()
    return allowed


def test_one_punt_of_a_key_in_an_interval():
    async def script(ctx, limiter):
        assert await ask(ctx, limiter, spi=0x1000)
        assert not await ask(ctx, limiter, spi=0x1000)
        assert await ask(ctx, limiter, spi=0x1001)
        assert await ask(ctx, limiter, spi=0x1000, destination=2)
        assert not await ask(ctx, limiter, spi=0x1000)
        # A refused packet does not begin a new interval.
        await ctx.tick().repeat(500 - 5 * 7 + 4)
        assert await ask(ctx, limiter, spi=0x1000)
        assert not await ask(ctx, limiter, spi=0x1000)

    run(script, interval=500)


def test_interval_ends_when_it_should():
    async def script(ctx, limiter):
        allowed = [await ask(ctx, limiter, spi=0x1000) for _ in range(60)]
        times = [at for at, yes in enumerate(allowed) if yes]
        gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
        assert gaps and all(100 <= 7 * gap <= 100 + 14 for gap in gaps)

    run(script, interval=100)


def test_interval_0_never_limits():
    async def script(ctx, limiter):
        assert all([await ask(ctx, limiter, spi=0x1000) for _ in range(20)])

    run(script)


def test_keys_that_share_a_row_displace_each_other():
    async def script(ctx, limiter):
        allowed = [await ask(ctx, limiter, spi=0x1000 + n) for n in range(8)]
        assert all(allowed)
        assert not await ask(ctx, limiter, spi=0x1007)

    run(script, interval=10_000, rows=2)


def test_what_finds_no_room_begins_no_interval():
    """The control element has not seen it: when there is room again, it comes up at once."""

    async def script(ctx, limiter):
        ctx.set(limiter.open, 0)
        assert not any([await ask(ctx, limiter, spi=0x1000) for _ in range(3)])
        ctx.set(limiter.open, 1)
        assert await ask(ctx, limiter, spi=0x1000)
        assert not await ask(ctx, limiter, spi=0x1000)

    run(script, interval=100_000)


def test_a_reset_ends_all_intervals():
    """The clock counts from 0 again, and the control element after it has seen nothing. Each row is tried,
    some of them by several keys.
    """
    again, limiter = Signal(), MissLimiter(rows=4)
    keys = range(0x1000, 0x1010)

    async def testbench(ctx):
        ctx.set(limiter.interval, 100_000)
        ctx.set(limiter.open, 1)
        await ctx.tick().repeat(4)
        ctx.set(limiter.time, 1000)
        assert all([await ask(ctx, limiter, spi=spi) for spi in keys])
        assert sum([await ask(ctx, limiter, spi=spi) for spi in reversed(keys)]) <= len(keys) - 4
        ctx.set(again, 1)
        await ctx.tick()
        ctx.set(again, 0)
        await ctx.tick().repeat(4)
        ctx.set(limiter.time, 2000)
        for spi in keys:  # each alone: the last that came has its row
            assert await ask(ctx, limiter, spi=spi)

    simulate(ResetInserter(again)(limiter), testbench)


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_refuses_sizes_it_cannot_have():
    with pytest.raises(ValueError, match="rows must be a power of two, not 3"):
        MissLimiter(rows=3)
