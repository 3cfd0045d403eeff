# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""From a buffer to the engine: the job and the SA's rows, and the packet's words, of one of the engine's
contexts.
"""

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import rdl
from spigate.hdl.crypto.interface import MATERIAL_ROWS, Job, Kind, Word
from spigate.hdl.csr import layout
from spigate.hdl.dfe import store
from spigate.hdl.dfe.job import BUFFER_WORDS, ROWS, STORE_BYTES, EspText

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
        The next packet of this context is known, and so are the rows of its SA; it need not be in its
        buffer yet.
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
        super().__init__(
            {
                "work": In(1),
                "text": In(EspText()),
                "next": Out(1),
                "request": Out(1),
                "row": Out(range(ROWS)),
                "granted": In(1),
                "data": In(layout.ROW_BITS),
                "job": Out(stream.Signature(Job())),
                "material": Out(stream.Signature(layout.ROW_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # One register for all: first the control row, of which the job is made, then the material.
        held = Signal(layout.ROW_BITS)
        control = layout.row("sa", "control")(held)
        step = Signal(range(1 + MATERIAL_ROWS))
        arriving = Signal(2)
        full = Signal()
        waiting = Signal()
        taken = (self.job.valid & self.job.ready) | (self.material.valid & self.material.ready)
        m.d.comb += [
            self.request.eq(self.work & self.text.crypto & ~waiting),
            self.row.eq(Mux(step == 0, CONTROL_ROW, KEY_ROW - 1 + step)),
            self.job.valid.eq(full & (step == 0)),
            self.material.valid.eq(full & (step != 0)),
            self.job.payload.cipher.eq(control.cipher),
            self.job.payload.key_size.eq(control.key_size),
            self.job.payload.auth.eq(control.auth),
            self.job.payload.salt.eq(control.salt),
            self.job.payload.encrypt.eq(self.text.encrypt),
            self.job.payload.derive_iv.eq(self.text.encrypt),
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
    data : In(8 * STORE_BYTES)
        The beat, ``store.READ_CLOCKS`` clocks after ``granted``.
    o : Out(stream of Word)
        To the engine.
    """

    def __init__(self, *, word_bytes: int):
        if word_bytes not in (4, 8, 16):
            raise ValueError(f"word_bytes must be 4, 8 or 16, not {word_bytes!r}")
        self._word_bytes = word_bytes
        super().__init__(
            {
                "work": In(1),
                "text": In(EspText()),
                "next": Out(1),
                "request": Out(1),
                "address": Out(range(BUFFER_WORDS)),
                "granted": In(1),
                "data": In(8 * STORE_BYTES),
                "o": Out(stream.Signature(Word(word_bytes))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        word_bytes, words = self._word_bytes, self._word_bytes // 4
        tag = data.StructLayout({"valid": 1, "kind": 2, "last": 1, "count": range(word_bytes + 1)})

        running = Signal()
        kind = Signal(Kind)
        left = Signal(range(BUFFER_WORDS))
        owed = Signal(range(AHEAD + 1))
        asked = Signal(tag)
        run_ends = Signal()
        last = Signal()
        taken = Signal(range(words + 1))
        text = self.text
        m.d.comb += [
            self.request.eq(running & (owed != AHEAD)),
            run_ends.eq(left <= words),
            taken.eq(Mux(run_ends, left, words)),  # a run's end may lie inside the beat
            last.eq(
                run_ends
                & ((kind == Kind.ICV) | ((kind == Kind.TEXT) & (text.encrypt | (text.icv_words == 0))))
            ),
            asked.valid.eq(self.granted),
            asked.kind.eq(kind),
            asked.last.eq(last),
            asked.count.eq(taken << 2),
            self.next.eq(Mux(running, self.granted & last, self.work & ~text.crypto)),
        ]
        with m.If(~running):
            m.d.sync += [
                running.eq(self.work & text.crypto),
                self.address.eq(text.esp),
                kind.eq(Kind.ASSOCIATED),
                left.eq(ESP_WORDS),
            ]
        with m.Elif(self.granted):
            m.d.sync += [running.eq(~last), self.address.eq(self.address + taken), left.eq(left - words)]
            with m.If(run_ends):
                with m.If((kind == Kind.ASSOCIATED) & (text.iv_words != 0)):
                    m.d.sync += [kind.eq(Kind.IV), left.eq(text.iv_words)]
                with m.Elif(kind != Kind.TEXT):
                    m.d.sync += [kind.eq(Kind.TEXT), left.eq(text.text_words)]
                with m.Else():
                    m.d.sync += [kind.eq(Kind.ICV), left.eq(text.icv_words)]

        tags = [Signal(tag, name=f"tag_{stage}") for stage in range(store.READ_CLOCKS)]
        m.d.sync += [late.eq(early) for early, late in pairwise([asked, *tags])]
        arrived, word = (
            tags[-1],
            Cat(self.o.payload.data, self.o.payload.kind, self.o.payload.last, self.o.payload.count),
        )
        m.submodules.queue = queue = fifo.SyncFIFO(width=len(word), depth=AHEAD)
        m.d.comb += [
            queue.w_en.eq(arrived.valid),
            queue.w_data.eq(Cat(self.data[: 8 * word_bytes], arrived.kind, arrived.last, arrived.count)),
            word.eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
        ]
        m.d.sync += owed.eq(owed + self.granted - (self.o.valid & self.o.ready))
        return m
