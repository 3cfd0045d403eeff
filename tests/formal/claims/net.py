# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Streams, the packet queue, and who gets a turn."""

from amaranth.hdl import Assert, Assume, Cat, Mux, Signal
from amaranth.lib import data

from spigate.hdl.net import fifo
from spigate.hdl.net.align import AddAlignment, RemoveAlignment
from spigate.hdl.net.merge import Merge
from spigate.hdl.net.packet import Beat
from spigate.hdl.net.slice import Slice
from tests.formal.memory import OneRow
from tests.formal.proof import Bench, Mutation, proof, replaced
from tests.formal.streams import all_keep_rules, keeps_rules

FIFO, MERGE, SLICE, ALIGN = (f"spigate.hdl.net.{name}" for name in ("fifo", "merge", "slice", "align"))
BEAT_BYTES, DEPTH, BITS = 8, 4, 2


@proof(
    "packet-queue",
    "What leaves a packet queue are the beats of the packets that were taken whole, each once and in their order; nothing of a packet "
    "is seen before its end was taken, and nothing of one that was aborted or dropped. Each packet dropped is reported once. Bytes beyond "
    "a packet's end are zero, and so are words of the memory that hold no packet once the wiping has come by.",
    depth=3,
    unbounded=True,
    search=14,
    limits="4 beats of 8 bytes, dropping; memory as its contract has it. A beat that is followed stands for all beats.",
    mutations=(
        Mutation("an aborted packet is kept", FIFO, "with m.If(lost | beat.abort):", "with m.If(lost):"),
        Mutation("a packet of which a beat was lost is kept", FIFO, "lost = losing | ~room", "lost = ~room"),
        Mutation(
            "beats are seen before their packet's end",
            FIFO,
            "(read != commit) & ~single",
            "(read != write) & ~single",
        ),
        Mutation("the queue overflows", FIFO, "room.eq(write ^ read != depth)", "room.eq(1)"),
        Mutation(
            "rollback forgets to move back", FIFO, "[write.eq(commit), clean.eq(commit)]", "clean.eq(commit)"
        ),
        Mutation(
            "a drop is not told",
            FIFO,
            "self.i.valid & beat.last & ~beat.abort & lost)",
            "self.i.valid & beat.last & ~beat.abort & ~room)",
        ),
        Mutation(
            "a packet of one beat is read while it is written",
            FIFO,
            "(read != commit) & ~single",
            "(read != commit)",
        ),
        Mutation(
            "what is beyond the end stays",
            FIFO,
            "with m.If(beat.last & (beat.count <= at)):",
            "with m.If(beat.last & (beat.count < at)):",
        ),
        Mutation(
            "what was rolled back stays", FIFO, "[write.eq(commit), clean.eq(commit)]", "write.eq(commit)"
        ),
        Mutation(
            "a beat moves on while it waits", FIFO, "moves.eq(~self.o.valid | self.o.ready)", "moves.eq(1)"
        ),
    ),
)
def packet_queue(bench: Bench) -> None:
    """The model counts beats and follows one of them; it has no pointers. How the queue's pointers go with
    it are invariants, asserted as well.
    """
    m = bench.m
    with replaced(fifo, BlockMemory=OneRow):
        dut = fifo.PacketFifo(beat_bytes=BEAT_BYTES, depth=16, drop=True, trim=True)
        dut._depth = DEPTH  # fewer than it takes elsewhere, so that it is soon full
        inside = bench.block(dut)
    memory = inside.part("memory")
    keeps_rules(m, dut.i, Assume, name="i")
    # That beats have no holes is shown of the one that is followed.
    keeps_rules(m, dut.o, name="o", whole=False)
    beat = dut.i.payload
    taken, left = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    dropped = dut.dropped.valid & dut.dropped.ready
    vanishes = beat.last & (beat.abort | dropped)

    # The model: beats of the packet being taken, and of whole packets that wait.
    coming, waiting = Signal(range(2 * DEPTH + 1)), Signal(range(2 * DEPTH))
    more = Mux(coming == 2 * DEPTH, coming, coming + 1)
    m.d.sync += waiting.eq(waiting + Mux(taken & beat.last & ~vanishes, more, 0) - left)
    with m.If(taken):
        m.d.sync += coming.eq(Mux(beat.last, 0, more))

    # One beat, at any time: what it is, how many leave before it, and whether its packet has ended.
    follows, whole, ahead = Signal(), Signal(), Signal(range(4 * DEPTH))
    content = data.StructLayout({"data": 8 * BEAT_BYTES, "last": 1, "count": range(BEAT_BYTES + 1)})
    item = Signal(content)
    read, write, commit = (inside[name] for name in ("read", "write", "commit"))
    begins = Signal()
    # Where it would lie in the one row that is real: which beats are followed is free apart from that.
    m.d.comb += begins.eq(
        taken
        & ~follows
        & ~vanishes
        & (coming < 2 * DEPTH)
        & bench.any(1, "begin")
        & (write[:-1] == memory.at)
    )
    with m.If(begins):
        m.d.sync += [
            follows.eq(1),
            whole.eq(beat.last),
            ahead.eq(waiting + coming - left),
            item.data.eq(
                Cat(
                    Mux(beat.last & (beat.count <= at), 0, beat.data.word_select(at, 8))
                    for at in range(BEAT_BYTES)
                )
            ),
            item.last.eq(beat.last),
            item.count.eq(beat.count),
        ]
    with m.Elif(follows):
        with m.If(taken & beat.last & ~whole):
            m.d.sync += [whole.eq(1), follows.eq(~vanishes)]
        with m.If(left):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += follows.eq(0)

    due = follows & (ahead == 0)
    m.d.comb += [
        Assert(~dut.o.valid | (waiting != 0), "a beat leaves that no whole packet has"),
        Assert(~(dut.o.valid & due) | whole, "a beat is seen before its packet's end was taken"),
        Assert(
            ~(dut.o.valid & due)
            | (
                (dut.o.payload.data == item.data)
                & (dut.o.payload.last == item.last)
                & (dut.o.payload.count == item.count)
            ),
            "another beat leaves than is due",
        ),
        Assert(~dut.o.payload.abort, "an aborted packet leaves"),
        Assert(~(taken & beat.last & ~vanishes) | (more <= DEPTH), "a packet longer than the queue is kept"),
        Assert(
            ~dut.dropped.valid | dut.i.valid & beat.last & ~beat.abort, "a drop is told of no packet's end"
        ),
        Assert(~dropped | taken, "a drop is told, and its packet stays"),
    ]

    # Invariants: how the queue's pointers show what the model counts.
    losing, arriving = inside["losing"], inside["arriving"]
    width = len(read)
    under_way = arriving[0] + arriving[1]
    held = Signal(range(4 * DEPTH))
    m.d.comb += held.eq(ahead - under_way)
    fetched = ahead < under_way
    # What the row holds, or is just being written.
    row = Mux(memory.write_enable & (memory.write_address == memory.at), memory.write_data, memory.row)
    row = content(row)
    # The real row among those that may be read, from the next one to be read on; behind `write` they hold
    # nothing.
    clean = inside["clean"]
    offset, empty = Signal(BITS), Signal()
    m.d.comb += [offset.eq((memory.at - read)[:BITS]), empty.eq(offset >= (write - read)[:width])]
    place = Signal(BITS)
    m.d.comb += place.eq((read + held)[:BITS])
    m.d.comb += [
        Assert(
            ~(memory.write_enable & inside["fetch"] & (memory.write_address == memory.read_address)),
            "a word is read while it is written",
        ),
        Assert(coming <= 2 * DEPTH, "invariant: the model"),
        Assert(
            ~empty | (offset >= (clean - read)[:width]) | (row.as_value() == 0), "something of a packet stays"
        ),
        Assert(
            ((clean - read)[:width] <= DEPTH) & ((write - read)[:width] <= (clean - read)[:width]),
            "invariant: what is wiped",
        ),
        Assert(inside["first"] == (coming == 0), "invariant: a packet's first beat"),
        Assert(
            ((write - read)[:width] <= DEPTH)
            & ((commit - read)[:width] <= DEPTH)
            & ((commit - read)[:width] <= (write - read)[:width]),
            "invariant: pointers",
        ),
        Assert(waiting == (commit - read)[:width] + under_way, "invariant: whole packets"),
        Assert(losing | (coming == (write - commit)[:width]), "invariant: the packet being taken"),
        Assert(
            ~losing | (coming > (write - commit)[:width]) | (coming == 2 * DEPTH),
            "invariant: the packet being lost",
        ),
        Assert(~(coming == 2 * DEPTH) | losing, "invariant: a packet too long is lost"),
        Assert(~follows | whole | (ahead < waiting + coming), "invariant: a beat of the packet being taken"),
        Assert(~follows | whole | (ahead >= waiting), "invariant: behind whole packets"),
        Assert(~(follows & whole) | (ahead < waiting), "invariant: a beat of a whole packet"),
        Assert(
            ~(follows & ~fetched)
            | (losing & ~whole)
            | (place == memory.at) & (row.as_value() == item.as_value()),
            "invariant: the beat lies in its place",
        ),
        Assert(
            ~(follows & fetched & (ahead == 0) & arriving[1]) | memory.shown, "invariant: the beat is out"
        ),
        Assert(
            ~(follows & fetched & (ahead == arriving[1]) & arriving[0])
            | memory.first_shown & (memory.first == item.as_value()),
            "invariant: the beat is read",
        ),
    ]


