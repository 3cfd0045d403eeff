# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""docs/integration.md beside the core: its instance has every port, its headers are the gateware's."""

import re
import subprocess
from pathlib import Path

import pytest
from amaranth.hdl import Shape
from amaranth.lib.wiring import In

from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import ALIGN, MAX_FRAME
from spigate.hdl.export import Core
from spigate.hdl.gateway import Gateway
from spigate.hdl.net.descriptor import InjectHeader, PuntHeader
from spigate.hdl.net.packet import BEAT_BYTES
from spigate.sim.build import need

PAGE = (Path(__file__).parents[2] / "docs/integration.md").read_text()
INSTANCE = re.search(r"```verilog\n(.*?)```", PAGE, re.DOTALL)[1]


def ports(beat_bytes: int) -> dict[str, tuple[str, int]]:
    """Direction and width of the core's ports, by name."""
    members = Core(Gateway(beat_bytes=beat_bytes, dfes=1)).signature.members
    return {
        "clk": ("input", 1),
        "rst": ("input", 1),
        **{
            name: ("input" if member.flow == In else "output", Shape.cast(member.shape).width)
            for name, member in members.items()
        },
    }


def test_the_instance_connects_every_port_once():
    assert sorted(re.findall(r"\.(\w+)\(", INSTANCE)) == sorted(ports(8))


@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_the_instance_elaborates(beat_bytes, tmp_path):
    """With wires of the widths that the core has."""
    iverilog = need("iverilog", "iverilog", "This test")
    found = ports(beat_bytes)
    nets = dict(re.findall(r"\.(\w+)\((\w+)\)", INSTANCE))
    stub = (
        "module spigate("
        + ", ".join(f"{way} [{width - 1}:0] {name}" for name, (way, width) in found.items())
        + "); endmodule\n"
    )
    wires = "".join(f"wire [{found[port][1] - 1}:0] {net};\n" for port, net in nets.items())
    (tmp_path / "top.v").write_text(f"{stub}module top;\n{wires}{INSTANCE}endmodule\n")
    done = subprocess.run(
        [iverilog, "-Wall", "-Wno-timescale", "-s", "top", "-o", tmp_path / "top", tmp_path / "top.v"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("column", "layout"), [(1, PuntHeader()), (2, InjectHeader())])
def test_the_headers_are_those_of_the_gateware(column, layout):
    """The byte at which the page puts each field."""
    table = PAGE[PAGE.index("| byte | punt | inject |") :]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.split("\n\n")[0].splitlines()[2:]
    ]
    placed = {
        name: int(re.match(r"\d+", row[0])[0])
        for row in rows
        for name in re.findall(r"`(\w+)`", row[column])
        if name in dict(layout)
    }
    expected = {
        name: field.offset // 8 for name, field in layout if name not in ("version", "reserved", "unused")
    }
    assert placed == expected


def test_the_longest_frame_is_said():
    assert f"The longest has {MAX_FRAME - ALIGN} bytes" in PAGE


def test_addresses_are_those_of_the_map():
    rows = re.findall(r"^\| (0x[^|]*) \| (`[^|]*) \|", PAGE[PAGE.index("## From reset") :], re.MULTILINE)
    found = {}
    for addresses, names in rows:
        first, *others = (int(each, 16) for each in re.findall(r"0x\w+", addresses))
        found |= dict.fromkeys(re.findall(r"`([\w.]+)`", names), (first, max([first, *others])))
    registers = rdl.registers()
    assert len(found) > 15
    for name, (first, last) in found.items():
        assert first <= registers[name].address <= last, name
        assert first < last or registers[name].address == first
