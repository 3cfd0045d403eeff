# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The first half of a cipher context: what each word of a packet is, and which blocks AES makes for it."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import enums
from spigate.hdl.crypto import interface
from spigate.hdl.crypto.aes import BLOCK_BITS, AesBlock
from spigate.hdl.crypto.intake import Scheme, Task, icv_words
from spigate.hdl.crypto.interface import Kind

WORD_BITS = 32
FIRST_COUNTER = 0x02000000
"""GCM's counter of the first block of text, 2, and below the one of the ICV's mask, 1, as words of the wire.
"""
MASK_COUNTER = 0x01000000


class Item(data.StructLayout):
    """A word on its way through an engine.

    Members
    -------
    data, kind, count
        As in :class:`~spigate.hdl.crypto.interface.Word`.
    end : unsigned(1)
        The last of a run of one kind.
    last : unsigned(1)
        The last of the packet.
    authenticate : unsigned(1)
        It goes to the authenticator; ``final``: as the last of the packet. ``silent``: only to say that.
    block : unsigned(1)
        Its run takes blocks from AES.
    cbc, encrypt, scheme
        Of the packet.
    """

    def __init__(self):
        super().__init__(
            {
                "data": WORD_BITS,
                "kind": 2,
                "count": range(WORD_BITS // 8 + 1),
                "end": 1,
                "last": 1,
                "authenticate": 1,
                "final": 1,
                "silent": 1,
                "block": 1,
                "cbc": 1,
                "encrypt": 1,
                "scheme": 2,
            }
        )


class Current:
    """The packet that :class:`Orders` is at.

    Members
    -------
    task : Task
    active : unsigned(1)
        There is one.
    cbc, gcm : unsigned(1)
        Its cipher.
    word : Word
        Where ``held``, it waits. ``known``: what its item is, is certain.
    first : unsigned(1)
        No word of it has gone.
    closing : unsigned(1)
        All of its words have gone.
    adds_icv : unsigned(1)
        It gets an ICV.
    adding : unsigned(1)
        Words of that ICV follow now, ``icv_left`` of them.
    place : unsigned(2)
        The item's, among the four of a block.
    go : unsigned(1)
        The item goes.
    """

    def __init__(self):
        self.task = Signal(Task())
        self.active = Signal()
        self.cbc = Signal()
        self.gcm = Signal()
        self.word = Signal(interface.Word(WORD_BITS // 8))
        self.held = Signal()
        self.known = Signal()
        self.first = Signal()
        self.closing = Signal()
        self.adds_icv = self.task.encrypt & (self.task.scheme != Scheme.NONE)
        self.adding = Signal()
        self.icv_left = Signal(range(5))
        self.place = Signal(2)
        self.go = Signal()


class Forming:
    """What AES is to do: counter blocks, the block of GCM's mask, or the block of CBC in ``value``.

    Members
    -------
    value : unsigned(128)
        The block that is made.
    placing_counter : unsigned(1)
        The first counter comes behind the IV in this clock.
    counters : unsigned(3)
        Counter blocks that are not begun. ``many``: six or more, a clock ago, and one may have been added
        since.
    mask : unsigned(1)
        The block for GCM's mask is wanted. ``masking``: it is in ``value``.
    whole : unsigned(1)
        A block of CBC is whole. ``mixes``: what it is chained to is added now. ``mixed``: it was.
    chained : unsigned(1)
        A block of this packet was begun before.
    begun : unsigned(1)
        AES takes the block.
    """

    def __init__(self):
        self.value = Signal(BLOCK_BITS)
        self.placing_counter = Signal()
        self.counters = Signal(3)
        self.many = Signal()
        self.mask = Signal()
        self.masking = Signal()
        self.whole = Signal()
        self.mixes = Signal()
        self.mixed = Signal()
        self.chained = Signal()
        self.begun = Signal()


class Orders(wiring.Component):
    """Sorts a packet's words and orders AES blocks.

    Parameters
    ----------
    knows : Algorithms
        The packets that come are of these.

    Members
    -------
    task : In(stream of Task)
    i : In(stream of Word)
    o : Out(stream of Item)
        Where the packet is to get an ICV, its words follow as zeros.
    block : Out(stream of AesBlock)
        In the order in which the items want them: one for each four words, or less at the end, of a run with
        ``block``.
    previous : In(128)
        The latest block that AES has made for this context.
    room : In(1)
        One more block may be begun.
    idle : In(1)
        No block is at work any more, and ``previous`` is the last one ordered.
    """

    def __init__(self, knows: interface.Algorithms):
        self._knows = knows
        super().__init__(
            {
                "task": In(stream.Signature(Task())),
                "i": In(stream.Signature(interface.Word(WORD_BITS // 8))),
                "o": Out(stream.Signature(Item())),
                "block": Out(stream.Signature(AesBlock())),
                "previous": In(BLOCK_BITS),
                "room": In(1),
                "idle": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        packet, block = Current(), Forming()
        starts_block = Signal()
        ends_block = Signal()
        in_cbc_block = Signal()
        item = self.o.payload
        self._describe(m, packet)
        m.d.comb += [
            starts_block.eq(packet.gcm & item.block & (packet.place == 0)),
            in_cbc_block.eq(packet.cbc & ((item.kind == Kind.TEXT) | (item.kind == Kind.IV))),
            ends_block.eq(packet.cbc & item.block & ((packet.place == 3) | item.end)),
        ]
        # An item waits where the block that it is to start, or to be added to, is not through.
        may = Signal()
        m.d.comb += [
            may.eq(
                ~block.placing_counter
                & ~(starts_block & (block.mask | block.many))
                & ~(in_cbc_block & block.whole)
            ),
            self.o.valid.eq((packet.known | packet.adding) & may),
            packet.go.eq(self.o.valid & self.o.ready),
        ]
        self._order(m, packet, block)
        self._advance(m, packet, block)
        self._fill(m, packet, block, in_cbc_block)
        self._count(m, packet, block, starts_block, ends_block)
        return m

    def _describe(self, m, packet: Current) -> None:
        """What the word at work is, as an item."""
        task, word, following = packet.task, packet.word, self.i.payload.kind
        item = self.o.payload
        if self._knows.cbc:
            m.d.comb += packet.cbc.eq(task.cipher == enums.Cipher.AES_CBC)
        if self._knows.gcm:
            m.d.comb += packet.gcm.eq(task.cipher == enums.Cipher.AES_GCM)
        m.d.comb += [
            # A word waits for the next one, which tells whether its run goes on.
            packet.known.eq(packet.held & (word.last | self.i.valid)),
            # Out of registers: a word every other clock is more than AES, GHASH or HMAC take.
            self.i.ready.eq(packet.active & ~packet.closing & ~packet.held),
            item.cbc.eq(packet.cbc),
            item.encrypt.eq(task.encrypt),
            item.scheme.eq(task.scheme),
        ]
        with m.If(packet.adding):
            m.d.comb += [
                item.kind.eq(Kind.ICV),
                item.count.eq(4),
                item.end.eq(packet.icv_left == 1),
                item.last.eq(packet.icv_left == 1),
                item.block.eq(packet.gcm),
            ]
        with m.Else():
            is_iv, is_text, is_icv = (word.kind == kind for kind in (Kind.IV, Kind.TEXT, Kind.ICV))
            silent = is_icv | packet.gcm & is_iv
            final = Mux(is_icv, packet.first, word.last | (following == Kind.ICV))
            of_cbc = is_text | is_iv & task.encrypt & task.derive_iv
            m.d.comb += [
                item.data.eq(word.data),
                item.kind.eq(word.kind),
                item.count.eq(word.count),
                item.end.eq(word.last | (following != word.kind)),
                item.last.eq(word.last & ~packet.adds_icv),
                item.silent.eq(silent),
                item.final.eq(final),
                item.authenticate.eq((task.scheme != Scheme.NONE) & (~silent | final)),
                item.block.eq(Mux(packet.cbc, of_cbc, packet.gcm & (is_text | is_icv))),
            ]

    def _advance(self, m, packet: Current, block: Forming) -> None:
        """From word to word, and from packet to packet."""
        with m.If(~packet.active):
            m.d.comb += self.task.ready.eq(1)
            with m.If(self.task.valid):
                m.d.sync += [
                    packet.task.eq(self.task.payload),
                    packet.active.eq(1),
                    packet.first.eq(1),
                    block.chained.eq(0),
                    packet.closing.eq(0),
                    block.value.eq(Cat(block.value[WORD_BITS:], self.task.payload.salt)),
                ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [packet.word.eq(self.i.payload), packet.held.eq(1)]
        with m.Elif(packet.go & ~packet.adding):
            m.d.sync += packet.held.eq(0)
        with m.If(packet.go):
            m.d.sync += [
                packet.place.eq(Mux(self.o.payload.end, 0, packet.place + 1)),
                packet.first.eq(0),
            ]
            with m.If(packet.adding):
                m.d.sync += [
                    packet.icv_left.eq(packet.icv_left - 1),
                    packet.adding.eq(packet.icv_left != 1),
                ]
            with m.Elif(packet.word.last):
                m.d.sync += packet.closing.eq(1)
                with m.If(packet.adds_icv):
                    m.d.sync += [packet.icv_left.eq(icv_words(packet.task.scheme)), packet.adding.eq(1)]
        with m.If(
            packet.active
            & packet.closing
            & ~packet.adding
            & (block.counters == 0)
            & ~block.mask
            & ~block.whole
        ):
            m.d.sync += [packet.active.eq(0), packet.closing.eq(0)]

    def _order(self, m, packet: Current, block: Forming) -> None:
        """Offers the block to AES when it is due."""
        encrypt = packet.task.encrypt
        due = Signal()
        m.d.comb += [
            due.eq(
                self.room
                & (
                    (block.counters != 0)
                    | block.masking
                    | block.whole & (~(block.chained & encrypt) | block.mixed)
                )
            ),
            block.begun.eq(self.block.valid & self.block.ready),
            block.mixes.eq(block.whole & encrypt & block.chained & ~block.mixed & self.idle),
            self.block.payload.block.eq(block.value),
            self.block.payload.decrypt.eq(packet.cbc & ~encrypt),
            self.block.payload.rounds.eq(packet.task.rounds),
            self.block.payload.bank.eq(packet.task.bank),
        ]
        # Offered out of a register: AES takes a block in the clock in which it decides to, into all of its
        # tables.
        m.d.sync += self.block.valid.eq(due & ~block.begun)

    def _fill(self, m, packet: Current, block: Forming, in_cbc_block) -> None:
        """The counter block is salt, IV and counter, CBC's the four latest words: all of them come in as
        words at the top. A literal IV of CBC is in the block when the first text comes, and is added to it
        on the way; to later blocks what they are chained to is added when they are whole.
        """
        item, value = self.o.payload, block.value
        low, high = value[:WORD_BITS], value[-WORD_BITS:]
        chain_iv = packet.task.encrypt & (item.kind == Kind.TEXT) & ~block.chained
        with m.If(block.placing_counter):
            m.d.sync += [
                value.eq(Cat(value[WORD_BITS:], Const(FIRST_COUNTER, WORD_BITS))),
                block.placing_counter.eq(0),
            ]
        with m.Elif(packet.go & packet.gcm & (item.kind == Kind.IV)):
            m.d.sync += [value.eq(Cat(value[WORD_BITS:], item.data)), block.placing_counter.eq(item.end)]
        with m.Elif(packet.go & in_cbc_block):
            m.d.sync += value.eq(Cat(value[WORD_BITS:], item.data ^ Mux(chain_iv, low, 0)))
        with m.Elif(block.mixes):
            m.d.sync += [value.eq(value ^ self.previous), block.mixed.eq(1)]
        with m.Elif(block.mask & ~block.masking & (block.counters == 0)):
            m.d.sync += [high.eq(MASK_COUNTER), block.masking.eq(1)]
        with m.Elif(block.begun & packet.gcm):
            m.d.sync += high.eq(_bytes_reversed((_bytes_reversed(high) + 1)[:WORD_BITS]))

    def _count(self, m, packet: Current, block: Forming, starts_block, ends_block) -> None:
        """What AES is still to do."""
        item = self.o.payload
        with m.If(packet.go & starts_block):
            with m.If(item.kind == Kind.ICV):
                m.d.sync += block.mask.eq(1)
        if self._knows.gcm:
            m.d.sync += [
                block.many.eq(block.counters >= 6),
                block.counters.eq(
                    block.counters
                    + (packet.go & starts_block & (item.kind == Kind.TEXT))
                    - (block.begun & (block.counters != 0))
                ),
            ]
        with m.If(packet.go & ends_block):
            m.d.sync += block.whole.eq(1)
        with m.If(block.begun):
            m.d.sync += [block.chained.eq(1), block.mixed.eq(0)]
            with m.If(block.counters == 0):
                m.d.sync += [block.mask.eq(0), block.masking.eq(0), block.whole.eq(0)]


def _bytes_reversed(word):
    return Cat(word[at : at + 8] for at in reversed(range(0, WORD_BITS, 8)))