@proof(
    "slice",
    "What leaves a slice is what came, each item once and in its order; what waits stays as it is.",
    depth=3,
    unbounded=True,
    search=8,
    limits="Items of 8 bits, both kinds.",
    mutations=(
        Mutation(
            "the spare item is lost",
            SLICE,
            "m.d.sync += spare.eq(self.i.payload)",
            "m.d.sync += spare.eq(spare)",
        ),
        Mutation(
            "an item is taken twice",
            SLICE,
            "with m.Elif(self.o.ready):",
            "with m.Elif(self.o.ready & self.i.valid):",
        ),
    ),
)
def slices(bench: Bench) -> None:
    """Up to two items are inside, which the model keeps in a row."""
    m = bench.m
    for half in (False, True):
        dut = Slice(8, half=half)
        inside = bench.block(dut, f"half_{half}")
        all_keep_rules(m, dut)
        count, first, second = Signal(2), Signal(8), Signal(8)
        taken, left = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
        m.d.sync += count.eq(count + taken - left)
        with m.If(taken & (count - left == 0)):
            m.d.sync += first.eq(dut.i.payload)
        with m.Elif(left):
            m.d.sync += first.eq(second)
        with m.If(taken & (count - left == 1)):
            m.d.sync += second.eq(dut.i.payload)
        m.d.comb += [
            Assert(count <= (1 if half else 2), "more is inside than there are registers"),
            Assert(dut.o.valid == (count != 0), "an item appears or is lost"),
            Assert(~dut.o.valid | (dut.o.payload == first), "another item leaves than is due"),
        ]
        if not half:
            m.d.comb += [
                Assert(inside["spare_valid"] == (count == 2), "invariant: the spare register"),
                Assert((count != 2) | (inside["spare"] == second), "invariant: its item"),
            ]


