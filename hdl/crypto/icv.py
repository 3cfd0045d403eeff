"""The end of a packet in an engine: its ICV is made, or compared, and the verdict given."""
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto import interface
from spigate.hdl.crypto.cipher import WORD_BITS, OutWord
from spigate.hdl.crypto.intake import Scheme, icv_words
from spigate.hdl.crypto.interface import Kind

DIGEST_BITS = 128


class IcvCheck(wiring.Component):
    """Joins one context's words with the digest of its authenticator.

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
        After a packet's words; nothing of the next one comes before it is taken. Each word of the ICV is looked at, right or wrong.
    """

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(OutWord())), "hash": In(stream.Signature(DIGEST_BITS)), "mac": In(stream.Signature(256)),
            "o": Out(stream.Signature(interface.Word(WORD_BITS // 8))), "result": Out(stream.Signature(interface.Result())),
        })

    def elaborate(self, platform):
        m = Module()
        item = self.i.payload
        bad, encrypt, scheme = Signal(), Signal(), Signal(2)
        difference, differences = Signal(WORD_BITS), Signal(WORD_BITS)
        taken = Signal(range(6))           # words of the ICV; 5 stands for any larger number
        uses_hash = Mux(self.i.valid, item.scheme, scheme) == Scheme.GCM
        digest, ready = Signal(DIGEST_BITS), Signal()
        word = Signal(WORD_BITS)
        m.d.comb += [
            digest.eq(Mux(uses_hash, self.hash.payload, self.mac.payload[:DIGEST_BITS])),
            ready.eq(Mux(uses_hash, self.hash.valid, self.mac.valid)),
            word.eq(item.data ^ digest.word_select(taken[:2], WORD_BITS)),
            self.o.payload.data.eq(Mux(item.kind == Kind.ICV, word, item.data)),
            self.o.payload.kind.eq(item.kind), self.o.payload.count.eq(item.count),
        ]

        m.d.sync += [difference.eq(0), differences.eq(differences | difference)]
        with m.FSM():
            with m.State("WORDS"):
                compare = Signal()
                m.d.comb += compare.eq(self.i.valid & (item.kind == Kind.ICV) & (item.scheme != Scheme.NONE))
                with m.If(item.kind == Kind.ICV):
                    with m.If(~item.encrypt | (item.scheme == Scheme.NONE)):
                        m.d.comb += self.i.ready.eq(ready | (item.scheme == Scheme.NONE))
                    with m.Else():
                        m.d.comb += [self.o.valid.eq(self.i.valid & ready), self.i.ready.eq(self.o.ready & ready)]
                with m.Elif((item.kind == Kind.TEXT) | (item.kind == Kind.IV) & item.encrypt):
                    m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
                with m.Else():
                    m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += bad.eq(bad | item.bad)
                    with m.If(compare):
                        m.d.sync += [
                            difference.eq(word), taken.eq(Mux(taken == 5, 5, taken + 1)),
                            bad.eq(bad | (item.count != 4)),
                        ]
                    with m.If(item.last):
                        m.d.sync += [encrypt.eq(item.encrypt), scheme.eq(item.scheme)]
                        m.next = "DIGEST"
            with m.State("DIGEST"):
                # Each digest is taken, also where the packet brought no ICV.
                m.d.comb += [self.hash.ready.eq(scheme == Scheme.GCM), self.mac.ready.eq((scheme != Scheme.GCM) & (scheme != Scheme.NONE))]
                with m.If((scheme == Scheme.NONE) | Mux(scheme == Scheme.GCM, self.hash.valid, self.mac.valid)):
                    right = ((differences | difference) == 0) & (taken == icv_words(scheme))
                    m.d.sync += self.result.payload.ok.eq(~bad & (right | encrypt | (scheme == Scheme.NONE)))
                    m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += self.result.valid.eq(1)
                m.d.sync += [bad.eq(0), differences.eq(0), taken.eq(0)]
                with m.If(self.result.ready):
                    m.next = "WORDS"
        return m
