# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What the two messages in the hash do next, round by round."""

from collections.abc import Collection

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Auth
from spigate.hdl.crypto.blocks import BLOCK_WORDS
from spigate.hdl.crypto.chaining import AUTHS, CONTEXTS, is_sha1

SHA1_ROUNDS, SHA256_ROUNDS = 80, 64
LEAD = 6
"""Rounds in front of a block that follows no other: they fetch the chaining value, and have no other effect.
"""


class Token(data.StructLayout):
    """What goes round with a message, a round every two clocks.

    Members
    -------
    live : unsigned(1)
        There is a block, or the lead of one.
    real : unsigned(1)
        It is a block.
    left : range(SHA1_ROUNDS)
        Rounds left behind this one.
    go : unsigned(1)
        A block follows without a gap.
    w : range(SHA1_ROUNDS)
        Number of the W that is made in this round. It is made two rounds early, so the first two belong to
        the block that follows.
    sha1, outer : unsigned(1)
        The algorithm is SHA-1, not SHA-256; this is HMAC's outer hash.
    last, next_last : unsigned(1)
        The block is its message's last; the one that follows is.
    due : unsigned(1)
        The outer hash waits until the digest before is taken.
    folded, folded_outer : unsigned(1)
        The round before was the last of a block; of an outer one.
    bank : unsigned(1)
        Where the packet's chaining values are.
    """

    def __init__(self):
        super().__init__(
            {
                "live": 1,
                "real": 1,
                "left": range(SHA1_ROUNDS),
                "go": 1,
                "w": range(SHA1_ROUNDS),
                "sha1": 1,
                "outer": 1,
                "last": 1,
                "next_last": 1,
                "due": 1,
                "folded": 1,
                "folded_outer": 1,
                "bank": 1,
            }
        )


class Sequencer(wiring.Component):
    """Moves a token a context through rounds, blocks and packets. While nothing is to be done, nothing moves.

    Parameters
    ----------
    auths : collection of Auth
        What is asked for, of :data:`~spigate.hdl.crypto.chaining.AUTHS`.

    Members
    -------
    available, last : In(CONTEXTS)
        By context: a block waits; it is its message's last.
    full, sha1 : In(2).array(CONTEXTS)
        Banks with midstates, and whether for SHA-1.
    digest_free : In(CONTEXTS)
        The last packet's digest has been taken.
    block_done : Out(CONTEXTS)
        All words of the waiting block have been read.
    bank_done : Out(2).array(CONTEXTS)
        The packet whose chaining value that bank has is over.
    context_1 : Out(range(CONTEXTS))
        Whose token is in stage 1. The other one's is in stage 2.
    token_1, token_2 : Out(Token)
    """

    def __init__(self, *, auths: Collection[Auth] = AUTHS):
        self._auths = auths
        super().__init__(
            {
                "available": In(CONTEXTS),
                "last": In(CONTEXTS),
                "full": In(2).array(CONTEXTS),
                "sha1": In(2).array(CONTEXTS),
                "digest_free": In(CONTEXTS),
                "block_done": Out(CONTEXTS),
                "bank_done": Out(2).array(CONTEXTS),
                "context_1": Out(range(CONTEXTS)),
                "token_1": Out(Token()),
                "token_2": Out(Token()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        token = self.token_2
        following = Signal(Token())
        context = ~self.context_1
        available = self.available.bit_select(context, 1)
        bank_full = Array(full.bit_select(token.bank, 1) for full in self.full)[context]
        sha1 = Array(sha1.bit_select(token.bank, 1) for sha1 in self.sha1)[context]
        over = Signal()
        due = Signal()
        m.d.comb += [
            # No block follows at once: the hash is done, or its next block is not there yet.
            over.eq(token.live & (token.left == 0) & ~token.go),
            due.eq(token.due | (over & token.last & ~token.outer)),
            following.eq(token),
            following.folded.eq(token.real & (token.left == 0)),
            following.folded_outer.eq(token.outer),
        ]
        with m.If(~token.live | over):
            outer = due & self.digest_free.bit_select(context, 1)
            packet_over = over & token.outer
            inner = ~due & ~packet_over & available & bank_full
            m.d.comb += [
                following.live.eq(outer | inner),
                following.real.eq(0),
                following.outer.eq(outer),
                following.left.eq(LEAD - 1),
                following.go.eq(1),
                following.last.eq(0),
                following.due.eq(due & ~outer),
                following.bank.eq(token.bank ^ packet_over),
            ]
            with m.If(inner):
                m.d.comb += following.sha1.eq(sha1)
        with m.Elif(token.left == 0):
            m.d.comb += [
                following.real.eq(1),
                following.left.eq(Mux(is_sha1(self._auths, token.sha1), SHA1_ROUNDS, SHA256_ROUNDS) - 1),
                following.go.eq(0),
                following.last.eq(token.next_last),
                following.w.eq(token.w + 1),
            ]
        with m.Else():
            m.d.comb += [following.left.eq(token.left - 1), following.w.eq(token.w + 1)]
            with m.If(token.left == 2):
                m.d.comb += [following.w.eq(0), following.next_last.eq(self.last.bit_select(context, 1))]
                with m.If(token.real):
                    m.d.comb += following.go.eq(available & ~token.outer & ~token.last)

        starting = Cat(self.available[at] & self.full[at].any() for at in range(CONTEXTS)).any()
        busy = [token.live | token.due | token.folded for token in (self.token_1, self.token_2)]
        with m.If(starting | Cat(busy).any()):
            m.d.sync += [
                self.token_2.eq(self.token_1),
                self.token_1.eq(following),
                self.context_1.eq(~self.context_1),
            ]

        for at in range(CONTEXTS):
            mine = context == at
            m.d.comb += [
                self.block_done[at].eq(mine & token.real & ~token.outer & (token.w == BLOCK_WORDS - 1)),
                self.bank_done[at].eq((mine & over & token.outer) << token.bank),
            ]
        return m
