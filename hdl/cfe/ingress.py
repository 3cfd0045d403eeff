# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Where packets enter the CFE: whole, undamaged ones that fit go on, each with what is known of
its origin.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.net.align import AddAlignment
from spigate.hdl.net.descriptor import (
    CE_HEADER_BYTES,
    CE_VERSION,
    FROM_CFE,
    Egress,
    InjectHeader,
    OutOf,
    Report,
)
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.headers import ETHERNET
from spigate.hdl.net.packet import ALIGN, MAX_FRAME, packets

QUEUE_BYTES = 4096
"""What an ingress queue holds: two of the longest frames. Fewer bytes would take no less block RAM."""
QUEUE_PACKETS = 16
"""Packets whose origin a queue remembers; short frames can fill it earlier than ``QUEUE_BYTES`` does."""
SHORTEST_INJECTED = ALIGN + ETHERNET.length


class Origin(data.StructLayout):
    """Where a packet comes from.

    Members
    -------
    port : unsigned(2)
        The :data:`Port` it came in at, or is treated as if it had; with ``direct`` the port at which it
        leaves.
    depth : unsigned(2)
        Recirculations.
    injected, direct : unsigned(1)
        The CE sent it; the CE sent it to leave as it is.
    out_of : OutOf
        For port RECIRCULATE.
    """

    def __init__(self):
        super().__init__({"port": 2, "depth": 2, "injected": 1, "direct": 1, "out_of": OutOf()})


