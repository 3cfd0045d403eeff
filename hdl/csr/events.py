"""What becomes of reports: every drop is counted by its reason, and the auditable ones wait as events for the
control element.
"""
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from spigate.hdl.csr import layout, rdl
from spigate.hdl.csr.axil import RegisterBus
from spigate.hdl.net.descriptor import Report
from spigate.hdl.net.memory import BlockMemory
from spigate.hdl.net.merge import Merge

VIEW = rdl.registers()["event.what"].count
"""Events that the bus can see at once."""
EVENT_WORDS = rdl.registers()["event.what"].stride // 4
DEPTH = 64
"""Events that the queue holds."""


class DropCounters(wiring.Component):
    """One counter of 32 bits a reason, in block memory. All are 0 when the first item is taken after reset.

    Members
    -------
    i : In(stream of unsigned(6))
        A :data:`Reason` to count.
    bus : In(RegisterBus)
        Word n is the counter of reason n.
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(6)), "bus": In(RegisterBus(address_width=8))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = BlockMemory(width=32, depth=64)
        bus = self.bus
        reason, counting = Signal(6), Signal()
        m.d.comb += [memory.read_address.eq(reason), memory.write_address.eq(reason)]
        with m.FSM(init="CLEAR"):
            with m.State("CLEAR"):
                m.d.comb += memory.write_enable.eq(1)
                m.d.sync += reason.eq(reason + 1)
                with m.If(reason.all()):
                    m.next = "IDLE"
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(~bus.read)
                m.d.sync += [reason.eq(Mux(bus.read, bus.read_address, self.i.payload)), counting.eq(~bus.read)]
                with m.If(bus.read | self.i.valid):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.next = "STORE"
            with m.State("STORE"):
                m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += [
                    memory.write_data.eq(memory.read_data + 1), memory.write_enable.eq(counting),
                    bus.read_data.eq(memory.read_data), bus.read_done.eq(~counting & bus.read),
                ]
                m.next = "IDLE"
        return m


class EventQueue(wiring.Component):
    """The last :data:`DEPTH` reports whose reason is in the mask, until the control element has done with them.

    Members
    -------
    i : In(stream of Report)
    mask : In(64)
        Bit n: reason n makes an event.
    time : In(32)
        Stamped on an event when it is taken.
    pop : In(range(DEPTH + 1)), pop_written : In(1)
        So many of the oldest events leave the queue, in a clock with ``pop_written``.
    pending : Out(range(DEPTH + 1))
        Events in the queue.
    lost : Out(32)
        Events that found it full; wraps.
    bad_pop : Out(1)
        For one clock: ``pop`` was more than ``pending``.
    bus : In(RegisterBus)
        The part ``event`` of ``gateway.rdl``.
    """

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(Report())), "mask": In(64), "time": In(32),
            "pop": In(range(DEPTH + 1)), "pop_written": In(1), "pending": Out(range(DEPTH + 1)), "lost": Out(32),
            "bad_pop": Out(1), "bus": In(RegisterBus(address_width=ceil_log2(4 * VIEW * EVENT_WORDS))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = BlockMemory(width=32, depth=DEPTH * EVENT_WORDS)
        tail = Signal(range(DEPTH))
        pushed = Signal()
        self._push(m, memory, tail, pushed)
        self._view(m, memory, tail)

        m.d.sync += self.pending.eq(self.pending + pushed)
        with m.If(self.pop_written):
            m.d.comb += self.bad_pop.eq(self.pop > self.pending)
            m.d.sync += self.pending.eq(Mux(self.bad_pop, 0, self.pending - self.pop) + pushed)
        return m

    def _push(self, m, memory, tail, pushed):
        """Takes a report and stores its words one by one; ``tail`` is where the next event goes."""
        report, what = self.i.payload, Signal(layout.register("event.what"))
        for name in rdl.registers()["event.what"].fields:
            m.d.comb += what[name].eq(1 if name == "valid" else report[name])
        words = [what, report.spi, report.sequence, report.source, report.destination, self.time]
        word = Signal(range(EVENT_WORDS))
        wanted = Signal()
        m.d.comb += memory.write_address.eq(tail * EVENT_WORDS + word)
        with m.Switch(word):
            for number, value in enumerate(words):
                with m.Case(number):
                    m.d.comb += memory.write_data.eq(value)
        with m.FSM(name="push"):
            with m.State("IDLE"):
                m.d.sync += [wanted.eq(self.mask.bit_select(report.reason, 1)), word.eq(0)]
                with m.If(self.i.valid):
                    m.next = "DECIDE"
            with m.State("DECIDE"):
                m.next = "IDLE"
                with m.If(~wanted):
                    m.d.comb += self.i.ready.eq(1)
                with m.Elif(self.pending == DEPTH):
                    m.d.comb += self.i.ready.eq(1)
                    m.d.sync += self.lost.eq(self.lost + 1)
                with m.Else():
                    m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += memory.write_enable.eq(1)
                m.d.sync += word.eq(word + 1)
                with m.If(word == len(words) - 1):
                    m.d.comb += [self.i.ready.eq(1), pushed.eq(1)]
                    m.d.sync += tail.eq(tail + 1)
                    m.next = "IDLE"

    def _view(self, m, memory, tail):
        bus = self.bus
        number, word = bus.read_address[ceil_log2(EVENT_WORDS):], bus.read_address[:ceil_log2(EVENT_WORDS)]
        place = Signal(range(DEPTH))
        waited = Signal(2)
        m.d.sync += place.eq(tail - self.pending + number)
        m.d.comb += [
            memory.read_address.eq(place * EVENT_WORDS + word),
            bus.read_done.eq(bus.read & waited.all()),
            bus.read_error.eq(word >= _words()),
            bus.read_data.eq(Mux(number < self.pending, memory.read_data, 0)),
        ]
        m.d.sync += waited.eq(Mux(bus.read & ~waited.all(), waited + 1, 0))


def _words() -> int:
    return sum(name.startswith("event.") for name in rdl.registers())


class Events(wiring.Component):
    """Drop counters and event queue behind the reports of all who have something to report. No drop is ever
    uncounted: reporters wait.

    Parameters
    ----------
    reporters : int
        Streams of reports.

    Members
    -------
    reports : In(stream of Report).array(reporters)
    drops : In(RegisterBus)
        The part ``drops`` of ``gateway.rdl``.
    mask, time, pop, pop_written, pending, lost, bad_pop
        As in :class:`EventQueue`.
    view : In(RegisterBus)
        The part ``event`` of ``gateway.rdl``.
    """

    def __init__(self, *, reporters: int):
        self._reporters = reporters
        super().__init__({
            "reports": In(stream.Signature(Report())).array(reporters), "drops": In(RegisterBus(address_width=8)),
            "mask": In(64), "time": In(32), "pop": In(range(DEPTH + 1)), "pop_written": In(1),
            "pending": Out(range(DEPTH + 1)), "lost": Out(32), "bad_pop": Out(1),
            "view": In(RegisterBus(address_width=ceil_log2(4 * VIEW * EVENT_WORDS))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.merge = merge = Merge(Report(), count=self._reporters)
        m.submodules.counters = counters = DropCounters()
        m.submodules.queue = queue = EventQueue()
        for outer, inner in zip(self.reports, merge.i, strict=False):
            wiring.connect(m, wiring.flipped(outer), inner)
        wiring.connect(m, wiring.flipped(self.drops), counters.bus)
        wiring.connect(m, wiring.flipped(self.view), queue.bus)
        for name in ("mask", "time", "pop", "pop_written"):
            m.d.comb += getattr(queue, name).eq(getattr(self, name))
        for name in ("pending", "lost", "bad_pop"):
            m.d.comb += getattr(self, name).eq(getattr(queue, name))

        # Both take each report, each when it can.
        counted, queued = Signal(), Signal()
        report = merge.o
        m.d.comb += [
            counters.i.valid.eq(report.valid & report.payload.dropped & ~counted),
            counters.i.payload.eq(report.payload.reason),
            queue.i.valid.eq(report.valid & ~queued), queue.i.payload.eq(report.payload),
            report.ready.eq((counted | counters.i.ready | ~report.payload.dropped) & (queued | queue.i.ready)),
        ]
        m.d.sync += [
            counted.eq(~report.ready & (counted | counters.i.valid & counters.i.ready)),
            queued.eq(~report.ready & (queued | queue.i.valid & queue.i.ready)),
        ]
        return m
