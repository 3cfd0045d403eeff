"""The modes of operation of one context: CBC (RFC 3602), GCM's counter mode (RFC 4106, SP 800-38D) and NULL
(RFC 2410).

Two halves with a queue between them. The first one knows what each word is, and orders blocks of AES ahead
of the words that need them: counter blocks as soon as a word of the text is in the queue, the one that
masks the ICV at the end, CBC's blocks when they are whole. The second one joins words and blocks. So AES
works on, into the next packet, while the second half still waits for a result.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import enums
from spigate.hdl.crypto import interface
from spigate.hdl.crypto.aes import BLOCK_BITS, AesBlock
from spigate.hdl.crypto.ghash import GhashWord
from spigate.hdl.crypto.intake import Scheme, Task, icv_words
from spigate.hdl.crypto.interface import Kind
from spigate.hdl.crypto.queue import Queue

WORD_BITS = 32
ITEMS = 16
"""Words between the halves: AES works up to four blocks ahead."""
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


class Orders(wiring.Component):
    """The first half: sorts a packet's words and orders AES blocks.

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

    def __init__(self):
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
        task = Signal(Task())
        active = Signal()
        cbc = Signal()
        gcm = Signal()
        m.d.comb += [cbc.eq(task.cipher == enums.Cipher.AES_CBC), gcm.eq(task.cipher == enums.Cipher.AES_GCM)]

        # A word waits for the next one, which tells whether its run goes on.
        word = Signal(interface.Word(WORD_BITS // 8))
        held = Signal()
        first = Signal()
        following = self.i.payload.kind
        # Words of an ICV that is to be made; `adding`: there are some.
        icv_left = Signal(range(5))
        adding = Signal()
        closing = Signal()
        place = Signal(2)
        known = Signal()
        go = Signal()
        item = self.o.payload
        adds_icv = task.encrypt & (task.scheme != Scheme.NONE)
        m.d.comb += [
            known.eq(held & (word.last | self.i.valid)),
            # Out of registers: a word every other clock is more than AES, GHASH or HMAC take.
            self.i.ready.eq(active & ~closing & ~held),
            item.cbc.eq(cbc),
            item.encrypt.eq(task.encrypt),
            item.scheme.eq(task.scheme),
        ]
        with m.If(adding):
            m.d.comb += [
                item.kind.eq(Kind.ICV),
                item.count.eq(4),
                item.end.eq(icv_left == 1),
                item.last.eq(icv_left == 1),
                item.block.eq(gcm),
            ]
        with m.Else():
            is_icv = word.kind == Kind.ICV
            silent = is_icv | gcm & (word.kind == Kind.IV)
            final = Mux(is_icv, first, word.last | (following == Kind.ICV))
            m.d.comb += [
                item.data.eq(word.data),
                item.kind.eq(word.kind),
                item.count.eq(word.count),
                item.end.eq(word.last | (following != word.kind)),
                item.last.eq(word.last & ~adds_icv),
                item.silent.eq(silent),
                item.final.eq(final),
                item.authenticate.eq((task.scheme != Scheme.NONE) & (~silent | final)),
                item.block.eq(
                    Mux(
                        cbc,
                        (word.kind == Kind.TEXT) | (word.kind == Kind.IV) & task.encrypt & task.derive_iv,
                        gcm & ((word.kind == Kind.TEXT) | is_icv),
                    )
                ),
            ]

        # What AES is to do: counter blocks, the block of GCM's mask, or the block of CBC that lies in
        # `block`.
        block = Signal(BLOCK_BITS)
        low, high = block[:WORD_BITS], block[-WORD_BITS:]
        counters = Signal(3)
        mask = Signal()
        masking = Signal()
        whole = Signal()
        chained = Signal()
        mixed = Signal()
        many = (
            Signal()
        )  # counter blocks that are not begun; of the clock before, in which one may have been added
        placing_counter = Signal()
        mixes = Signal()
        due = Signal()
        may = Signal()
        begun = Signal()
        starts_block = Signal()
        ends_block = Signal()
        in_cbc_block = Signal()
        m.d.comb += [
            starts_block.eq(gcm & item.block & (place == 0)),
            in_cbc_block.eq(cbc & ((item.kind == Kind.TEXT) | (item.kind == Kind.IV))),
            ends_block.eq(cbc & item.block & ((place == 3) | item.end)),
            may.eq(~placing_counter & ~(starts_block & (mask | many)) & ~(in_cbc_block & whole)),
            self.o.valid.eq((known | adding) & may),
            go.eq(self.o.valid & self.o.ready),
            due.eq(self.room & ((counters != 0) | masking | whole & (~(chained & task.encrypt) | mixed))),
            begun.eq(self.block.valid & self.block.ready),
            mixes.eq(whole & task.encrypt & chained & ~mixed & self.idle),
            self.block.payload.block.eq(block),
            self.block.payload.decrypt.eq(cbc & ~task.encrypt),
            self.block.payload.rounds.eq(task.rounds),
            self.block.payload.bank.eq(task.bank),
        ]

        # Offered out of a register: AES takes a block in the clock in which it decides to, into all of its
        # tables.
        m.d.sync += self.block.valid.eq(due & ~begun)

        with m.If(~active):
            m.d.comb += self.task.ready.eq(1)
            with m.If(self.task.valid):
                m.d.sync += [
                    task.eq(self.task.payload),
                    active.eq(1),
                    first.eq(1),
                    chained.eq(0),
                    closing.eq(0),
                ]
                m.d.sync += block.eq(Cat(block[WORD_BITS:], self.task.payload.salt))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [word.eq(self.i.payload), held.eq(1)]
        with m.Elif(go & ~adding):
            m.d.sync += held.eq(0)
        with m.If(go):
            m.d.sync += [place.eq(Mux(item.end, 0, place + 1)), first.eq(0)]
            with m.If(adding):
                m.d.sync += [icv_left.eq(icv_left - 1), adding.eq(icv_left != 1)]
            with m.Elif(word.last):
                m.d.sync += closing.eq(1)
                with m.If(adds_icv):
                    m.d.sync += [icv_left.eq(icv_words(task.scheme)), adding.eq(1)]
        with m.If(active & closing & ~adding & (counters == 0) & ~mask & ~whole):
            m.d.sync += [active.eq(0), closing.eq(0)]

        # The counter block is salt, IV and counter, CBC's the four latest words: all of them come in as
        # words at the top. A literal IV of CBC is in `block` when the first text comes, and is added to it
        # on the way; to later blocks what they are chained to is added when they are whole.
        chain_iv = task.encrypt & (item.kind == Kind.TEXT) & ~chained
        with m.If(placing_counter):
            m.d.sync += [
                block.eq(Cat(block[WORD_BITS:], Const(FIRST_COUNTER, WORD_BITS))),
                placing_counter.eq(0),
            ]
        with m.Elif(go & gcm & (item.kind == Kind.IV)):
            m.d.sync += [block.eq(Cat(block[WORD_BITS:], item.data)), placing_counter.eq(item.end)]
        with m.Elif(go & in_cbc_block):
            m.d.sync += block.eq(Cat(block[WORD_BITS:], item.data ^ Mux(chain_iv, low, 0)))
        with m.Elif(mixes):
            m.d.sync += [block.eq(block ^ self.previous), mixed.eq(1)]
        with m.Elif(mask & ~masking & (counters == 0)):
            m.d.sync += [high.eq(MASK_COUNTER), masking.eq(1)]
        with m.Elif(begun & gcm):
            m.d.sync += high.eq(_bytes_reversed((_bytes_reversed(high) + 1)[:WORD_BITS]))
        with m.If(go & starts_block):
            with m.If(item.kind == Kind.ICV):
                m.d.sync += mask.eq(1)
        m.d.sync += many.eq(counters >= 6)
        m.d.sync += counters.eq(
            counters + (go & starts_block & (item.kind == Kind.TEXT)) - (begun & (counters != 0))
        )
        with m.If(go & ends_block):
            m.d.sync += whole.eq(1)
        with m.If(begun):
            m.d.sync += [chained.eq(1), mixed.eq(0)]
            with m.If(counters == 0):
                m.d.sync += [mask.eq(0), masking.eq(0), whole.eq(0)]
        return m


def _bytes_reversed(word):
    return Cat(word[at : at + 8] for at in reversed(range(0, WORD_BITS, 8)))


class CipherContext(wiring.Component):
    """Encrypts or decrypts the packets of one context.

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

    def __init__(self):
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
        m.submodules.orders = orders = Orders()
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
        chains = item.cbc & ((item.kind == Kind.IV) | (item.kind == Kind.TEXT))
        m.d.comb += [
            items.o.ready.eq(out.i.ready & auth.i.ready & (~item.block | words_full)),
            go.eq(items.o.valid & items.o.ready),
            uses.eq(go & item.block),
            used_up.eq(uses & ((place == 3) | item.end)),
            crypted.eq(
                Mux(item.cbc & item.block, Mux(item.encrypt, 0, former[:WORD_BITS]), item.data)
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
