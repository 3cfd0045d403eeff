# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""From the engine back to the buffer: the words of one of the engine's contexts, and its verdict."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto.interface import Result, Word
from spigate.hdl.dfe.feed import ESP_WORDS
from spigate.hdl.dfe.job import BUFFER_WORDS, STORE_BYTES, EspText


class Collector(wiring.Component):
    """Writes what the engine makes of one packet after another to its buffer.

    Encrypted, IV, text and ICV go to their places behind the ESP header. Decrypted text goes over ESP header
    and IV, from the ESP header on, where every word has been read by then.

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
        A strobe: all of it is written.
    ok : Out(1)
        With ``next``: the engine's verdict; 1 for a packet that did not see the engine.
    request : Out(1)
        Wants to write; it has, in a clock with ``granted``.
    granted : In(1)
    enable, address, data : Out
        The write, as ``PacketStore`` takes it.
    i : In(stream of Word)
    result : In(stream of Result)
        From the engine.
    """

    def __init__(self, *, word_bytes: int):
        self._word_bytes = word_bytes
        super().__init__(
            {
                "work": In(1),
                "text": In(EspText()),
                "next": Out(1),
                "ok": Out(1),
                "request": Out(1),
                "granted": In(1),
                "enable": Out(STORE_BYTES // 4),
                "address": Out(range(BUFFER_WORDS)),
                "data": Out(8 * STORE_BYTES),
                "i": In(stream.Signature(Word(word_bytes))),
                "result": In(stream.Signature(Result())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        text, word = self.text, self.i.payload
        running = Signal()
        all_written = Signal()
        left = Signal(range(BUFFER_WORDS))
        words = Signal(range(self._word_bytes // 4 + 1))
        m.d.comb += [
            words.eq(word.count >> 2),
            self.enable.eq((1 << words) - 1),
            self.data.eq(word.data),
            self.request.eq(running & ~all_written & self.i.valid),
            self.i.ready.eq(self.granted),
            self.result.ready.eq(running & all_written),
            self.next.eq(Mux(running, all_written & self.result.valid, self.work & ~text.crypto)),
            self.ok.eq(~running | self.result.payload.ok),
        ]
        with m.If(~running):
            m.d.sync += [
                running.eq(self.work & text.crypto),
                all_written.eq(0),
                self.address.eq(text.esp + Mux(text.encrypt, ESP_WORDS, 0)),
                left.eq(text.text_words + Mux(text.encrypt, text.iv_words + text.icv_words, 0)),
            ]
        with m.Elif(self.granted):
            m.d.sync += [
                self.address.eq(self.address + words),
                left.eq(left - words),
                all_written.eq(left == words),
            ]
        with m.Elif(self.next):
            m.d.sync += running.eq(0)
        return m
