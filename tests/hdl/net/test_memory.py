# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import json
import random
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from amaranth.back import verilog
from amaranth.hdl import Module
from amaranth.lib import wiring

from spigate.boards.tools import call
from spigate.hdl.net.memory import ECP5, ECP5_BLOCKS, BlockMemory
from spigate.sim.build import need
from tests.hdl.streams import simulate

HERE = Path(__file__).parent
LATTICE = SimpleNamespace(technology=ECP5)
SHAPES = [
    *((width, depth, None) for depth, width in ECP5_BLOCKS.items()),
    (128, 208, None),
    (134, 600, None),
    (64, 64, 32),
    (5, 3000, None),
]


def accesses(width, depth, lanes, count=600):
    """Random clocks, without a read in the clock of a write to the same word."""
    rng = random.Random(width * depth)
    hot = [0, 1, depth - 1, *(rng.randrange(depth) for _ in range(5))]
    for _ in range(count):
        write, read = rng.choice(hot), rng.choice(hot)
        enable = 0 if read == write else rng.getrandbits(lanes)
        yield write, rng.getrandbits(width), enable, read, rng.random() < 0.7


def expected(width, depth, granularity, clocks):
    """What ``read_data`` is after each clock."""
    words, first, second = [0] * depth, None, None
    for write, value, enable, read, reading in clocks:
        if reading:
            first, second = words[read], first
        for lane in range(width // granularity):
            if enable >> lane & 1:
                mask = (1 << granularity) - 1 << lane * granularity
                words[write] = words[write] & ~mask | value & mask
        yield second


@pytest.mark.parametrize("width, depth, granularity", SHAPES[-4:])
def test_keeps_words(width, depth, granularity):
    memory = BlockMemory(width=width, depth=depth, granularity=granularity)
    lanes = width // (granularity or width)
    clocks = list(accesses(width, depth, lanes))

    async def check(ctx):
        for clock, after in zip(clocks, expected(width, depth, granularity or width, clocks), strict=True):
            for name, value in zip(
                ("write_address", "write_data", "write_enable", "read_address", "read_enable"),
                clock,
                strict=False,
            ):
                ctx.set(getattr(memory, name), value)
            await ctx.tick()
            if after is not None:
                assert ctx.get(memory.read_data) == after

    simulate(memory, check)


@pytest.mark.parametrize("width, depth, granularity", SHAPES)
def test_the_ecp5_form_keeps_words(width, depth, granularity, tmp_path):
    lanes = width // (granularity or width)
    memory = BlockMemory(width=width, depth=depth, granularity=granularity)
    (tmp_path / "memory.v").write_text(verilog.convert(memory, name="memory", platform=LATTICE))
    clocks = list(accesses(width, depth, lanes))
    rows = []
    for clock, after in zip(clocks, expected(width, depth, granularity or width, clocks), strict=True):
        *stimulus, reading = clock
        rows.append(
            f"{int(after is not None):x} {after or 0:x} {int(reading):x} "
            + " ".join(f"{n:x}" for n in stimulus)
        )
    (tmp_path / "clocks.txt").write_text("\n".join(rows) + "\n")
    address = (depth - 1).bit_length()
    (tmp_path / "bench.v").write_text(f"""
        module bench;
            reg clk = 0, known, reading; reg [{width - 1}:0] after, data; reg [{lanes - 1}:0] enable;
            reg [{address - 1}:0] write, read; wire [{width - 1}:0] q;
            memory memory(.clk(clk), .rst(1'b0), .write_address(write), .write_data(data), .write_enable(enable),
                .read_address(read), .read_enable(reading), .read_data(q));
            integer file, got, clocks = 0;
            initial begin
                file = $fopen("clocks.txt", "r");
                while (!$feof(file)) begin
                    got = $fscanf(file, "%h %h %h %h %h %h %h\\n", known, after, reading, write, data, enable, read);
                    #1 clk = 1; #1 clk = 0; clocks = clocks + 1;
                    if (known && q !== after) $display("clock %0d: %h, not %h", clocks, q, after);
                end
                $display("%0d clocks", clocks);
            end
        endmodule""")
    # The converted memory has no reset port where nothing is reset.
    if not re.search(r"\binput rst\b", (tmp_path / "memory.v").read_text()):
        (tmp_path / "bench.v").write_text((tmp_path / "bench.v").read_text().replace(".rst(1'b0), ", ""))
    subprocess.run(
        [
            need("iverilog", "iverilog", "This test"),
            "-g2005-sv",
            "-s",
            "bench",
            "-o",
            "bench",
            "bench.v",
            "memory.v",
            str(HERE / "dp16kd.v"),
        ],
        cwd=tmp_path,
        check=True,
    )
    output = subprocess.run(
        ["vvp", "-n", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert output.split("\n")[:-1] == [f"{len(clocks)} clocks"]


def pins(netlist, module):
    """The connections of the only DP16KD in ``module`` to ports and constants, by pin."""
    module = json.loads(netlist.read_text())["modules"][module]
    names = {
        bit: f"{name}[{at}]" for name, port in module["ports"].items() for at, bit in enumerate(port["bits"])
    }
    (cell,) = (cell for cell in module["cells"].values() if cell["type"] == "DP16KD")
    return {
        pin: names.get(bit, bit)
        for pin, (bit,) in cell["connections"].items()
        if bit in names or bit in ("0", "1")
    }


@pytest.mark.slow
@pytest.mark.parametrize("depth, width", ECP5_BLOCKS.items())
def test_connects_pins_as_yosys_does(depth, width, tmp_path):
    memory = BlockMemory(width=width, depth=depth)
    (tmp_path / "ours.v").write_text(verilog.convert(memory, name="ours", platform=LATTICE))
    (tmp_path / "theirs.v").write_text(f"""
        module theirs(input clk, input write_enable, input read_enable,
                      input [{(depth - 1).bit_length() - 1}:0] write_address, read_address, input [{width - 1}:0] write_data, output reg [{width - 1}:0] read_data);
            (* no_rw_check, ram_style = "block" *) reg [{width - 1}:0] words [0:{depth - 1}];
            always @(posedge clk) begin
                if (write_enable) words[write_address] <= write_data;
                if (read_enable) read_data <= words[read_address];
            end
        endmodule""")
    for name in ("ours", "theirs"):
        call(
            "yosys",
            "-q",
            "-p",
            f"read_verilog {name}.v; synth_ecp5 -top {name} -json {name}.json",
            folder=tmp_path,
        )
    ours, theirs = pins(tmp_path / "ours.json", "ours"), pins(tmp_path / "theirs.json", "theirs")
    # The output register's enables are what yosys cannot do.
    for pin in theirs.keys() & ours.keys() - {"OCEA", "OCEB"}:
        assert ours[pin] == theirs[pin], pin
    assert {pin for pin, net in theirs.items() if net not in ("0", "1")} <= ours.keys()
    assert ours["OCEB"] == "read_enable[0]"


class Registered(wiring.Component):
    """A memory between registers, so that all its paths are timed."""

    def __init__(self, **shape):
        self.memory = BlockMemory(**shape)
        super().__init__(dict(self.memory.signature.members.items()))

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = self.memory
        for name, member in self.signature.members.items():
            inner, outer = getattr(self.memory, name), getattr(self, name)
            m.d.sync += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
        return m


@pytest.mark.slow
@pytest.mark.parametrize("shape", [dict(width=72, depth=1024), dict(width=128, depth=208, granularity=32)])
def test_place_and_route_finds_the_output_register(shape, tmp_path):
    (tmp_path / "top.v").write_text(verilog.convert(Registered(**shape), name="top", platform=LATTICE))
    call("yosys", "-q", "-p", "read_verilog top.v; synth_ecp5 -top top -json top.json", folder=tmp_path)
    call(
        "nextpnr-ecp5",
        "--um5g-25k",
        "--speed",
        "8",
        "--package",
        "CABGA381",
        "--out-of-context",
        "--json",
        "top.json",
        "--freq",
        "300",
        "--report",
        "report.json",
        folder=tmp_path,
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["utilization"]["DP16KD"]["used"] == 4
    assert report["utilization"]["TRELLIS_COMB"]["used"] < 20
    # Without output registers 186 MHz is the limit.
    (clock,) = report["fmax"].values()
    assert clock["constraint"] == pytest.approx(300) and clock["achieved"] > 260


@pytest.mark.filterwarnings("ignore::amaranth.UnusedElaboratable")
def test_refuses_shapes_that_make_no_sense():
    with pytest.raises(ValueError, match="depth must be 2 or more, not 1"):
        BlockMemory(width=8, depth=1)
    with pytest.raises(ValueError, match="granularity 7 does not divide width 32"):
        BlockMemory(width=32, depth=8, granularity=7)
    with pytest.raises(ValueError, match="depth must be up to 16384 on ECP5, not 20000"):
        BlockMemory(width=8, depth=20000).elaborate(LATTICE)
