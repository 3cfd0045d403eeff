# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Table entries of ``entries.rdl`` and registers of ``gateway.rdl`` as Amaranth layouts."""

from functools import cache

from amaranth.hdl import unsigned
from amaranth.lib import data

from spigate.hdl.contract import rdl

ROW_BITS = 32 * rdl.ROW_WORDS


@cache
def row(table: str, name: str) -> data.FlexibleLayout:
    """The layout of row ``name`` of an entry of ``table``: a view of 128 bits with the fields of
    ``entries.rdl``.
    """
    fields = rdl.entry(table)[name].fields.values()
    return data.FlexibleLayout(
        ROW_BITS, {field.name: data.Field(unsigned(field.width), field.low) for field in fields}
    )


@cache
def entry(table: str) -> data.StructLayout:
    """The layout of a whole entry of ``table``: one member a row, row 0 in the low bits."""
    return data.StructLayout({name: row(table, name) for name in rdl.entry(table)})


@cache
def register(name: str) -> data.FlexibleLayout:
    """The layout of register ``name`` of ``gateway.rdl``: a view of 32 bits with its fields."""
    fields = rdl.registers()[name].fields.values()
    return data.FlexibleLayout(
        32, {field.name: data.Field(unsigned(field.width), field.low) for field in fields}
    )
