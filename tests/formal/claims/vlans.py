# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two VLANs of one port: whose a frame is."""

from amaranth.hdl import Assert, Assume, Cat, Mux, Signal

from spigate.hdl.board import tags
from spigate.hdl.contract.protocols import VLAN_BITS
from tests.formal.claims.cfe import AnyQueue
from tests.formal.proof import Bench, Mutation, proof, replaced
from tests.formal.streams import keeps_rules

TAGS = "spigate.hdl.board.tags"


@proof(
    "vlan-split",
    "On a board with one port, what goes into a side's queue are the bytes of the frames whose tag has that side's identifier, without the "
    "tag, and no byte of another frame; whatever the identifiers are and however they change.",
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
        Mutation(
            "a tail goes to both sides",
            TAGS,
            "m.d.comb += [whose.eq(side), out.data.eq(held",
            "m.d.comb += [whose.eq(~0), out.data.eq(held",
        ),
    ),
)
def vlan_split(bench: Bench) -> None:
    """The model keeps the beat before, and whose the frame is by numbers of its own."""
    for size in (8, 16):
        _split(bench, size)


def _split(bench: Bench, size: int) -> None:
    m = bench.m
    with replaced(tags, PacketFifo=AnyQueue):
        dut = tags.Split(beat_bytes=size)
        inside = bench.block(dut, f"split_{size}")
    keeps_rules(m, dut.i, Assume, name=f"i_{size}")
    beat = dut.i.payload
    kept, tag_at = size - 4, 16 // size - 1
    # Which beat of its frame comes, whether the one before had the tag, and its bytes.
    at, first = Signal(range(4), name=f"at_{size}"), Signal(name=f"first_{size}")
    before = Signal(8 * size, name=f"before_{size}")
    octets = [beat.data.word_select(number, 8) for number in range(size)]
    identifier = Signal(VLAN_BITS, name=f"identifier_{size}")
    m.d.comb += identifier.eq(octets[size - 2][:4] << 8 | octets[size - 1])
    with m.If(dut.i.valid):
        m.d.sync += [
            at.eq(Mux(beat.last, 0, Mux(at > tag_at, at, at + 1))),
            first.eq(at == tag_at),
            before.eq(beat.data),
        ]
    rest = Mux(first, before[: 8 * kept], before[32:])
    tail = inside["tail"]
    invariant = f"invariant: {size} bytes: "
    m.d.comb += [
        Assert((inside["at"] == at) & (at <= tag_at + 1), invariant + "the beat"),
        Assert(~inside["side"].all(), invariant + "one side at most"),
        Assert(~tail | (at == 0), invariant + "a frame begins behind a tail"),
        Assert(~tail | (inside["held"][: 8 * kept] == before[32:]), invariant + "what the tail has"),
        Assert((at <= tag_at) | (inside["held"][: 8 * kept] == rest), invariant + "what is held"),
        Assert((at == 0) | (at > tag_at) | (inside["held"] == before), invariant + "what is before the tag"),
    ]
    for side in range(tags.SIDES):
        mine = Signal(name=f"mine_{size}_{side}")
        tagged = Signal(name=f"tagged_{size}_{side}")
        m.d.comb += tagged.eq(
            (octets[size - 4] == 0x81)
            & (octets[size - 3] == 0)
            & (identifier == dut.identifiers[side])
            & (identifier != dut.identifiers[1 - side])
            & ~beat.last
        )
        with m.If(dut.i.valid & (at == tag_at)):
            m.d.sync += mine.eq(tagged)
        end = inside.part(f"queue_{side}").i
        sent = end.payload.data
        begins = dut.i.valid & (at == tag_at) & tagged if tag_at else 0
        goes_on = dut.i.valid & (at > tag_at) & mine
        m.d.comb += [
            Assert(inside["side"][side] == mine, invariant + f"whether it is of side {side}"),
            Assert(
                ~end.valid | begins | goes_on | (at == 0) & mine,
                "a beat goes to a side that it is not for",
            ),
            Assert(end.valid | ~(begins | goes_on), "a beat does not go to its side"),
            Assert(
                ~(end.valid & (at == 0)) | (sent[: 8 * kept] == before[32:]),
                "a tail has other bytes than its frame's last ones",
            ),
            Assert(
                ~(end.valid & goes_on) | (sent == Cat(rest, beat.data[:32])),
                "a beat has other bytes than those of its frame",
            ),
            Assert(~(end.valid & begins) | (sent == before), "a frame begins with other bytes than its own"),
        ]
