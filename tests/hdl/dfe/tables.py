# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Table writes for tests of DFE blocks."""

from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Table
from tests.hdl.streams import put


def number(table: str, row: str, **values) -> int:
    """Row ``row`` of an entry of ``table`` with these fields, as a number of 128 bits."""
    return sum(word << 32 * at for at, word in enumerate(rdl.entry(table)[row].pack(values)))


def burst(table: Table, index: int, rows: dict[int, int]) -> list[dict]:
    """The ``TableWrite`` items that write ``rows`` (number of the row: its bits) of entry ``index``."""
    return [
        {
            "table": table,
            "dfe": 0,
            "index": index,
            "row": row,
            "data": value,
            "first": at == 0,
            "last": at == len(rows) - 1,
        }
        for at, (row, value) in enumerate(rows.items())
    ]


async def write_entry(ctx, stream, table: Table, index: int, rows: dict[int, int]) -> None:
    """Writes ``rows`` of entry ``index`` on the TableWrite ``stream``."""
    await put(ctx, stream, burst(table, index, rows))