@proof(
    "alignment",
    "Alignment bytes come on and go off without a byte lost, added or moved: off undoes on, and both keep the rules of streams.",
    depth=9,
    limits="Frames in beats of 8 bytes, from reset.",
    mutations=(
        Mutation(
            "the rest of one frame goes before the next",
            ALIGN,
            "m.d.sync += carry.eq(Mux(out.last, 0, beat.data[8 * kept :]))",
            "m.d.sync += carry.eq(beat.data[8 * kept :])",
        ),
        Mutation(
            "a short tail is forgotten",
            ALIGN,
            "ends = beat.last & (beat.abort | (beat.count <= kept))",
            "ends = beat.last",
        ),
        Mutation(
            "the tail's length is wrong",
            ALIGN,
            "tail_count.eq(beat.count - ALIGN)",
            "tail_count.eq(beat.count)",
        ),
    ),
)
def alignment(bench: Bench) -> None:
    """Both in a row: the n-th valid byte out is the n-th valid byte in, for any n; so are the ends of
    packets.
    """
    m = bench.m
    add, remove = AddAlignment(BEAT_BYTES), RemoveAlignment(BEAT_BYTES)
    bench.block(add, "add", free=False)
    bench.block(remove, "remove", free=False)
    shape = Beat(BEAT_BYTES)
    m.d.comb += [
        add.i.payload.eq(bench.any(shape, "beat")),
        add.i.valid.eq(bench.any(1, "valid")),
        remove.o.ready.eq(bench.any(1, "ready")),
        remove.i.payload.eq(add.o.payload),
        remove.i.valid.eq(add.o.valid),
        add.o.ready.eq(remove.i.ready),
    ]
    keeps_rules(m, add.i, Assume, name="in")
    keeps_rules(m, add.o, name="aligned")
    keeps_rules(m, remove.o, name="out")
    start = Signal(init=1)
    with m.If(add.o.valid & add.o.ready):
        m.d.sync += start.eq(add.o.payload.last)
    m.d.comb += Assert(
        ~(add.o.valid & start) | (add.o.payload.data[:16] == 0), "the alignment bytes are not 0"
    )

    # Packet p's byte b: what it is, and how long the packet is, as they go in and as they come out.
    packet, at = bench.fixed(1, "packet"), bench.fixed(5, "at")
    seen = []
    for side, stream in (("in", add.i), ("out", remove.o)):
        beat = stream.payload
        packets, bytes_before = Signal(4, name=f"packets_{side}"), Signal(8, name=f"bytes_{side}")
        byte, found = Signal(8, name=f"byte_{side}"), Signal(name=f"found_{side}")
        length, ended, aborted = (
            Signal(8, name=f"length_{side}"),
            Signal(name=f"ended_{side}"),
            Signal(name=f"aborted_{side}"),
        )
        here = at - bytes_before
        with m.If(stream.valid & stream.ready):
            m.d.sync += bytes_before.eq(Mux(beat.last, 0, bytes_before + BEAT_BYTES))
            with m.If(beat.last):
                m.d.sync += packets.eq(packets + 1)
            with m.If(packets == packet):
                with m.If(
                    (at >= bytes_before)
                    & (here < Mux(beat.last, beat.count, BEAT_BYTES))
                    & ~(beat.last & beat.abort)
                ):
                    m.d.sync += [found.eq(1), byte.eq(beat.data.word_select(here[:3], 8))]
                with m.If(beat.last):
                    m.d.sync += [ended.eq(1), aborted.eq(beat.abort), length.eq(bytes_before + beat.count)]
        seen.append((byte, found, length, ended, aborted))
    (byte, found, length, ended, aborted), (out_byte, out_found, out_length, out_ended, out_aborted) = seen
    m.d.comb += [
        Assert(~out_found | found & (out_byte == byte) | ended & aborted, "a byte is another"),
        Assert(
            ~out_ended
            | ended & (out_aborted == aborted) & (aborted | (out_length == length) & (out_found == found)),
            "a packet ends elsewhere",
        ),
    ]


