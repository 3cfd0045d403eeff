# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from spigate.hdl.cfe.entry import EntryCollector
from spigate.hdl.contract.enums import Table
from tests.hdl.streams import PAUSES, put, simulate, take


@pytest.mark.parametrize("pauses", PAUSES)
def test_collects_rows_in_any_order(pauses):
    collector = EntryCollector()
    source_pause, sink_pause = PAUSES[pauses]()
    rng = random.Random(1)
    items, expected = [], []
    for _ in range(40):
        table, index = rng.choice([Table.CAM, Table.RULE, Table.ROUTE]), rng.randrange(1 << 16)
        order = rng.choice([[0, 1], [1, 0], [0, 1, 7], [0]])
        values = {row: rng.getrandbits(128) for row in order}
        items += [
            {
                "table": table,
                "dfe": 0,
                "index": index,
                "row": row,
                "data": values[row],
                "first": row == order[0],
                "last": row == order[-1],
            }
            for row in order
        ]
        expected.append((table, index, values[0], values.get(1)))
    got = []

    async def source(ctx):
        await put(ctx, collector.i, items, source_pause)

    async def sink(ctx):
        for _ in expected:
            item = await take(ctx, collector.o, sink_pause)
            # A row that was not written is whatever it was.
            second = item.rows[1] if expected[len(got)][3] is not None else None
            got.append((item.table, item.index, item.rows[0], second))

    simulate(collector, source, sink)
    assert got == expected
