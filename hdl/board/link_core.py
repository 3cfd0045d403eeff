# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The host link as a Verilog module, with AXI ports as the core's."""

from pathlib import Path

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl import verilog
from spigate.hdl.axi.stream import AxiStream, AxiStreamToPackets, PacketsToAxiStream
from spigate.hdl.board.uart_link import UartLink
from spigate.hdl.csr.axil import AxiLite
from spigate.hdl.export import Technology


class LinkCore(wiring.Component):
    """A :class:`~spigate.hdl.board.uart_link.UartLink` whose members are ports of a Verilog module.

    Parameters
    ----------
    link : UartLink
    beat_bytes : int
        Width of its packet streams.

    Members
    -------
    rx : In(1), tx : Out(1)
    m_axil_* : Out
        :class:`~spigate.hdl.csr.axil.AxiLite`, to ``s_axil_*`` of the core.
    s_axis_punt_* : In, m_axis_inject_* : Out
        :class:`~spigate.hdl.axi.stream.AxiStream`, from ``m_axis_punt_*`` and to ``s_axis_inject_*`` of the
        core.
    """

    def __init__(self, link: UartLink, *, beat_bytes: int):
        self._link, self._beat_bytes = link, beat_bytes
        axis = AxiStream(beat_bytes, user=False)
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                **{f"m_axil_{name}": each for name, each in AxiLite().members.items()},
                **{f"s_axis_punt_{name}": each for name, each in axis.flip().members.items()},
                **{f"m_axis_inject_{name}": each for name, each in axis.members.items()},
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = self._link
        m.submodules.punt = punt = AxiStreamToPackets(beat_bytes=self._beat_bytes)
        m.submodules.inject = inject = PacketsToAxiStream(beat_bytes=self._beat_bytes)
        wiring.connect(m, punt.o, link.punt)
        wiring.connect(m, link.inject, inject.i)
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx)]
        inner_ports = {"m_axil": link.axil, "s_axis_punt": punt.axis, "m_axis_inject": inject.axis}
        for prefix, inner in inner_ports.items():
            for name, member in inner.signature.members.items():
                if hasattr(self, f"{prefix}_{name}"):
                    port, inside = getattr(self, f"{prefix}_{name}"), getattr(inner, name)
                    m.d.comb += inside.eq(port) if member.flow == In else port.eq(inside)
        return m


def export(
    path: Path, *, beat_bytes: int, clock_hz: float, baud: float, pause_clocks: int | None = None
) -> Path:
    """Writes the link as the Verilog module ``uart_link`` to ``path``, and returns the path. Parameters as of
    :class:`~spigate.hdl.board.uart_link.UartLink`.
    """
    link = UartLink(beat_bytes=beat_bytes, clock_hz=clock_hz, baud=baud, pause_clocks=pause_clocks)
    core = LinkCore(link, beat_bytes=beat_bytes)
    path.write_text(verilog.convert(core, name="uart_link", platform=Technology("generic")))
    return path
