"""From a buffer to the engine: the job and the SA's rows, and the packet's words, of one of the engine's contexts."""
from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto.interface import MATERIAL_ROWS, Job, Kind, Word
from spigate.hdl.csr import layout, rdl
from spigate.hdl.dfe import store
from spigate.hdl.dfe.job import BUFFER_WORDS, ROWS, EspText

CONTROL_ROW = rdl.entry("sa")["control"].index
KEY_ROW = rdl.entry("sa")["key_low"].index
ESP_WORDS = 2
"""SPI and sequence number."""
AHEAD = 8
"""Words that wait for the engine or are on their way out of the store."""


class Introducer(wiring.Component):
    """Hands job and material of one packet after another to a context of the engine.

    Members
    -------
    work : In(1)
        The next packet of this context is known, and so are the rows of its SA; it need not be in its buffer yet.
    text : In(EspText)
        It, while ``work``.
    next : Out(1)
        A strobe: done with it.
    request : Out(1)
    row : Out(range(ROWS))
        Wants this row of the packet's SA. It counts in a clock with ``granted``.
    granted : In(1)
    data : In(128)
        The row, two clocks after ``granted``.
    job, material : Out(streams)
        To the engine.
    """

    def __init__(self):
        super().__init__({
            "work": In(1), "text": In(EspText()), "next": Out(1),
            "request": Out(1), "row": Out(range(ROWS)), "granted": In(1), "data": In(layout.ROW_BITS),
            "job": Out(stream.Signature(Job())), "material": Out(stream.Signature(layout.ROW_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        # One register for all: first the control row, of which the job is made, then the material.
        held = Signal(layout.ROW_BITS)
        control = layout.row("sa", "control")(held)
        step = Signal(range(1 + MATERIAL_ROWS))
        arriving = Signal(2)
        full, waiting = Signal(), Signal()
        taken = (self.job.valid & self.job.ready) | (self.material.valid & self.material.ready)
        m.d.comb += [
            self.request.eq(self.work & self.text.crypto & ~waiting),
            self.row.eq(Mux(step == 0, CONTROL_ROW, KEY_ROW - 1 + step)),
            self.job.valid.eq(full & (step == 0)), self.material.valid.eq(full & (step != 0)),
            self.job.payload.cipher.eq(control.cipher), self.job.payload.key_size.eq(control.key_size),
            self.job.payload.auth.eq(control.auth), self.job.payload.salt.eq(control.salt),
            self.job.payload.encrypt.eq(self.text.encrypt), self.job.payload.derive_iv.eq(self.text.encrypt),
            self.material.payload.eq(held),
            self.next.eq(self.work & Mux(self.text.crypto, taken & (step == MATERIAL_ROWS), 1)),
        ]
        m.d.sync += arriving.eq(Cat(self.granted, arriving))
        with m.If(self.granted):
            m.d.sync += waiting.eq(1)
        with m.If(arriving[-1]):
            m.d.sync += [full.eq(1), held.eq(self.data)]
        with m.If(taken):
            m.d.sync += [full.eq(0), waiting.eq(0), step.eq(Mux(step == MATERIAL_ROWS, 0, step + 1))]
        return m


class Feeder(wiring.Component):
    """Hands the words of one packet after another to a context of the engine.

    ESP header, IV, text and ICV lie one behind the other in the buffer; each begins a new word of the engine.

    Parameters
    ----------
    beat_bytes : int
        Width of the packet store.
    word_bytes : int
        Width of the engine's words: 4, 8 or 16.

    Members
    -------
    work : In(1)
        The next packet of this context is in its buffer.
    text : In(EspText)
        It, while ``work``.
    next : Out(1)
        A strobe: all its words have been asked for.
    request : Out(1)
    address : Out(range(BUFFER_WORDS))
        Wants a beat from this word of the packet's buffer. It counts in a clock with ``granted``.
    granted : In(1)
    data : In(8 * beat_bytes)
        The beat, ``store.READ_CLOCKS`` clocks after ``granted``.
    o : Out(stream of Word)
        To the engine.
    """

    def __init__(self, *, beat_bytes: int, word_bytes: int):
        if word_bytes not in (4, 8, 16):
            raise ValueError(f"word_bytes must be 4, 8 or 16, not {word_bytes!r}")
        self._beat_bytes, self._word_bytes = beat_bytes, word_bytes
        super().__init__({
            "work": In(1), "text": In(EspText()), "next": Out(1),
            "request": Out(1), "address": Out(range(BUFFER_WORDS)), "granted": In(1), "data": In(8 * beat_bytes),
            "o": Out(stream.Signature(Word(word_bytes))),
        })

    def elaborate(self, platform):
        m = Module()
        # A word of the engine that is wider than a beat comes in parts, each one read.
        part_bytes = min(self._word_bytes, self._beat_bytes)
        part_words, parts = part_bytes // 4, self._word_bytes // part_bytes
        tag = data.StructLayout({"valid": 1, "part": range(parts), "end": 1, "kind": 2, "last": 1,
                                 "count": range(self._word_bytes + 1)})

        running = Signal()
        kind = Signal(Kind)
        left = Signal(range(BUFFER_WORDS))
        part = Signal(range(parts))
        owed = Signal(range(AHEAD + 1))
        asked = Signal(tag)
        run_ends, word_ends, last = Signal(), Signal(), Signal()
        text = self.text
        m.d.comb += [
            self.request.eq(running & ((owed != AHEAD) | (part != 0))),
            run_ends.eq(left <= part_words), word_ends.eq(run_ends | (part == parts - 1)),
            last.eq(run_ends & ((kind == Kind.ICV) | ((kind == Kind.TEXT) & (text.encrypt | (text.icv_words == 0))))),
            asked.valid.eq(self.granted), asked.part.eq(part), asked.end.eq(word_ends),
            asked.kind.eq(kind), asked.last.eq(last),
            asked.count.eq(part * part_bytes + Mux(run_ends, left[:part_words.bit_length()] * 4, part_bytes)),
            self.next.eq(Mux(running, self.granted & last, self.work & ~text.crypto)),
        ]
        with m.If(~running):
            m.d.sync += [
                running.eq(self.work & text.crypto), self.address.eq(text.esp),
                kind.eq(Kind.ASSOCIATED), left.eq(ESP_WORDS),
            ]
        with m.Elif(self.granted):
            m.d.sync += [part.eq(Mux(word_ends, 0, part + 1)), running.eq(~last),
                         self.address.eq(self.address + part_words), left.eq(left - part_words)]
            with m.If(run_ends):
                # A run's end may lie inside the beat.
                m.d.sync += self.address.eq(self.address + left[:part_words.bit_length()])
                with m.If((kind == Kind.ASSOCIATED) & (text.iv_words != 0)):
                    m.d.sync += [kind.eq(Kind.IV), left.eq(text.iv_words)]
                with m.Elif(kind != Kind.TEXT):
                    m.d.sync += [kind.eq(Kind.TEXT), left.eq(text.text_words)]
                with m.Else():
                    m.d.sync += [kind.eq(Kind.ICV), left.eq(text.icv_words)]

        tags = [Signal(tag, name=f"tag_{stage}") for stage in range(store.READ_CLOCKS)]
        m.d.sync += [late.eq(early) for early, late in pairwise([asked, *tags])]
        arrived = tags[-1]
        known = Cat(arrived.kind, arrived.last, arrived.count)
        m.submodules.facts = facts = fifo.SyncFIFO(width=len(known), depth=AHEAD)
        pop = self.o.valid & self.o.ready
        m.d.comb += [
            facts.w_en.eq(arrived.valid & arrived.end), facts.w_data.eq(known),
            Cat(self.o.payload.kind, self.o.payload.last, self.o.payload.count).eq(facts.r_data),
            self.o.valid.eq(facts.r_rdy), facts.r_en.eq(self.o.ready),
        ]
        for at in range(parts):
            m.submodules[f"part_{at}"] = queue = fifo.SyncFIFO(width=8 * part_bytes, depth=AHEAD)
            m.d.comb += [
                # With its end, a word gets the parts that it does not have.
                queue.w_en.eq(arrived.valid & ((arrived.part == at) | (arrived.end & (arrived.part < at)))),
                queue.w_data.eq(self.data), queue.r_en.eq(pop),
                self.o.payload.data[8 * part_bytes * at:8 * part_bytes * (at + 1)].eq(queue.r_data),
            ]
        m.d.sync += owed.eq(owed + (self.granted & (part == 0)) - pop)
        return m
