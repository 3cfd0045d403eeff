# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import shutil

import pytest

from spigate.firmware_py.errors import ToolMissing
from spigate.hdl.net.fifo import PacketFifo
from spigate.sim import build, cache
from spigate.sim.build import SIMULATORS, BuildFailed, SimulationFailed, simulate_cocotb

pytestmark = pytest.mark.slow

BENCH = "tests.sim.bench_fifo"
BEAT = 0x1122 | 1 << 64 | 2 << 66


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_runs_tests_against_a_component_and_builds_it_once(simulator, monkeypatch):
    values = {"payload": BEAT, "expected": BEAT}
    assert (
        simulate_cocotb(PacketFifo(beat_bytes=8, depth=16), BENCH, simulator=simulator, parameters=values)
        == 1
    )
    monkeypatch.setattr(build, "_call", lambda *_: pytest.fail("built again"))
    assert (
        simulate_cocotb(PacketFifo(beat_bytes=8, depth=16), BENCH, simulator=simulator, parameters=values)
        == 1
    )


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_failed_test_raises_with_the_log(simulator):
    with pytest.raises(SimulationFailed, match=r"1 of 1 tests failed[\s\S]*assert") as caught:
        simulate_cocotb(
            PacketFifo(beat_bytes=8, depth=16),
            BENCH,
            simulator=simulator,
            parameters={"payload": BEAT, "expected": 0},
        )
    assert "passes_a_beat" in caught.value.log.read_text()
    shutil.rmtree(caught.value.log.parent)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_no_test_at_all_raises(simulator):
    with pytest.raises(SimulationFailed) as caught:
        simulate_cocotb(PacketFifo(beat_bytes=8, depth=16), BENCH, simulator=simulator, testcase="absent")
    shutil.rmtree(caught.value.log.parent)


@pytest.mark.parametrize("suffix, first", [(".vcd", b"$date"), (".fst", b"\0\0\0")])
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_writes_a_waveform(simulator, suffix, first, tmp_path):
    """cocotb's runner asks Icarus for FST, whatever the file is called."""
    waveform = (tmp_path / "fifo").with_suffix(suffix)
    simulate_cocotb(
        PacketFifo(beat_bytes=8, depth=16),
        BENCH,
        simulator=simulator,
        waveform=waveform,
        parameters={"payload": BEAT, "expected": BEAT},
    )
    written = waveform.read_bytes()
    assert len(written) > 1000 and written.startswith((first, b"$version") if suffix == ".vcd" else first)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_wrong_verilog_is_refused_with_the_tools_words(simulator, tmp_path):
    (tmp_path / "broken.v").write_text("module broken; wire 1; endmodule\n")
    with pytest.raises(BuildFailed, match="syntax error"):
        simulate_cocotb(tmp_path / "broken.v", BENCH, simulator=simulator)


@pytest.mark.parametrize("simulator, program", [("verilator", "g[+][+]"), ("icarus", "iverilog")])
def test_a_missing_tool_is_named_with_its_package(simulator, program, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match=f"needs {program}.*apt install {program}"):
        simulate_cocotb(PacketFifo(beat_bytes=8, depth=16), BENCH, simulator=simulator)


def test_an_unknown_simulator_is_named():
    with pytest.raises(ValueError, match="verilator, icarus, not 'vcs'"):
        build.build([], top="top", simulator="vcs")


def test_a_model_is_kept_without_what_only_the_compiler_needed(monkeypatch, tmp_path):
    def compile_(command, folder):
        for made in ("top", "Vtop.cpp", "Vtop.o", "Vtop.d", "Vtop__pch.h.fast.gch", "Vtop__ALL.a"):
            (folder / made).write_text("")

    monkeypatch.setenv(cache.FOLDER, str(tmp_path))
    monkeypatch.setattr(build, "_call", compile_)
    model = build.build([], top="top")
    assert sorted(path.name for path in model.folder.iterdir()) == ["Vtop.cpp", "public.vlt", "top"]
