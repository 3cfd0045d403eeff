# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""802.1Q tags of a port that two sides share: off and to the tag's side on the way in, on on the way out.

A tag is the four bytes behind the two addresses (IEEE 802.1Q 9.5): the tag protocol identifier 0x8100, then
priority, drop eligible indicator and VLAN identifier. It never lies in two beats.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from spigate.hdl.board.ethernet import QUEUE_BYTES
from spigate.hdl.contract.protocols import ETHERTYPE_VLAN, VLAN_BITS
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.headers import VLAN
from spigate.hdl.net.packet import packets, swap_bytes

SIDES = 2
TAG_BYTES = 4
TAG_END = 16
"""Bytes of a frame up to its tag's end."""


def _type() -> Const:
    """The tag protocol identifier as it lies in a beat."""
    return Const(int.from_bytes(ETHERTYPE_VLAN.to_bytes(2), "little"), 16)


class Split(wiring.Component):
    """Leads each frame to the side whose VLAN it is of, its first tag taken off. Every other frame vanishes.

    It never waits. Each side has a queue of whole frames, so that one that takes nothing does not stop the
    other one; what finds no room there is dropped.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.

    Members
    -------
    i : In(packets)
    o : Out(packets).array(SIDES)
        Whole frames, never aborted; bytes beyond an end are 0.
    identifiers : In(12).array(SIDES)
        Where both are the same, every frame is another one's. What they are in the clock in which a frame's
        tag is taken decides about the frame.
    good, dropped : Out(1).array(SIDES)
        Strobes: a frame of this side is in its queue; was dropped because there was no room.
    other : Out(1)
        A strobe: a frame of neither side, or one that ends with its tag or before. Of frames that are aborted
        no strobe tells.
    """

    def __init__(self, *, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "o": Out(packets(beat_bytes)).array(SIDES),
                "identifiers": In(VLAN_BITS).array(SIDES),
                "good": Out(1).array(SIDES),
                "dropped": Out(1).array(SIDES),
                "other": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        size, tag_beat = self._beat_bytes, TAG_END // self._beat_bytes - 1
        kept = size - TAG_BYTES
        beat = self.i.payload
        at = Signal(
            range(tag_beat + 2)
        )  # Which beat of its frame is at `i`; those behind the tag count as one.
        held = Signal(8 * size)  # Bytes that have yet to leave.
        side = Signal(SIDES)  # Whose the frame is, one bit of them; none where it is neither's.
        tail, tail_count = Signal(), Signal(range(kept + 1))
        m.d.comb += self.i.ready.eq(1)

        # The tag.
        tag = beat.data[8 * kept :]
        mine = Signal(SIDES)
        tagged = tag[:16] == _type()
        for number, identifier in enumerate(self.identifiers):
            m.d.comb += mine[number].eq(tagged & (VLAN.get("id", tag[16:]) == identifier))
        chosen = Signal(SIDES)
        m.d.comb += chosen.eq(Mux(beat.last | mine.all(), 0, mine))

        # What leaves in this clock, and towards whom. The tail of one frame leaves while the next one's first
        # beat comes, which has nothing to send yet.
        out, whose = Signal.like(beat), Signal(SIDES)
        ends = beat.last & (beat.abort | (beat.count <= TAG_BYTES))
        with m.If(tail):
            m.d.comb += [whose.eq(side), out.data.eq(held[: 8 * kept]), out.last.eq(1)]
            m.d.comb += out.count.eq(tail_count)
        with m.Elif(self.i.valid & (at == tag_beat + 1)):
            m.d.comb += [
                whose.eq(side),
                out.data.eq(Cat(held[: 8 * kept], beat.data[: 8 * TAG_BYTES])),
                out.last.eq(ends),
                out.abort.eq(beat.last & beat.abort),
                out.count.eq(Mux(ends, beat.count + kept, size)),
            ]
        if tag_beat:
            with m.Elif(self.i.valid & (at == tag_beat)):
                m.d.comb += [whose.eq(chosen), out.data.eq(held), out.count.eq(size)]

        m.d.sync += tail.eq(0)
        with m.If(self.i.valid):
            m.d.sync += [
                at.eq(Mux(beat.last, 0, Mux(at == tag_beat + 1, at, at + 1))),
                held.eq(beat.data),
                tail.eq(beat.last & ~ends & (at == tag_beat + 1) & side.any()),
                tail_count.eq(beat.count - TAG_BYTES),
            ]
            with m.If(at == tag_beat):
                m.d.sync += side.eq(chosen)
            with m.If(at == tag_beat + 1):
                m.d.sync += held.eq(beat.data[8 * TAG_BYTES :])
            with m.If(beat.last & ~beat.abort):
                m.d.comb += self.other.eq((at != tag_beat + 1) | ~side.any())

        for number in range(SIDES):
            m.submodules[f"queue_{number}"] = queue = PacketFifo(
                beat_bytes=size, depth=QUEUE_BYTES // size, drop=True, trim=True, wipe=False
            )
            connect(m, queue.o, flipped(self.o[number]))
            m.d.comb += [
                queue.i.valid.eq(whose[number]),
                queue.i.payload.eq(out),
                queue.dropped.ready.eq(1),
                self.dropped[number].eq(queue.dropped.valid),
                self.good[number].eq(whose[number] & out.last & ~out.abort & ~queue.dropped.valid),
            ]
        return m


class PutTag(wiring.Component):
    """Puts a tag of priority 0 into each frame. Sustains a beat out a clock; no register lies between ``i``
    and ``o``.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.

    Members
    -------
    i : In(packets)
    o : Out(packets)
        A frame that was aborted ends aborted, and so does one that has nothing behind its addresses: no
        frame leaves without a tag.
    identifier : In(12)
        What it was a clock before a frame's tag is offered stands in the tag.
    good, short : Out(1)
        Strobes: a frame has left; one has ended aborted because it had nothing behind its addresses.
    """

    def __init__(self, *, beat_bytes: int):
        self._beat_bytes = beat_bytes
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "o": Out(packets(beat_bytes)),
                "identifier": In(VLAN_BITS),
                "good": Out(1),
                "short": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        size, tag_beat = self._beat_bytes, TAG_END // self._beat_bytes - 1
        kept = size - TAG_BYTES
        beat, out = self.i.payload, self.o.payload
        at = Signal(range(tag_beat + 2))  # As in Split.
        carry = Signal(8 * TAG_BYTES)
        tail, tail_count = Signal(), Signal(range(TAG_BYTES + 1))
        identifier, known = Signal(VLAN_BITS), Signal()
        short = Signal()
        # Not while a beat waits: it must not change. Nothing is sent before there is an identifier.
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [identifier.eq(self.identifier), known.eq(1)]
        tag = Cat(_type(), swap_bytes(identifier | Const(0, 16)))
        with m.If(tail):
            m.d.comb += [self.o.valid.eq(1), out.last.eq(1), out.count.eq(tail_count), out.data.eq(carry)]
        with m.Else():
            m.d.comb += [self.o.valid.eq(self.i.valid & known), self.i.ready.eq(self.o.ready & known)]
            ends = Signal()
            m.d.comb += [
                ends.eq(beat.last & (beat.abort | (beat.count <= kept) | (at < tag_beat))),
                short.eq(ends & (at <= tag_beat)),
                out.last.eq(ends),
                out.abort.eq(beat.last & beat.abort | short),
                out.count.eq(Mux(ends, beat.count + TAG_BYTES, size)),
                out.data.eq(Cat(carry, beat.data[: 8 * kept])),
            ]
            with m.If(at < tag_beat):
                m.d.comb += out.data.eq(beat.data)
            with m.Elif(at == tag_beat):
                m.d.comb += out.data.eq(Cat(beat.data[: 8 * kept], tag))
        with m.If(self.o.valid & self.o.ready):
            m.d.comb += [
                self.good.eq(out.last & ~out.abort),
                self.short.eq(short & ~beat.abort),
            ]
            m.d.sync += [
                carry.eq(Mux(out.last, 0, beat.data[8 * kept :])),
                tail.eq(~tail & beat.last & ~ends),
                tail_count.eq(beat.count - kept),
                at.eq(Mux(at == tag_beat + 1, at, at + 1)),
            ]
            with m.If(out.last):
                m.d.sync += at.eq(0)
        return m
