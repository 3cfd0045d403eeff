# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Table entries and writes for tests of the CFE."""

from spigate.hdl.contract import hashing, rdl
from spigate.hdl.contract.enums import Table

TABLES = {"cam": Table.CAM, "rule": Table.RULE, "route": Table.ROUTE}


def rows(table: str, values: dict) -> list[int]:
    """The rows of an entry as 128-bit numbers; fields are found by name in whichever row has them."""
    packed = []
    for row in rdl.entry(table).values():
        words = row.pack({name: value for name, value in values.items() if name in row.fields})
        packed.append(sum(word << 32 * at for at, word in enumerate(words)))
    return packed


def entry(table: str, index: int, **values) -> dict:
    """A value of ``Entry``."""
    packed = rows(table, values)
    return {"table": TABLES[table], "index": index, "rows": packed + [0] * (2 - len(packed))}


def writes(table: str, index: int, **values) -> list[dict]:
    """The values of ``TableWrite`` that write an entry."""
    packed = rows(table, values)
    return [
        {
            "table": TABLES[table],
            "dfe": 0,
            "index": index,
            "row": row,
            "data": number,
            "first": row == 0,
            "last": row == len(packed) - 1,
        }
        for row, number in enumerate(packed)
    ]


def cam_index(
    way: int, *, destination: int, spi: int, protocol: int = 50, ipv6: bool = False, entries: int = 1024
) -> int:
    """The index in table writes of a key's place in ``way``."""
    key = hashing.cam_key(destination=destination, protocol=protocol, spi=spi, ipv6=ipv6)
    count = hashing.cam_rows(entries)
    return way * count + hashing.cam_row(way, key, count)
