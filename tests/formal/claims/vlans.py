# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two VLANs of one port: whose a frame is."""

from amaranth.hdl import Assert, Assume, Mux, Signal

from spigate.hdl.board import tags
from spigate.hdl.contract.protocols import VLAN_BITS
from tests.formal.claims.cfe import AnyQueue
from tests.formal.proof import Bench, Mutation, proof, replaced
from tests.formal.streams import keeps_rules

TAGS = "spigate.hdl.board.tags"


@proof(
    "vlan-split",
    "On a board with one port, what goes into a side's queue is of frames whose tag has that side's identifier alone: no byte of another "
    "frame has a part in it, whatever the identifiers are and however they change.",
    depth=3,
    unbounded=True,
    search=8,
    limits="Beats of 8 and of 16 bytes. The queues are free (proof packet-queue).",
    mutations=(
        Mutation("a frame whose type is not 802.1Q is taken for tagged", TAGS, "tagged & (VLAN", "(VLAN"),
        Mutation(
            "both sides get a frame where identifiers are equal",
            TAGS,
            "Mux(beat.last | mine.all(), 0, mine)",
            "Mux(beat.last, 0, mine)",
        ),
        Mutation(
            "the side before stays", TAGS, "m.d.sync += side.eq(chosen)", "m.d.sync += side.eq(side | chosen)"
        ),
        Mutation(
            "bytes of the frame behind follow a frame's end",
            TAGS,
            "out.data.eq(held[: 8 * kept]), out.last.eq(1)]",
            "out.data.eq(beat.data[: 8 * kept]), out.last.eq(1)]",
        ),
    ),
)
def vlan_split(bench: Bench) -> None:
    """Two of them get the same frames, but where a frame is not of the side that is looked at: there, what is
    behind the tag differs at will. What goes into that side's queue is the same. Whose a frame is, the model
    says by numbers of its own.
    """
    for size in (8, 16):
        for side in range(tags.SIDES):
            _same(bench, size, side)


def _same(bench: Bench, size: int, side: int) -> None:
    m = bench.m
    blocks, insides = [], []
    for copy in range(2):
        with replaced(tags, PacketFifo=AnyQueue):
            blocks.append(tags.Split(beat_bytes=size))
            insides.append(bench.block(blocks[-1], f"split_{size}_{side}_{copy}", free=copy == 0))
    one, other = blocks
    keeps_rules(m, one.i, Assume, name=f"i_{size}_{side}")
    beat = one.i.payload
    # What the second one gets: the same, or other bytes of a frame that is not this side's.
    at = Signal(range(4), name=f"at_{size}_{side}")
    tag_at = 16 // size - 1
    mine = Signal(name=f"mine_{size}_{side}")
    octets = [beat.data.word_select(number, 8) for number in range(size)]
    identifier = Signal(VLAN_BITS, name=f"identifier_{size}_{side}")
    tagged = Signal(name=f"tagged_{size}_{side}")
    m.d.comb += [
        identifier.eq(octets[size - 2][:4] << 8 | octets[size - 1]),
        tagged.eq(
            (octets[size - 4] == 0x81)
            & (octets[size - 3] == 0)
            & (identifier == one.identifiers[side])
            & (identifier != one.identifiers[1 - side])
        ),
    ]
    with m.If(one.i.valid):
        m.d.sync += at.eq(Mux(beat.last, 0, Mux(at > tag_at, at, at + 1)))
        with m.If(at == tag_at):
            m.d.sync += mine.eq(tagged)
    strange = Signal(name=f"strange_{size}_{side}")
    m.d.comb += strange.eq((at > tag_at) & ~mine)
    m.d.comb += [
        other.i.valid.eq(one.i.valid),
        other.i.payload.eq(beat),
        *(other.identifiers[number].eq(one.identifiers[number]) for number in range(tags.SIDES)),
    ]
    with m.If(strange):
        m.d.comb += other.i.payload.data.eq(bench.any(8 * size, f"bytes_{size}_{side}"))

    ends = [inside.part(f"queue_{side}").i for inside in insides]
    m.d.comb += [
        Assert(ends[0].valid == ends[1].valid, "whether a beat goes to a side hangs on another's frame"),
        Assert(
            ~ends[0].valid | (ends[0].payload.as_value() == ends[1].payload.as_value()),
            "a byte of another's frame goes to a side",
        ),
        Assert(
            ~ends[0].valid | mine | (at == tag_at) & tagged,
            "a beat of a frame that is not its own goes to a side",
        ),
    ]
    # How the block goes with the model.
    for number, inside in enumerate(insides):
        text = f"invariant: {number} of {size}, {side}: "
        m.d.comb += [
            Assert((inside["at"] == at) & (at <= tag_at + 1), text + "the beat"),
            Assert((at <= tag_at) & ~inside["tail"] | (inside["side"][side] == mine), text + "the side"),
            Assert(~inside["side"].all(), text + "one side at most"),
            Assert(~inside["tail"] | (at == 0), text + "a tail is followed by a frame's beginning"),
            Assert(inside["tail"] == insides[0]["tail"], text + "both have a tail"),
            Assert(inside["side"] == insides[0]["side"], text + "both have one side"),
            Assert(inside["tail_count"] == insides[0]["tail_count"], text + "both have one count"),
        ]
    same = insides[0]["held"] == insides[1]["held"]
    held_matters = Mux(insides[0]["tail"], mine, Mux(at == 0, 0, (at <= tag_at) | mine))
    m.d.comb += Assert(~held_matters | same, f"invariant: of {size}, {side}: what is held")
