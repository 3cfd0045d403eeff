# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Who may import whom: docs/architecture.md draws it, this holds it. And how long a function may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASE = "firmware_py"
"""Errors, TOML, what is shown: for all rooms of the host."""
ROOMS = [
    "hdl.contract",
    BASE,
    "firmware_py.ipsec",
    "firmware_py.tables",
    "firmware_py.api",
    "firmware_py.selftest",
    "firmware_py.control",
    "firmware_py.captures",
    "firmware_py.ike.wire",
    "firmware_py.ike.crypto",
    "firmware_py.ike.peers",
    "firmware_py.ike.engine",
    "firmware_py.daemon",
]
"""Each imports from itself and from those before it."""
APART = {
    ("firmware_py.ike", room)
    for room in (
        "firmware_py.tables",
        "firmware_py.api",
        "firmware_py.selftest",
        "firmware_py.control",
        "firmware_py.captures",
    )
}
"""IKE knows nothing of a gateway's tables."""


def room(module: str) -> str | None:
    """The room of a module (without the project's name), or None: gateware, simulation, boards."""
    return max(
        (each for each in ROOMS if module == each or module.startswith(each + ".")), key=len, default=None
    )


def imports(path: Path) -> list[str]:
    """The modules that a file imports, also inside functions; names of a package's modules as modules."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                below = ROOT / (node.module + "." + each.name).replace(".", "/")
                found.append(
                    f"{node.module}.{each.name}"
                    if below.with_suffix(".py").exists() or below.is_dir()
                    else node.module
                )
    return found


def modules(*folders: str) -> list[tuple[str, Path]]:
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts), path)
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def own(path: Path) -> list[str]:
    """What a file imports of the project, without the project's name."""
    return [each.removeprefix("spigate.") for each in imports(path) if each.startswith("spigate.")]


def against(module: str, imported: str) -> str | None:
    """What is wrong with an import inside the host's half, or None."""
    mine, its = room(module), room(imported)
    if its is None:
        return "the host's half knows of gateware only the contract"
    if ROOMS.index(its) > ROOMS.index(mine):
        return f"{mine} is below {its}"
    if any(mine.startswith(one) and its == other for one, other in APART):
        return f"{mine} and {its} are apart"
    return None


@pytest.mark.parametrize(
    ("module", "imported", "wrong"),
    [
        ("firmware_py.ipsec.esp", "firmware_py.tables.rows", True),
        ("firmware_py.tables.rows", "firmware_py.ipsec.sa", False),
        ("firmware_py.ike.wire.message", "firmware_py.ike.engine.endpoint", True),
        ("firmware_py.ike.engine.endpoint", "firmware_py.tables.bus", True),
        ("firmware_py.tables.driver", "hdl.contract.rdl", False),
        ("firmware_py.tables.driver", "hdl.net.descriptor", True),
        ("firmware_py.api.gateway", "firmware_py.tables.driver", False),
        ("firmware_py.api.gateway", "firmware_py.control.element", True),
        ("firmware_py.errors", "firmware_py.ipsec.sa", True),
    ],
)
def test_an_import_against_the_layout_is_seen(module, imported, wrong):
    assert (against(module, imported) is not None) == wrong


def test_the_host_imports_from_the_rooms_below():
    wrong = [
        (module, imported, why)
        for module, path in modules("firmware_py")
        if module != "firmware_py.cli"
        for imported in own(path)
        if (why := against(module, imported))
    ]
    assert not wrong


def test_the_contract_needs_no_gateware_tools_and_no_control_element():
    found = {imported.split(".")[0] for _, path in modules("hdl/contract") for imported in imports(path)}
    assert found <= {
        "spigate",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "pathlib",
        "struct",
        "systemrdl",
        "textwrap",
    }
    assert all(
        room(imported) == "hdl.contract" for _, path in modules("hdl/contract") for imported in own(path)
    )


def test_gateware_knows_nothing_of_the_host():
    assert not [
        (module, imported)
        for module, path in modules("hdl")
        for imported in own(path)
        if not imported.startswith("hdl")
    ]


def test_each_room_says_what_it_is_for():
    for each in ROOMS:
        assert ast.get_docstring(ast.parse((ROOT / each.replace(".", "/") / "__init__.py").read_text())), each


LONGEST = 100
"""Lines of a function in hdl/: what a reader sees at once."""


def test_a_function_of_gateware_is_seen_at_once():
    long = [
        f"{module}.{node.name}: {lines} lines"
        for module, path in modules("hdl")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (lines := node.end_lineno - node.lineno + 1) > LONGEST
    ]
    assert not long
