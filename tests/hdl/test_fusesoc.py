# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Core files and the generator, by FuseSoC's own reader; tests/install/test_examples.py has FuseSoC run them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fusesoc.capi2.coreparser import Core2Parser
from fusesoc.core import Core

from spigate import __version__
from spigate.hdl import fusesoc
from spigate.hdl.contract.parameters import PARAMETERS
from spigate.hdl.export import export
from spigate.sim.build import need
from tests.hdl.standin import StandIn

ROOT = Path(__file__).resolve().parents[2]
OURS = ["spigate.core", "hdl/generator.core"]


def read(path: Path) -> Core:
    """A core file as FuseSoC reads it: what it does not know is an error."""
    return Core(Core2Parser(allow_additional_properties=False), str(path))


@pytest.mark.parametrize("name", OURS)
def test_our_core_files_are_of_this_version(name):
    assert read(ROOT / name).name.version == __version__


def test_the_generator_tells_its_parameters():
    usage = read(ROOT / "hdl/generator.core").get_generators({})["spigate"]["usage"]
    told = re.search(r"underscore where the option has a hyphen: (.*?)\.", usage, re.DOTALL)[1]
    assert re.split(r",\s+", told) == [*PARAMETERS, "engine", "technology"]


def test_a_core_file_beside_the_verilog(tmp_path):
    core = read(fusesoc.write_core(tmp_path / "gate.core", tmp_path / "rtl/spigate.v"))
    assert str(core.name) == f"spigate:ipsec:gate:{__version__}"
    [file] = core.get_files({"is_toplevel": True})
    assert (file["name"], file["file_type"]) == ("rtl/spigate.v", "verilogSource")
    assert core.get_toplevel({"is_toplevel": True}) == "spigate"


def test_a_core_file_that_fusesoc_would_not_find_is_refused(tmp_path):
    with pytest.raises(ValueError, match="gate.yml must end in .core: FuseSoC finds core files by that"):
        fusesoc.write_core(tmp_path / "gate.yml", tmp_path / "spigate.v")
    with pytest.raises(ValueError, match="spigate.v must be in the folder of .*/a/gate.core, or below it"):
        fusesoc.write_core(tmp_path / "a/gate.core", tmp_path / "spigate.v")


def generator(folder: Path, parameters) -> subprocess.CompletedProcess:
    """The generator, run as FuseSoC does."""
    folder.mkdir()
    request = {"gapi": "1.0", "vlnv": "a:b:c:1.0.0", "files_root": str(folder), "parameters": parameters}
    (folder / "request.yml").write_text(yaml.safe_dump(request))
    return subprocess.run(
        [sys.executable, ROOT / "hdl/fusesoc.py", "request.yml"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"dfez": 1}, f"there is no parameter dfez; there are {', '.join(PARAMETERS)}, engine, technology"),
        ({"dfes": 9}, "dfes must be 1 to 8, not 9"),
        ({"dfes": "2"}, "dfes must be 1 to 8, not '2'"),
        ({"engine": "fast"}, "engine must be one of compact, gcm, gcm-small, cbc-sha256, not 'fast'"),
        ({"sa_entries": 4096, "technology": "ecp5"}, "sa_entries must be at most 2048 on ecp5, not 4096"),
    ],
)
def test_the_generator_refuses_by_name(parameters, said, tmp_path):
    shown = generator(tmp_path / "made", parameters)
    assert (shown.returncode, shown.stdout, shown.stderr) == (2, "", f"spigate: {said}\n")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["request.yml"]


@pytest.mark.slow
def test_the_generator_leaves_verilog_and_core_file(tmp_path):
    shown = generator(tmp_path / "made", {"dfes": 1, "beat_bytes": 8, "engine": "gcm"})
    assert shown.returncode == 0, shown.stderr
    core = read(tmp_path / "made/spigate.core")
    assert str(core.name) == "a:b:c:1.0.0"
    [file] = core.get_files({"is_toplevel": False})
    text = (tmp_path / "made" / file["name"]).read_text()
    assert re.search(r"^//     dfes +1\n", text, re.M) and re.search(r"^//     engine +gcm\n", text, re.M)


def test_the_simulation_of_the_core_file_can_fail(tmp_path):
    """The stand-in has the registers of a gateway; then another number is asked for."""
    iverilog, vvp = (need(name, "iverilog", "This test") for name in ("iverilog", "vvp"))
    core = export(StandIn(beat_bytes=8), tmp_path / "spigate.v")
    bench = (ROOT / "sim/identify.v").read_text()

    def run(text: str) -> tuple[int, str]:
        (tmp_path / "identify.v").write_text(text)
        subprocess.run([iverilog, "-o", "x", "identify.v", core], cwd=tmp_path, check=True)
        shown = subprocess.run([vvp, "-n", "x"], cwd=tmp_path, capture_output=True, text=True, check=False)
        return shown.returncode, re.search(r"(PASS|FAIL): .*", shown.stdout)[0]

    assert run(bench) == (0, "PASS: the core says that it is a spigate")
    assert run(bench.replace("32'h53504947", "32'h1")) == (1, "FAIL: read 53504947, response 00")
    assert run(bench.replace("arvalid <= 1", "arvalid <= 0")) == (1, "FAIL: no answer in 1024 clocks")
