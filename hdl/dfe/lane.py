# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A lane of a DFE: a ring of packet buffers around a crypto engine."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import rdl
from spigate.hdl.crypto.interface import Context
from spigate.hdl.csr import layout
from spigate.hdl.dfe import store
from spigate.hdl.dfe.collect import Collector
from spigate.hdl.dfe.feed import Feeder, Introducer
from spigate.hdl.dfe.job import BUFFER_WORDS, BUFFERS, ROWS, EspText, LanePort
from spigate.hdl.net.descriptor import PacketInfo, Verdict
from spigate.hdl.net.memory import BlockMemory

CONTROL_ROW, TUNNEL_ROW = rdl.entry("sa")["control"].index, rdl.entry("sa")["tunnel"].index
ROW_CLOCKS = 2
"""Clocks from a read of the context RAM to the row."""
PATIENCE = 6
"""Clocks that the engine waits for a packet store while the other side has it."""
STORES = 2
"""Packet stores, where the engine has as many contexts or more: each has a read and a write port of its own.
"""


class Assignment(data.StructLayout):
    """What dispatch says about a packet: a ``LaneJob`` without the rows of the SA, which the lane has;
    lengths of IV and ICV.
    """

    def __init__(self):
        super().__init__(
            {
                "info": PacketInfo(),
                "sequence": 64,
                "esp": range(BUFFER_WORDS),
                "text_bytes": 12,
                "iv_words": 3,
                "icv_words": 3,
            }
        )


