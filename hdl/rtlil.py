# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What Amaranth writes for yosys, made ready to become Verilog that people and other tools read.

Amaranth numbers what bears a name twice in a module by how many names are there already, so a new signal
renames others far away from it. Names here depend on what they name alone (:func:`named`). Its operators
take operands of different widths, which Verilog allows and every linter reports (:func:`widened`).

Both work on RTLIL as :mod:`amaranth.back.rtlil` prints it, a statement a line. What it says is documented in
yosys' manual, "RTLIL text representation".
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

_MODULE = re.compile(r"^module (\\\S+)$", re.MULTILINE)
_WIRE = re.compile(
    r"^  wire width (?P<width>\d+)(?: (?P<port>input|output|inout) \d+ )?(?: signed)? (?P<name>\\\S+)$",
    re.MULTILINE,
)
_CELL = re.compile(r"^  cell (?P<kind>\S+) (?P<name>\S+)\n(?P<body>(?:    .*\n)*)  end$", re.MULTILINE)
_PORT = re.compile(r"^    connect \\(?P<port>\S+) (?P<value>.*)$", re.MULTILINE)
_WHOLE = re.compile(r"(\\\S+)(?: \[(\d+)(?::(\d+))?\])?")
_CONNECTED = re.compile(r"^connect (\\\S+) (.*)$", re.MULTILINE)
_MEMORY = re.compile(r"^  memory width \d+ size \d+ (?P<name>\\\S+)$", re.MULTILINE)
_NAME = re.compile(r"\\\S+")
_NUMBERED = re.compile(r"\$\d+$")
_PART_OF_A_SIGNAL = re.compile(r"\\port\$\d+\$\d+")
_MAKES_NOTHING = re.compile(r"^    parameter \\(?:Y_)?WIDTH 0$", re.MULTILINE)
_NO_WIDTH = re.compile(r"^(?:  attribute .*\n)*  wire width 0 .*\n\n?|^connect \\\S+ \{ *\}\n", re.MULTILINE)


def tidied(text: str, values: Mapping[tuple[str, ...], Mapping[int, str]] | None = None) -> str:
    """RTLIL with the same logic, names that stay and operands as wide as their operators.

    Parameters
    ----------
    values
        What values of a signal are called, by the signal's path, from the top module on: they become
        attributes ``enum_value_BITS``, as they are where a signal's shape is an enumeration.
    """
    head, *modules = _split(text)
    modules = [_valued(module, values or {}) for module in modules]
    return "".join([head, *(widened(_without_nothing(module)) for module in named(modules))])


def _without_nothing(module: str) -> str:
    """A module without signals of no bits, and what makes them; Verilog has none."""
    module = _CELL.sub(lambda cell: "" if _MAKES_NOTHING.search(cell["body"]) else cell[0], module)
    return _NO_WIDTH.sub("", module)


def _split(text: str) -> list[str]:
    """What stands before the first module, and the modules, with their attributes before them."""
    starts = [text.rfind("\n\n", 0, found.start()) + 2 for found in _MODULE.finditer(text)]
    if starts:
        starts[0] = 0
    return [text[start:end] for start, end in zip([0, *starts], [*starts, len(text)], strict=True)]


def _module_name(module: str) -> str:
    found = _MODULE.search(module)
    if not found:
        raise ValueError(f"no module begins in {module[:40]!r}")
    return found[1]


def _valued(module: str, values: Mapping[tuple[str, ...], Mapping[int, str]]) -> str:
    """A module in which the values of some signals have names."""
    path = tuple(_module_name(module)[1:].split("."))
    for (*above, signal), names in values.items():
        if tuple(above) != path:
            continue
        wire = re.search(
            rf"^  wire width (\d+) .*\\{re.escape(signal)}$|^  wire width (\d+) \\{re.escape(signal)}$",
            module,
            re.MULTILINE,
        )
        if wire is None:
            continue
        width = int(wire[1] or wire[2])
        rows = [f'  attribute \\enum_value_{value:0{width}b} "{name}"\n' for value, name in names.items()]
        module = module[: wire.start()] + "".join(rows) + module[wire.start() :]
    return module


