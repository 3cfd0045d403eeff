# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The register reference as HTML: ``python -m spigate.hdl.csr.reference FOLDER``."""

import argparse
import sys
import tempfile
from pathlib import Path

from amaranth.lib import data
from peakrdl_html import HTMLExporter
from systemrdl.compiler import RDLCompiler
from systemrdl.node import AddrmapNode

from spigate.hdl.contract import rdl
from spigate.hdl.net.descriptor import InjectHeader, PuntHeader

_FROM = {
    "from_sa": "The SA that the packet came out of: its index.",
    "from_dfe": "The DFE of that SA.",
    "from_valid": "1: the packet came out of an SA. 0: it did not.",
    "from_generation": "The generation of that SA.",
}
HEADERS: dict[str, tuple[data.StructLayout, str, dict[str, str]]] = {
    "punt": (
        PuntHeader(),
        "In front of a frame that comes up on m_axis_punt. Two bytes of zero follow, then the frame.",
        {
            "version": "1.",
            "reason": "Why it comes up.",
            "ingress": "The port where it came in.",
            "dfe": "The DFE that punts, or whose SA the entry names; for a miss the balancer's choice.",
            "sa": "The SA's index in that DFE.",
            "depth": "Recirculations so far.",
            "tagged": "1: the frame has an 802.1Q tag.",
            "rule": "The rule that decided, where `ruled`.",
            "ruled": "1: a rule decided.",
            "time": "Clocks since reset, as the register `time` counts them.",
            **_FROM,
        },
    ),
    "inject": (
        InjectHeader(),
        "In front of a frame that goes down on s_axis_inject. Two bytes of zero follow, then the frame.",
        {
            "version": "1.",
            "mode": "0: classify it as if it had come in at `port`. 1: send it out at `port` as it is.",
            "port": "A port, see `mode`.",
            "depth": "Recirculations so far, as in the punt that it answers.",
            **_FROM,
        },
    ),
}
"""The headers of the control element's frames, with what each is and what its fields are."""
ENCODINGS = {"reason": "reason_e", "ingress": "port_e", "port": "port_e"}
"""Fields of the headers whose values have names."""


def headers(folder: Path) -> AddrmapNode:
    """The headers of the control element's frames as an address map, made of the gateware's own layouts. Its
    RDL is written into ``folder``, where it must stay as long as the map is used.
    """
    registers = []
    for name, (layout, words, fields) in HEADERS.items():
        bits = {each: (field.offset, field.width) for each, field in layout}
        lines = "".join(
            f'field {{ desc = "{fields[each]}";'
            f" {f'encode = {ENCODINGS[each]};' if each in ENCODINGS else ''} }}"
            f" {each}[{low + width - 1}:{low}];\n"
            for each, (low, width) in bits.items()
            if each in fields
        )
        access = "default sw = r; default hw = w" if name == "punt" else "default sw = w; default hw = r"
        registers.append(f'reg {{ desc = "{words}"; {access};\n{lines}}} {name};\n')
    text = (
        f'`include "{rdl.FOLDER / "entries.rdl"}"\n'
        'addrmap headers { name = "spigate headers"; desc = "In front of the control element\'s frames, 16 '
        'bytes each. Byte 0 is in bits 7:0.";\ndefault regwidth = 128; default accesswidth = 32;\n'
        + "".join(registers)
        + "};\n"
    )
    path = folder / "headers.rdl"
    path.write_text(text)
    compiler = RDLCompiler()
    compiler.compile_file(str(path))
    return compiler.elaborate("headers").top


def build(folder: Path) -> Path:
    """Writes the reference of all address maps and of :data:`HEADERS` into ``folder`` and returns its first
    page.
    """
    with tempfile.TemporaryDirectory() as scratch:
        maps = [*(rdl.tree(name) for name in rdl.MAPS), headers(Path(scratch))]
        HTMLExporter(show_signals=False).export(maps, str(folder), title="spigate registers")
    return folder / "index.html"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m spigate.hdl.csr.reference", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write it")
    print(build(parser.parse_args(argv).folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
