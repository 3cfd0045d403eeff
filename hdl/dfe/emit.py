# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What leaves a DFE, built from a buffer: Ethernet header, IP header, and one contiguous run of words."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Direction, Port
from spigate.hdl.dfe.inspect import Task
from spigate.hdl.dfe.job import BUFFER_WORDS, STORE_BYTES, BufferRead
from spigate.hdl.net.descriptor import CE_HEADER_BYTES, Egress, PuntHeader, Verdict, punt_header
from spigate.hdl.net.headers import IP_WORD, IPV4, TYPE_IPV4, TYPE_VLAN
from spigate.hdl.net.packet import ALIGN, packets, swap_bytes

IP_WORDS = IPV4.length // 4
HEADER_WORDS = IP_WORD + 1 + IP_WORDS
"""Words in front of the run, at most: tagged Ethernet header and IP header."""
OWN_WORDS = 8
"""Words from the start in which the frame's own Ethernet header lies, rounded up to whole reads; the run
begins behind them.
"""
READ_WORDS = STORE_BYTES // 4
WIPE_BYTES = 256
"""Read of a buffer of zeros: more than the queue holds."""
QUEUE = 8
"""Reads ahead, more than the clocks from one to its first beat at ``o``."""


class Departure(data.StructLayout):
    """A packet that was decided on.

    Members
    -------
    task : Task
    drop : unsigned(1)
        It does not leave; its buffer is released in its turn.
    header : unsigned(160)
        BYPASS, DECRYPT, ENCRYPT: five words of IP header in wire order.
    total_length : unsigned(16)
        What they say.
    """

    def __init__(self):
        super().__init__({"task": Task(), "drop": 1, "header": 160, "total_length": 16})


class Queued(data.StructLayout):
    """What was read, on its way out: ``count`` bytes. ``void``: it only wipes the queue."""

    def __init__(self):
        super().__init__({"data": 8 * STORE_BYTES, "last": 1, "count": range(STORE_BYTES + 1), "void": 1})


class Planned:
    """The next packet.

    Members
    -------
    ready : unsigned(1)
        The rest is right.
    punt, wipe : unsigned(1)
        Its verdict.
    bytes : unsigned(12)
        How long it leaves.
    run : range(BUFFER_WORDS)
        Where its run begins in the buffer.
    overlay, mask : Value
        The words in front, and which of them are not the buffer's.
    """

    overlay: Value
    mask: Value

    def __init__(self):
        self.ready = Signal(name="planned")
        self.punt = Signal()
        self.wipe = Signal()
        self.bytes = Signal(12, name="bytes_planned")
        self.run = Signal(range(BUFFER_WORDS), name="run_planned")


class Sending:
    """The packet that is sent.

    Members
    -------
    load : unsigned(1)
        The next packet takes its place.
    sending, ended : unsigned(1)
        It is on its way; it has ended, and its egress waits.
    reading, issue : unsigned(1)
        Words are to be asked for, ``to_read`` bytes; some are.
    address, run : range(BUFFER_WORDS)
        Word addresses: the next read's, and that of the first read behind OWN_WORDS, where it ``runs``
        elsewhere. ``word``: how far it is to there.
    arrived, beat
        What was asked for has come; ``to_come`` bytes with it and behind it. ``final``: it is the last.
    overlay, mask
        The words in front, where ``mask`` says so instead of the buffer's; both move down with each beat.
    void : unsigned(1)
        It does not leave.
    """

    def __init__(self):
        self.load = Signal()
        self.sending = Signal()
        self.ended = Signal()
        self.reading = Signal()
        self.issue = Signal()
        self.address = Signal(range(BUFFER_WORDS))
        self.run = Signal(range(BUFFER_WORDS))
        self.runs = Signal()
        self.word = Signal(range(OWN_WORDS + 1))
        self.to_read = Signal(12)
        self.arrived = Signal()
        self.beat = Signal(8 * STORE_BYTES)
        self.to_come = Signal(12)
        self.final = Signal()
        self.overlay = Signal(32 * (HEADER_WORDS + HEADER_WORDS % READ_WORDS))
        self.mask = Signal(HEADER_WORDS)
        self.void = Signal()