# Names


@dataclass
class _Renaming:
    """New names of a module's wires and cells, and of those of its ports that a parent connects."""

    module: str
    names: dict[str, str] = field(default_factory=dict)


def named(modules: list[str]) -> list[str]:
    """Modules, parents before children, whose names say what they name.

    - A submodule has the name that the source gives it, whatever signals are called so too.
    - A signal whose name others in the module bear too is called for the submodule whose port it is
      (``parser__o__valid``), otherwise numbered among those alone (``valid_2``).
    - Amaranth names a port that is a part of a signal by numbers of its own. Here it is called for
      the signal that it becomes a part of (``address__7_3``), or that it comes from.
    """
    kinds = {_module_name(module) for module in modules}
    renamings: dict[str, _Renaming] = {}
    outer: dict[str, dict[str, str]] = {}  # By module: what its parent connects to its ports.
    for module in modules:
        kind = _module_name(module)
        renaming = renamings.setdefault(kind, _Renaming(kind))
        renaming.names = _names(module, top=kind not in outer, outer=outer.get(kind, {}))
        for cell in _CELL.finditer(module):
            if cell["kind"] in kinds:
                renamings[cell["kind"]] = _Renaming(f"{renaming.module}.{renaming.names[cell['name']][1:]}")
                outer[cell["kind"]] = {
                    f"\\{port['port']}": _with_new(port["value"], renaming.names)
                    for port in _PORT.finditer(cell["body"])
                }
    return [_with_names(module, renamings) for module in modules]


def _names(module: str, *, top: bool, outer: Mapping[str, str]) -> dict[str, str]:
    """The new names of a module's wires and submodules, by the old ones."""
    names: dict[str, str] = {}
    taken: set[str] = set()

    def give(old: str, wish: str) -> None:
        name, count = wish, 1
        while name in taken:
            count += 1
            name = f"{wish}_{count}"
        names[old] = name
        taken.add(name)

    cells = [cell for cell in _CELL.finditer(module) if cell["name"].startswith("\\")]
    for inner in cells:
        give(inner["name"], _NUMBERED.sub("", inner["name"]))
    for memory in _MEMORY.finditer(module):
        # Amaranth calls it as the module that it stands in.
        give(memory["name"], f"{_NUMBERED.sub('', memory['name'])}_words")
    wires = [wire for wire in _WIRE.finditer(module) if "." not in wire["name"] and "[" not in wire["name"]]
    ports_of = _ports_of_submodules(module, cells)
    sharing = defaultdict(list)
    for wire in wires:
        if top and wire["port"]:
            give(wire["name"], wire["name"])
        elif not _PART_OF_A_SIGNAL.fullmatch(wire["name"]):
            sharing[_NUMBERED.sub("", wire["name"])].append(wire)
    later = []
    for base, group in sharing.items():
        if len(group) == 1 and base not in taken:
            give(group[0]["name"], base)
        else:
            later += [(wire, base) for wire in group]
    # The module's own ports first, whose names its parent uses.
    for wire, base in sorted(later, key=lambda item: not item[0]["port"]):
        give(wire["name"], ports_of.get(wire["name"], base) if not wire["port"] else base)
    for wire in wires:
        if wire["name"] not in names:
            give(wire["name"], _part(wire["name"], module, names, outer))
    return names


