# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The end of a packet in an engine: its ICV is made, or compared, and the verdict given."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto import interface
from spigate.hdl.crypto.cipher import OutWord
from spigate.hdl.crypto.intake import Scheme, icv_words
from spigate.hdl.crypto.interface import Kind
from spigate.hdl.crypto.orders import WORD_BITS

DIGEST_BITS = 128


class IcvCheck(wiring.Component):
    """Joins one context's words with the digest of its authenticator.

    Parameters
    ----------
    knows : Algorithms
        The packets that come are of these.

    Members
    -------
    i : In(stream of OutWord)
    hash : In(stream of unsigned(128))
        GHASH's value of each packet with GCM.
    mac : In(stream of unsigned(256))
        HMAC's value of each packet with HMAC; its first bytes are the ICV.
    o : Out(stream of Word)
        What the engine hands back. ``last`` is 0.
    result : Out(stream of Result)
        After a packet's words; nothing of the next one comes before it is taken. Each word of the ICV is
        looked at, right or wrong.
    """

    def __init__(self, knows: interface.Algorithms):
        self._knows = knows
        super().__init__(
            {
                "i": In(stream.Signature(OutWord())),
                "hash": In(stream.Signature(DIGEST_BITS)),
                "mac": In(stream.Signature(256)),
                "o": Out(stream.Signature(interface.Word(WORD_BITS // 8))),
                "result": Out(stream.Signature(interface.Result())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        item = self.i.payload
        bad = Signal()
        encrypt = Signal()
        scheme = Signal(2)
        taken = Signal(range(6))  # words of the ICV; 5 stands for any larger number

        # The packet's digest is fetched as soon as it is there, and its words come up one by one.
        digest = Signal(DIGEST_BITS)
        fetched = Signal()
        fetch = Signal()
        ended = Signal()
        wanted = Signal(2)
        uses_hash = (
            wanted == Scheme.GCM if self._knows.hmac and self._knows.gcm else Const(int(self._knows.gcm))
        )
        m.d.comb += [
            wanted.eq(Mux(ended, scheme, Mux(self.i.valid, item.scheme, Scheme.NONE))),
            fetch.eq((wanted != Scheme.NONE) & ~fetched & Mux(uses_hash, self.hash.valid, self.mac.valid)),
            self.hash.ready.eq(fetch & uses_hash),
            self.mac.ready.eq(fetch & ~uses_hash),
        ]
        # Loaded whenever it may be: that no valid is in its enable keeps that fast.
        with m.If(~fetched):
            m.d.sync += [
                digest.eq(Mux(uses_hash, self.hash.payload, self.mac.payload[:DIGEST_BITS])),
                fetched.eq(fetch),
            ]

        difference = Signal(WORD_BITS)
        differences = Signal(WORD_BITS)
        word = Signal(WORD_BITS)
        compare = Signal()
        is_icv = item.kind == Kind.ICV
        checked = item.scheme != Scheme.NONE
        m.d.comb += [
            word.eq(item.data ^ digest[:WORD_BITS]),
            self.o.payload.data.eq(Mux(is_icv, word, item.data)),
            self.o.payload.kind.eq(item.kind),
            self.o.payload.count.eq(item.count),
        ]
        m.d.sync += [difference.eq(0), differences.eq(differences | difference)]

        with m.FSM():
            with m.State("WORDS"):
                with m.If(is_icv & checked & item.encrypt):
                    m.d.comb += [
                        self.o.valid.eq(self.i.valid & fetched),
                        self.i.ready.eq(self.o.ready & fetched),
                    ]
                with m.Elif(is_icv):
                    m.d.comb += self.i.ready.eq(fetched | ~checked)
                with m.Elif((item.kind == Kind.TEXT) | (item.kind == Kind.IV) & item.encrypt):
                    m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
                with m.Else():
                    m.d.comb += self.i.ready.eq(1)
                m.d.comb += compare.eq(self.i.valid & self.i.ready & is_icv & checked)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += bad.eq(bad | item.bad)
                    with m.If(item.last):
                        m.d.sync += [encrypt.eq(item.encrypt), scheme.eq(item.scheme), ended.eq(1)]
                        m.next = "DIGEST"
                with m.If(compare):
                    m.d.sync += [
                        difference.eq(word),
                        digest.eq(digest[WORD_BITS:]),
                        taken.eq(Mux(taken == 5, 5, taken + 1)),
                        bad.eq(bad | item.bad | (item.count != 4)),
                    ]
            with m.State("DIGEST"):
                # It is waited for also where the packet brought no ICV.
                with m.If(fetched | (scheme == Scheme.NONE)):
                    right = ((differences | difference) == 0) & (taken == icv_words(scheme))
                    m.d.sync += self.result.payload.ok.eq(~bad & (right | encrypt | (scheme == Scheme.NONE)))
                    m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += self.result.valid.eq(1)
                with m.If(self.result.ready):
                    m.d.sync += [bad.eq(0), differences.eq(0), taken.eq(0), fetched.eq(0), ended.eq(0)]
                    m.next = "WORDS"
        return m
