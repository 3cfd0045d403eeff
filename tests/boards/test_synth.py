# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import argparse
import json
import os
import signal
import subprocess
import sys

import pytest

from spigate.boards import synth
from spigate.boards.tools import ToolFailed, call
from spigate.hdl.net.fifo import PacketFifo


def report(path, fmax):
    cells = {"TRELLIS_COMB": 100, "TRELLIS_FF": 50, "DP16KD": 4, "MULT18X18D": 0}
    path.write_text(
        json.dumps({"fmax": fmax, "utilization": {name: {"used": used} for name, used in cells.items()}})
    )
    return path


@pytest.mark.slow
def test_measures_a_block_through_the_tools():
    told = []
    measured = synth.measure(
        {"queue": lambda: PacketFifo(beat_bytes=8, depth=256)},
        synth.Target("um5g-25k", 8, 120),
        {"queue": [1, 2]},
        lambda job, text: told.append((job, text)),
    )
    (area,) = measured.areas
    results = sorted(measured.results, key=lambda result: result.seed)
    assert [(result.block, result.seed) for result in results] == [("queue", 1), ("queue", 2)]
    for result in results:
        # Nothing comes and goes between packing and routing.
        assert (area.block, area.luts, area.ffs, area.ebr) == (
            "queue",
            result.luts,
            result.ffs,
            result.ebr,
        )
        # 69 bits and more of 256 words are two block RAMs of 36 bits; the pointers are some dozens of LUTs.
        assert result.ebr == 2 and result.dsp == 0
        assert 20 < result.luts < 300 and 20 < result.ffs < 300
        assert result.mhz > 120
        assert (f"queue, seed {result.seed}", f"{result.mhz} MHz") in told
    assert told[:3] == [("queue", "synthesis"), ("queue", "packing"), ("queue", str(area))]


def test_of_the_area_alone_nothing_is_placed(monkeypatch):
    monkeypatch.setattr(synth, "route", None)
    measured = synth.measure(
        {"queue": lambda: PacketFifo(beat_bytes=8, depth=256)}, synth.Target("um5g-25k", 8, 120), {}
    )
    assert [area.block for area in measured.areas] == ["queue"] and not measured.results
    assert synth.markdown(measured).splitlines()[:2] == [
        "| block | LUTs | FFs | EBR | DSP |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]


def test_what_is_done_is_kept_when_a_later_block_fails(monkeypatch):
    measured, made = synth.Measured([], []), synth.netlist

    def netlist(text):
        if "module_that_fails" in text:
            raise ToolFailed("yosys ended with 1")
        return made(text)

    monkeypatch.setattr(synth, "netlist", netlist)
    monkeypatch.setattr(synth, "AT_ONCE", 1)
    sources = {"first": synth.source(PacketFifo(beat_bytes=8, depth=256)), "second": "module_that_fails"}
    monkeypatch.setattr(synth, "source", lambda block: sources[block])
    with pytest.raises(ToolFailed):
        synth.measure(
            {"first": lambda: "first", "second": lambda: "second"},
            synth.Target("um5g-25k"),
            {},
            into=measured,
        )
    assert [area.block for area in measured.areas] == ["first"]


@pytest.mark.slow
def test_stopped_it_tells_what_is_done(tmp_path):
    """Ctrl-C while a block is placed: the table and the file have what is known, and no tool goes on."""
    words = "--blocks --engine gcm-small --json".split()
    with subprocess.Popen(
        [sys.executable, "-m", "spigate.firmware_py.cli", "synth", *words, str(tmp_path / "synth.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "200"},
    ) as process:
        line = next(line for line in process.stdout if "block RAMs" in line)
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and errors == "spigate synth: stopped\n"
    block, _, area = line.strip().partition(": ")
    (found, *_) = json.loads((tmp_path / "synth.json").read_text())["areas"]
    assert block in shown and str(found["luts"]) in shown
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.slow
def test_tells_how_far_place_and_route_is(tmp_path):
    told = []
    text = synth.source(PacketFifo(beat_bytes=8, depth=64))
    synth.route(
        "queue", synth.netlist(text + f"// {tmp_path}"), synth.Target("um5g-25k", 8, 90), 3, told.append
    )
    for start in ("placement, wires of length ", "better placement, step 1, ", "routing, "):
        assert any(line.startswith(start) for line in told), start


@pytest.mark.parametrize(
    "fmax, message",
    [
        (
            {"$PACKER_clk": {"achieved": 150, "constraint": 12}},
            "x: the clock was constrained to 12 MHz, not 100",
        ),
        (
            {"other": {"achieved": 150, "constraint": 100}},
            "x: one clock 'clk' expected, nextpnr timed .*other",
        ),
        ({}, "x: one clock 'clk' expected"),
    ],
)
def test_finds_a_constraint_that_was_not_applied(fmax, message, tmp_path):
    with pytest.raises(ToolFailed, match=message):
        synth.read_report(report(tmp_path / "r.json", fmax), "x", synth.Target(), 1, 1)


def test_the_table_has_the_worst_seed_of_each_block(tmp_path):
    path = report(tmp_path / "r.json", {"clk": {"achieved": 110.04, "constraint": 100}})
    first = synth.read_report(path, "CFE", synth.Target(), 1, 2.5)
    assert (first.luts, first.ffs, first.ebr, first.mhz) == (100, 50, 4, 110.0)
    slower = synth.Result("CFE", 2, 101, 50, 4, 0, 99.5, 2.0)
    other = synth.Result("DFE", 1, 7, 8, 9, 0, 200.0, 1.0)
    assert synth.worst([first, slower, other]) == [slower, other]
    areas = [synth.Area("CFE", 101, 50, 4, 0), synth.Area("DFE", 7, 8, 9, 0), synth.Area("CAM", 5, 6, 7, 0)]
    assert synth.markdown(synth.Measured(areas, [first, slower, other])).splitlines() == [
        "| block | LUTs | FFs | EBR | DSP | MHz | worst seed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| CFE | 101 | 50 | 4 | 0 | 99.5 | 2 |",
        "| DFE | 7 | 8 | 9 | 0 | 200.0 | 1 |",
        "| CAM | 5 | 6 | 7 | 0 |  |  |",
    ]


def test_says_what_a_tool_did_not_like(tmp_path):
    with pytest.raises(ToolFailed, match="(?s)yosys ended with 1:.*there_is_none.v"):
        call("yosys", "-q", "-p", "read_verilog there_is_none.v", folder=tmp_path)


def test_options(capsys):
    parser = argparse.ArgumentParser()
    synth.add_arguments(parser)
    args = parser.parse_args("--seeds 4,5 --device 45k --speed 6 --blocks".split())
    assert (args.seeds, args.device, args.speed, args.blocks) == ([4, 5], "45k", 6, True)
    with pytest.raises(SystemExit):
        parser.parse_args(["--seeds", "one"])
    assert "seeds must be numbers with commas between, not 'one'" in capsys.readouterr().err
