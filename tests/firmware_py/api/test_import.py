# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``import spigate``: what it offers, and how little it does."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import spigate

HEAVY = ("amaranth", "cocotb", "asyncio", "cryptography", "systemrdl", "spigate.hdl", "spigate.firmware_py")
STUBS = Path(spigate.__file__)


def test_the_import_brings_nothing_else():
    """By the modules that it adds, for no machine's time is another one's."""
    added = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; before = set(sys.modules); import spigate; print(*set(sys.modules) - before)",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "spigate" in added and len(added) < 10, added
    assert not [name for name in added for heavy in HEAVY if name == heavy or name.startswith(heavy + ".")]


def test_what_type_checkers_see_is_what_there_is():
    [stubs] = [
        node
        for node in ast.parse(STUBS.read_text()).body
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    seen = {each.asname: f"{node.module}.{each.name}" for node in stubs.body for each in node.names}
    assert seen == {name: f"{home}.{name}" for name, home in spigate._HOME.items()}
    for name, path in seen.items():
        module, _, attribute = path.rpartition(".")
        assert getattr(spigate, name) is getattr(sys.modules[module], attribute)


def test_all_of_it_is_told():
    assert {"open", "Gateway", "Sa", "__version__"} <= set(dir(spigate)) & set(spigate.__all__)
    assert len(spigate.__all__) == len(set(spigate.__all__))
    for name in spigate.__all__:
        assert name == "__version__" or inspect.getdoc(getattr(spigate, name)), name


def test_another_name_is_an_error_that_names_it():
    with pytest.raises(AttributeError, match=r"module 'spigate' has no attribute 'opne'"):
        _ = spigate.opne
    with pytest.raises(ImportError, match="opne"):
        from spigate import opne  # noqa: F401


@pytest.mark.slow
def test_a_script_that_is_wrong_is_wrong_to_mypy(tmp_path):
    (tmp_path / "script.py").write_text(
        "import spigate\n"
        'with spigate.open("model:") as gateway:\n'
        "    gateway.write_route(0, spigate.Route(spigate.Port.SERVER))\n"
        "    frame: bytes = gateway.receive().frame\n"
        "    gateway.send(frame, spigate.Port.SERVER)\n"
        "    spigate.opne()\n"
    )
    shown = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path, "script.py"],
        cwd=tmp_path,
        # Where the checkout is installed as it stands, setuptools' way to it is one that mypy does not go.
        env={**os.environ, "MYPYPATH": str(Path(spigate.__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    errors = [line.split(":")[1] for line in shown.splitlines() if "error:" in line]
    assert errors == ["5", "5", "6"], shown
