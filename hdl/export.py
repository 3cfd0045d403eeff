# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The core as one plain Verilog file, with AXI4-Stream packet ports and an AXI4-Lite port; ``spigate
export``.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from spigate.hdl import fusesoc, ip_xact, verilog
from spigate.hdl.axi.stream import AxiStream, AxiStreamToPackets, PacketsToAxiStream
from spigate.hdl.crypto.interface import engine_named
from spigate.hdl.csr.axil import AxiLite
from spigate.hdl.ip_xact import DEFAULT_EDITION, EDITIONS
from spigate.hdl.net.memory import ECP5
from spigate.hdl.options import add_gateway_arguments, gateway_options
from spigate.hdl.preamble import preamble

if TYPE_CHECKING:
    from spigate.hdl.gateway import Gateway

TECHNOLOGIES = ("generic", ECP5)
INPUTS = {"s_axis_network": "network_i", "s_axis_server": "server_i", "s_axis_inject": "inject"}
"""Prefixes of the packet ports into the core, and the gateway's members behind them."""
OUTPUTS = {"m_axis_network": "network_o", "m_axis_server": "server_o", "m_axis_punt": "punt"}


@dataclass(frozen=True)
class Technology:
    """What :meth:`elaborate` gets as ``platform``.

    Members
    -------
    technology
        The family whose primitives may be used, of :data:`TECHNOLOGIES`.
    modules
        Verilog of what occurs several times, by module name (see :mod:`spigate.hdl.copies`).
    """

    technology: str
    modules: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if self.technology not in TECHNOLOGIES:
            raise ValueError(f"technology must be one of {', '.join(TECHNOLOGIES)}, not {self.technology!r}")


def core_ports(beat_bytes: int) -> dict[str, wiring.Member]:
    """The members of :class:`Core`, by name."""
    inputs, outputs = (AxiStream(beat_bytes, user=user) for user in (True, False))
    return {
        **{f"{prefix}_{name}": member for prefix in INPUTS for name, member in inputs.flip().members.items()},
        **{f"{prefix}_{name}": member for prefix in OUTPUTS for name, member in outputs.members.items()},
        **{f"s_axil_{name}": member for name, member in AxiLite().flip().members.items()},
    }


class Core(wiring.Component):
    """A gateway with AXI ports. Its members are the ports of the Verilog module, with ``clk`` and ``rst``
    (synchronous, active high) beside them.

    Parameters
    ----------
    gateway : Gateway
        Or anything with the same members and ``beat_bytes``.

    Members
    -------
    s_axis_network_*, s_axis_server_*, s_axis_inject_* : In
        :class:`~spigate.hdl.axi.stream.AxiStream` with ``tuser``.
    m_axis_network_*, m_axis_server_*, m_axis_punt_* : Out
        :class:`~spigate.hdl.axi.stream.AxiStream` without it.
    s_axil_* : In
        :class:`~spigate.hdl.csr.axil.AxiLite`.
    """

    def __init__(self, gateway):
        self._gateway = gateway
        super().__init__(core_ports(gateway.beat_bytes))

    def elaborate(self, platform):
        m = Module()
        m.submodules.gateway = gateway = self._gateway
        for prefix, name in INPUTS.items():
            m.submodules[prefix] = into = AxiStreamToPackets(beat_bytes=gateway.beat_bytes)
            wiring.connect(m, into.o, getattr(gateway, name))
            self._join(m, prefix, into.axis)
        for prefix, name in OUTPUTS.items():
            m.submodules[prefix] = out = PacketsToAxiStream(beat_bytes=gateway.beat_bytes)
            wiring.connect(m, getattr(gateway, name), out.i)
            self._join(m, prefix, out.axis)
        self._join(m, "s_axil", gateway.axil)
        return m

    def _join(self, m, prefix, inner):
        """Connects the members that begin with ``prefix`` to the interface ``inner``."""
        for name, member in inner.signature.members.items():
            port = getattr(self, f"{prefix}_{name}")
            m.d.comb += getattr(inner, name).eq(port) if member.flow == In else port.eq(getattr(inner, name))


def export(gateway, path: Path | str, *, technology: str = "generic", name: str = "spigate") -> Path:
    """Writes ``gateway`` with AXI ports as the Verilog module ``name`` to ``path``, and returns the path.

    Parameters
    ----------
    gateway : Gateway
        Or anything with the same members.
    technology
        ``generic``: portable Verilog. ``ecp5``: block memories are Lattice's primitives, with their output
        registers.
    """
    platform = Technology(technology)
    core = Core(gateway)
    text = "".join(
        [
            preamble(gateway, core.signature, name=name, technology=technology),
            verilog.convert(core, name=name, platform=platform),
            *platform.modules.values(),
        ]
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def gateway_from(args: argparse.Namespace) -> "Gateway":
    """The gateway that the options of :mod:`spigate.hdl.options` describe.

    Raises
    ------
    ValueError
        An option is out of its range; the message names it.
    """
    from spigate.hdl.gateway import Gateway

    values, engine = gateway_options(args)
    return Gateway(**values, engine=engine_named(engine))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes the core as one plain Verilog file: module spigate, AXI4-Stream packet ports, "
        "AXI4-Lite registers."
    )
    add_gateway_arguments(parser)
    parser.add_argument(
        "--technology",
        choices=TECHNOLOGIES,
        default="generic",
        help="generic: any family; ecp5: with Lattice's block RAM primitives (default generic)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("spigate.v"), metavar="FILE", help="default spigate.v"
    )
    parser.add_argument(
        "--c-header",
        type=Path,
        metavar="FILE",
        help="write registers, enumerations and the headers of the control element's frames for C there",
    )
    parser.add_argument(
        "--ip-xact",
        type=Path,
        metavar="FILE",
        help="write the core as an IP-XACT component there: registers, bus interfaces, ports",
    )
    parser.add_argument(
        "--ip-xact-edition",
        type=int,
        choices=EDITIONS,
        default=DEFAULT_EDITION,
        help="of IEEE 1685: 2009 is for Vivado, with its bus definitions; 2014 has Arm's "
        f"(default {DEFAULT_EDITION})",
    )
    parser.add_argument(
        "--fusesoc",
        type=Path,
        metavar="FILE",
        help="write a FuseSoC core file there, NAME.core, for the Verilog beside it",
    )


def run(args: argparse.Namespace) -> int:
    if args.output.is_dir():
        raise ValueError(
            f"{args.output} must be a file, and is a folder"
        )  # said before the minute that the conversion takes
    gateway_options(args, args.technology)
    if args.c_header:
        from spigate.hdl.csr import c_header

        c_header.write(args.c_header)
    if args.fusesoc:
        fusesoc.write_core(args.fusesoc, args.output)
    if args.ip_xact:
        ip_xact.write(args.ip_xact, core_ports(args.beat_bytes), args.output, args.ip_xact_edition)
    path = export(gateway_from(args), args.output, technology=args.technology)
    print(f"{path}: module spigate, {len(path.read_text().splitlines())} lines")
    return 0
