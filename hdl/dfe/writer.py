# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The last step of dispatch: a packet goes from the DFE's queue to a buffer, ready for the crypto."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.dfe.job import BUFFER_WORDS
from spigate.hdl.dfe.lane import FillBeat
from spigate.hdl.net.packet import BEAT_BYTES, packets, swap_bytes

TTL_WORD = 2
"""Word of the IPv4 header that holds time to live, protocol and checksum."""


class Plan(data.StructLayout):
    """How to write a packet.

    Members
    -------
    lane : range(lanes)
    keep : unsigned(1)
        0: the packet is only taken from the queue.
    wipe : unsigned(1)
        There is no packet: the whole buffer is written, with zeros. ``keep`` is 1, and the rest 0.
    count_down : unsigned(1)
        Count time to live down and mend the checksum.
    tagged : unsigned(1)
        The IP header begins at word 5, not 4.
    encrypt : unsigned(1)
        ESP header, IV and trailer are added; what follows means something only then.
    split, shift : unsigned(5)
        Words of the frame from ``split`` on (the text) are written ``shift`` words further on.
    end : unsigned(12)
        Byte of the frame where the text ends and its trailer begins.
    pad : unsigned(4)
        Bytes of padding.
    next_header : unsigned(8)
    esp : range(BUFFER_WORDS)
        Word of the ESP header.
    iv_words : unsigned(3)
        0, 2 (the sequence number: GCM) or 4 ({SPI, 0, sequence number}: CBC).
    spi : unsigned(32)
    sequence : unsigned(64)
    """

    def __init__(self, lanes: int):
        super().__init__(
            {
                "lane": range(lanes),
                "keep": 1,
                "wipe": 1,
                "count_down": 1,
                "tagged": 1,
                "encrypt": 1,
                "split": 5,
                "shift": 5,
                "end": 12,
                "pad": 4,
                "next_header": 8,
                "esp": range(BUFFER_WORDS),
                "iv_words": 3,
                "spi": 32,
                "sequence": 64,
            }
        )


class AtWork:
    """The packet that is written, and how far it is.

    Members
    -------
    words, low_bits : int
        Words in a beat, and bits of a word's number in it.
    plan : Plan
        Where ``running``.
    at : range(BUFFER_WORDS)
        Word of the frame with which the beat begins; ``beat_at`` without the bits of a word in it.
    header_at, header_left
        Where the next word of ESP header and IV goes, and how many there are. ``header``: some.
    here : unsigned(1)
        The text begins in this beat. ``mixed``: not with its first word. ``second_half``: what lies in front
        of the text is written. ``moved``: the text began in a beat before.
    ended : unsigned(1)
        The frame has ended. ``more``: its trailer goes on in the next beat.
    from_end, from_length : signed(14)
        Distance of the beat's first byte from the trailer's first byte, and from the pad length.
    """

    def __init__(self, beat_bytes: int, lanes: int):
        self.words = beat_bytes // 4
        self.low_bits = self.words.bit_length() - 1
        self.plan = Signal(Plan(lanes))
        self.running = Signal()
        self.at = Signal(range(BUFFER_WORDS))
        self.beat_at = self.at[self.low_bits :]
        self.split_beat = self.plan.split[self.low_bits :]
        self.split_word = self.plan.split[: self.low_bits]
        self.header_at = Signal(range(BUFFER_WORDS))
        self.header_left = Signal(range(7))
        self.header = Signal()
        self.here = Signal()
        self.mixed = Signal()
        self.second_half = Signal()
        self.moved = Signal()
        self.ended = Signal()
        self.more = Signal()
        self.from_end = Signal(signed(14))
        self.from_length = Signal(signed(14))


class Middle(data.StructLayout):
    """A write, and what comes into its beat.

    Members
    -------
    valid : unsigned(1)
    beat : FillBeat
    lane : range(lanes)
    count_down : unsigned(1)
        ``ttl_word`` is in this beat, further on where ``tagged``, and is counted down; its checksum has a
        ``carry`` then.
    trailer : unsigned(beat_bytes)
        Bytes that are not the frame's, but the ``value`` of the trailer.
    """

    def __init__(self, beat_bytes: int, lanes: int):
        super().__init__(
            {
                "valid": 1,
                "beat": FillBeat(beat_bytes),
                "lane": range(lanes),
                "count_down": 1,
                "tagged": 1,
                "ttl_word": 32,
                "carry": 1,
                "trailer": beat_bytes,
                "value": data.ArrayLayout(8, beat_bytes),
            }
        )


