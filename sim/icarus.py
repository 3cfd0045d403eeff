# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Verilog that Icarus simulates faster, and that says the same.

Icarus evaluates XOR and AND of wires bit by bit, and each when one of its operands changes. In a process
AND, OR and NOT work on whole words, and a chain of them runs once.
"""

import re
from collections.abc import Mapping
from graphlib import TopologicalSorter

from spigate.hdl.verilog import modules

WIDE = 32
"""Bits from which on it is worth it."""
WAKE = "_wake_xor_"
_NAME = r"(?:\\\S+|[A-Za-z_]\w*)"
_PART = re.compile(rf"{_NAME} *(?:\[\d+(?::\d+)?\])?")
_CONSTANT = re.compile(r"\d+'h[0-9a-fx]+")
_WIRE = re.compile(rf"^  wire \[(\d+):0\] ({_NAME}) *;$", re.MULTILINE)
_ASSIGN = re.compile(rf"^  assign ({_NAME}) *= (.*);$", re.MULTILINE)
_PLAIN = re.compile(r"[\s,{}^&|~@]*")


def faster(text: str) -> str:
    """Rewrites a file of Verilog as :mod:`spigate.hdl.verilog` makes it: in each module the assignments to
    wires of
    :data:`WIDE` bits or more that are made of XOR, AND, OR and NOT, and hang together, become one process.
    """
    return "".join(map(_module, modules(text)))


def _module(text: str) -> str:
    wide = {found[2] for found in _WIRE.finditer(text) if int(found[1]) + 1 >= WIDE}
    logic = {
        found[1]: found[2] for found in _ASSIGN.finditer(text) if found[1] in wide and _bitwise(found[2])
    }
    needs = {
        name: [part for part in map(_bare, _PART.findall(_CONSTANT.sub("", value))) if part in logic]
        for name, value in logic.items()
    }
    chains = [chain for chain in _chains(needs) if any(" ^ " in logic[name] for name in chain)]
    for name in (name for chain in chains for name in chain):
        escaped = re.escape(name)
        text = re.sub(rf"^  wire (\[\d+:0\] {escaped} *;)$", r"  reg \1", text, flags=re.MULTILINE)
        text = re.sub(rf"^  assign {escaped} *= .*;\n", "", text, flags=re.MULTILINE)
    if not chains:
        return text
    # What listens to nothing that ever changes has to be woken once.
    processes = [f"  reg {WAKE};\n  initial {WAKE} <= 0;\n"]
    for chain in chains:
        rows = "".join(f"    {name} = {_without_xor(logic[name])};\n" for name in chain)
        processes.append(f"  always @* begin\n    if ({WAKE}) begin end\n{rows}  end\n")
    return text.replace("endmodule\n", "".join(processes) + "endmodule\n")


def _bare(part: str) -> str:
    """A name without the bits that are meant."""
    found = re.match(_NAME, part)
    if not found:
        raise ValueError(f"{part!r} does not begin with a name")
    return found[0]


def _bitwise(value: str) -> bool:
    """Whether an expression is one bitwise operation on names, parts of them, constants and
    concatenations.
    """
    skeleton = _PART.sub("@", _CONSTANT.sub("@", value))
    return bool(_PLAIN.fullmatch(skeleton)) and len(re.findall(r"[\^&|~]", skeleton)) == 1


def _without_xor(value: str) -> str:
    one, operator, other = value.partition(" ^ ")
    return f"({one} | {other} ) & ~({one} & {other} )" if operator else value


def _chains(needs: Mapping[str, list[str]]) -> list[list[str]]:
    """Names that hang together, each behind those that it needs."""
    chain_of: dict[str, set[str]] = {name: {name} for name in needs}
    for name, others in needs.items():
        for other in others:
            if chain_of[name] is not chain_of[other]:
                chain_of[name] |= chain_of[other]
                for member in chain_of[other]:
                    chain_of[member] = chain_of[name]
    ordered: dict[int, list[str]] = {}
    for name in TopologicalSorter(needs).static_order():
        ordered.setdefault(id(chain_of[name]), []).append(name)
    return list(ordered.values())
