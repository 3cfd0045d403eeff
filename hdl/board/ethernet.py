# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""An Ethernet port of a board: whole frames both ways between a MAC and the core, and what became of them."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from spigate.hdl.board.mac import Inband, Mac, Rgmii, Word
from spigate.hdl.board.words import PacketsToWords, WordsToPackets
from spigate.hdl.contract.constants import ALIGN, MAX_FRAME
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.packet import packets

QUEUE_BYTES = 4096
"""What each of a port's two queues holds: two of the longest frames."""
LONGEST = MAX_FRAME - ALIGN
"""Bytes of the longest frame that the core takes, without its check sequence."""


class Statistics(data.StructLayout):
    """What a port counts; all of it wraps.

    Members
    -------
    rx_good : unsigned(32)
        Frames that went on to the core.
    rx_bad : unsigned(32)
        A wrong frame check sequence, RX_ER, or the MAC was set back in its middle.
    rx_short, rx_long : unsigned(32)
        Sound, but of less than 60 bytes or more than the port takes.
    rx_dropped : unsigned(32)
        Sound, and lost because the core did not take frames as fast as they came.
    rx_preamble : unsigned(32)
        No start delimiter, so that nothing of them is known.
    tx_good : unsigned(32)
        Frames that the MAC has taken.
    tx_lost : unsigned(32)
        The MAC was set back in their middle.
    rx_bytes, tx_bytes : unsigned(40)
        Of the good frames, without preamble, padding and check sequence.
    """

    def __init__(self):
        names = "rx_good rx_bad rx_short rx_long rx_dropped rx_preamble tx_good tx_lost"
        super().__init__({**dict.fromkeys(names.split(), 32), "rx_bytes": 40, "tx_bytes": 40})


class FramePort(wiring.Component):
    """The part of a port that has one clock.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    longest : int
        Bytes of the longest frame that comes in, without its check sequence. Twice as many must fit into
        :data:`QUEUE_BYTES`.

    Members
    -------
    source : In(stream of Word)
        Frames that came. It never waits.
    sink : Out(stream of Word)
        Frames to send, each without a pause as long as ``sink.ready`` is 1.
    i : In(packets)
        To send. A frame is offered to the MAC when all of it is there; aborted ones vanish.
    o : Out(packets)
        What came, sound and whole frames only; bytes beyond an end are 0.
    reset : In(1)
        The MAC is being set back, for 16 clocks or more. A frame that is on its way through it is lost, and
        counted.
    preamble_errors : In(32)
        Of the MAC.
    statistics : Out(Statistics)
    """

    def __init__(self, *, beat_bytes: int, longest: int = LONGEST):
        if 2 * longest > QUEUE_BYTES:
            raise ValueError(f"longest must be at most {QUEUE_BYTES // 2}, not {longest!r}")
        self._beat_bytes, self._longest = beat_bytes, longest
        super().__init__(
            {
                "source": In(stream.Signature(Word())),
                "sink": Out(stream.Signature(Word())),
                "i": In(packets(beat_bytes)),
                "o": Out(packets(beat_bytes)),
                "reset": In(1),
                "preamble_errors": In(32),
                "statistics": Out(Statistics()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = QUEUE_BYTES // self._beat_bytes
        m.submodules.receive = receive = WordsToPackets(beat_bytes=self._beat_bytes, longest=self._longest)
        m.submodules.received = received = PacketFifo(
            beat_bytes=self._beat_bytes, depth=depth, drop=True, trim=True, wipe=False
        )
        # Frames in the clear stand in this queue, on their way to the server port.
        m.submodules.waiting = waiting = PacketFifo(beat_bytes=self._beat_bytes, depth=depth)
        m.submodules.send = send = PacketsToWords(beat_bytes=self._beat_bytes)
        connect(m, wiring.flipped(self.source), receive.i)
        connect(m, receive.o, received.i)
        connect(m, received.o, wiring.flipped(self.o))
        connect(m, wiring.flipped(self.i), waiting.i)
        connect(m, waiting.o, send.i)
        connect(m, send.o, wiring.flipped(self.sink))
        m.d.comb += [
            received.dropped.ready.eq(1),
            receive.reset.eq(self.reset),
            send.reset.eq(self.reset),
        ]
        sound = receive.ended & ~(receive.bad | receive.short | receive.long)
        good = Signal()
        m.d.comb += good.eq(sound & ~received.dropped.valid)
        counts = self.statistics
        for counter, event in (
            (counts.rx_good, good),
            (counts.rx_bad, receive.ended & receive.bad),
            (counts.rx_short, receive.ended & receive.short),
            (counts.rx_long, receive.ended & receive.long),
            (counts.rx_dropped, received.dropped.valid),
            (counts.tx_good, send.sent),
            (counts.tx_lost, send.lost),
        ):
            with m.If(event):
                m.d.sync += counter.eq(counter + 1)
        with m.If(good):
            m.d.sync += counts.rx_bytes.eq(counts.rx_bytes + receive.bytes)
        m.d.sync += counts.tx_bytes.eq(counts.tx_bytes + send.bytes)
        # The MAC's own count goes back to 0 with it.
        before = Signal(32)
        m.d.sync += before.eq(self.preamble_errors)
        with m.If(~self.reset & (self.preamble_errors != before)):
            m.d.sync += counts.rx_preamble.eq(counts.rx_preamble + 1)
        return m


class EthernetPort(wiring.Component):
    """A MAC with its queues, at 1000 Mbit/s.

    ``sync`` must have 40 MHz or more: a word of four bytes each 32 ns, both ways.

    Parameters
    ----------
    beat_bytes, longest : int
        As of :class:`FramePort`.
    domain : str
        Clock domain of 125 MHz that sends.

    Members
    -------
    rgmii : Out(Rgmii)
    i, o, reset, statistics
        As of :class:`FramePort`.
    inband : Out(Inband)
        As of :class:`~spigate.hdl.board.mac.Mac`.
    """

    def __init__(self, *, beat_bytes: int, domain: str = "tx", longest: int = LONGEST):
        self._beat_bytes, self._domain, self._longest = beat_bytes, domain, longest
        super().__init__(
            {
                "rgmii": Out(Rgmii()),
                "i": In(packets(beat_bytes)),
                "o": Out(packets(beat_bytes)),
                "reset": In(1),
                "statistics": Out(Statistics()),
                "inband": Out(Inband()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.mac = mac = Mac(domain=self._domain)
        m.submodules.frames = frames = FramePort(beat_bytes=self._beat_bytes, longest=self._longest)
        connect(m, mac.rgmii, wiring.flipped(self.rgmii))
        connect(m, mac.source, frames.source)
        connect(m, frames.sink, mac.sink)
        connect(m, wiring.flipped(self.i), frames.i)
        connect(m, frames.o, wiring.flipped(self.o))
        m.d.comb += [
            mac.reset.eq(self.reset),
            frames.reset.eq(self.reset),
            frames.preamble_errors.eq(mac.preamble_errors),
            self.statistics.eq(frames.statistics),
            self.inband.eq(mac.inband),
        ]
        return m