def _ports_of_submodules(module: str, cells: list[re.Match[str]]) -> dict[str, str]:
    """For each wire that is a port of a submodule, ``\\submodule__port``: what the port is connected to, or
    another name for that.
    """
    ports = defaultdict(list)
    for cell in cells:
        for port in _PORT.finditer(cell["body"]):
            if not port["port"].startswith("port$"):
                key = _NUMBERED.sub("", port["port"]), port["value"].partition(" [")[0]
                ports[key].append(f"{_NUMBERED.sub('', cell['name'])}__{key[0]}")
    found = {}
    for wire, value in [*((wire["name"], wire["name"]) for wire in _WIRE.finditer(module)),
                        *_CONNECTED.findall(module)]:  # fmt: skip
        wishes = ports[_NUMBERED.sub("", wire)[1:], value.partition(" [")[0]]
        if wishes:
            found[wire] = wishes.pop(0)
    return found


def _part(name: str, module: str, names: Mapping[str, str], outer: Mapping[str, str]) -> str:
    """What the port ``name``, a part of a signal, is called for."""
    for wire, value in _CONNECTED.findall(module):
        if name in value.split() and wire in names:
            low = 0
            for part in reversed(_parts(value)):
                width = _width(part)
                if part.startswith(f"{name} ") and width is not None:
                    return f"{names[wire]}__{low + width - 1}_{low}"
                if width is None:
                    break
                low += width
    source = _WHOLE.fullmatch(outer.get(name, ""))
    if source and not source[2]:
        return _NUMBERED.sub("", source[1])
    if source:
        return f"{_NUMBERED.sub('', source[1])}__{source[2]}_{source[3] or source[2]}"
    return "\\part"


def _parts(value: str) -> list[str]:
    """The parts of a concatenation, the highest first; of anything else, itself."""
    if not value.startswith("{"):
        return [value]
    return re.findall(r"\S+(?: \[[\d:]+\])?", value.strip("{} "))


def _width(part: str) -> int | None:
    """How wide a part is, where it says so."""
    if bits := re.fullmatch(r"\S+ \[(\d+)(?::(\d+))?\]", part):
        return int(bits[1]) - int(bits[2] or bits[1]) + 1
    if constant := re.fullmatch(r"(\d+)'\S+", part):
        return int(constant[1])
    return None


def _with_new(text: str, names: Mapping[str, str]) -> str:
    return _NAME.sub(lambda found: _renamed(found[0], names), text)


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """The new name of a wire, or of a field of one (``\\info.spi``, ``\\counts[2]``)."""
    if name in names:
        return names[name]
    base = name.partition(".")[0].partition("[")[0]
    return names.get(base, base) + name[len(base) :]


def _with_names(module: str, renamings: Mapping[str, _Renaming]) -> str:
    kind = _module_name(module)
    names = renamings[kind].names
    inner: dict[str, str] = {}  # Names of the ports of the cell that the line stands in.
    lines = []
    for line in module.splitlines(keepends=True):
        word, _, rest = line.strip().partition(" ")
        if word == "module":
            line = f"module {renamings[kind].module}\n"
        elif word == "cell":
            cell, _, name = rest.partition(" ")
            inner = renamings[cell].names if cell in renamings else {}
            cell = renamings[cell].module if cell in renamings else cell
            line = f"  cell {cell} {names.get(name, name)}\n"
        elif word == "connect" and line.startswith("    "):
            port, _, value = rest.partition(" ")
            value = _with_new(value, names)
            line = f"    connect {inner.get(port, port)} {value}\n"
        elif word == "parameter" and rest.startswith("\\MEMID "):
            memory = rest.partition(" ")[2].strip('"')[1:]
            line = f'    parameter \\MEMID "\\{names[memory]}"\n'
        elif word not in ("attribute", "parameter"):
            line = _with_new(line, names)
        lines.append(line)
    return "".join(lines)


# Widths

