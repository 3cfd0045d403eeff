# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest

from spigate.hdl.net.policer import Policer
from tests.hdl.streams import simulate

DEEPEST = 63
"""Tokens at first."""


def passed(period, burst, clocks, wanted=lambda clock: True, before=DEEPEST):
    """Clocks in which a token was taken, where one is wanted in each clock that ``wanted`` says, when
    ``before`` are gone.
    """
    policer, found = Policer(), []

    async def testbench(ctx):
        ctx.set(policer.limit, {"period": 0, "burst": burst})
        for _ in range(before + (period != 0)):
            ctx.set(policer.limit, {"period": 1 << 19, "burst": burst})
            ctx.set(policer.spend, ctx.get(policer.open))
            await ctx.tick()
        ctx.set(policer.limit, {"period": period, "burst": burst})
        for clock in range(clocks):
            ctx.set(policer.spend, 0)
            if ctx.get(policer.open) and wanted(clock):
                ctx.set(policer.spend, 1)
                found.append(clock)
            await ctx.tick()

    simulate(policer, testbench)
    return found


@pytest.mark.parametrize("period", [2, 3, 50, 1000])
def test_one_token_a_period(period):
    times = passed(period, 8, 10 * period + 5)
    gaps = {later - earlier for earlier, later in zip(times[1:], times[2:], strict=False)}
    assert gaps == {period} and len(times) in range(9, 14)


@pytest.mark.parametrize("burst", [1, 5, 63])
def test_a_burst_after_a_rest_and_no_more(burst):
    """After ten times what fills the bucket."""
    rest = 10 * 20 * burst
    times = passed(20, burst, rest + burst + 10, wanted=lambda clock: clock >= rest)
    assert burst <= len(times) <= burst + burst // 20 + 2


def test_without_a_period_there_is_no_limit():
    assert len(passed(0, 5, 300)) >= 299


def test_without_a_burst_nothing_passes():
    assert not passed(10, 0, 500)


def test_who_spends_what_is_not_there_owes_nothing():
    """Spends go on for clocks after the last token: the next one comes after a period, as ever,
    and is one.
    """
    policer, opened = Policer(), []

    async def testbench(ctx):
        ctx.set(policer.limit, {"period": 100, "burst": 8})
        ctx.set(policer.spend, 1)
        await ctx.tick().repeat(2 * DEEPEST)
        ctx.set(policer.spend, 0)
        for clock in range(350):
            if ctx.get(policer.open):
                opened.append(clock)
                ctx.set(policer.spend, 1)
            await ctx.tick()
            ctx.set(policer.spend, 0)

    simulate(policer, testbench)
    assert len(opened) in (3, 4) and all(
        later - earlier == 100 for earlier, later in zip(opened, opened[1:], strict=False)
    )