class Emit(wiring.Component):
    """Sends packets out of their buffers, a beat a clock as long as the buffer can be read and ``o`` is
    taken.

    PUNT: a ``PuntHeader`` and the frame as it came in. WIPE: is read and queued, but does not leave. All
    others: two alignment bytes, an Ethernet header (the route's, where it rewrites, else the frame's own,
    tag included), and the IP packet, without what an Ethernet frame may have had behind it.

    Parameters
    ----------
    beat_bytes : int

    Members
    -------
    i : In(stream of Departure)
    o : Out(packets)
    egress : Out(stream of Egress)
        One a packet, offered before its first beat.
    lane : Out(3)
        The lane that ``read`` and ``release`` mean.
    read : Out(BufferRead)
    release : Out(1)
        A strobe: the packet's buffer is free.
    wiped : Out(1)
        With ``release``: that was a WIPE.
    sent : Out(1)
        A strobe, beside ``release`` or before it: the packet left, as ``verdict`` says, in ``bytes`` bytes
        (with alignment, and a punt's header).
    verdict : Out(3)
    bytes : Out(12)
    index : In(4)
        The DFE's number, for ``PuntHeader``.
    time : In(32)
        For ``PuntHeader``.
    """

    def __init__(self, *, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__(
            {
                "i": In(stream.Signature(Departure())),
                "o": Out(packets(beat_bytes)),
                "egress": Out(stream.Signature(Egress())),
                "lane": Out(3),
                "read": Out(BufferRead()),
                "release": Out(1),
                "wiped": Out(1),
                "sent": Out(1),
                "verdict": Out(3),
                "bytes": Out(12),
                "index": In(4),
                "time": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        now = Sending()
        m.submodules.queue = queue = fifo.SyncFIFO(width=Queued().size, depth=QUEUE)
        with m.If(self.egress.valid & self.egress.ready):
            m.d.sync += self.egress.valid.eq(0)
        planned = self._plan(m)
        self._read(m, now, queue)
        self._load(m, planned, now)
        self._end(m, planned, now)
        self._put_together(m, now, queue)
        self._send(m, queue)
        return m

    def _plan(self, m) -> Planned:
        """The next packet's plan is made while the present one is sent."""
        departure = self.i.payload
        job = departure.task.done.job
        info, route = job.info, job.info.route
        planned = Planned()
        tunnel = Signal()
        keeps_header = Signal()
        ethernet = IP_WORD + Mux(route.rewrite, route.tagged, info.tagged)
        own_ethernet = IP_WORD + info.tagged
        m.d.comb += [
            planned.punt.eq(info.verdict == Verdict.PUNT),
            planned.wipe.eq(info.verdict == Verdict.WIPE),
            tunnel.eq((info.verdict != Verdict.BYPASS) & job.control.mode),
            keeps_header.eq(~((info.verdict == Verdict.ENCRYPT) & tunnel)),
        ]
        m.d.sync += [
            planned.ready.eq(self.i.valid & ~self.i.ready),
            planned.bytes.eq(
                Mux(planned.punt, CE_HEADER_BYTES + info.length, (ethernet << 2) + departure.total_length)
            ),
            # The run begins behind the header that was read, at `ethernet + IP_WORDS` words from the
            # frame's start.
            planned.run.eq(
                Mux(tunnel, job.esp, own_ethernet)
                + (Mux(keeps_header, IP_WORDS, 0) + (OWN_WORDS - IP_WORDS) - ethernet)
            ),
        ]
        with m.If(planned.wipe):
            m.d.sync += planned.bytes.eq(WIPE_BYTES)
        planned.overlay, planned.mask = self._headers(m, departure, planned.punt)
        return planned

    def _read(self, m, now: Sending, queue) -> None:
        """Asks for the buffer's words, as many at a time as the queue has room for."""
        ahead = Signal(range(QUEUE + 1))
        m.d.comb += [
            self.read.address.eq(now.address),
            self.read.enable.eq(now.reading & (ahead != QUEUE)),
            now.issue.eq(self.read.enable & self.read.ready),
        ]
        m.d.sync += [
            now.arrived.eq(self.read.valid),
            now.beat.eq(self.read.data),
            ahead.eq(ahead + now.issue - (queue.r_rdy & queue.r_en)),
        ]
        with m.If(now.issue):
            m.d.sync += [
                now.address.eq(now.address + READ_WORDS),
                now.to_read.eq(now.to_read - STORE_BYTES),
            ]
            with m.If(now.to_read <= STORE_BYTES):
                m.d.sync += now.reading.eq(0)
            with m.If(now.word != OWN_WORDS):
                m.d.sync += now.word.eq(now.word + READ_WORDS)
            with m.If((now.word == OWN_WORDS - READ_WORDS) & now.runs):
                m.d.sync += now.address.eq(now.run)
        with m.If(now.arrived):
            m.d.sync += [
                now.to_come.eq(now.to_come - STORE_BYTES),
                now.final.eq(now.to_come <= 2 * STORE_BYTES),
                now.overlay.eq(now.overlay >> 8 * STORE_BYTES),
                now.mask.eq(now.mask >> READ_WORDS),
            ]

    def _load(self, m, planned: Planned, now: Sending) -> None:
        """The plan becomes the present packet while none is sent: it is wide, so out of registers."""
        departure = self.i.payload
        info, punt, wipe = departure.task.done.job.info, planned.punt, planned.wipe
        m.d.comb += self.i.ready.eq(now.load)
        with m.If(now.load):
            m.d.sync += [
                self.lane.eq(departure.task.lane),
                self.read.buffer.eq(departure.task.done.buffer),
                self.verdict.eq(info.verdict),
                self.bytes.eq(planned.bytes),
                now.to_read.eq(planned.bytes),
                now.to_come.eq(planned.bytes),
                now.final.eq(0),  # no frame is as short as one read
                now.overlay.eq(planned.overlay),
                now.mask.eq(planned.mask),
                now.word.eq(0),
                now.runs.eq(~punt),
                now.run.eq(planned.run),
                now.address.eq(Mux(punt, -(CE_HEADER_BYTES // 4), 0)),
                now.reading.eq(~departure.drop),
                now.void.eq(wipe),
                self.egress.valid.eq(~departure.drop & ~wipe),
                self.egress.payload.port.eq(Mux(punt, Port.CE, info.route.egress)),
                self.egress.payload.depth.eq(info.depth + (~punt & (info.route.egress == Port.RECIRCULATE))),
                *self._provenance(departure.task.done.job),
            ]

    def _end(self, m, planned: Planned, now: Sending) -> None:
        """A packet is sent, then it has ended (a dropped one at once) and waits until its egress is taken."""
        drop = self.i.payload.drop
        ends = Signal()
        m.d.comb += [
            ends.eq(now.sending & now.arrived & now.final),
            self.sent.eq(ends & ~now.void),
            self.release.eq((now.ended | ends) & ~self.egress.valid),
            self.wiped.eq(now.void),
            now.load.eq(planned.ready & ~(now.sending | now.ended)),
        ]
        with m.If(now.load):
            m.d.sync += [now.sending.eq(~drop), now.ended.eq(drop)]
        with m.Elif(self.release):
            m.d.sync += [now.sending.eq(0), now.ended.eq(0)]
        with m.Elif(ends):
            m.d.sync += [now.sending.eq(0), now.ended.eq(1)]

    def _put_together(self, m, now: Sending, queue) -> None:
        """What arrived goes into the queue, with the words in front in the place of the buffer's."""
        entry = Signal(Queued())
        m.d.comb += [
            entry.data.eq(
                Cat(
                    Mux(now.mask[at], now.overlay.word_select(at, 32), now.beat.word_select(at, 32))
                    for at in range(READ_WORDS)
                )
            ),
            entry.last.eq(now.final),
            entry.count.eq(Mux(entry.last, now.to_come, STORE_BYTES)),
            entry.void.eq(now.void),
            queue.w_en.eq(now.arrived),
            queue.w_data.eq(entry),
        ]

    def _provenance(self, job):
        """What has really become of a packet: not what was wished for, but which SA it went through."""
        info, control, egress = job.info, job.control, self.egress.payload
        return [
            egress.protected.eq(
                (info.verdict == Verdict.ENCRYPT) & control.valid & (control.direction == Direction.OUTBOUND)
            ),
            egress.bypassed.eq((info.verdict == Verdict.BYPASS) & info.clear),
            egress.injected.eq(0),
            egress.out_of.valid.eq(info.verdict == Verdict.DECRYPT),
            egress.out_of.dfe.eq(self.index),
            egress.out_of.sa.eq(info.sa),
            egress.out_of.generation.eq(control.generation),
        ]

    def _send(self, m, queue) -> None:
        """What was read goes out in beats, one or two of them."""
        head, size = Queued()(queue.r_data), self._beat_bytes
        parts = STORE_BYTES // size
        part = Signal(range(parts))
        ends = Signal()
        step = Signal()
        m.d.comb += [
            ends.eq(head.count <= (part + 1) * size),
            step.eq(self.o.ready | head.void),
            queue.r_en.eq(step & ends),
            self.o.valid.eq(queue.r_rdy & ~head.void),
            self.o.payload.data.eq(head.data.word_select(part, 8 * size)),
            self.o.payload.last.eq(head.last & ends),
            self.o.payload.count.eq(Mux(ends, head.count - part * size, size)),
        ]
        if parts > 1:
            with m.If(queue.r_rdy & step):
                m.d.sync += part.eq(Mux(ends, 0, part + 1))

    def _headers(self, m, departure, punt):
        """The words in front of what is read from the buffer, and which of them replace what is read."""
        job = departure.task.done.job
        info, route = job.info, job.info.route
        header = Signal(PuntHeader())
        m.d.comb += punt_header(header, info, dfe=self.index, time=self.time)
        addresses = Cat(Const(0, 8 * ALIGN), swap_bytes(route.destination_mac), swap_bytes(route.source_mac))
        ip_type, tag_type = (swap_bytes(Const(value, 16)) for value in (TYPE_IPV4, TYPE_VLAN))
        tagged = Mux(route.rewrite, route.tagged, info.tagged)
        own, ip = route.rewrite.replicate(IP_WORD), Const((1 << IP_WORDS) - 1, IP_WORDS)
        overlay = Mux(
            tagged,
            Cat(addresses, tag_type, swap_bytes(route.vlan_tci), ip_type, departure.header),
            Cat(addresses, ip_type, departure.header),
        )
        mask = Mux(tagged, Cat(own, route.rewrite, ip), Cat(own, ip))
        return Mux(punt, header, overlay), Mux(punt, (1 << CE_HEADER_BYTES // 4) - 1, mask)
