# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What stands in front of the exported Verilog: what it is, its parameters, its ports, and what a linter may
pass over.
"""

import inspect
from collections.abc import Iterator

from amaranth.hdl import Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from spigate import __version__
from spigate.hdl.contract.parameters import ENGINES

TIMESCALE = "1ns/1ps"
WAIVERS = {
    "DECLFILENAME": "the modules are parts of one core, in one file",
    "UNOPTFLAT": "fields of a signal that depend on other fields of it; yosys check finds no loop of bits",
    "PROCASSINIT": "registers begin with what configuration gives them, as block RAM does",
    "UNUSEDSIGNAL": "fields, and ports of submodules, have names for waveforms; carries that nothing takes",
}
"""Warnings of ``verilator -Wall`` that the file has, and why; UNOPTFLAT with ``--public-flat-rw`` as well."""
STREAMS = {
    "s_axis_network": "frames from the network, the unprotected side",
    "s_axis_server": "frames from the servers, the protected side",
    "s_axis_inject": "frames of the control element, behind their header",
    "m_axis_network": "frames to the network",
    "m_axis_server": "frames to the servers",
    "m_axis_punt": "frames for the control element, behind their header",
    "s_axil": "registers, AXI4-Lite",
}
"""What each bundle of ports carries, by its prefix."""
SIGNALS = {
    "tdata": "bytes of the frame, the first one in bits 7:0; no frame check sequence",
    "tkeep": "bytes that are there: all, but in the last beat, there the low ones",
    "tlast": "the frame's last beat",
    "tuser": "in the last beat: the frame is damaged, drop it",
    "tvalid": "there is a beat",
    "tready": "the beat is taken",
    "awaddr": "byte address of a write",
    "awprot": "not looked at",
    "wdata": "what is written",
    "wstrb": "all ones: parts of a word are not written, but answered with SLVERR",
    "bresp": "0, or 2: SLVERR",
    "araddr": "byte address of a read",
    "arprot": "not looked at",
    "rdata": "what was read",
    "rresp": "0, or 2: SLVERR",
}
"""What each port of a bundle is; handshakes of AXI4-Lite need no words."""


def preamble(gateway, signature: wiring.Signature, *, name: str, technology: str) -> str:
    """Comments, waivers and the ``timescale`` of the module ``name``.

    Parameters
    ----------
    gateway : Gateway
        What is exported, or anything that keeps its parameters as members.
    signature
        The module's ports, but ``clk`` and ``rst``.
    """
    rows = [
        f"spigate {__version__}, an IPsec gateway: module {name}, for {technology} technology",
        # REUSE-IgnoreStart
        "SPDX-License-Identifier: Apache-2.0",
        # REUSE-IgnoreEnd
        "",
        "Made by `spigate export`. Ports, headers of frames, bring-up: docs/integration.md",
        "",
        "Parameters",
        *(f"    {key:<12} {value}" for key, value in _parameters(gateway)),
        "",
        "Ports",
        "    clk                     in    1  all ports are synchronous to its rising edge",
        "    rst                     in    1  synchronous, active high, one clock or more",
        *_ports(signature),
    ]
    lines = [f"// {row}".rstrip() for row in rows]
    lines += [f"/* verilator lint_off {warning} */ // {why}" for warning, why in WAIVERS.items()]
    return "\n".join([*lines, f"`timescale {TIMESCALE}", "", ""])


def _parameters(gateway) -> Iterator[tuple[str, object]]:
    """Parameters of the gateway's constructor, and their values."""
    for key in inspect.signature(type(gateway)).parameters:
        value = getattr(gateway, key, None)
        if isinstance(value, type):  # the engine, by the word of its option
            words = {path.rpartition(":")[2]: word for word, path in ENGINES.items()}
            value = words.get(value.__name__, value.__name__)
        if value is not None:
            yield key, value


def _ports(signature: wiring.Signature) -> Iterator[str]:
    """A line for each port, in groups."""
    for prefix, carries in STREAMS.items():
        yield f"  {prefix}_*: {carries}"
        for name, member in signature.members.items():
            if name.startswith(f"{prefix}_"):
                direction = "in" if member.flow == In else "out"
                width = Shape.cast(member.shape).width
                what = SIGNALS.get(name.removeprefix(f"{prefix}_"), "")
                yield f"    {name:<22} {direction:>3} {width:>4}  {what}".rstrip()
