# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""AXI4-Stream at the boundary, packet streams behind it (ARM IHI 0051)."""

from amaranth.hdl import C, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.net.packet import BEAT_BYTES, packets


class AxiStream(wiring.Signature):
    """AXI4-Stream that carries packets, seen from the transmitter; names as in the standard. The packet's
    byte 0 is in the low bits.

    Parameters
    ----------
    beat_bytes : int
        Bytes of ``tdata``.
    user : bool
        There is a ``tuser`` of one bit, with meaning in a packet's last beat: the packet is damaged.
    """

    def __init__(self, beat_bytes: int, *, user: bool):
        if beat_bytes not in BEAT_BYTES:
            raise ValueError(f"beat_bytes must be one of {BEAT_BYTES}, not {beat_bytes!r}")
        super().__init__(
            {
                "tdata": Out(8 * beat_bytes),
                "tkeep": Out(beat_bytes),
                "tlast": Out(1),
                "tvalid": Out(1),
                "tready": In(1),
                **({"tuser": Out(1)} if user else {}),
            }
        )


class AxiStreamToPackets(wiring.Component):
    """Frames from an AXI4-Stream. Each ``tlast`` ends one packet, sound or aborted.

    A packet is aborted where its last beat has ``tuser``, where it has no bytes, and where its bytes do not
    follow one another without gaps: ``tkeep`` must be all ones in every beat but the last, and there ones
    from the low end up, at least one.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.

    Members
    -------
    axis : In(AxiStream)
        With ``tuser``.
    o : Out(packets)
    """

    def __init__(self, *, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__({"axis": In(AxiStream(beat_bytes, user=True)), "o": Out(packets(beat_bytes))})

    def elaborate(self, platform):
        m = Module()
        axis, o = self.axis, self.o
        damaged = Signal()
        wrong = Signal()
        count = Signal(range(self._beat_bytes + 1))
        with m.Switch(axis.tkeep):
            for number in range(1, self._beat_bytes + 1):
                with m.Case((1 << number) - 1):
                    m.d.comb += count.eq(number)
        m.d.comb += [
            axis.tready.eq(~o.valid | o.ready),
            wrong.eq(Mux(axis.tlast, (count == 0) | axis.tuser, count != self._beat_bytes)),
        ]
        with m.If(axis.tready):
            m.d.sync += [
                o.valid.eq(axis.tvalid),
                o.payload.data.eq(axis.tdata),
                o.payload.last.eq(axis.tlast),
                o.payload.count.eq(Mux(axis.tlast, count, self._beat_bytes)),
                o.payload.abort.eq(axis.tlast & (damaged | wrong)),
            ]
        with m.If(axis.tvalid & axis.tready):
            m.d.sync += damaged.eq(~axis.tlast & (damaged | wrong))
        return m


class PacketsToAxiStream(wiring.Component):
    """Packets to an AXI4-Stream.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.

    Members
    -------
    i : In(packets)
        Packets that are never aborted, such as those of a :class:`~spigate.hdl.net.fifo.PacketFifo`.
    axis : Out(AxiStream)
        Without ``tuser``.
    """

    def __init__(self, *, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__({"i": In(packets(beat_bytes)), "axis": Out(AxiStream(beat_bytes, user=False))})

    def elaborate(self, platform):
        m = Module()
        i, axis = self.i, self.axis
        m.d.comb += i.ready.eq(~axis.tvalid | axis.tready)
        with m.If(i.ready):
            m.d.sync += [
                axis.tvalid.eq(i.valid),
                axis.tdata.eq(i.payload.data),
                axis.tlast.eq(i.payload.last),
                axis.tkeep.eq(~(C(~0, self._beat_bytes) << i.payload.count)),
            ]
        return m
