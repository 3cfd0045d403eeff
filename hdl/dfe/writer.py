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
        beat_bytes = self._beat_bytes
        words = beat_bytes // 4
        low_bits = words.bit_length() - 1

        offered = self.plan.payload
        plan = Signal(Plan(self._lanes))
        running = Signal()
        at = Signal(range(BUFFER_WORDS))
        # Of the beat at `at`: its first byte's distance from the trailer's first byte, and from the pad
        # length.
        from_end = Signal(signed(14))
        from_length = Signal(signed(14))
        moved = Signal()
        second_half = Signal()
        ended = Signal()
        header_at = Signal(range(BUFFER_WORDS))
        header_left = Signal(range(7))

        # A write takes three steps: `op` says what is written, `middle` holds it and what comes into it,
        # `out` is the result.
        op = Signal(FillBeat(beat_bytes))
        op_valid = Signal()
        go = Signal()
        step = Signal()
        header = Signal()
        here = Signal()
        mixed = Signal()
        more = Signal()
        low_mask = ((1 << plan.split[:low_bits]) - 1)[:words]
        m.d.comb += [
            header.eq(header_left != 0),
            here.eq(plan.encrypt & (at[low_bits:] == plan.split[low_bits:])),
            mixed.eq(here & (plan.split[:low_bits] != 0)),
            more.eq(plan.encrypt & (from_length < 2 - beat_bytes)),
            op_valid.eq(running & (header | ended | plan.wipe | self.i.valid)),
            step.eq(op_valid & go),
            self.plan.ready.eq(~running),
            self.i.ready.eq(running & ~header & ~ended & ~plan.wipe & go & (~mixed | second_half)),
        ]
        with m.If(header):
            # The numbers of ESP header and IV are big-endian on the wire.
            low, high = swap_bytes(plan.sequence[:32]), swap_bytes(plan.sequence[32:])
            spi, cbc = swap_bytes(plan.spi), plan.iv_words == 4
            fields = Cat(spi, low, Mux(cbc, spi, high), Mux(cbc, 0, low), high, low)
            written = Signal(range(7))
            m.d.comb += [
                written.eq(2 + plan.iv_words - header_left),
                op.address.eq(header_at),
                op.data.eq(fields.word_select(written[low_bits:], 8 * beat_bytes)),
                op.mask.eq(Mux(header_left >= words, ~0, (1 << header_left[:low_bits]) - 1)),
            ]
        with m.Else():
            m.d.comb += [
                op.address.eq(at + Mux(moved | second_half | (here & ~mixed), plan.shift, 0)),
                op.data.eq(self.i.payload.data),
                op.last.eq(
                    Mux(
                        plan.wipe,
                        at[low_bits:].all(),
                        (ended | self.i.payload.last) & ~more & (~mixed | second_half),
                    )
                ),
                op.mask.eq(
                    Mux(mixed, Mux(second_half, ~low_mask, low_mask), ~0) & plan.keep.replicate(words)
                ),
            ]

        with m.If(~running):
            m.d.sync += [
                running.eq(self.plan.valid),
                plan.eq(offered),
                at.eq(0),
                moved.eq(0),
                second_half.eq(0),
                ended.eq(0),
                from_end.eq(-offered.end),
                from_length.eq(-offered.end - offered.pad),
                header_at.eq(offered.esp),
                header_left.eq(Mux(offered.encrypt, 2 + offered.iv_words, 0)),
            ]
        with m.Elif(step & header):
            m.d.sync += [
                header_at.eq(header_at + words),
                header_left.eq(Mux(header_left > words, header_left - words, 0)),
            ]
        with m.Elif(step & mixed & ~second_half):
            m.d.sync += second_half.eq(1)
        with m.Elif(step):
            m.d.sync += [
                at.eq(at + words),
                from_end.eq(from_end + beat_bytes),
                from_length.eq(from_length + beat_bytes),
                moved.eq(moved | here),
                second_half.eq(0),
                ended.eq(ended | self.i.payload.last),
                running.eq(~op.last),
            ]

        # Time to live, protocol and checksum are in one word, and with and without a tag in the same beat.
        # Counting down takes 0x0100 from the first two bytes; the checksum grows by that, with the carry
        # around its end (RFC 1624, equation 3; the sum 0xffff is written as 0).
        first, second = TTL_WORD + 4, TTL_WORD + 5
        beat = self.i.payload.data
        word = Mux(plan.tagged, beat.word_select(second % words, 32), beat.word_select(first % words, 32))
        middle = Signal(
            data.StructLayout(
                {
                    "valid": 1,
                    "beat": FillBeat(beat_bytes),
                    "lane": range(self._lanes),
                    "count_down": 1,
                    "tagged": 1,
                    "ttl_word": 32,
                    "carry": 1,
                    "trailer": beat_bytes,
                    "value": data.ArrayLayout(8, beat_bytes),
                }
            )
        )
        with m.If(go):
            m.d.sync += [
                middle.valid.eq(op_valid),
                middle.beat.eq(op),
                middle.lane.eq(plan.lane),
                middle.tagged.eq(plan.tagged),
                middle.count_down.eq(plan.count_down & ~header & (at == first // words * words)),
                middle.ttl_word.eq(word),
                middle.carry.eq(swap_bytes(word[16:]) >= 0xFEFF),
            ]
            with m.If(plan.wipe):
                m.d.sync += middle.beat.data.eq(0)
            # RFC 4303 section 2.4: padding 1, 2, 3, ..., pad length, next header.
            near = plan.encrypt & ~header & (from_end >= -beat_bytes)
            for byte in range(beat_bytes):
                m.d.sync += [
                    middle.trailer[byte].eq(near & (from_end[:6].as_signed() >= -byte)),
                    middle.value[byte].eq((from_end[:6] + byte + 1)[:6]),
                ]
                with m.If(from_length[:6].as_signed() == -byte):
                    m.d.sync += middle.value[byte].eq(plan.pad)
                with m.If(from_length[:6].as_signed() == 1 - byte):
                    m.d.sync += middle.value[byte].eq(plan.next_header)

        out = Signal(FillBeat(beat_bytes))
        out_lane = Signal(range(self._lanes))
        out_valid = Signal()
        ready = Signal()
        m.d.comb += go.eq(~out_valid | ready)
        checksum = swap_bytes(middle.ttl_word[16:]) + Mux(middle.carry, 0x0101, 0x0100)
        mended = Cat((middle.ttl_word[:8] - 1)[:8], middle.ttl_word[8:16], swap_bytes(checksum[:16]))
        with m.If(go):
            m.d.sync += [out_valid.eq(middle.valid), out.eq(middle.beat), out_lane.eq(middle.lane)]
            for byte in range(beat_bytes):
                with m.If(middle.trailer[byte]):
                    m.d.sync += out.data.word_select(byte, 8).eq(middle.value[byte])
            for tagged, at_word in ((0, first % words), (1, second % words)):
                with m.If(middle.count_down & (middle.tagged == tagged)):
                    m.d.sync += out.data.word_select(at_word, 32).eq(mended)
        for lane, fill in enumerate(self.fill):
            m.d.comb += [fill.payload.eq(out), fill.valid.eq(out_valid & (out_lane == lane))]
            with m.If(out_lane == lane):
                m.d.comb += ready.eq(fill.ready)
        return m
