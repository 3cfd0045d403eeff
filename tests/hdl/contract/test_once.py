# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Constants of the contract are written once: nobody writes one again, under its name or as a bare number."""

import ast
import io
import tokenize
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = "hdl/contract"
HALVES = ("firmware_py", "hdl", "sim", "boards")
INDEPENDENT = {"sim/verify.py"}
"""Compares a gateway with Linux, and shares nothing with it on purpose."""
SPELLED = {"0x0800", "0x0806", "0x8100", "0x86dd", "500", "4500"}
"""EtherTypes as everybody writes them, and the ports of IKE."""
MEANT = {"protocol": {1, 4, 6, 17, 41, 50, 51, 58}, "next_header": {4, 41, 50, 51, 59}, "spi": {256}}
"""Numbers that mean what the contract has a name for, where they are compared with what is called so, or handed
over beside that word.
"""
OTHERWISE = {("sim/bench.py", "500"): "half of a thousand keys"}
"""Numbers that happen to be spelled like those."""
FOLDED = {"range": range, "bytes": bytes, "int": int, "len": len}


_tree = cache(ast.parse)


def assigned(text: str) -> dict[str, object]:
    """What a module calls by a name in upper case, by these names without underscores in front: numbers, bytes
    and the like by their value, all else None."""
    found = {}
    for node in _tree(text).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            try:
                value = eval(ast.unparse(node.value), {"__builtins__": FOLDED}, {})
                values = list(value) if isinstance(target, ast.Tuple) else [value]
            except Exception:
                values = [None] * len(names)
            for name, each in zip(names, values, strict=True):
                if isinstance(name, ast.Name) and name.id.isupper():
                    found[name.id.lstrip("_")] = each
    return found


def constants(text: str) -> dict[str, object]:
    """Those of :func:`assigned` whose value is plain; texts are none of the contract's."""
    return {name: value for name, value in assigned(text).items() if not isinstance(value, str | None)}


def again(text: str, names: set[str]) -> set[str]:
    """Those of ``names`` that a module gives a value of its own."""
    return constants(text).keys() & names


def literals(text: str) -> set[str]:
    """Numbers in a module that the contract has a name for, as they are spelled there."""
    found = {
        token.string.lower()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.NUMBER and token.string.lower() in SPELLED
    }
    for node in ast.walk(_tree(text)):
        if isinstance(node, ast.Compare | ast.Call):
            compares = isinstance(node, ast.Compare)
            sides = [node.left, *node.comparators] if compares else node.args
            words = {
                getattr(each, "id", None) or getattr(each, "attr", None)
                if compares
                else getattr(each, "value", None)
                for side in sides
                for each in (ast.walk(side) if compares else [side])
            }
            called = {
                part for part in MEANT if any(isinstance(word, str) and word.endswith(part) for word in words)
            }
            numbers = {
                each.value
                for side in sides
                for each in (side.elts if isinstance(side, ast.Tuple | ast.Set) else [side])
                if isinstance(each, ast.Constant) and type(each.value) is int
            }
            found |= {f"{part} {number}" for part in called for number in numbers & MEANT[part]}
    return found


@cache
def modules(*folders: str) -> list[tuple[str, str]]:
    """Path and text of each module in ``folders``, but for the contract's own and those that are apart."""
    found = [
        (path.relative_to(ROOT).as_posix(), path.read_text())
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    return [(name, text) for name, text in found if not name.startswith(CONTRACT) and name not in INDEPENDENT]


def exported() -> set[str]:
    """The names in upper case of the contract that somebody else uses."""
    own = {path.stem: set(assigned(path.read_text())) for path in (ROOT / CONTRACT).glob("*.py")}
    used = set()
    for _, text in modules(*HALVES):
        for node in ast.walk(_tree(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spigate.hdl.contract."):
                used |= {each.name for each in node.names} & own[node.module.rsplit(".", 1)[1]]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used |= {node.attr} & own.get(node.value.id, set())
    return used


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("FIRST_SPI = 256", {"FIRST_SPI"}),
        ("_FIRST_SPI: int = 300", {"FIRST_SPI"}),
        ("A, MAX_DEPTH = 1, 3", {"MAX_DEPTH"}),
        ("from spigate.hdl.contract.protocols import FIRST_SPI", set()),
        ("ESP = Header('ESP', spi=32)", set()),
        ("def f():\n    FIRST_SPI = 256", set()),
    ],
)
def test_a_second_value_is_seen(text, names):
    assert again(text, {"FIRST_SPI", "MAX_DEPTH", "ESP"}) == names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("port == 4500", {"4500"}),
        ("TYPE = 0x86DD", {"0x86dd"}),
        ("ip.protocol == 50", {"protocol 50"}),
        ("protocol in (50, 51)", {"protocol 50", "protocol 51"}),
        ("256 <= self.spi <= 0xFFFF_FFFF", {"spi 256"}),
        ("number('spi', 256, 0xFFFF_FFFF)", {"spi 256"}),
        ("size == 50 and spi == other", set()),
        ("text = 'port 4500'", set()),
    ],
)
def test_a_bare_number_is_seen(text, found):
    assert literals(text) == found


def test_nobody_gives_a_constant_of_the_contract_a_value_again():
    names = exported()
    assert {"FIRST_SPI", "MAX_DEPTH", "ALIGN", "WAYS", "ROW_WORDS", "CE_HEADER_BYTES"} <= names
    found = {name: twice for name, text in modules(*HALVES) if (twice := again(text, names))}
    assert found == {}


def test_nobody_writes_a_number_that_the_contract_has_a_name_for():
    found = {
        (name, number)
        for name, text in modules(*HALVES)
        for number in literals(text)
        if (name, number) not in OTHERWISE
    }
    assert found == set()


def test_no_two_halves_have_a_constant_of_their_own_with_one_name_and_value():
    """What they have in common belongs into the contract."""
    where = defaultdict(set)
    for name, text in modules("firmware_py", "hdl"):
        for constant, value in constants(text).items():
            where[constant, repr(value)].add(name.split("/")[0])
    assert [key for key, halves in where.items() if len(halves) > 1] == []