class FillBeat(data.StructLayout):
    """A write to a buffer: the words of ``data`` with a bit in ``mask``, the first one to word ``address``.
    With ``last`` the packet is complete.
    """

    def __init__(self, beat_bytes: int):
        super().__init__(
            {"address": range(BUFFER_WORDS), "data": 8 * beat_bytes, "mask": beat_bytes // 4, "last": 1}
        )


class DispatchPort(wiring.Signature):
    """How dispatch hands packets to a lane, seen from the lane: ``claim``, rows, ``assign``, and then the
    packet itself on the lane's ``fill``. A packet may be claimed while the one before is still being filled,
    not earlier.

    Members
    -------
    room : Out(1)
        A buffer is free.
    claim : In(1)
        A strobe, while ``room``: it is taken for a packet.
    wipe : In(1)
        With ``claim``: it is taken for zeros (:attr:`~spigate.hdl.net.descriptor.Verdict.WIPE`).
    erased : In(1)
        A strobe: what is in the lane now is to be wiped.
    unclean : Out(1)
        Something of what was here then has not been claimed for zeros yet.
    stale : Out(1)
        It is in the buffer that comes next, or in the keys that its context's engine will use for it.
    empty : Out(1)
        No buffer is claimed.
    row_enable, row, row_data : In
        A row of the claimed packet's SA, for the context RAM; all of them for DECRYPT and ENCRYPT.
    assign, assignment : In
        A strobe after the rows, with the last one at the earliest: what the packet is.
    """

    def __init__(self):
        super().__init__(
            {
                "room": Out(1),
                "claim": In(1),
                "wipe": In(1),
                "erased": In(1),
                "unclean": Out(1),
                "stale": Out(1),
                "empty": Out(1),
                "row_enable": In(1),
                "row": In(range(ROWS)),
                "row_data": In(layout.ROW_BITS),
                "assign": In(1),
                "assignment": In(Assignment()),
            }
        )


def grants(m: Module, requests: list[Value], turn: Value, name: str) -> list[Value]:
    """At most one of ``requests`` is granted: the first from number ``turn`` on."""
    if len(requests) == 1:
        return requests
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

    The *n*-th packet uses buffer *n* mod 8 and the engine's context *n* mod ``contexts``. The contexts'
    packets do not wait for one another; ``done`` keeps the order.

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
        Packets in the order of ``dispatch``, each after its ``assign``, in the layouts of
        docs/gateware.md.
    context : In(Context).array(contexts)
        To be connected to those of the engine.
    port : Out(LanePort)
        To commit.
    """

    def __init__(self, *, beat_bytes: int, contexts: int, word_bytes: int):
        if contexts not in (1, 2, 4):
            raise ValueError(f"contexts must be 1, 2 or 4, not {contexts!r}")
        self._contexts = contexts
        self._word_bytes = word_bytes
        super().__init__(
            {
                "dispatch": Out(DispatchPort()),
                "fill": In(stream.Signature(FillBeat(beat_bytes))),
                "context": In(Context(word_bytes)).array(contexts),
                "port": Out(LanePort()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        contexts, dispatch, port = self._contexts, self.dispatch, self.port

        # Packets are counted modulo twice the buffers; a count's low bits are its buffer.
        claimed, known, filled, released = (
            Signal(range(2 * BUFFERS), name=n) for n in ("claimed", "known", "filled", "released")
        )
        assigned = Signal(range(BUFFERS))
        complete = self.fill.valid & self.fill.ready & self.fill.payload.last
        m.d.comb += dispatch.room.eq((claimed - released)[: len(claimed)] != BUFFERS)
        m.d.sync += [
            known.eq(known + dispatch.assign),
            filled.eq(filled + complete),
            released.eq(released + port.release),
        ]
        with m.If(dispatch.claim):
            m.d.sync += [claimed.eq(claimed + 1), assigned.eq(claimed)]
        m.d.comb += dispatch.empty.eq(claimed == released)
        self._mark(m, claimed, assigned)

        def walk(
            name: str, first: int, step: int, go_on: Value, come: Signal = filled
        ) -> tuple[Value, Signal]:
            """Goes from packet to packet: the buffer of the present one, and whether it has ``come``, out
            of a register: what follows from it reaches as far as the address of a block RAM.
            """
            count, ahead, next_ahead = (
                Signal(range(2 * BUFFERS), name=f"{name}_{n}", init=i)
                for n, i in (("at", first), ("ahead", 0), ("next_ahead", 0))
            )
            work = Signal(name=f"{name}_work")
            m.d.comb += [ahead.eq(come - count), next_ahead.eq(ahead - step)]
            m.d.sync += work.eq(
                Mux(go_on, (next_ahead != 0) & (next_ahead <= BUFFERS), (ahead != 0) & (ahead <= BUFFERS))
            )
            with m.If(go_on):
                m.d.sync += count.eq(count + step)
            return count[:-1], work

        texts = self._texts(m, assigned)
        introducers: list[Introducer] = []
        feeders: list[Feeder] = []
        collectors: list[Collector] = []
        buffer_of = {}
        for at in range(contexts):
            for name, worker, group in (
                ("introducer", Introducer(), introducers),
                ("feeder", Feeder(word_bytes=self._word_bytes), feeders),
                ("collector", Collector(word_bytes=self._word_bytes), collectors),
            ):
                m.submodules[f"{name}_{at}"] = worker
                group.append(worker)
                # Key and hash state are introduced while the packet is being filled.
                come = known if group is introducers else filled
                buffer_of[worker], work = walk(f"{name}_{at}", at, contexts, worker.next, come)
                read = texts.read_port(domain="comb")
                m.d.comb += [read.addr.eq(buffer_of[worker]), worker.text.eq(read.data), worker.work.eq(work)]
            context = self.context[at]
            wiring.connect(m, introducers[at].job, wiring.flipped(context.job))
            wiring.connect(m, introducers[at].material, wiring.flipped(context.material))
            wiring.connect(m, feeders[at].o, wiring.flipped(context.i))
            wiring.connect(m, wiring.flipped(context.o), collectors[at].i)
            wiring.connect(m, wiring.flipped(context.result), collectors[at].result)

        # Which context comes first changes with every clock.
        turn = Signal(range(contexts))
        m.d.sync += turn.eq(turn + 1)

        oldest_taken = port.done.valid & port.done.ready
        oldest, oldest_work = walk("oldest", 0, 1, oldest_taken)
        finished = Signal(BUFFERS)
        ok = Signal(BUFFERS)
        with m.If(oldest_taken):
            m.d.sync += finished.bit_select(oldest, 1).eq(0)
        for collector in collectors:
            with m.If(collector.next):
                buffer = buffer_of[collector]
                m.d.sync += [finished.bit_select(buffer, 1).eq(1), ok.bit_select(buffer, 1).eq(collector.ok)]

        control, tunnel, rows_held = self._rows(
            m, introducers, buffer_of, turn, assigned, oldest, oldest_work, oldest_taken
        )
        job = self._jobs(m, assigned, oldest)
        done = port.done.payload
        m.d.comb += [
            done.job.info.eq(job.info),
            done.job.sequence.eq(job.sequence),
            done.job.esp.eq(job.esp),
            done.job.text_bytes.eq(job.text_bytes),
            done.job.control.eq(control),
            done.job.tunnel.eq(tunnel),
            done.buffer.eq(oldest),
            done.ok.eq(ok.bit_select(oldest, 1)),
            port.done.valid.eq(rows_held & finished.bit_select(oldest, 1)),
        ]
        self._store(m, feeders, collectors, buffer_of, turn, filled)
        return m

    def _mark(self, m: Module, claimed: Signal, assigned: Signal) -> None:
        """Remembers which buffers are to be wiped, and which of the two sets of keys that each of the
        engine's contexts uses in turn.
        """
        dispatch, bits = self.dispatch, (self._contexts - 1).bit_length()
        buffers = Signal(BUFFERS)
        sets = Signal(2 * self._contexts)
        turns = Signal(self._contexts)
        buffer, context, verdict = claimed[:-1], claimed[:bits], dispatch.assignment.info.verdict
        key_set = Cat(turns.bit_select(context, 1), context)
        m.d.comb += [
            dispatch.unclean.eq(buffers.any() | sets.any()),
            dispatch.stale.eq(buffers.bit_select(buffer, 1) | sets.bit_select(key_set, 1)),
        ]
        with m.If(
            dispatch.assign
            & ((verdict == Verdict.DECRYPT) | (verdict == Verdict.ENCRYPT) | (verdict == Verdict.WIPE))
        ):
            turn = turns.bit_select(assigned[:bits], 1)
            m.d.sync += turn.eq(~turn)
        with m.If(dispatch.claim & dispatch.wipe):
            m.d.sync += [buffers.bit_select(buffer, 1).eq(0), sets.bit_select(key_set, 1).eq(0)]
        with m.If(dispatch.erased):
            m.d.sync += [buffers.eq(~0), sets.eq(~0)]

    def _jobs(self, m: Module, assigned: Signal, oldest: Value):
        """Keeps each buffer's assignment; gives that of buffer ``oldest``."""
        m.submodules.jobs = jobs = memory.Memory(shape=Assignment(), depth=BUFFERS, init=[])
        write = jobs.write_port()
        read = jobs.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(assigned),
            write.data.eq(self.dispatch.assignment),
            write.en.eq(self.dispatch.assign),
            read.addr.eq(oldest),
        ]
        return read.data

    def _texts(self, m: Module, assigned: Signal) -> memory.Memory:
        """Keeps of each buffer's assignment what feeding and collecting take."""
        m.submodules.texts = texts = memory.Memory(shape=EspText(), depth=BUFFERS, init=[])
        write = texts.write_port()
        assignment = self.dispatch.assignment
        text = write.data
        m.d.comb += [
            write.addr.eq(assigned),
            write.en.eq(self.dispatch.assign),
            text.encrypt.eq(
                (assignment.info.verdict == Verdict.ENCRYPT) | (assignment.info.verdict == Verdict.WIPE)
            ),
            text.crypto.eq(text.encrypt | (assignment.info.verdict == Verdict.DECRYPT)),
            text.esp.eq(assignment.esp),
            text.text_words.eq(assignment.text_bytes >> 2),
            text.iv_words.eq(assignment.iv_words),
            text.icv_words.eq(assignment.icv_words),
        ]
        return texts

    def _rows(
        self,
        m: Module,
        introducers: list[Introducer],
        buffer_of: dict[Any, Value],
        turn: Signal,
        assigned: Signal,
        oldest: Value,
        oldest_work: Signal,
        oldest_taken: Value,
    ) -> tuple[Signal, Signal, Value]:
        """The context RAM and its readers: the engine first, then the ``Done`` to come, then commit. Gives
        control and tunnel row of the oldest packet, which are fetched before it is done, and whether they are
        here.
        """
        dispatch, port = self.dispatch, self.port.rows
        m.submodules.rows = rows = BlockMemory(width=layout.ROW_BITS, depth=BUFFERS * 16)
        idle = Signal()
        ask = Signal()
        asked = Signal(range(3))
        arrived = Signal(range(3))
        arriving = Signal(ROW_CLOCKS)
        answering = Signal(ROW_CLOCKS)
        m.d.comb += [
            rows.write_address.eq(Cat(dispatch.row, assigned)),
            rows.write_data.eq(dispatch.row_data),
            rows.write_enable.eq(dispatch.row_enable),
            idle.eq(~Cat(introducer.request for introducer in introducers).any()),
            ask.eq(oldest_work & (asked != 2) & idle),
            port.ready.eq(idle & ~ask),
            rows.read_address.eq(Cat(port.row, port.buffer)),
            port.valid.eq(answering[-1]),
            port.data.eq(rows.read_data),
        ]
        m.d.sync += [arriving.eq(Cat(ask, arriving)), answering.eq(Cat(port.enable & port.ready, answering))]
        with m.If(ask):
            m.d.comb += rows.read_address.eq(
                Cat(Mux(asked == 0, Const(CONTROL_ROW, 4), Const(TUNNEL_ROW, 4)), oldest)
            )
        granted = grants(m, [introducer.request for introducer in introducers], turn, "row_granted")
        for introducer, mine in zip(introducers, granted, strict=True):
            m.d.comb += [introducer.granted.eq(mine), introducer.data.eq(rows.read_data)]
            with m.If(mine):
                m.d.comb += rows.read_address.eq(Cat(introducer.row, buffer_of[introducer]))

        control = Signal(layout.row("sa", "control"))
        tunnel = Signal(layout.row("sa", "tunnel"))
        m.d.sync += asked.eq(asked + ask)
        with m.If(arriving[-1]):
            m.d.sync += arrived.eq(arrived + 1)
            with m.If(arrived == 0):
                m.d.sync += control.eq(rows.read_data)
            with m.Else():
                m.d.sync += tunnel.eq(rows.read_data)
        with m.If(oldest_taken):
            m.d.sync += [asked.eq(0), arrived.eq(0)]
        return control, tunnel, arrived == 2

    def _store(
        self,
        m: Module,
        feeders: list[Feeder],
        collectors: list[Collector],
        buffer_of: dict[Any, Value],
        turn: Signal,
        filled: Signal,
    ) -> None:
        """The packet stores. Even and odd buffers have one each, and so have the contexts that work on
        them: what one packet's engine reads and writes leaves room to fill and to drain another.
        """
        port, fill, count = self.port.read, self.fill, min(self._contexts, STORES)
        bits = (count - 1).bit_length()
        stores = [store.PacketStore(buffers=BUFFERS // count) for _ in range(count)]
        answering = Signal(store.READ_CLOCKS)
        answers = [Signal(bits, name=f"answer_{n}") for n in range(store.READ_CLOCKS)]
        m.d.sync += [
            answering.eq(Cat(port.enable & port.ready, answering)),
            *(late.eq(early) for early, late in pairwise([port.buffer[:bits], *answers])),
        ]
        m.d.comb += [
            port.valid.eq(answering[-1]),
            port.data.eq(Array(each.read_data for each in stores)[answers[-1]]),
        ]

        def share(name: str, wants: Value, ready: Signal, workers: list[Any]) -> list[Value]:
            """Whoever fills or drains a store comes first: it keeps up with the wire, and one packet waits
            for another there. The engine waits no longer than its words ahead last.
            """
            waited = Signal(range(PATIENCE + 1), name=f"{name}_waited")
            requests = [worker.request for worker in workers]
            other = wants & (waited != PATIENCE)
            m.d.sync += waited.eq(Mux(other & Cat(requests).any(), waited + 1, 0))
            with m.If(wants):
                m.d.comb += ready.eq(other | ~Cat(requests).any())
            return grants(m, [request & ~other for request in requests], turn[bits:], name)

        for at, packet_store in enumerate(stores):
            m.submodules[f"store_{at}"] = packet_store
            m.d.comb += [
                packet_store.read_address.eq(port.address),
                packet_store.read_buffer.eq(port.buffer[bits:]),
            ]
            readers, writers = feeders[at::count], collectors[at::count]
            granted = share(
                f"read_granted_{at}", port.enable & (port.buffer[:bits] == at), port.ready, readers
            )
            for feeder, mine in zip(readers, granted, strict=True):
                m.d.comb += [feeder.granted.eq(mine), feeder.data.eq(packet_store.read_data)]
                with m.If(mine):
                    m.d.comb += [
                        packet_store.read_address.eq(feeder.address),
                        packet_store.read_buffer.eq(buffer_of[feeder][bits:]),
                    ]

            fills = fill.valid & (filled[:bits] == at)
            m.d.comb += [
                packet_store.write_buffer.eq(filled[bits:]),
                packet_store.write_address.eq(fill.payload.address),
                packet_store.write_data.eq(fill.payload.data),
                packet_store.write_enable.eq(Mux(fills, fill.payload.mask, 0)),
            ]
            granted = share(f"write_granted_{at}", fills, fill.ready, writers)
            for collector, mine in zip(writers, granted, strict=True):
                m.d.comb += collector.granted.eq(mine)
                with m.If(mine):
                    m.d.comb += [
                        packet_store.write_enable.eq(collector.enable),
                        packet_store.write_buffer.eq(buffer_of[collector][bits:]),
                        packet_store.write_address.eq(collector.address),
                        packet_store.write_data.eq(collector.data),
                    ]
