# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""HMAC-SHA-1 and HMAC-SHA-256 (RFC 2104, 2404, 4868) from midstates, two packets interleaved."""

from collections.abc import Collection
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Auth
from spigate.hdl.contract.sha import SHA1_K, SHA256_K
from spigate.hdl.crypto.blocks import BLOCK_WORDS, HASHED_BYTES, MARK, Blocks, Bytes
from spigate.hdl.crypto.chaining import AUTHS, CONTEXTS, Chaining, Start, is_sha1
from spigate.hdl.crypto.message_schedule import MessageSchedule
from spigate.hdl.crypto.sequencer import LEAD, Sequencer
from spigate.hdl.crypto.sha1 import Sha1Rounds
from spigate.hdl.crypto.sha256 import Sha256Rounds
from spigate.hdl.csr import layout
from spigate.hdl.net.packet import swap_bytes

SHA1_WORDS, SHA256_WORDS = 5, 8


class HmacContext(wiring.Signature):
    """The streams of one packet in flight, seen from :class:`Hmac`.

    Members
    -------
    start : In(stream of Start)
        One a packet.
    midstate : In(stream of rows)
        Then rows ``auth_0`` to ``auth_3`` of the SA. Start and midstate of the next packet are taken while
        one runs.
    i : In(stream of Bytes)
        What is authenticated, up to 65471 bytes.
    digest : Out(stream of unsigned(256))
        The whole HMAC value as a byte string, byte 0 in the low bits. SHA-1 fills the low 160 bits; those
        above are undefined.
    """

    def __init__(self):
        super().__init__(
            {
                "start": In(stream.Signature(Start())),
                "midstate": In(stream.Signature(layout.ROW_BITS)),
                "i": In(stream.Signature(Bytes())),
                "digest": Out(stream.Signature(256)),
            }
        )