class Writer(wiring.Component):
    """Takes a packet for each plan and writes it as the plan says.

    A beat of the frame takes a clock; ESP header and IV take up to three more, a text that begins inside a
    beat one, and the trailer as many as it has beats of its own.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    lanes : int
        Lanes to write to.

    Members
    -------
    plan : In(stream of Plan)
    i : In(packets)
        Without aborts.
    fill : Out(stream of FillBeat).array(lanes)
    """

    def __init__(self, *, beat_bytes: int, lanes: int):
        if beat_bytes not in BEAT_BYTES:
            raise ValueError(f"beat_bytes must be one of {BEAT_BYTES}, not {beat_bytes!r}")
        self._beat_bytes, self._lanes = beat_bytes, lanes
        super().__init__(
            {
                "plan": In(stream.Signature(Plan(lanes))),
                "i": In(packets(beat_bytes)),
                "fill": Out(stream.Signature(FillBeat(beat_bytes))).array(lanes),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # A write takes three steps: `op` says what is written, `middle` holds it and what comes into it,
        # `out` is the result. All of them stand still unless `go`.
        work = AtWork(self._beat_bytes, self._lanes)
        go = Signal()
        op = Signal(FillBeat(self._beat_bytes))
        op_valid = Signal()
        step = Signal()
        middle = Signal(Middle(self._beat_bytes, self._lanes))
        m.d.comb += [
            work.header.eq(work.header_left != 0),
            work.here.eq(work.plan.encrypt & (work.beat_at == work.split_beat)),
            work.mixed.eq(work.here & (work.split_word != 0)),
            work.more.eq(work.plan.encrypt & (work.from_length < 2 - self._beat_bytes)),
            op_valid.eq(work.running & (work.header | work.ended | work.plan.wipe | self.i.valid)),
            step.eq(op_valid & go),
            self.plan.ready.eq(~work.running),
            self.i.ready.eq(
                work.running
                & ~work.header
                & ~work.ended
                & ~work.plan.wipe
                & go
                & (~work.mixed | work.second_half)
            ),
        ]
        with m.If(work.header):
            self._write_header(m, work, op)
        with m.Else():
            self._write_text(m, work, op)
        self._advance(m, work, op, step)
        with m.If(go):
            self._prepare(m, work, op, op_valid, middle)
        self._finish(m, middle, go)
        return m

    def _write_header(self, m, work: AtWork, op) -> None:
        """ESP header and IV, as many words as a beat has at a time. Their numbers are big-endian on the
        wire.
        """
        plan, left = work.plan, work.header_left
        low, high = swap_bytes(plan.sequence[:32]), swap_bytes(plan.sequence[32:])
        spi, cbc = swap_bytes(plan.spi), plan.iv_words == 4
        fields = Cat(spi, low, Mux(cbc, spi, high), Mux(cbc, 0, low), high, low)
        written = Signal(range(7))
        m.d.comb += [
            written.eq(2 + plan.iv_words - left),
            op.address.eq(work.header_at),
            op.data.eq(fields.word_select(written[work.low_bits :], 8 * self._beat_bytes)),
            op.mask.eq(Mux(left >= work.words, ~0, (1 << left[: work.low_bits]) - 1)),
        ]

    def _write_text(self, m, work: AtWork, op) -> None:
        """A beat of the frame, in its place or moved. One that is moved in part is written twice."""
        plan, second_half, mixed = work.plan, work.second_half, work.mixed
        low_mask = ((1 << work.split_word) - 1)[: work.words]
        m.d.comb += [
            op.address.eq(work.at + Mux(work.moved | second_half | (work.here & ~mixed), plan.shift, 0)),
            op.data.eq(self.i.payload.data),
            op.last.eq(
                Mux(
                    plan.wipe,
                    work.beat_at.all(),
                    (work.ended | self.i.payload.last) & ~work.more & (~mixed | second_half),
                )
            ),
            op.mask.eq(
                Mux(mixed, Mux(second_half, ~low_mask, low_mask), ~0) & plan.keep.replicate(work.words)
            ),
        ]

    def _advance(self, m, work: AtWork, op, step) -> None:
        """To the next plan, or to the next write."""
        offered, words = self.plan.payload, work.words
        with m.If(~work.running):
            m.d.sync += [
                work.running.eq(self.plan.valid),
                work.plan.eq(offered),
                work.at.eq(0),
                work.moved.eq(0),
                work.second_half.eq(0),
                work.ended.eq(0),
                work.from_end.eq(-offered.end),
                work.from_length.eq(-offered.end - offered.pad),
                work.header_at.eq(offered.esp),
                work.header_left.eq(Mux(offered.encrypt, 2 + offered.iv_words, 0)),
            ]
        with m.Elif(step & work.header):
            m.d.sync += [
                work.header_at.eq(work.header_at + words),
                work.header_left.eq(Mux(work.header_left > words, work.header_left - words, 0)),
            ]
        with m.Elif(step & work.mixed & ~work.second_half):
            m.d.sync += work.second_half.eq(1)
        with m.Elif(step):
            m.d.sync += [
                work.at.eq(work.at + words),
                work.from_end.eq(work.from_end + self._beat_bytes),
                work.from_length.eq(work.from_length + self._beat_bytes),
                work.moved.eq(work.moved | work.here),
                work.second_half.eq(0),
                work.ended.eq(work.ended | self.i.payload.last),
                work.running.eq(~op.last),
            ]

    def _prepare(self, m, work: AtWork, op, op_valid, middle) -> None:
        """What comes into a beat: time to live and checksum, and the trailer.

        Time to live, protocol and checksum are in one word, and with and without a tag in the same beat.
        Counting down takes 0x0100 from the first two bytes; the checksum grows by that, with the carry
        around its end (RFC 1624, equation 3; the sum 0xffff is written as 0).
        """
        plan, words, beat = work.plan, work.words, self.i.payload.data
        place = TTL_WORD + 4
        word = Mux(
            plan.tagged,
            beat.word_select((place + 1) % words, 32),
            beat.word_select(place % words, 32),
        )
        m.d.sync += [
            middle.valid.eq(op_valid),
            middle.beat.eq(op),
            middle.lane.eq(plan.lane),
            middle.tagged.eq(plan.tagged),
            middle.count_down.eq(plan.count_down & ~work.header & (work.at == place // words * words)),
            middle.ttl_word.eq(word),
            middle.carry.eq(swap_bytes(word[16:]) >= 0xFEFF),
        ]
        with m.If(plan.wipe):
            m.d.sync += middle.beat.data.eq(0)
        # RFC 4303 section 2.4: padding 1, 2, 3, ..., pad length, next header.
        from_end, from_length = work.from_end[:6], work.from_length[:6].as_signed()
        near = plan.encrypt & ~work.header & (work.from_end >= -self._beat_bytes)
        for byte in range(self._beat_bytes):
            m.d.sync += [
                middle.trailer[byte].eq(near & (from_end.as_signed() >= -byte)),
                middle.value[byte].eq((from_end + byte + 1)[:6]),
            ]
            with m.If(from_length == -byte):
                m.d.sync += middle.value[byte].eq(plan.pad)
            with m.If(from_length == 1 - byte):
                m.d.sync += middle.value[byte].eq(plan.next_header)

    def _finish(self, m, middle, go) -> None:
        """Puts in what comes into the beat, and offers it to its lane."""
        words = self._beat_bytes // 4
        out = Signal(FillBeat(self._beat_bytes))
        out_lane = Signal(range(self._lanes))
        out_valid = Signal()
        ready = Signal()
        m.d.comb += go.eq(~out_valid | ready)
        checksum = swap_bytes(middle.ttl_word[16:]) + Mux(middle.carry, 0x0101, 0x0100)
        mended = Cat((middle.ttl_word[:8] - 1)[:8], middle.ttl_word[8:16], swap_bytes(checksum[:16]))
        with m.If(go):
            m.d.sync += [out_valid.eq(middle.valid), out.eq(middle.beat), out_lane.eq(middle.lane)]
            for byte in range(self._beat_bytes):
                with m.If(middle.trailer[byte]):
                    m.d.sync += out.data.word_select(byte, 8).eq(middle.value[byte])
            for tagged in (0, 1):
                with m.If(middle.count_down & (middle.tagged == tagged)):
                    m.d.sync += out.data.word_select((TTL_WORD + 4 + tagged) % words, 32).eq(mended)
        for lane, fill in enumerate(self.fill):
            m.d.comb += [fill.payload.eq(out), fill.valid.eq(out_valid & (out_lane == lane))]
            with m.If(out_lane == lane):
                m.d.comb += ready.eq(fill.ready)
