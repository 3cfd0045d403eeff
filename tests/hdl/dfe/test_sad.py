# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.contract.enums import Table
from spigate.hdl.dfe.job import ROWS
from spigate.hdl.dfe.sad import READ_CLOCKS, Sad
from tests.hdl.dfe.tables import burst, write_entry
from tests.hdl.streams import put, simulate


async def fetch(ctx, sad, index: int) -> list[int]:
    ctx.set(sad.start, 1)
    granted = False
    while not granted:
        _, _, granted = await ctx.tick().sample(sad.granted)
    ctx.set(sad.start, 0)
    ctx.set(sad.running, 1)
    ctx.set(sad.index, index)
    rows = []
    for at in range(ROWS + READ_CLOCKS):
        ctx.set(sad.row, min(at, ROWS - 1))
        if at >= READ_CLOCKS:
            rows.append(ctx.get(sad.data))
        await ctx.tick()
    ctx.set(sad.running, 0)
    return rows


def entry(seed) -> dict[int, int]:
    return {row: random.Random(f"{seed}.{row}").getrandbits(128) for row in range(13)}


@pytest.mark.parametrize("entries", [2, 16])
def test_keeps_entries_apart_and_takes_parts(entries):
    sad = Sad(entries=entries)

    async def run(ctx):
        for index in range(entries):
            assert await fetch(ctx, sad, index) == [0] * ROWS, "an SA that was never written is not valid"
        for index in range(entries):
            await write_entry(ctx, sad.tables, Table.SA, index, entry(index))
        await write_entry(ctx, sad.tables, Table.CAM, 0, entry("cam"))
        await write_entry(ctx, sad.tables, Table.SA, entries, entry("beyond"))
        await write_entry(ctx, sad.tables, Table.SA, 1, {row: entry("part")[row] for row in (9, 0, 12)})
        for index in range(entries):
            expected = [entry(index)[row] for row in range(ROWS)]
            if index == 1:
                expected[0], expected[9] = entry("part")[0], entry("part")[9]
            assert await fetch(ctx, sad, index) == expected

    simulate(sad, run)


def test_a_fetch_sees_the_old_entry_or_the_new_one():
    sad = Sad(entries=4)
    versions = [entry(version) for version in range(30)]
    seen = set()

    async def write(ctx):
        source = random.Random(5)
        for version in versions:
            for item in burst(Table.SA, 2, version):
                await put(ctx, sad.tables, [item], lambda: source.random() < 0.3)
            await ctx.tick().repeat(source.randrange(1, 30))

    async def read(ctx):
        await ctx.tick().repeat(20)
        for _ in range(60):
            rows = await fetch(ctx, sad, 2)
            version = next(at for at, version in enumerate(versions) if version[0] == rows[0])
            assert rows == [versions[version][row] for row in range(ROWS)]
            seen.add(version)
            await ctx.tick().repeat(1 + version % 3)
        assert len(seen) > 10

    simulate(sad, write, read)