class Hmac(wiring.Component):
    """A round of SHA-256 or SHA-1 every second clock for each of two packets: 128 or 160 clocks a block,
    and no gap between the blocks of a message. A packet takes one block more than its padded message has,
    for the outer hash, and ``2 * LEAD + 1`` rounds of two clocks between the blocks.

    Parameters
    ----------
    auths : collection of Auth
        What is asked for, of :data:`~spigate.hdl.crypto.chaining.AUTHS`.

    Members
    -------
    context : HmacContext, array of two
    """

    def __init__(self, *, auths: Collection[Auth] = AUTHS):
        if not auths or not set(auths) <= set(AUTHS):
            raise ValueError(f"auths must be of {', '.join(auth.name for auth in AUTHS)}, not {auths!r}")
        self._auths = auths
        super().__init__({"context": Out(HmacContext()).array(CONTEXTS)})

    def _is_sha1(self, token) -> Value:
        """Whether the packet of a token is SHA-1's."""
        return is_sha1(self._auths, token.sha1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.chaining = Chaining()
        m.submodules.sequencer = Sequencer(auths=self._auths)
        m.submodules.schedule = MessageSchedule()
        cores: dict[str, Sha1Rounds | Sha256Rounds] = {}
        if Auth.HMAC_SHA1_96 in self._auths:
            m.submodules.sha1 = cores["sha1"] = Sha1Rounds()
        if Auth.HMAC_SHA256_128 in self._auths:
            m.submodules.sha256 = cores["sha256"] = Sha256Rounds()
        # A round takes a clock in stage 1, where the token of `context_1` is, and one in stage 2, where the
        # other's is.
        blocks = self._take(m)
        chain = self._fetch(m)
        self._schedule(m, blocks, chain)
        self._rounds(m, chain, cores)
        self._collect(m, cores)
        return m

    def _take(self, m) -> list[Blocks]:
        """Connects the contexts' streams, and tells the sequencer what waits. Returns their messages."""
        chaining, sequencer = m.submodules.chaining, m.submodules.sequencer
        blocks = [Blocks() for _ in range(CONTEXTS)]
        for at, (context, block) in enumerate(zip(self.context, blocks, strict=True)):
            m.submodules[f"blocks{at}"] = block
            wiring.connect(m, wiring.flipped(context.i), block.i)
            wiring.connect(m, wiring.flipped(context.start), chaining.start[at])
            wiring.connect(m, wiring.flipped(context.midstate), chaining.midstate[at])
            m.d.comb += [
                sequencer.available[at].eq(block.available),
                sequencer.last[at].eq(block.last),
                sequencer.full[at].eq(chaining.full[at]),
                sequencer.sha1[at].eq(chaining.sha1[at]),
                chaining.release[at].eq(sequencer.bank_done[at]),
                block.release.eq(sequencer.block_done[at]),
                block.address.eq(sequencer.token_1.w),
            ]
        return blocks

    def _fetch(self, m) -> "Fetched":
        """Reads the chaining value: H3, H2, H1, H0 and H7, H6, H5, H4 in the rounds with 5 to 2 left, to be
        used three rounds later. In other rounds, the inner digest is read as the outer hash's message.
        """
        chaining, sequencer = m.submodules.chaining, m.submodules.sequencer
        token = sequencer.token_1
        fetching = (token.left >= 2) & (token.left < LEAD)
        m.d.comb += [
            chaining.address.context.eq(sequencer.context_1),
            chaining.address.bank.eq(token.bank),
            chaining.address.outer.eq(fetching & token.outer),
            chaining.address.word.eq(Mux(fetching, Cat(token.left[0], token.left[2]), token.w)),
        ]
        chain = Fetched()
        m.d.sync += [
            Cat(chain.low).eq(Cat(chaining.low, chain.low)),
            Cat(chain.high).eq(Cat(chaining.high, chain.high)),
        ]
        return chain

    def _schedule(self, m, blocks: list[Blocks], chain: "Fetched") -> None:
        """The message, from the packet or from the inner digest. What steers a whole stage 2 is made in
        stage 1 and registered.
        """
        sequencer, schedule = m.submodules.sequencer, m.submodules.schedule
        token = sequencer.token_1
        packet_word = Signal(32)
        digest_word = Signal(32)
        m.d.sync += packet_word.eq(Array(block.word for block in blocks)[sequencer.context_1])
        words = Mux(self._is_sha1(token), SHA1_WORDS, SHA256_WORDS)
        is_low = Signal()
        is_high = Signal()
        padding = Signal(32)
        given = Signal()
        m.d.sync += [
            is_low.eq(token.w[:4] < 4),
            is_high.eq((token.w[:4] >= 4) & (token.w[:4] < words)),
            padding.eq(0),
            given.eq(token.w < BLOCK_WORDS),
        ]
        with m.If(token.w[:4] == words):
            m.d.sync += padding.eq(MARK)
        with m.Elif(token.w[:4] == BLOCK_WORDS - 1):
            m.d.sync += padding.eq(8 * (HASHED_BYTES + 4 * words))
        m.d.comb += [
            digest_word.eq(Mux(is_low, chain.low[0], Mux(is_high, chain.high[0], padding))),
            schedule.word_2.eq(Mux(sequencer.token_2.outer, digest_word, packet_word)),
            schedule.sha1_2.eq(self._is_sha1(sequencer.token_2)),
            schedule.given_2.eq(given),
        ]

    def _rounds(self, m, chain: "Fetched", cores: dict[str, Any]) -> None:
        """Steers the rounds of the algorithms: K + W, the chaining value, and who is at work."""
        sequencer, schedule = m.submodules.sequencer, m.submodules.schedule
        token1, token2 = sequencer.token_1, sequencer.token_2
        h_a = Signal(32)
        h_e = Signal(32)
        h_0 = Signal(32)
        h_4 = Signal(32)
        m.d.sync += [
            h_a.eq(Mux(token2.left == 0, 0, chain.low[4])),
            h_e.eq(Mux(token2.left == 0, 0, chain.high[4])),
            h_0.eq(Mux(token2.left == 1, chain.low[2], 0)),
            h_4.eq(Mux(token1.left == 1, chain.high[1], 0)),
        ]
        # K for the W made last, and K + W a clock later.
        k = Signal(32)
        kw = Signal(32)
        quarter = sum(token2.w >= bound for bound in (20, 40, 60))[:2]
        quarter1 = Signal(2)
        quarter2 = Signal(2)
        mix = Signal(2)
        m.d.sync += [
            k.eq(Mux(self._is_sha1(token2), Array(SHA1_K)[quarter], Array(SHA256_K)[token2.w[:6]])),
            kw.eq(k + schedule.w_1),
            quarter1.eq(quarter),
            quarter2.eq(quarter1),
            mix.eq(quarter2),
        ]
        last = Signal(init=1)
        m.d.sync += last.eq(token1.left == 0)
        for name, core in cores.items():
            mine = self._is_sha1(token1) if name == "sha1" else ~self._is_sha1(token1)
            clear = Signal(name=f"clear_{name}", init=1)
            m.d.sync += clear.eq(~mine | ~token1.live | (~token1.real & (token1.left != 0)))
            m.d.comb += [
                core.ports.clear_2.eq(clear),
                core.ports.last_2.eq(last),
                core.ports.kw_2.eq(kw),
                core.ports.h_a_1.eq(h_a),
                core.ports.h_0_1.eq(h_0),
            ]
        if sha256 := cores.get("sha256"):
            m.d.comb += [sha256.ports.h_e_1.eq(h_e), sha256.ports.h_4_2.eq(h_4)]
        if sha1 := cores.get("sha1"):
            m.d.comb += [
                sha1.ports.h_e_1.eq(chain.high[3]),
                sha1.mix_1.eq(mix),
                sha1.rotate_1.eq((token1.left == 2) | (token1.left == 1)),
            ]

    def _collect(self, m, cores: dict[str, Any]) -> None:
        """The sums: the inner hash's go back to where H came from, the outer one's out."""
        chaining, sequencer = m.submodules.chaining, m.submodules.sequencer
        sha1, sha256 = (cores.get(name, next(iter(cores.values()))) for name in ("sha1", "sha256"))
        token1, token2 = sequencer.token_1, sequencer.token_2
        context2 = ~sequencer.context_1
        folding = Signal()
        outer = Signal()
        fold_word = Signal(2)
        sum_a = Mux(self._is_sha1(token2), sha1.ports.sum_a_2, sha256.ports.sum_a_2)
        sum_e = Mux(self._is_sha1(token2), sha1.ports.sum_e_2, sha256.ports.sum_e_2)
        m.d.sync += [
            folding.eq(token1.folded | (token1.real & (token1.left < 3))),
            outer.eq(Mux(token1.folded, token1.folded_outer, token1.outer)),
            fold_word.eq(Mux(token1.folded, 0, token1.left + 1)),
        ]
        m.d.comb += [
            chaining.write.eq(folding & ~outer),
            chaining.write_low.eq(sum_a),
            chaining.write_high.eq(sum_e),
            chaining.write_address.word.eq(fold_word),
            chaining.write_address.bank.eq(token2.bank),
            chaining.write_address.context.eq(context2),
        ]
        for at, context in enumerate(self.context):
            digest_low = Signal(128, name=f"digest_low{at}")
            digest_high = Signal(128, name=f"digest_high{at}")
            m.d.comb += [
                context.digest.payload.eq(Cat(digest_low, digest_high)),
                sequencer.digest_free[at].eq(~context.digest.valid),
            ]
            with m.If(context.digest.ready):
                m.d.sync += context.digest.valid.eq(0)
            with m.If(folding & outer & (context2 == at)):
                m.d.sync += [
                    digest_low.eq(Cat(swap_bytes(sum_a), digest_low)),
                    digest_high.eq(Cat(swap_bytes(sum_e), digest_high)),
                    context.digest.valid.eq(token2.folded),
                ]


class Fetched:
    """What was read of chaining values, two words a clock.

    Members
    -------
    low, high : list of Signal(32)
        H0 to H3 and H4 to H7, of one clock ago to five clocks ago.
    """

    def __init__(self):
        self.low, self.high = (
            [Signal(32, name=f"{name}_{half}") for half in range(1, 6)] for name in ("low", "high")
        )
