# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import pytest

from spigate.hdl.contract.enums import Table
from spigate.hdl.dfe.sequence import SequenceNumbers
from tests.hdl.dfe.tables import number, write_entry
from tests.hdl.streams import put, simulate, take


async def look(ctx, numbers, index: int) -> tuple[int, int]:
    ctx.set(numbers.index, index)
    ctx.set(numbers.look, 1)
    await ctx.tick()
    ctx.set(numbers.look, 0)
    await ctx.tick().repeat(4)
    return ctx.get(numbers.number), ctx.get(numbers.exhausted)


async def use(ctx, numbers) -> None:
    ctx.set(numbers.take, 1)
    await ctx.tick()
    ctx.set(numbers.take, 0)
    await ctx.tick()


async def state(ctx, numbers, index: int) -> int:
    await put(ctx, numbers.request, [index])
    return await take(ctx, numbers.response)


async def start_at(ctx, numbers, index: int, last: int) -> None:
    await write_entry(
        ctx,
        numbers.tables,
        Table.SA,
        index,
        {0: 1, 12: number("sa", "replay", sequence=last, window=~0 & (1 << 64) - 1)},
    )


def test_counts_each_sa_on_its_own():
    numbers = SequenceNumbers(entries=8)

    async def run(ctx):
        await start_at(ctx, numbers, 3, 0)
        await start_at(ctx, numbers, 7, 1000)
        for step in range(1, 6):
            for index, base in ((3, 0), (7, 1000)):
                assert await look(ctx, numbers, index) == (base + step, 0)
                await use(ctx, numbers)
                assert await state(ctx, numbers, index) == base + step
        assert await look(ctx, numbers, 3) == (6, 0)
        assert await look(ctx, numbers, 3) == (6, 0), "what is not taken is not used"

    simulate(numbers, run)


def test_stops_before_the_number_wraps():
    numbers = SequenceNumbers(entries=4)

    async def run(ctx):
        await start_at(ctx, numbers, 1, (1 << 32) - 3)
        for expected in ((1 << 32) - 2, (1 << 32) - 1):
            assert await look(ctx, numbers, 1) == (expected, 0)
            await use(ctx, numbers)
        assert (await look(ctx, numbers, 1))[1] == 1
        assert await state(ctx, numbers, 1) == (1 << 32) - 1
        for beyond in (1 << 32, (1 << 63), (1 << 64) - 1):
            await start_at(ctx, numbers, 2, beyond)
            assert (await look(ctx, numbers, 2))[1] == 1
            assert await state(ctx, numbers, 2) == beyond

    simulate(numbers, run)


@pytest.mark.parametrize("entries", [4, 256])
def test_ignores_what_is_not_its_row(entries):
    numbers = SequenceNumbers(entries=entries)

    async def run(ctx):
        await start_at(ctx, numbers, 1, 77)
        value = number("sa", "replay", sequence=5)
        await write_entry(ctx, numbers.tables, Table.CAM, 1, {12: value})
        await write_entry(ctx, numbers.tables, Table.SA, 1, {0: value, 11: value, 9: value})
        await write_entry(ctx, numbers.tables, Table.SA, entries + 1, {12: value})
        assert await state(ctx, numbers, 1) == 77
        assert await state(ctx, numbers, entries + 1) == 0

    simulate(numbers, run)
