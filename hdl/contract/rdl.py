# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The one reader of the SystemRDL files: what gateware, driver and documentation know of registers and
table entries.

Nothing here needs Amaranth, so that the control element can use it where no gateware tools are installed.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

from systemrdl.compiler import RDLCompiler
from systemrdl.node import AddressableNode, AddrmapNode, FieldNode, RegfileNode, RegNode
from systemrdl.rdltypes.builtin_enums import AccessType, OnWriteType
from systemrdl.rdltypes.user_enum import UserEnum

from spigate.hdl.contract import enums

FOLDER = Path(__file__).parent
MAPS = ("entries", "gateway", "board")
"""Address maps: rows of table entries, registers of the gateway, and what a board has beside it."""
ROW_WORDS = 4
"""32-bit words in a row of a table entry."""


@dataclass(frozen=True)
class Field:
    """One field of a row or register: ``width`` bits from bit ``low``; ``encoding`` names its values where it
    has any.
    """

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
        number = _pack(f"Row {self.name!r}", self.name, self.fields, values)
        return [number >> 32 * i & 0xFFFF_FFFF for i in range(ROW_WORDS)]


@dataclass(frozen=True)
class RegisterField(Field):
    """One field of a register, with what a register bank must know of it.

    ``reset`` is its value after reset. Software may read (``readable``) and write (``writable``) it.
    Hardware drives it where ``driven``. Hardware sets its bits by pulses where ``set_by_hardware``, and
    software clears them by writing ones. ``strobed``: hardware is told of each write.
    """

    reset: int
    readable: bool
    writable: bool
    driven: bool
    set_by_hardware: bool
    strobed: bool


@dataclass(frozen=True)
class Register:
    """One 32-bit register, or an array of them.

    Parameters
    ----------
    name : str
        Path in the address map, such as ``id``, ``cfe.patience``, ``dfe_count.packets_in``.
    address : int
        Byte address, of element 0.
    count : int or None
        Elements of an array; None: no array.
    stride : int
        Bytes from one element to the next.
    fields : dict of str to RegisterField
        A register that is one value has one field, ``value``.
    port : str or None
        For an ``external`` register the name of the outermost external component that it is part of, such
        as ``table``.
    """

    name: str
    address: int
    count: int | None
    stride: int
    fields: dict[str, RegisterField]
    port: str | None

    @property
    def elements(self) -> int:
        """How many there are: 1 where it is no array."""
        return 1 if self.count is None else self.count

    def at(self, index: int) -> int:
        """The address of element ``index``.

        Raises
        ------
        IndexError
            There is no such element, or the register is no array.
        """
        if not 0 <= index < (self.count or 0):
            raise IndexError(f"{self.name!r} has {self.count or 'no'} elements, not {index!r}")
        return self.address + index * self.stride

    def pack(self, values: dict[str, int]) -> int:
        """The word with these fields; those not named are 0.

        Raises
        ------
        ValueError
            A field is unknown or its value does not fit; the message names register, field and range.
        """
        return _pack(f"Register {self.name!r}", self.name, self.fields, values)

    def unpack(self, word: int) -> dict[str, int]:
        """The fields of ``word``; where a field has an encoding that names its value, as that member."""
        return {
            name: _named(field.encoding, word >> field.low & (1 << field.width) - 1)
            for name, field in self.fields.items()
        }


def _pack(
    what: str, name: str, fields: dict[str, Field] | dict[str, RegisterField], values: dict[str, int]
) -> int:
    number = 0
    for key, value in values.items():
        field = fields.get(key)
        if field is None:
            raise ValueError(f"{what} has no field {key!r}; it has {', '.join(fields)}")
        if not 0 <= int(value) < 1 << field.width:
            raise ValueError(f"{name}.{key} must be 0 to {(1 << field.width) - 1}, not {value!r}")
        number |= int(value) << field.low
    return number


def _named(encoding: type[IntEnum] | None, value: int) -> int:
    return encoding(value) if encoding and value in encoding._value2member_map_ else value


@cache
def tree(name: str) -> AddrmapNode:
    """The elaborated address map of ``hdl/contract/<name>.rdl``."""
    compiler = RDLCompiler()
    compiler.compile_file(str(FOLDER / f"{name}.rdl"))
    return compiler.elaborate(name).top


