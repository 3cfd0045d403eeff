# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.contract.enums import Table
from spigate.hdl.dfe.source import SCAN_CLOCKS, ClearSources
from tests.hdl.dfe.tables import number, write_entry
from tests.hdl.streams import simulate


async def scan(ctx, sources, address: int, ingress: int) -> bool:
    ctx.set(sources.address, address)
    ctx.set(sources.ingress, ingress)
    ctx.set(sources.start, 1)
    await ctx.tick()
    ctx.set(sources.start, 0)
    await ctx.tick().repeat(SCAN_CLOCKS - 1)
    return ctx.get(sources.allowed)


@pytest.mark.parametrize("entries", [1, 8, 9, 16, 20])
def test_matches_as_the_list_says(entries):
    sources = ClearSources(entries=entries)
    source = random.Random(entries)

    async def run(ctx):
        for port in range(4):
            assert not await scan(ctx, sources, 0, port), "an empty list allows nobody"
        table = []
        for index in range(entries):
            length = source.choice([8, 16, 24, 31, 32])
            mask = (1 << 32) - (1 << 32 - length)
            table.append(
                (
                    source.getrandbits(32) & mask,
                    mask,
                    source.randrange(1, 16) | (index == 0),
                    index == 0 or source.random() < 0.8,
                )
            )
            address, mask, ingress, valid = table[-1]
            await write_entry(
                ctx,
                sources.tables,
                Table.SOURCE,
                index,
                {0: number("source", "source", address=address, mask=mask, ingress=ingress, valid=valid)},
            )
        # Neither another table nor an entry that does not exist changes the list.
        everyone = {0: number("source", "source", ingress=15, valid=1)}
        await write_entry(ctx, sources.tables, Table.ROUTE, 0, everyone)
        await write_entry(ctx, sources.tables, Table.SOURCE, entries, everyone)
        await write_entry(ctx, sources.tables, Table.SOURCE, entries + 64, everyone)
        seen = set()
        for _ in range(60):
            address = source.choice(table)[0] ^ source.choice([0, 0, 1, 1 << 31, source.getrandbits(8)])
            port = source.randrange(4)
            expected = any(
                valid and (address ^ wanted) & mask == 0 and ingress >> port & 1
                for wanted, mask, ingress, valid in table
            )
            assert await scan(ctx, sources, address, port) == expected
            seen.add(expected)
        assert len(seen) == 2

    simulate(sources, run)


def test_every_entry_and_every_mask_bit_counts():
    sources = ClearSources(entries=16)

    async def run(ctx):
        for index in range(16):
            await write_entry(
                ctx,
                sources.tables,
                Table.SOURCE,
                index,
                {0: number("source", "source", address=0xC0000201, mask=0xFFFFFFFF, ingress=1 << 1, valid=1)},
            )
            assert await scan(ctx, sources, 0xC0000201, 1)
            assert not await scan(ctx, sources, 0xC0000201, 0)
            for bit in range(index % 2, 32, 2):
                assert not await scan(ctx, sources, 0xC0000201 ^ 1 << bit, 1)
            await write_entry(ctx, sources.tables, Table.SOURCE, index, {0: 0})
            assert not await scan(ctx, sources, 0xC0000201, 1)

    simulate(sources, run)