@proof(
    "merge",
    "Merge loses and adds nothing, keeps packets together and each stream's order, and passes over none: while one waits, each other "
    "stream has one packet pass at most.",
    depth=12,
    limits="3 streams, from reset.",
    mutations=(
        Mutation(
            "the first stream always goes first",
            MERGE,
            "rotate_pick(m, waiting, granted, count=count)",
            "rotate_pick(m, waiting, 2, count=count)",
        ),
        Mutation(
            "streams take turns within packets",
            MERGE,
            "offered.bit_select(granted, 1) & room & self._last(payload))",
            "offered.bit_select(granted, 1) & room)",
        ),
        Mutation(
            "an item is overwritten while it waits",
            MERGE,
            "room.eq(~self.o.valid | self.o.ready)",
            "room.eq(1)",
        ),
    ),
)
def merge(bench: Bench) -> None:
    """Items are tagged with their stream and number; of any one stream the tags come out in a row."""
    m = bench.m
    shape = data.StructLayout({"stream": 2, "number": 4, "last": 1})
    count = 3
    dut = Merge(shape, count=count, last=lambda payload: payload.last)
    bench.block(dut)
    all_keep_rules(m, dut)
    out, left = dut.o.payload, dut.o.valid & dut.o.ready
    open_, owner = Signal(), Signal(2)
    with m.If(left):
        m.d.sync += [open_.eq(~out.last), owner.eq(out.stream)]
    m.d.comb += Assert(~(dut.o.valid & open_) | (out.stream == owner), "a packet is torn")
    for at, port in enumerate(dut.i):
        taken, gone = Signal(4, name=f"taken_{at}"), Signal(4, name=f"gone_{at}")
        bench.assume(~port.valid | (port.payload.stream == at) & (port.payload.number == taken))
        mine = out.stream == at
        with m.If(port.valid & port.ready):
            m.d.sync += taken.eq(taken + 1)
        with m.If(left & mine):
            m.d.sync += gone.eq(gone + 1)
        m.d.comb += [
            Assert(
                ~(dut.o.valid & mine) | (out.number == gone), "an item is lost, doubled or out of its order"
            ),
            Assert((taken - gone)[:4] <= 1, "an item stays inside"),
        ]
        # Fairness: packets of others that begin while this stream waits, each no more than once.
        for other, others in enumerate(dut.i):
            if other == at:
                continue
            first, since = Signal(init=1, name=f"first_{at}_{other}"), Signal(2, name=f"since_{at}_{other}")
            begins = others.valid & others.ready & first
            with m.If(others.valid & others.ready):
                m.d.sync += first.eq(others.payload.last)
            with m.If(~port.valid | port.ready | bench.any(1, f"not_first_{at}_{other}")):
                m.d.sync += since.eq(0)
            with m.Elif(begins & (since != 3)):
                m.d.sync += since.eq(since + 1)
            m.d.comb += Assert(since <= 1, "a stream is passed over")
        # And nobody waits while nothing moves.
    idle = Signal(2)
    waits = Signal()
    m.d.comb += waits.eq(dut.i[0].valid | dut.i[1].valid | dut.i[2].valid)
    in_packet = Signal(range(count))
    within = Signal(init=0)
    for at, port in enumerate(dut.i):
        with m.If(port.valid & port.ready):
            m.d.sync += [within.eq(~port.payload.last), in_packet.eq(at)]
    moves = (
        (dut.i[0].valid & dut.i[0].ready)
        | (dut.i[1].valid & dut.i[1].ready)
        | (dut.i[2].valid & dut.i[2].ready)
    )
    # A packet that began and pauses is waited for: packets do not mix.
    m.d.sync += idle.eq(Mux(waits & ~moves & ~within & (~dut.o.valid | dut.o.ready), idle + (idle != 3), 0))
    m.d.comb += Assert(idle <= 2, "streams wait and nothing moves")
