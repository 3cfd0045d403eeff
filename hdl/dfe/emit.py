"""What leaves a DFE, built from a buffer: Ethernet header, IP header, and one contiguous run of words."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.ce_header import CE_HEADER_BYTES, CE_VERSION
from spigate.hdl.contract.constants import ALIGN
from spigate.hdl.contract.enums import Direction, Port
from spigate.hdl.contract.protocols import ETHERTYPE_IPV4 as TYPE_IPV4
from spigate.hdl.contract.protocols import ETHERTYPE_VLAN as TYPE_VLAN
from spigate.hdl.dfe.inspect import Task
from spigate.hdl.dfe.job import BUFFER_WORDS, STORE_BYTES, BufferRead
from spigate.hdl.net.descriptor import Egress, OutOf, PuntHeader, Verdict
from spigate.hdl.net.headers import IP_WORD, IPV4
from spigate.hdl.net.packet import packets, swap_bytes

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

        # The next packet's plan is made while the present one is sent.
        departure = self.i.payload
        job, info, route = (
            departure.task.done.job,
            departure.task.done.job.info,
            departure.task.done.job.info.route,
        )
        punt, wipe, tunnel, keeps_header = Signal(), Signal(), Signal(), Signal()
        ethernet, own_ethernet = (
            IP_WORD + Mux(route.rewrite, route.tagged, info.tagged),
            IP_WORD + info.tagged,
        )
        m.d.comb += [
            punt.eq(info.verdict == Verdict.PUNT),
            wipe.eq(info.verdict == Verdict.WIPE),
            tunnel.eq((info.verdict != Verdict.BYPASS) & job.control.mode),
            keeps_header.eq(~((info.verdict == Verdict.ENCRYPT) & tunnel)),
        ]
        planned, bytes_planned, run_planned = Signal(), Signal(12), Signal(range(BUFFER_WORDS))
        overlay_planned, mask_planned = self._headers(m, departure, punt)
        m.d.sync += [
            planned.eq(self.i.valid & ~self.i.ready),
            bytes_planned.eq(
                Mux(punt, CE_HEADER_BYTES + info.length, (ethernet << 2) + departure.total_length)
            ),
        ]
        with m.If(wipe):
            m.d.sync += bytes_planned.eq(WIPE_BYTES)
        m.d.sync += [
            # The run begins behind the header that was read, at `ethernet + IP_WORDS` words from the
            # frame's start.
            run_planned.eq(
                Mux(tunnel, job.esp, own_ethernet)
                + (Mux(keeps_header, IP_WORDS, 0) + (OWN_WORDS - IP_WORDS) - ethernet)
            )
        ]

        # The words in front, where `mask` says so instead of the buffer's; both move down with each beat.
        overlay, mask = Signal(32 * (HEADER_WORDS + HEADER_WORDS % READ_WORDS)), Signal(HEADER_WORDS)
        # Word addresses: the next beat's, and that of the first beat behind OWN_WORDS; and how far it is to
        # there.
        address, run, runs = Signal(range(BUFFER_WORDS)), Signal(range(BUFFER_WORDS)), Signal()
        word = Signal(range(OWN_WORDS + 1))
        to_read, to_come, final = Signal(12), Signal(12), Signal()
        reading, issue, arrived, beat = Signal(), Signal(), Signal(), Signal(8 * STORE_BYTES)
        void = Signal()
        queued = data.StructLayout(
            {"data": 8 * STORE_BYTES, "last": 1, "count": range(STORE_BYTES + 1), "void": 1}
        )
        m.submodules.queue = queue = fifo.SyncFIFO(width=queued.size, depth=QUEUE)
        ahead = Signal(range(QUEUE + 1))
        entry = Signal(queued)
        m.d.comb += [
            self.read.address.eq(address),
            self.read.enable.eq(reading & (ahead != QUEUE)),
            issue.eq(self.read.enable & self.read.ready),
        ]
        m.d.sync += [
            arrived.eq(self.read.valid),
            beat.eq(self.read.data),
            ahead.eq(ahead + issue - (queue.r_rdy & queue.r_en)),
        ]
        with m.If(self.egress.valid & self.egress.ready):
            m.d.sync += self.egress.valid.eq(0)
        with m.If(issue):
            m.d.sync += [address.eq(address + READ_WORDS), to_read.eq(to_read - STORE_BYTES)]
            with m.If(to_read <= STORE_BYTES):
                m.d.sync += reading.eq(0)
            with m.If(word != OWN_WORDS):
                m.d.sync += word.eq(word + READ_WORDS)
            with m.If((word == OWN_WORDS - READ_WORDS) & runs):
                m.d.sync += address.eq(run)
        with m.If(arrived):
            m.d.sync += [
                to_come.eq(to_come - STORE_BYTES),
                final.eq(to_come <= 2 * STORE_BYTES),
                overlay.eq(overlay >> 8 * STORE_BYTES),
                mask.eq(mask >> READ_WORDS),
            ]

        # The plan becomes the present packet while none is sent: it is wide, so out of registers.
        load = Signal()
        m.d.comb += self.i.ready.eq(load)
        with m.If(load):
            m.d.sync += [
                self.lane.eq(departure.task.lane),
                self.read.buffer.eq(departure.task.done.buffer),
                self.verdict.eq(info.verdict),
                self.bytes.eq(bytes_planned),
                to_read.eq(bytes_planned),
                to_come.eq(bytes_planned),
                final.eq(0),  # no frame is as short as one read
                overlay.eq(overlay_planned),
                mask.eq(mask_planned),
                word.eq(0),
                runs.eq(~punt),
                run.eq(run_planned),
                address.eq(Mux(punt, -(CE_HEADER_BYTES // 4), 0)),
                reading.eq(~departure.drop),
                self.egress.valid.eq(~departure.drop & ~wipe),
                void.eq(wipe),
                self.egress.payload.port.eq(Mux(punt, Port.CE, route.egress)),
                self.egress.payload.depth.eq(info.depth + (~punt & (route.egress == Port.RECIRCULATE))),
                *self._provenance(job),
            ]

        # A packet is sent, then it has ended (a dropped one at once) and waits for its egress to be taken.
        sending, ended, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            ends.eq(sending & arrived & entry.last),
            self.sent.eq(ends & ~void),
            self.release.eq((ended | ends) & ~self.egress.valid),
            self.wiped.eq(void),
            load.eq(planned & ~(sending | ended)),
        ]
        with m.If(load):
            m.d.sync += [sending.eq(~departure.drop), ended.eq(departure.drop)]
        with m.Elif(self.release):
            m.d.sync += [sending.eq(0), ended.eq(0)]
        with m.Elif(ends):
            m.d.sync += [sending.eq(0), ended.eq(1)]

        m.d.comb += [
            entry.data.eq(
                Cat(
                    Mux(mask[at], overlay.word_select(at, 32), beat.word_select(at, 32))
                    for at in range(READ_WORDS)
                )
            ),
            entry.last.eq(final),
            entry.count.eq(Mux(entry.last, to_come, STORE_BYTES)),
            entry.void.eq(void),
            queue.w_en.eq(arrived),
            queue.w_data.eq(entry),
        ]
        self._send(m, queue, queued)
        return m

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

    def _send(self, m, queue, queued):
        """What was read goes out in beats, one or two of them."""
        head, size = queued(queue.r_data), self._beat_bytes
        parts = STORE_BYTES // size
        part, ends, step = Signal(range(parts)), Signal(), Signal()
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
        m.d.comb += [
            header.version.eq(CE_VERSION),
            header.reason.eq(info.reason),
            header.ingress.eq(info.ingress),
            header.dfe.eq(self.index),
            header.sa.eq(info.sa),
            header.depth.eq(info.depth),
            header.tagged.eq(info.tagged),
            header.time.eq(self.time),
            header.rule.eq(info.rule),
            header.ruled.eq(info.ruled),
            *(header[f"from_{name}"].eq(info.out_of[name]) for name in OutOf().members),
        ]
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
