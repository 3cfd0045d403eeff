"""HMAC-SHA-1 and HMAC-SHA-256 (RFC 2104, 2404, 4868) from midstates, two packets interleaved."""
from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto.blocks import BLOCK_WORDS, HASHED_BYTES, MARK, Blocks, Bytes
from spigate.hdl.crypto.chaining import CONTEXTS, Chaining, Start
from spigate.hdl.crypto.constants import SHA1_K, SHA256_K
from spigate.hdl.crypto.schedule import Schedule
from spigate.hdl.crypto.sha1 import Sha1Rounds
from spigate.hdl.crypto.sha256 import Sha256Rounds
from spigate.hdl.csr import layout
from spigate.hdl.net.packet import swap_bytes

SHA1_ROUNDS, SHA256_ROUNDS = 80, 64
SHA1_WORDS, SHA256_WORDS = 5, 8
LEAD = 6
"""Rounds in front of a job's first block, without effect but to fetch the chaining value."""


class HmacContext(wiring.Signature):
    """The streams of one packet in flight, seen from :class:`Hmac`.

    Members
    -------
    start : In(stream of Start)
        One a packet.
    midstate : In(stream of rows)
        Then rows ``auth_0`` to ``auth_3`` of the SA. Start and midstate of the next packet are taken while one runs.
    i : In(stream of Bytes)
        What is authenticated, up to 65471 bytes.
    digest : Out(stream of unsigned(256))
        The whole HMAC value as a byte string, byte 0 in the low bits. SHA-1 fills the low 160 bits; those above are undefined.
    """

    def __init__(self):
        super().__init__({
            "start": In(stream.Signature(Start())), "midstate": In(stream.Signature(layout.ROW_BITS)),
            "i": In(stream.Signature(Bytes())), "digest": Out(stream.Signature(256)),
        })


class Token(data.StructLayout):
    """What goes round with a message, a round every two clocks.

    Members
    -------
    live : unsigned(1)
        There is a block, or the lead of one that follows none.
    real : unsigned(1)
        It is a block.
    left : range(SHA1_ROUNDS)
        Rounds left behind this one.
    go : unsigned(1)
        A block follows without a gap.
    w : range(SHA1_ROUNDS)
        Number of the W made in this round, of the block whose round it is two rounds later.
    sha1, outer : unsigned(1)
        The algorithm; HMAC's outer hash.
    last, next_last : unsigned(1)
        This inner block is the message's last; the one that follows is.
    due : unsigned(1)
        The outer hash waits until the digest before is taken.
    folded, folded_outer : unsigned(1)
        The round before was the last of a block; of an outer one.
    bank : unsigned(1)
        Where the packet's chaining values are.
    """

    def __init__(self):
        super().__init__({
            "live": 1, "real": 1, "left": range(SHA1_ROUNDS), "go": 1, "w": range(SHA1_ROUNDS), "sha1": 1, "outer": 1,
            "last": 1, "next_last": 1, "due": 1, "folded": 1, "folded_outer": 1, "bank": 1,
        })


