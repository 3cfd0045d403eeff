"""The one reader of the SystemRDL files: what gateware, driver and documentation know of registers and table entries.

Nothing here needs Amaranth, so that the control element can use it where no gateware tools are installed.
"""
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

from systemrdl import RDLCompiler
from systemrdl.node import AddrmapNode, RegfileNode

FOLDER = Path(__file__).parent
ROW_WORDS = 4
"""32-bit words in a row of a table entry."""


@dataclass(frozen=True)
class Field:
    """One field of a row: ``width`` bits from bit ``low``; ``encoding`` names its values where it has any."""

    name: str
    low: int
    width: int
    encoding: type[IntEnum] | None


@dataclass(frozen=True)
class Row:
    """One 128-bit row of a table entry; ``index`` counts from 0."""

    name: str
    index: int
    fields: dict[str, Field]

    def pack(self, values: dict[str, int]) -> list[int]:
        """Four 32-bit words, lowest bits first. Fields not named are 0.

        Raises
        ------
        ValueError
            A field is unknown or its value does not fit; the message names row, field and range.
        """
        number = 0
        for name, value in values.items():
            field = self.fields.get(name)
            if field is None:
                raise ValueError(f"Row {self.name!r} has no field {name!r}; it has {', '.join(self.fields)}")
            if not 0 <= int(value) < 1 << field.width:
                raise ValueError(f"{self.name}.{name} must be 0 to {(1 << field.width) - 1}, not {value!r}")
            number |= int(value) << field.low
        return [number >> 32 * i & 0xFFFF_FFFF for i in range(ROW_WORDS)]


@cache
def tree(name: str) -> AddrmapNode:
    """The elaborated address map of ``hdl/csr/<name>.rdl``."""
    compiler = RDLCompiler()
    compiler.compile_file(str(FOLDER / f"{name}.rdl"))
    return compiler.elaborate(name).top


@cache
def entry(table: str) -> dict[str, Row]:
    """The rows of one entry of ``table`` (``sa``, ``cam``, ``rule``, ``route``, ``source``), by name, in order."""
    node = tree("entries").get_child_by_name(table)
    if not isinstance(node, RegfileNode):
        raise ValueError(f"No table {table!r}")
    rows = {}
    for index, reg in enumerate(node.registers()):
        fields = {}
        for field in reg.fields():
            encoding = field.get_property("encode")
            fields[field.inst_name] = Field(field.inst_name, field.low, field.width,
                                            encoding and enum(encoding.type_name))
        rows[reg.inst_name] = Row(reg.inst_name, index, fields)
    return rows


@cache
def _encodings() -> dict[str, object]:
    found = {}
    for node in tree("entries").descendants():
        encoding = node.get_property("encode") if hasattr(node, "low") else None
        if encoding:
            found[encoding.type_name] = encoding
    return found


@cache
def enum(name: str) -> type[IntEnum]:
    """An enumeration of ``entries.rdl``, such as ``reason_e``, as a Python ``IntEnum`` (member names in upper case)."""
    members = {member.name.upper(): member.value for member in _encodings()[name]}
    return IntEnum("".join(part.capitalize() for part in name.removesuffix("_e").split("_")), members)


def describe(name: str) -> dict[int, str]:
    """The descriptions of an enumeration's members, by value."""
    return {member.value: member.rdl_desc or "" for member in _encodings()[name]}