_RESULT_WIDE = {"$and", "$or", "$xor", "$add", "$sub", "$mul"}
_COMPARISONS = {"$eq", "$ne", "$lt", "$le", "$gt", "$ge"}
_ONE_OPERAND = {"$not", "$neg"}
_DIVISIONS = {"$divfloor", "$modfloor"}
_SHIFTS = {"$shl", "$shr", "$sshr", "$shift"}
_ALWAYS: dict[tuple[str, str, str], str] = {
    ("$ge", "B", "0"): "1'1",
    ("$lt", "B", "0"): "1'0",
    ("$gt", "B", "1"): "1'0",
    ("$le", "B", "1"): "1'1",
    ("$le", "A", "0"): "1'1",
    ("$gt", "A", "0"): "1'0",
    ("$lt", "A", "1"): "1'0",
    ("$ge", "A", "1"): "1'1",
}
"""Comparisons of unsigned operands that have one answer: with 0 or with ones, on which side."""


def widened(module: str) -> str:
    """A module whose operators have operands as wide as linters expect: as their result, or, of a comparison,
    as the other one. Comparisons that cannot come out otherwise are what they come out as: a linter takes
    them for mistakes, and here they come of parameters.
    """
    return _CELL.sub(_widen, module)


def _widen(cell: re.Match[str]) -> str:
    kind = cell["kind"]
    if kind not in _RESULT_WIDE | _COMPARISONS | _ONE_OPERAND | _DIVISIONS | _SHIFTS:
        return cell[0]
    parameters = dict(re.findall(r"^    parameter \\(\S+) (\d+)$", cell["body"], re.MULTILINE))
    width = {side: int(parameters[f"{side}_WIDTH"]) for side in "ABY" if f"{side}_WIDTH" in parameters}
    signed = parameters["A_SIGNED"] == "1"
    ports = {port["port"]: port["value"] for port in _PORT.finditer(cell["body"])}
    extra = ""
    if kind in _COMPARISONS | _DIVISIONS:
        wanted = dict.fromkeys("AB", max(width["A"], width["B"]))
    elif kind in _SHIFTS:
        wanted = {"A": max(width["A"], width["Y"])}
        if width["Y"] < width["A"]:
            # All of it is shifted, and a part of that is the result.
            whole = f"{cell['name']}.whole"
            extra = (
                f"  wire width {width['A']} {whole}\n  connect {ports['Y']} {whole} [{width['Y'] - 1}:0]\n"
            )
            ports["Y"], width["Y"] = whole, width["A"]
    else:
        wanted = dict.fromkeys("AB" if "B" in ports else "A", width["Y"])
    for side, bits in wanted.items():
        ports[side] = _as_wide(ports[side], width[side], bits, parameters[f"{side}_SIGNED"] == "1")
        width[side] = bits
    if kind in _COMPARISONS and not signed:
        for side in "AB":
            if answer := _ALWAYS.get((kind, side, _all_the_same(ports[side]))):
                return f"  connect {ports['Y']} {answer}"
    body = "".join(
        [
            *(
                f"    parameter \\{name} {width[name[0]] if name.endswith('_WIDTH') else value}\n"
                for name, value in parameters.items()
            ),
            *(f"    connect \\{name} {value}\n" for name, value in ports.items()),
        ]
    )
    return f"{extra}  cell {kind} {cell['name']}\n{body}  end"


def _as_wide(value: str, has: int, wanted: int, signed: bool) -> str:
    """``value`` of ``has`` bits, with ``wanted`` ones."""
    if constant := re.fullmatch(r"\d+'([01x-]*)|\{ *\}", value):
        bits = constant[1] or ""
        fill = bits[0] if signed and bits else "0"
        return f"{wanted}'{bits.rjust(wanted, fill)[-wanted:]}"
    if wanted < has:
        return f"{value} [{wanted - 1}:0]"
    if wanted == has:
        return value
    if signed:
        return "{ " + f"{value} [{has - 1}] " * (wanted - has) + f"{value} }}"
    return f"{{ {wanted - has}'{'0' * (wanted - has)} {value} }}"


def _all_the_same(value: str) -> str:
    """``0`` or ``1`` where ``value`` is a constant of such bits alone."""
    constant = re.fullmatch(r"\d+'(0+|1+)", value)
    return constant[1][0] if constant else ""
