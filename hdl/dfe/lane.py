"""A lane of a DFE: a ring of packet buffers around a crypto engine."""
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto.interface import Context
from spigate.hdl.csr import layout, rdl
from spigate.hdl.dfe import store
from spigate.hdl.dfe.collect import Collector
from spigate.hdl.dfe.feed import Feeder, Introducer
from spigate.hdl.dfe.job import BUFFER_WORDS, BUFFERS, ROWS, EspText, LanePort
from spigate.hdl.net.descriptor import PacketInfo, Verdict
from spigate.hdl.net.memory import BlockMemory

CONTROL_ROW, TUNNEL_ROW = rdl.entry("sa")["control"].index, rdl.entry("sa")["tunnel"].index
ROW_CLOCKS = 2
"""Clocks from a read of the context RAM to the row."""


class Assignment(data.StructLayout):
    """What dispatch says about a packet: a ``LaneJob`` without the rows of the SA, which the lane has, and what else feeding takes."""

    def __init__(self):
        super().__init__({"info": PacketInfo(), "sequence": 64, "esp": range(BUFFER_WORDS), "text_bytes": 12,
                          "iv_words": 3, "icv_words": 3})


class FillBeat(data.StructLayout):
    """A write to a buffer: the words of ``data`` with a bit in ``mask``, the first one to word ``address``. With ``last`` the packet is
    complete."""

    def __init__(self, beat_bytes: int):
        super().__init__({"address": range(BUFFER_WORDS), "data": 8 * beat_bytes, "mask": beat_bytes // 4, "last": 1})


class DispatchPort(wiring.Signature):
    """How dispatch hands packets to a lane, seen from the lane: ``claim``, rows, ``assign``, and then the packet itself on the lane's ``fill``,
    packet after packet. A packet may be claimed while the one before is still being filled, not earlier.

    Members
    -------
    room : Out(1)
        A buffer is free.
    claim : In(1)
        A strobe, while ``room``: it is taken for a packet.
    row_enable, row, row_data : In
        A row of the claimed packet's SA, for the context RAM; all of them for DECRYPT and ENCRYPT.
    assign, assignment : In
        A strobe after the rows, with the last one at the earliest: what the packet is.
    """

    def __init__(self):
        super().__init__({
            "room": Out(1), "claim": In(1), "row_enable": In(1), "row": In(range(ROWS)), "row_data": In(layout.ROW_BITS),
            "assign": In(1), "assignment": In(Assignment()),
        })


def grants(m: Module, requests: list, turn: Value, name: str) -> list[Signal]:
    """At most one of ``requests`` is granted: the first from number ``turn`` on."""
    granted = [Signal(name=f"{name}_{at}") for at in range(len(requests))]
    with m.Switch(turn):
        for first in range(len(requests)):
            with m.Case(first):
                earlier = Const(0)
                for at in (*range(first, len(requests)), *range(first)):
                    m.d.comb += granted[at].eq(requests[at] & ~earlier)
                    earlier |= requests[at]
    return granted


class Lane(wiring.Component):
    """Buffers, context RAM, and what feeds the engine and collects from it.

    The *n*-th packet uses buffer *n* mod 4 and the engine's context *n* mod ``contexts``. The contexts' packets do not wait for one
    another; ``done`` keeps the order.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    contexts : int
        Contexts of the engine: 1, 2 or 4.
    word_bytes : int
        Width of the engine's words: 4, 8 or 16.

    Members
    -------
    dispatch : Out(DispatchPort)
    fill : In(stream of FillBeat)
        Packets in the order of ``dispatch``, each after its ``assign``, in the layouts of docs/architecture.md.
    context : In(Context).array(contexts)
        To be connected to those of the engine.
    port : Out(LanePort)
        To commit.
    """

    def __init__(self, *, beat_bytes: int, contexts: int, word_bytes: int):
        if contexts not in (1, 2, 4):
            raise ValueError(f"contexts must be 1, 2 or 4, not {contexts!r}")
        self._beat_bytes, self._contexts, self._word_bytes = beat_bytes, contexts, word_bytes
        super().__init__({
            "dispatch": Out(DispatchPort()), "fill": In(stream.Signature(FillBeat(beat_bytes))),
            "context": In(Context(word_bytes)).array(contexts),
            "port": Out(LanePort(beat_bytes)),
        })

    def elaborate(self, platform):
        m = Module()
        contexts, port, dispatch = self._contexts, self.port, self.dispatch

        # Packets are counted modulo twice the buffers; a count's low bits are its buffer.
        claimed, filled, released = (Signal(range(2 * BUFFERS), name=name) for name in ("claimed", "filled", "released"))
        assigned = Signal(range(BUFFERS))
        m.d.comb += dispatch.room.eq((claimed - released)[:len(claimed)] != BUFFERS)
        m.d.sync += [filled.eq(filled + (self.fill.valid & self.fill.ready & self.fill.payload.last)), released.eq(released + port.release)]
        with m.If(dispatch.claim):
            m.d.sync += [claimed.eq(claimed + 1), assigned.eq(claimed)]

        # What is known about the packet in each buffer.
        m.submodules.jobs = jobs = memory.Memory(shape=Assignment(), depth=BUFFERS, init=[])
        m.submodules.texts = texts = memory.Memory(shape=EspText(), depth=BUFFERS, init=[])
        job_write, job_read, text_write = jobs.write_port(), jobs.read_port(domain="comb"), texts.write_port()
        assignment, text = dispatch.assignment, text_write.data
        m.d.comb += [
            job_write.addr.eq(assigned), job_write.data.eq(assignment), job_write.en.eq(dispatch.assign),
            text_write.addr.eq(assigned), text_write.en.eq(dispatch.assign),
            text.encrypt.eq(assignment.info.verdict == Verdict.ENCRYPT),
            text.crypto.eq(text.encrypt | (assignment.info.verdict == Verdict.DECRYPT)),
            text.esp.eq(assignment.esp), text.text_words.eq(assignment.text_bytes >> 2),
            text.iv_words.eq(assignment.iv_words), text.icv_words.eq(assignment.icv_words),
        ]

        def walk(name: str, first: int, step: int):
            """A walk over the packets in their order: (buffer of the present one, it is filled, strobe to go on)."""
            count, work, go_on = Signal(range(2 * BUFFERS), init=first, name=name), Signal(name=f"{name}_work"), Signal(name=f"{name}_next")
            ahead = Signal(range(2 * BUFFERS), name=f"{name}_ahead")
            m.d.comb += [ahead.eq(filled - count), work.eq((ahead != 0) & (ahead <= BUFFERS))]
            with m.If(go_on):
                m.d.sync += count.eq(count + step)
            return count[:-1], work, go_on

        m.submodules.store = packet_store = store.PacketStore(beat_bytes=self._beat_bytes)
        m.submodules.rows = rows = BlockMemory(width=layout.ROW_BITS, depth=BUFFERS * 16)
        m.d.comb += [
            rows.write_address.eq(Cat(dispatch.row, assigned)), rows.write_data.eq(dispatch.row_data),
            rows.write_enable.eq(dispatch.row_enable),
        ]

        # The ways of the packets of each context.
        introducers, feeders, collectors = [], [], []
        buffers = {}
        finished, ok = Signal(BUFFERS), Signal(BUFFERS)
        for at in range(contexts):
            engine = self.context[at]
            introducer = Introducer()
            feeder = Feeder(beat_bytes=self._beat_bytes, word_bytes=self._word_bytes)
            collector = Collector(beat_bytes=self._beat_bytes, word_bytes=self._word_bytes)
            for name, worker, group in (("introducer", introducer, introducers), ("feeder", feeder, feeders),
                                        ("collector", collector, collectors)):
                m.submodules[f"{name}_{at}"] = worker
                group.append(worker)
                buffer, work, go_on = walk(f"{name}_{at}_at", at, contexts)
                buffers[worker] = buffer
                read = texts.read_port(domain="comb")
                m.d.comb += [read.addr.eq(buffer), worker.text.eq(read.data), worker.work.eq(work), go_on.eq(worker.next)]
            wiring.connect(m, introducer.job, wiring.flipped(engine.job))
            wiring.connect(m, introducer.material, wiring.flipped(engine.material))
            wiring.connect(m, feeder.o, wiring.flipped(engine.i))
            wiring.connect(m, wiring.flipped(engine.o), collector.i)
            wiring.connect(m, wiring.flipped(engine.result), collector.result)
            m.d.comb += [introducer.data.eq(rows.read_data), feeder.data.eq(packet_store.read_data)]
            with m.If(collector.next):
                m.d.sync += [finished.bit_select(buffers[collector], 1).eq(1), ok.bit_select(buffers[collector], 1).eq(collector.ok)]

        # Which context comes first changes with every clock; commit comes last.
        turn = Signal(range(contexts))
        m.d.sync += turn.eq(turn + 1)

        # Commit's side of the ring: the oldest packet's first rows are fetched before it is asked for.
        oldest, oldest_work, oldest_next = walk("oldest", 0, 1)
        asked = Signal(range(3))
        ask, arriving = Signal(), Signal(ROW_CLOCKS)
        row_granted = grants(m, [introducer.request for introducer in introducers], turn, "row_granted")
        idle = Signal()
        m.d.comb += [
            idle.eq(~Cat(introducer.request for introducer in introducers).any()),
            ask.eq(oldest_work & (asked != 2) & idle),
            port.rows.ready.eq(idle & ~ask),
            rows.read_address.eq(Cat(port.rows.row, port.rows.buffer)),
        ]
        with m.If(ask):
            m.d.comb += rows.read_address.eq(Cat(Mux(asked == 0, Const(CONTROL_ROW, 4), Const(TUNNEL_ROW, 4)), oldest))
        for introducer, granted in zip(introducers, row_granted, strict=True):
            m.d.comb += introducer.granted.eq(granted)
            with m.If(granted):
                m.d.comb += rows.read_address.eq(Cat(introducer.row, buffers[introducer]))
        row_valid = Signal(ROW_CLOCKS)
        m.d.sync += [arriving.eq(Cat(ask, arriving)), row_valid.eq(Cat(port.rows.enable & port.rows.ready, row_valid))]
        m.d.comb += [port.rows.valid.eq(row_valid[-1]), port.rows.data.eq(rows.read_data)]

        first, second = Signal(layout.row("sa", "control")), Signal(layout.row("sa", "tunnel"))
        arrived = Signal(range(3))
        with m.If(ask):
            m.d.sync += asked.eq(asked + 1)
        with m.If(arriving[-1]):
            m.d.sync += arrived.eq(arrived + 1)
            with m.If(arrived == 0):
                m.d.sync += first.eq(rows.read_data)
            with m.Else():
                m.d.sync += second.eq(rows.read_data)
        done, job = port.done.payload, job_read.data
        m.d.comb += [
            job_read.addr.eq(oldest),
            done.job.info.eq(job.info), done.job.sequence.eq(job.sequence), done.job.esp.eq(job.esp),
            done.job.text_bytes.eq(job.text_bytes), done.job.control.eq(first), done.job.tunnel.eq(second),
            done.buffer.eq(oldest), done.ok.eq(ok.bit_select(oldest, 1)),
            port.done.valid.eq((arrived == 2) & finished.bit_select(oldest, 1)),
            oldest_next.eq(port.done.valid & port.done.ready),
        ]
        with m.If(oldest_next):
            m.d.sync += [asked.eq(0), arrived.eq(0), finished.bit_select(oldest, 1).eq(0)]

        # The packet store's read port.
        m.d.comb += [
            port.read.ready.eq(~Cat(feeder.request for feeder in feeders).any()),
            packet_store.read_address.eq(port.read.address), packet_store.read_buffer.eq(port.read.buffer),
        ]
        for feeder, granted in zip(feeders, grants(m, [feeder.request for feeder in feeders], turn, "read_granted"), strict=True):
            m.d.comb += feeder.granted.eq(granted)
            with m.If(granted):
                m.d.comb += [packet_store.read_address.eq(feeder.address), packet_store.read_buffer.eq(buffers[feeder])]
        read_valid = Signal(store.READ_CLOCKS)
        m.d.sync += read_valid.eq(Cat(port.read.enable & port.read.ready, read_valid))
        m.d.comb += [port.read.valid.eq(read_valid[-1]), port.read.data.eq(packet_store.read_data)]

        # Its write port: an engine that has to wait costs throughput, dispatch has time.
        m.d.comb += [
            self.fill.ready.eq(~Cat(collector.request for collector in collectors).any()),
            packet_store.write_enable.eq(self.fill.payload.mask & self.fill.valid.replicate(self._beat_bytes // 4)),
            packet_store.write_buffer.eq(filled), packet_store.write_address.eq(self.fill.payload.address),
            packet_store.write_data.eq(self.fill.payload.data),
        ]
        for collector, granted in zip(collectors, grants(m, [collector.request for collector in collectors], turn, "write_granted"),
                                      strict=True):
            m.d.comb += collector.granted.eq(granted)
            with m.If(granted):
                m.d.comb += [
                    packet_store.write_enable.eq(collector.enable), packet_store.write_buffer.eq(buffers[collector]),
                    packet_store.write_address.eq(collector.address), packet_store.write_data.eq(collector.data),
                ]
        return m