@cache
def entry(table: str) -> dict[str, Row]:
    """The rows of one entry of ``table`` (``sa``, ``cam``, ``rule``, ``route``, ``source``), by name, in
    order.
    """
    node = tree("entries").get_child_by_name(table)
    if not isinstance(node, RegfileNode):
        raise ValueError(f"No table {table!r}")
    rows = {}
    for index, reg in enumerate(node.registers()):
        fields = {}
        for field in reg.fields():
            encoding = field.get_property("encode")
            fields[field.inst_name] = Field(
                field.inst_name, field.low, field.width, encoding and enum(encoding.type_name)
            )
        rows[reg.inst_name] = Row(reg.inst_name, index, fields)
    return rows


@cache
def registers(name: str = "gateway") -> dict[str, Register]:
    """The registers of ``hdl/contract/<name>.rdl`` by name, in the order of their addresses.

    Raises
    ------
    ValueError
        A register is in an array of arrays, or the map uses a field property that nothing here understands.
    """
    found = {}
    for node in tree(name).descendants(unroll=False):
        if isinstance(node, RegNode):
            register = _register(node)
            found[register.name] = register
    return dict(sorted(found.items(), key=lambda item: item[1].address))


def _register(node: RegNode) -> Register:
    path = node.get_path_segments(array_suffix="", empty_array_suffix="")[1:]
    chain: list[AddressableNode] = [node]
    while isinstance(parent := chain[-1].parent, AddressableNode) and not isinstance(parent, AddrmapNode):
        chain.append(parent)
    dimensions = [size for part in chain for size in part.array_dimensions or ()]
    if len(dimensions) > 1:
        raise ValueError(f"Register {'.'.join(path)!r} has more than one index")
    strides = [part.array_stride for part in chain if part.array_stride is not None]
    external = [part for part in chain if part.external]
    return Register(
        ".".join(path),
        node.raw_absolute_address,
        dimensions[0] if dimensions else None,
        strides[0] if strides else 4,
        {field.inst_name: _register_field(field) for field in node.fields()},
        external[-1].inst_name if external else None,
    )


def _register_field(node: FieldNode) -> RegisterField:
    software, hardware = node.get_property("sw"), node.get_property("hw")
    encoding = node.get_property("encode")
    sets = bool(node.get_property("hwset"))
    if sets != (node.get_property("onwrite") == OnWriteType.woclr):
        raise ValueError(f"Field {node.get_path()!r}: hwset and onwrite = woclr go together")
    reset = node.get_property("reset") or 0
    if not isinstance(reset, int):
        raise ValueError(f"Field {node.get_path()!r}: reset must be a number, not {reset!r}")
    return RegisterField(
        node.inst_name,
        node.low,
        node.width,
        encoding and enum(encoding.type_name),
        reset,
        software in (AccessType.r, AccessType.rw),
        software in (AccessType.w, AccessType.rw),
        hardware == AccessType.w,
        sets,
        bool(node.get_property("swmod")),
    )


@cache
def _encodings() -> dict[str, type[UserEnum]]:
    found: dict[str, type[UserEnum]] = {}
    for name in MAPS:
        for node in tree(name).descendants(unroll=False):
            encoding = node.get_property("encode") if hasattr(node, "low") else None
            if encoding:
                found.setdefault(encoding.type_name, encoding)
    return found


def enum(name: str) -> type[IntEnum]:
    """An enumeration of the RDL files, such as ``reason_e``, as the class that
    :mod:`spigate.hdl.contract.enums` has of it.
    """
    found: type[IntEnum] = getattr(enums, class_name(name))
    return found


def class_name(name: str) -> str:
    """``PuntClass`` of ``punt_class_e``."""
    return "".join(part.capitalize() for part in name.removesuffix("_e").split("_"))


@dataclass(frozen=True)
class Member:
    """One member of an enumeration; ``name`` in upper case, ``traits`` the words of its RDL name."""

    name: str
    value: int
    description: str
    traits: tuple[str, ...]


def encodings() -> dict[str, list[Member]]:
    """The enumerations of all :data:`MAPS` by name."""
    return {
        name: [
            Member(each.name.upper(), each.value, each.rdl_desc or "", tuple((each.rdl_name or "").split()))
            for each in encoding
        ]
        for name, encoding in _encodings().items()
    }
