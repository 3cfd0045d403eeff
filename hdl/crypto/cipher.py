# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The modes of operation of one context: CBC (RFC 3602), GCM's counter mode (RFC 4106, SP 800-38D) and NULL
(RFC 2410).

Two halves with a queue between them. The first one (:mod:`spigate.hdl.crypto.orders`) knows what each word
is, and orders blocks of AES ahead of the words that need them: counter blocks as soon as a word of the text
is in the queue, the one that masks the ICV at the end, CBC's blocks when they are whole. The second one
joins words and blocks. So AES works on, into the next packet, while the second half still waits for a
result.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.crypto import interface
from spigate.hdl.crypto.aes import BLOCK_BITS, AesBlock
from spigate.hdl.crypto.ghash import GhashWord
from spigate.hdl.crypto.intake import Scheme, Task
from spigate.hdl.crypto.interface import Kind
from spigate.hdl.crypto.orders import WORD_BITS, Item, Orders
from spigate.hdl.crypto.queue import Queue

ITEMS = 16
"""Words between the halves: AES works up to four blocks ahead."""


class AuthWord(data.StructLayout):
    """A word to authenticate, and by whom: GHASH, or else HMAC."""

    def __init__(self):
        super().__init__({"word": GhashWord(), "ghash": 1})


class OutWord(data.StructLayout):
    """A word behind the cipher. In ICV words, what is left to do is to add the authenticator's digest.

    Members
    -------
    data, kind, count
        As in :class:`~spigate.hdl.crypto.interface.Word`.
    last : unsigned(1)
        The last of the packet.
    bad : unsigned(1)
        The text was not whole blocks.
    encrypt, scheme
        Of the packet.
    """

    def __init__(self):
        super().__init__(
            {
                "data": WORD_BITS,
                "kind": 2,
                "count": range(WORD_BITS // 8 + 1),
                "last": 1,
                "bad": 1,
                "encrypt": 1,
                "scheme": 2,
            }
        )


class CipherContext(wiring.Component):
    """Encrypts or decrypts the packets of one context.

    Parameters
    ----------
    knows : Algorithms
        The packets that come are of these.

    Members
    -------
    task : In(stream of Task)
    i : In(stream of Word)
        A packet's words, as in :class:`~spigate.hdl.crypto.interface.Context`.
    block : Out(stream of AesBlock)
    done : In(1)
        ``result`` is this context's.
    result : In(128)
    auth : Out(stream of AuthWord)
        What is to be authenticated, in order; queued, so that a slow authenticator does not hold up the
        cipher at once.
    o : Out(stream of OutWord)
        One for each word of ``i``, and where an ICV is to be made, its words.
    """

    def __init__(self, knows: interface.Algorithms):
        self._knows = knows
        super().__init__(
            {
                "task": In(stream.Signature(Task())),
                "i": In(stream.Signature(interface.Word(WORD_BITS // 8))),
                "block": Out(stream.Signature(AesBlock())),
                "done": In(1),
                "result": In(BLOCK_BITS),
                "auth": Out(stream.Signature(AuthWord())),
                "o": Out(stream.Signature(OutWord())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.orders = orders = Orders(self._knows)
        wiring.connect(m, wiring.flipped(self.task), orders.task)
        wiring.connect(m, wiring.flipped(self.i), orders.i)
        wiring.connect(m, orders.block, wiring.flipped(self.block))
        m.submodules.items = items = Queue(Item(), depth=ITEMS)
        m.submodules.auth = auth = Queue(AuthWord(), depth=ITEMS)
        m.submodules.out = out = Queue(OutWord(), depth=2 * ITEMS)
        wiring.connect(m, orders.o, items.i)
        wiring.connect(m, auth.o, wiring.flipped(self.auth))
        wiring.connect(m, out.o, wiring.flipped(self.o))
        item = items.o.payload
        item_cbc = item.cbc if self._knows.cbc else Const(0)

        # Blocks come here one after the other: `words` is being used up, `latest` waits, so two may be
        # under way or here.
        latest = Signal(BLOCK_BITS)
        latest_full = Signal()
        words = Signal(BLOCK_BITS)
        words_full = Signal()
        at_work = Signal(range(3))
        under_way = Signal(range(3))
        begun = Signal()
        used_up = Signal()
        m.d.comb += [
            begun.eq(orders.block.valid & orders.block.ready),
            orders.previous.eq(Mux(self.done, self.result, latest)),
            orders.room.eq(under_way != 2),
            orders.idle.eq(at_work == self.done),
        ]
        m.d.sync += [at_work.eq(at_work + begun - self.done), under_way.eq(under_way + begun - used_up)]

        place = Signal(2)
        go = Signal()
        uses = Signal()
        former = Signal(BLOCK_BITS)  # CBC, decrypting: the cipher text of one block before
        crypted = Signal(WORD_BITS)
        chains = item_cbc & ((item.kind == Kind.IV) | (item.kind == Kind.TEXT))
        m.d.comb += [
            items.o.ready.eq(out.i.ready & auth.i.ready & (~item.block | words_full)),
            go.eq(items.o.valid & items.o.ready),
            uses.eq(go & item.block),
            used_up.eq(uses & ((place == 3) | item.end)),
            crypted.eq(
                Mux(item_cbc & item.block, Mux(item.encrypt, 0, former[:WORD_BITS]), item.data)
                ^ Mux(item.block, words[:WORD_BITS], 0)
            ),
        ]
        with m.If(go):
            m.d.sync += place.eq(Mux(item.end, 0, place + 1))
            with m.If(chains):
                m.d.sync += former.eq(Cat(former[WORD_BITS:], item.data))
        with m.If(uses):
            m.d.sync += words.eq(Cat(words[WORD_BITS:], Const(0, WORD_BITS)))
        with m.If(used_up):
            m.d.sync += words_full.eq(0)
        with m.If(latest_full & ~words_full):
            m.d.sync += [words.eq(latest), words_full.eq(1), latest_full.eq(0)]
        with m.If(self.done):
            m.d.sync += [latest.eq(self.result), latest_full.eq(1)]

        to_auth, to_out = auth.i.payload, out.i.payload
        m.d.comb += [
            to_auth.word.data.eq(Mux(item.encrypt, crypted, item.data)),
            to_auth.word.count.eq(Mux(item.silent, 0, item.count)),
            to_auth.word.text.eq(item.kind == Kind.TEXT),
            to_auth.word.end.eq(item.end),
            to_auth.word.last.eq(item.final),
            to_auth.ghash.eq(item.scheme == Scheme.GCM),
            auth.i.valid.eq(go & item.authenticate),
            to_out.data.eq(crypted),
            to_out.kind.eq(item.kind),
            to_out.count.eq(item.count),
            to_out.last.eq(item.last),
            to_out.encrypt.eq(item.encrypt),
            to_out.scheme.eq(item.scheme),
            to_out.bad.eq(chains & item.end & ((place != 3) | (item.count != 4))),
            out.i.valid.eq(go),
        ]
        return m
