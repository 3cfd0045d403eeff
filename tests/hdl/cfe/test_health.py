# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest

from spigate.hdl.cfe.health import Health
from spigate.hdl.contract.enums import Reason
from tests.hdl.streams import simulate, take

PATIENCE = 40


def run(script, dfes=3, *, told=None):
    health, reports = Health(dfes=dfes), []

    async def main(ctx):
        ctx.set(health.patience, PATIENCE)
        ctx.set(health.enable, (1 << dfes) - 1)
        await ctx.tick()
        await script(ctx, health)
        ctx.set(health.busy, 0)
        await ctx.tick().repeat(20)

    async def listen(ctx):
        while True:
            reports.append(await take(ctx, health.reports))

    simulate(health, main, background=[listen])
    assert all((report.reason, report.dropped) == (Reason.DFE_STALLED, 0) for report in reports)
    assert [report.dfe for report in reports] == (told or [])


async def finish(ctx, health, dfe):
    ctx.set(health.gone, 1 << dfe)
    await ctx.tick()
    ctx.set(health.gone, 0)


def test_who_finishes_something_is_healthy():
    """However long its queue is full."""

    async def script(ctx, health):
        ctx.set(health.busy, 0b010)
        for _ in range(50):
            await ctx.tick().repeat(PATIENCE - 5)
            await finish(ctx, health, 1)
            assert ctx.get(health.healthy) == 0b111

    run(script)


def test_who_has_nothing_is_healthy():
    async def script(ctx, health):
        await ctx.tick().repeat(5 * PATIENCE)
        assert ctx.get(health.healthy) == 0b111

    run(script)


def test_who_finishes_nothing_is_not_and_comes_back_by_itself():
    async def script(ctx, health):
        ctx.set(health.busy, 0b010)
        await ctx.tick().repeat(PATIENCE - 2)
        assert ctx.get(health.healthy) == 0b111
        await ctx.tick().repeat(6)
        assert ctx.get(health.healthy) == 0b101
        await ctx.tick().repeat(10 * PATIENCE)
        assert ctx.get(health.healthy) == 0b101
        await finish(ctx, health, 1)
        assert ctx.get(health.healthy) == 0b111
        await ctx.tick().repeat(PATIENCE + 5)
        assert ctx.get(health.healthy) == 0b101

    run(script, told=[1, 1])


def test_several_are_told_of_one_after_the_other():
    async def script(ctx, health):
        ctx.set(health.busy, 0b101)
        await ctx.tick().repeat(PATIENCE + 10)
        assert ctx.get(health.healthy) == 0b010

    run(script, told=[0, 2])


def test_enabled_anew_it_gets_another_chance():
    async def script(ctx, health):
        ctx.set(health.busy, 0b001)
        await ctx.tick().repeat(PATIENCE + 10)
        ctx.set(health.enable, 0b110)
        await ctx.tick().repeat(3)
        assert ctx.get(health.healthy) == 0b110
        ctx.set(health.enable, 0b111)
        await ctx.tick().repeat(2)
        assert ctx.get(health.healthy) == 0b111
        await ctx.tick().repeat(PATIENCE + 10)
        assert ctx.get(health.healthy) == 0b110

    run(script, told=[0, 0])


@pytest.mark.parametrize("dfes", [1, 8])
def test_any_number(dfes):
    async def script(ctx, health):
        ctx.set(health.busy, (1 << dfes) - 1)
        await ctx.tick().repeat(PATIENCE + 30)
        assert ctx.get(health.healthy) == 0

    run(script, dfes, told=list(range(dfes)))
