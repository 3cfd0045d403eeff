# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest

from spigate.hdl.board.link_watch import RESET_CLOCKS, LinkWatch
from tests.hdl.streams import simulate

STEADY = 200
UP, DOWN, NOBODY = {"present": 1, "up": 1}, {"present": 1, "up": 0}, {"present": 0}


def watched(testbench) -> None:
    """Runs ``testbench(ctx, dut, wait)``; each ``wait(clocks)`` gives for how many of them the MAC was set
    back.
    """
    dut = LinkWatch(steady_clocks=STEADY)

    async def run(ctx):
        async def wait(clocks: int) -> int:
            count = 0
            for _ in range(clocks):
                await ctx.tick()
                count += ctx.get(dut.reset)
            return count

        await testbench(ctx, dut, wait)

    simulate(dut, run)


@pytest.mark.parametrize("inband", [0, 1])
def test_a_phy_that_answers_is_believed(inband):
    """Whatever in-band status says, and however often."""

    async def run(ctx, dut, wait):
        ctx.set(dut.phy, DOWN)
        ctx.set(dut.inband.up, inband)
        assert await wait(3 * STEADY) == 0
        for count in range(1, 5):
            ctx.set(dut.phy, UP if count % 2 else DOWN)
            assert await wait(3 * STEADY) == RESET_CLOCKS
            assert (ctx.get(dut.up), ctx.get(dut.resets)) == (count % 2, count)
            ctx.set(dut.inband.up, 1 - inband)
            assert await wait(3 * STEADY) == 0
            ctx.set(dut.inband.up, inband)
            assert await wait(3 * STEADY) == 0

    watched(run)


def test_without_a_phy_that_answers_steady_in_band_status_is():
    async def run(ctx, dut, wait):
        assert await wait(3 * STEADY) == 0
        ctx.set(dut.inband.up, 1)
        assert await wait(STEADY - 2) == 0
        assert await wait(2 * STEADY) == RESET_CLOCKS
        for _ in range(20):
            ctx.set(dut.inband.up, 0)
            assert await wait(STEADY - 1) == 0
            ctx.set(dut.inband.up, 1)
            assert await wait(1) == 0
        ctx.set(dut.inband.up, 0)
        assert await wait(3 * STEADY) == RESET_CLOCKS
        assert (ctx.get(dut.up), ctx.get(dut.resets)) == (0, 2)

    watched(run)


def test_in_band_status_that_is_0_while_the_mac_is_set_back_makes_no_circle():
    """LiteEth's reads as 0 from then on to the next pause between frames."""

    async def run(ctx, dut, wait):
        pause = STEADY - RESET_CLOCKS - 10
        for link in (1, 0, 1):
            since = pause
            for _ in range(10 * STEADY):
                since = 0 if ctx.get(dut.reset) else since + 1
                ctx.set(dut.inband.up, link and since >= pause)
                await wait(1)
        assert (ctx.get(dut.up), ctx.get(dut.resets)) == (1, 3)

    watched(run)


@pytest.mark.parametrize("speaks", [False, True])
def test_a_phy_that_ceases_to_answer_is_no_link_that_went(speaks):
    async def run(ctx, dut, wait):
        ctx.set(dut.phy, UP)
        ctx.set(dut.inband.up, speaks)
        assert await wait(3 * STEADY) == RESET_CLOCKS
        ctx.set(dut.phy, NOBODY)
        assert await wait(3 * STEADY) == 0 and ctx.get(dut.up)
        ctx.set(dut.inband.up, 0)
        assert await wait(3 * STEADY) == RESET_CLOCKS * speaks and ctx.get(dut.up) == (not speaks)

    watched(run)


def test_a_change_while_the_mac_is_set_back_begins_anew():
    async def run(ctx, dut, wait):
        ctx.set(dut.phy, UP)
        before = await wait(RESET_CLOCKS // 2)
        ctx.set(dut.phy, DOWN)
        after = await wait(3 * STEADY)
        assert RESET_CLOCKS < before + after < 2 * RESET_CLOCKS
        assert ctx.get(dut.resets) == 2

    watched(run)


def test_a_time_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="steady_clocks must be more than 64, not 64"):
        LinkWatch(steady_clocks=RESET_CLOCKS)
