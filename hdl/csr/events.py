# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What becomes of reports: every drop is counted by its reason, and the auditable ones wait as events for the
control element.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from spigate.hdl.contract import rdl
from spigate.hdl.contract.reasons import DROPS, ENDING, JUNK
from spigate.hdl.csr import layout
from spigate.hdl.csr.axil import RegisterBus
from spigate.hdl.net.descriptor import Report
from spigate.hdl.net.memory import BlockMemory
from spigate.hdl.net.merge import Merge

VIEW = rdl.registers()["event.what"].elements
"""Events that the bus can see at once."""
EVENT_WORDS = rdl.registers()["event.what"].stride // 4
DEPTH = 64
"""Events that the queue holds."""
COUNTED = 1 << max(DROPS).bit_length()
"""Reasons of drops are below; those from there on are of punts, and of what is only told."""


def one_of(reason: Value, reasons) -> Value:
    """Whether ``reason`` is one of them."""
    return Cat(reason == each for each in reasons).any()


class DropCounters(wiring.Component):
    """One counter of 32 bits a reason, in LUT RAM: one more in every clock, also of the same reason. All
    are 0 when the first item is taken after reset.

    Members
    -------
    i : In(stream of unsigned(6))
        A :data:`Reason` of a drop to count, below :data:`COUNTED`. Waits for the clock of a read, and after
        reset.
    bus : In(RegisterBus)
        Word n is the counter of reason n; of others 0.
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(6)), "bus": In(RegisterBus(address_width=8))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = store = memory.Memory(shape=unsigned(32), depth=COUNTED, init=[])
        write = store.write_port()
        read = store.read_port(domain="comb")
        bus = self.bus
        clearing = Signal(init=1)
        at = Signal(range(COUNTED))
        data = Signal(32)
        answering = Signal()
        m.d.comb += [
            self.i.ready.eq(~clearing & ~(bus.read & ~answering)),
            read.addr.eq(Mux(self.i.ready, self.i.payload, bus.read_address)),
            write.addr.eq(Mux(clearing, at, read.addr)),
            write.data.eq(Mux(clearing, 0, read.data + 1)),
            write.en.eq(clearing | self.i.valid & self.i.ready),
            bus.read_data.eq(data),
            bus.read_done.eq(bus.read & answering),
        ]
        with m.If(clearing):
            m.d.sync += at.eq(at + 1)
            with m.If(at.all()):
                m.d.sync += clearing.eq(0)
        m.d.sync += answering.eq(bus.read & ~clearing & ~answering)
        with m.If(~answering):
            m.d.sync += data.eq(Mux(bus.read_address < COUNTED, read.data, 0))
        return m


class EventQueue(wiring.Component):
    """The last :data:`DEPTH` events, until the control element has done with them.

    Of what strangers can cause (:data:`~spigate.hdl.contract.reasons.JUNK`) it takes none when it is half
    full, of what ends an SA (:data:`~spigate.hdl.contract.reasons.ENDING`) none when it is three quarters
    full: so there is always room for what is told once, such as a soft lifetime or a DFE that stalls.

    Members
    -------
    i : In(stream of Report)
        Events. One that finds no room is taken in a clock; others take one for each word.
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
        super().__init__(
            {
                "i": In(stream.Signature(Report())),
                "time": In(32),
                "pop": In(range(DEPTH + 1)),
                "pop_written": In(1),
                "pending": Out(range(DEPTH + 1)),
                "lost": Out(32),
                "bad_pop": Out(1),
                "bus": In(RegisterBus(address_width=ceil_log2(4 * VIEW * EVENT_WORDS))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = store = BlockMemory(width=32, depth=DEPTH * EVENT_WORDS)
        tail = Signal(range(DEPTH))
        pushed = Signal()
        self._push(m, store, tail, pushed)
        self._view(m, store, tail)

        m.d.sync += self.pending.eq(self.pending + pushed)
        with m.If(self.pop_written):
            m.d.comb += self.bad_pop.eq(self.pop > self.pending)
            m.d.sync += self.pending.eq(Mux(self.bad_pop, 0, self.pending - self.pop) + pushed)
        return m

    def _push(self, m, store, tail, pushed):
        """Takes a report and stores its words one by one; ``tail`` is where the next event goes."""
        report = self.i.payload
        what = Signal(layout.register("event.what"))
        for name in rdl.registers()["event.what"].fields:
            m.d.comb += what[name].eq(1 if name == "valid" else report[name])
        words = [what, report.spi, report.sequence, report.source, report.destination, self.time]
        word = Signal(range(EVENT_WORDS))
        full = Signal()
        for reasons, limit in ((JUNK, DEPTH // 2), (ENDING, DEPTH * 3 // 4)):
            with m.If(one_of(report.reason, reasons) & (self.pending >= limit)):
                m.d.comb += full.eq(1)
        with m.If(self.pending == DEPTH):
            m.d.comb += full.eq(1)
        m.d.comb += store.write_address.eq(tail * EVENT_WORDS + word)
        with m.Switch(word):
            for number, value in enumerate(words):
                with m.Case(number):
                    m.d.comb += store.write_data.eq(value)
        with m.FSM(name="push"):
            with m.State("IDLE"):
                m.d.sync += word.eq(0)
                with m.If(self.i.valid & full):
                    m.d.comb += self.i.ready.eq(1)
                    m.d.sync += self.lost.eq(self.lost + 1)
                with m.Elif(self.i.valid):
                    m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += store.write_enable.eq(1)
                m.d.sync += word.eq(word + 1)
                with m.If(word == len(words) - 1):
                    m.d.comb += [self.i.ready.eq(1), pushed.eq(1)]
                    m.d.sync += tail.eq(tail + 1)
                    m.next = "IDLE"

    def _view(self, m, store, tail):
        bus = self.bus
        number, word = bus.read_address[ceil_log2(EVENT_WORDS) :], bus.read_address[: ceil_log2(EVENT_WORDS)]
        place = Signal(range(DEPTH))
        waited = Signal(2)
        m.d.sync += place.eq(tail - self.pending + number)
        m.d.comb += [
            store.read_address.eq(place * EVENT_WORDS + word),
            bus.read_done.eq(bus.read & waited.all()),
            bus.read_error.eq(word >= _words()),
            bus.read_data.eq(Mux(number < self.pending, store.read_data, 0)),
        ]
        m.d.sync += waited.eq(Mux(bus.read & ~waited.all(), waited + 1, 0))


def _words() -> int:
    return sum(name.startswith("event.") for name in rdl.registers())


class Events(wiring.Component):
    """Drop counters and event queue behind the reports of all who have something to report.

    No drop is ever uncounted, and no flood of drops holds a reporter up: each clock takes a report, but for
    the few that become events, which take eight clocks each until the queue has no room for their kind.

    Parameters
    ----------
    reporters : int
        Streams of reports.

    Members
    -------
    reports : In(stream of Report).array(reporters)
    drops : In(RegisterBus)
        The part ``drops`` of ``gateway.rdl``.
    mask : In(64)
        Bit n: reason n makes an event.
    time, pop, pop_written, pending, lost, bad_pop
        As in :class:`EventQueue`.
    view : In(RegisterBus)
        The part ``event`` of ``gateway.rdl``.
    """

    def __init__(self, *, reporters: int):
        self._reporters = reporters
        super().__init__(
            {
                "reports": In(stream.Signature(Report())).array(reporters),
                "drops": In(RegisterBus(address_width=8)),
                "mask": In(64),
                "time": In(32),
                "pop": In(range(DEPTH + 1)),
                "pop_written": In(1),
                "pending": Out(range(DEPTH + 1)),
                "lost": Out(32),
                "bad_pop": Out(1),
                "view": In(RegisterBus(address_width=ceil_log2(4 * VIEW * EVENT_WORDS))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.merge = merge = Merge(Report(), count=self._reporters)
        m.submodules.counters = counters = DropCounters()
        m.submodules.queue = queue = EventQueue()
        for outer, inner in zip(self.reports, merge.i, strict=False):
            wiring.connect(m, wiring.flipped(outer), inner)
        wiring.connect(m, wiring.flipped(self.drops), counters.bus)
        wiring.connect(m, wiring.flipped(self.view), queue.bus)
        for name in ("time", "pop", "pop_written"):
            m.d.comb += getattr(queue, name).eq(getattr(self, name))
        for name in ("pending", "lost", "bad_pop"):
            m.d.comb += getattr(self, name).eq(getattr(queue, name))

        # Counted as it comes; then it waits, where it is an event, while the queue stores the one before.
        report = merge.o
        held = queue.i
        free = Signal()
        m.d.comb += [
            free.eq(~held.valid | held.ready),
            counters.i.valid.eq(report.valid & report.payload.dropped & free),
            counters.i.payload.eq(report.payload.reason),
            report.ready.eq(free & (counters.i.ready | ~report.payload.dropped)),
        ]
        with m.If(held.ready):
            m.d.sync += held.valid.eq(0)
        with m.If(report.valid & report.ready):
            m.d.sync += [
                held.valid.eq(self.mask.bit_select(report.payload.reason, 1)),
                held.payload.eq(report.payload),
            ]
        return m