class Hmac(wiring.Component):
    """A round of SHA-256 or SHA-1 every second clock for each of two packets: 128 or 160 clocks a block, and no gap between
    the blocks of a message. A packet takes one block more than its padded message has, for the outer hash, and
    ``2 * LEAD + 1`` rounds of two clocks between the blocks.

    Members
    -------
    context : HmacContext, array of two
    """

    def __init__(self):
        super().__init__({"context": Out(HmacContext()).array(CONTEXTS)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.chaining = chaining = Chaining()
        m.submodules.schedule = schedule = Schedule()
        m.submodules.sha1 = sha1 = Sha1Rounds()
        m.submodules.sha256 = sha256 = Sha256Rounds()
        blocks = [Blocks(), Blocks()]

        # The token in stage 1 belongs to context `context1`, the one in stage 2 to the other.
        token1, token2, token_next = Signal(Token()), Signal(Token()), Signal(Token())
        context1 = Signal()
        context2 = ~context1
        run = Signal()

        # What the contexts bring with them.
        ready, available, ends, free = Signal(CONTEXTS), Signal(CONTEXTS), Signal(CONTEXTS), Signal(CONTEXTS)
        for at, block in enumerate(blocks):
            m.submodules[f"blocks{at}"] = block
            context = self.context[at]
            wiring.connect(m, wiring.flipped(context.i), block.i)
            wiring.connect(m, wiring.flipped(context.start), chaining.start[at])
            wiring.connect(m, wiring.flipped(context.midstate), chaining.midstate[at])
            m.d.comb += [
                available[at].eq(block.available), ends[at].eq(block.last), block.address.eq(token1.w[:4]),
                block.release.eq((context2 == at) & token2.real & ~token2.outer & (token2.w == BLOCK_WORDS - 1)),
                ready[at].eq(block.available & chaining.full[at].any()),
            ]

        # A round: from stage 2 to stage 1 of the next one.
        here = Signal()
        finishing = Signal()
        due = Signal()
        m.d.comb += [
            finishing.eq(token2.live & (token2.left == 0) & ~token2.go),
            due.eq(token2.due | (finishing & token2.last & ~token2.outer)),
            here.eq(Array([full.bit_select(token2.bank, 1) for full in chaining.full])[context2]
                    & available.bit_select(context2, 1)),
            token_next.eq(token2), token_next.folded.eq(finishing | (token2.real & (token2.left == 0))),
            token_next.folded_outer.eq(token2.outer),
        ]
        with m.If(~token2.live | finishing):
            m.d.comb += [token_next.live.eq(0), token_next.real.eq(0), token_next.due.eq(due)]
            with m.If(due):
                with m.If(free.bit_select(context2, 1)):
                    m.d.comb += [token_next.live.eq(1), token_next.outer.eq(1), token_next.due.eq(0)]
            with m.Elif(finishing & token2.outer):
                m.d.comb += token_next.bank.eq(~token2.bank)
            with m.Elif(here):
                m.d.comb += [token_next.live.eq(1), token_next.outer.eq(0)]
                m.d.comb += token_next.sha1.eq(
                    Array([which.bit_select(token2.bank, 1) for which in chaining.sha1])[context2])
            m.d.comb += [token_next.left.eq(LEAD - 1), token_next.go.eq(1), token_next.last.eq(0)]
        with m.Elif(token2.left == 0):
            m.d.comb += [
                token_next.real.eq(1), token_next.left.eq(Mux(token2.sha1, SHA1_ROUNDS, SHA256_ROUNDS) - 1),
                token_next.last.eq(token2.next_last), token_next.go.eq(0), token_next.w.eq(token2.w + 1),
            ]
        with m.Else():
            m.d.comb += [token_next.left.eq(token2.left - 1), token_next.w.eq(token2.w + 1)]
            with m.If(token2.left == 2):
                m.d.comb += [
                    token_next.w.eq(0), token_next.next_last.eq(ends.bit_select(context2, 1)),
                    token_next.go.eq(~token2.real
                                     | (available.bit_select(context2, 1) & ~token2.outer & ~token2.last)),
                ]
        m.d.comb += run.eq(token1.live | token1.due | token1.folded | token2.live | token2.due | token2.folded | ready.any())
        with m.If(run):
            m.d.sync += [token2.eq(token1), token1.eq(token_next), context1.eq(~context1)]
        with m.If(finishing & token2.outer):
            for at in range(CONTEXTS):
                m.d.comb += chaining.release[at].eq(Mux(context2 == at, Cat(~token2.bank, token2.bank), 0))

        # H3, H2, H1, H0 of the chaining value, and H7 to H4 beside them, in the rounds with 5 to 2 left; used three rounds later.
        fetching1 = Signal()
        m.d.comb += [
            fetching1.eq((token1.left >= 2) & (token1.left < LEAD)),
            chaining.address.context.eq(context1), chaining.address.bank.eq(token1.bank),
            chaining.address.outer.eq(fetching1 & token1.outer),
            chaining.address.word.eq(Mux(fetching1, Cat(token1.left[0], token1.left[2]), token1.w[:2])),
        ]
        low, high = ([Signal(32, name=f"{name}_{half}") for half in range(5)] for name in ("low", "high"))
        m.d.sync += [Cat(low).eq(Cat(chaining.low, low)), Cat(high).eq(Cat(chaining.high, high))]
        h_a, h_e, h_0, h_4 = Signal(32), Signal(32), Signal(32), Signal(32)
        m.d.sync += [
            h_a.eq(Mux(token2.left == 0, 0, low[4])), h_e.eq(Mux(token2.left == 0, 0, high[4])),
            h_0.eq(Mux(token2.left == 1, low[2], 0)), h_4.eq(Mux(token1.left == 1, high[1], 0)),
        ]

        # Words of the message, or of the inner digest, and the constants.
        words = Mux(token1.sha1, SHA1_WORDS, SHA256_WORDS)
        outer_word = Signal(32)
        with m.If(token1.w[:4] < 4):
            m.d.comb += outer_word.eq(chaining.low)
        with m.Elif(token1.w[:4] < words):
            m.d.comb += outer_word.eq(chaining.high)
        with m.Elif(token1.w[:4] == words):
            m.d.comb += outer_word.eq(MARK)
        with m.Elif(token1.w[:4] == BLOCK_WORDS - 1):
            m.d.comb += outer_word.eq(8 * (HASHED_BYTES + 4 * words))
        k = Signal(32)
        quarter1, quarter2, mix = Signal(2), Signal(2), Signal(2)
        m.d.comb += [
            schedule.word_1.eq(Mux(token1.outer, outer_word, Array([block.word for block in blocks])[context1])),
            schedule.given_1.eq(token1.w < BLOCK_WORDS), schedule.sha1_1.eq(token1.sha1),
        ]
        quarter = sum(token2.w >= bound for bound in (20, 40, 60))
        m.d.sync += [
            k.eq(Mux(token2.sha1, Array(SHA1_K)[quarter[:2]], Array(SHA256_K)[token2.w[:6]])),
            quarter1.eq(quarter), quarter2.eq(quarter1), mix.eq(quarter2),
        ]

        kw = Signal(32)
        m.d.sync += kw.eq(k + schedule.w_1)
        for core, mine in ((sha1, token2.sha1), (sha256, ~token2.sha1)):
            m.d.comb += [
                core.ports.clear_2.eq(~mine | ~token2.live | (~token2.real & (token2.left != 0))),
                core.ports.last_2.eq(token2.left == 0), core.ports.kw_2.eq(kw),
                core.ports.h_a_1.eq(h_a), core.ports.h_0_1.eq(h_0),
            ]
        m.d.comb += [
            sha256.ports.h_e_1.eq(h_e), sha256.ports.h_4_2.eq(h_4), sha1.ports.h_e_1.eq(high[3]),
            sha1.mix_1.eq(mix), sha1.rotate_1.eq((token1.left == 2) | (token1.left == 1)),
        ]

        # The sums go back to where H came from, or out.
        folding = Signal()
        sums_a = Mux(token2.sha1, sha1.ports.sum_a_2, sha256.ports.sum_a_2)
        sums_e = Mux(token2.sha1, sha1.ports.sum_e_2, sha256.ports.sum_e_2)
        outer = Mux(token2.folded, token2.folded_outer, token2.outer)
        m.d.comb += [
            folding.eq(token2.folded | (token2.real & (token2.left < 3))),
            chaining.write.eq(folding & ~outer), chaining.write_low.eq(sums_a), chaining.write_high.eq(sums_e),
            chaining.write_address.word.eq(Mux(token2.folded, 0, token2.left[:2] + 1)),
            chaining.write_address.bank.eq(token2.bank), chaining.write_address.context.eq(context2),
        ]
        for at in range(CONTEXTS):
            digest = self.context[at].digest
            digest_low, digest_high = Signal(128, name=f"digest_low{at}"), Signal(128, name=f"digest_high{at}")
            valid = Signal(name=f"digest_valid{at}")
            m.d.comb += [digest.valid.eq(valid), digest.payload.eq(Cat(digest_low, digest_high)), free[at].eq(~valid)]
            with m.If(digest.ready):
                m.d.sync += valid.eq(0)
            with m.If(folding & outer & (context2 == at)):
                m.d.sync += [
                    digest_low.eq(Cat(swap_bytes(sums_a), digest_low)), digest_high.eq(Cat(swap_bytes(sums_e), digest_high)),
                    valid.eq(token2.folded),
                ]
        return m