class InjectParser(wiring.Component):
    """Takes :class:`InjectHeader` off injected packets.

    Parameters
    ----------
    beat_bytes : int

    Members
    -------
    i : In(packets)
        Header, alignment, frame.
    o : Out(packets)
        Without the header. Of a packet that ends within the header, its last beat.
    origin : Out(Origin)
        From the packet's first beat at ``o`` to its last.
    sound : Out(1)
        As ``origin``: the packet is longer than its header, and version, mode, port and depth are such that
        it can be handled.
    """

    def __init__(self, *, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "o": Out(packets(beat_bytes)),
                "origin": Out(Origin()),
                "sound": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beats = CE_HEADER_BYTES // self._beat_bytes
        beat, out = self.i.payload, self.o.payload
        at = Signal(range(beats + 1))
        # Everything that matters is in the first eight bytes.
        header = InjectHeader()(Cat(beat.data[:64], Const(0, InjectHeader().size - 64)))
        known = Signal()
        behind = Signal()
        m.d.comb += [
            behind.eq(at == beats),
            self.sound.eq(known & behind),
            out.eq(beat),
            self.o.valid.eq(self.i.valid & (behind | beat.last)),
            self.i.ready.eq(self.o.ready | ~behind & ~beat.last),
        ]
        with m.If(self.i.valid & self.i.ready):
            with m.If(beat.last):
                m.d.sync += at.eq(0)
            with m.Elif(~behind):
                m.d.sync += at.eq(at + 1)
            with m.If(at == 0):
                m.d.sync += [
                    self.origin.port.eq(header.port),
                    self.origin.depth.eq(header.depth),
                    self.origin.injected.eq(1),
                    self.origin.direct.eq(header.mode[0]),
                    *(self.origin.out_of[name].eq(header[f"from_{name}"]) for name in OutOf().members),
                    # A recirculated packet that was punted comes back as one; to send there makes no sense.
                    known.eq(
                        (header.version == CE_VERSION)
                        & (header.mode < 2)
                        & (header.depth < 4)
                        & (
                            (header.port == Port.NETWORK)
                            | (header.port == Port.SERVER)
                            | ((header.port == Port.RECIRCULATE) & (header.mode == 0))
                        )
                    ),
                ]
        return m


class Ingress(wiring.Component):
    """One port's way in: alignment or inject header, length and damage checked, then a queue of whole frames.

    Every packet taken at ``i`` appears at ``o`` or is reported once as dropped: BAD_FRAME (it ended with
    ``abort``), OVERSIZE (longer than ``MAX_FRAME``, alignment included), MALFORMED (CE: header not sound,
    or less than alignment and Ethernet header behind it).

    Parameters
    ----------
    beat_bytes : int
    port : Port
        NETWORK, SERVER: frames come without alignment. CE: with :class:`InjectHeader` and alignment.
        RECIRCULATE: with alignment.

    Members
    -------
    i : In(packets)
        Waits for room; never for anything but the queue, ``egress`` and ``reports``.
    egress : In(stream of Egress)
        Only RECIRCULATE: one a packet, in order; its ``depth`` and ``out_of`` count. A packet's last beat
        waits for it.
    o : Out(packets)
        Whole packets; never aborted.
    origin : Out(stream of Origin)
        One a packet of ``o``, in order. Offered no later than the packet's first beat.
    reports : Out(stream of Report)
        A dropped packet's last beat waits for it to be taken.
    """

    def __init__(self, *, beat_bytes: int, port: Port):
        self._beat_bytes, self._port = beat_bytes, Port(port)
        ports = {
            "i": In(packets(beat_bytes)),
            "o": Out(packets(beat_bytes)),
            "origin": Out(stream.Signature(Origin())),
            "reports": Out(stream.Signature(Report())),
        }
        if self._port == Port.RECIRCULATE:
            ports["egress"] = In(stream.Signature(Egress()))
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = PacketFifo(
            beat_bytes=self._beat_bytes,
            depth=QUEUE_BYTES // self._beat_bytes,
            wipe=self._port != Port.NETWORK,
        )
        # All frames of a real port have the same origin.
        varies = self._port in (Port.CE, Port.RECIRCULATE)
        m.submodules.origins = origins = fifo.SyncFIFO(
            width=Origin().size if varies else 1, depth=QUEUE_PACKETS
        )

        frames, origin, sound = self.i, Origin().const({"port": self._port}), Const(1)
        given = Const(1)
        if self._port in (Port.NETWORK, Port.SERVER):
            m.submodules.align = align = AddAlignment(self._beat_bytes)
            wiring.connect(m, wiring.flipped(self.i), align.i)
            frames = align.o
        elif self._port == Port.CE:
            m.submodules.parser = parser = InjectParser(beat_bytes=self._beat_bytes)
            wiring.connect(m, wiring.flipped(self.i), parser.i)
            frames, origin, sound = parser.o, parser.origin, parser.sound
        else:
            origin = Signal(Origin())
            m.d.comb += [
                origin.port.eq(self._port),
                origin.depth.eq(self.egress.payload.depth),
                origin.out_of.eq(self.egress.payload.out_of),
            ]
            given = self.egress.valid

        # The longest frame is whole beats, and so is the shortest injected one: counting beats is enough.
        longest = MAX_FRAME // self._beat_bytes
        shortest = SHORTEST_INJECTED // self._beat_bytes
        beat = frames.payload
        before = Signal(range(longest + 1))
        over = Signal()
        short = Signal()
        bad = Signal()
        ready = Signal()
        m.d.comb += [over.eq(before == longest), bad.eq(over | beat.abort | short)]
        if self._port == Port.CE:
            m.d.comb += short.eq(
                ~sound | (before < shortest - 1) | (before == shortest - 1) & (beat.count != self._beat_bytes)
            )
        with m.If(frames.valid & frames.ready):
            with m.If(beat.last):
                m.d.sync += before.eq(0)
            with m.Elif(~over):
                m.d.sync += before.eq(before + 1)

        # All that a packet's end needs comes together in one clock: the queue, its origin's place or the
        # report's.
        report = self.reports
        with m.If(beat.last):
            m.d.comb += ready.eq(given & Mux(bad, ~report.valid, origins.w_rdy))
        with m.Else():
            m.d.comb += ready.eq(1)
        passing = ready & (beat.last | ~over)
        ends = frames.valid & beat.last & ready & queue.i.ready
        m.d.comb += [
            queue.i.payload.eq(beat),
            queue.i.payload.abort.eq(beat.last & bad),
            queue.i.valid.eq(frames.valid & passing),
            frames.ready.eq(ready & (queue.i.ready | ~beat.last & over)),
            origins.w_data.eq(origin if varies else 0),
            origins.w_en.eq(ends & ~bad),
            self.origin.payload.eq(origins.r_data if varies else origin),
            self.origin.valid.eq(origins.r_rdy),
            origins.r_en.eq(self.origin.ready),
        ]
        if self._port == Port.RECIRCULATE:
            m.d.comb += self.egress.ready.eq(ends)
        with m.If(report.ready):
            m.d.sync += report.valid.eq(0)
        with m.If(ends & bad):
            m.d.sync += [
                report.valid.eq(1),
                report.payload.dropped.eq(1),
                report.payload.ingress.eq(self._port),
                report.payload.dfe.eq(FROM_CFE),
                report.payload.reason.eq(
                    Mux(over, Reason.OVERSIZE, Mux(beat.abort, Reason.BAD_FRAME, Reason.MALFORMED))
                ),
            ]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m
