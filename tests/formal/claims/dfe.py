# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What leaves a DFE, and in which order."""

from amaranth.hdl import Array, Assert, Assume, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring

from spigate.hdl.dfe import commit
from spigate.hdl.dfe.emit import Emit
from spigate.hdl.dfe.inspect import Inspect
from spigate.hdl.dfe.rewrite import Rewrite
from spigate.hdl.dfe.share import IN_FLIGHT, ReadShare
from spigate.hdl.dfe.state import State
from spigate.hdl.net.descriptor import Verdict
from tests.formal.proof import AnySeq, Bench, Mutation, proof, replaced
from tests.formal.streams import keeps_rules

COMMIT, EMIT, SHARE = (f"spigate.hdl.dfe.{name}" for name in ("commit", "emit", "share"))
LANES, BEAT_BYTES = 2, 16
ABSTRACT = (
    "Lanes are free: they hand over any packets, done with any outcome of the crypto, and answer reads with anything. Inspection, accounting "
    "and the new header take any time and come to any result."
)


def _anything(m, value):
    m.d.comb += Value.cast(value).eq(AnySeq(len(Value.cast(value))))


class AnyInspect(wiring.Component):
    """Stands for :class:`Inspect`: takes one packet after the other, and says anything of it after any
    time.
    """

    def __init__(self):
        model = Inspect()
        model._MustUse__silence = True
        super().__init__(model.signature)

    def elaborate(self, platform):
        m = Module()
        full, ripe, judged, kept = (
            Signal(),
            Signal(),
            Signal(self.o.payload.shape()),
            Signal(self.i.payload.shape()),
        )
        anything, ripens, takes, asks = Signal.like(judged), Signal(), Signal(), Signal()
        for value in (anything, ripens, takes, asks, self.read.address, self.rows.row):
            _anything(m, value)
        m.d.comb += [
            self.i.ready.eq(takes & (~full | (self.o.valid & self.o.ready))),
            self.o.valid.eq(full & ripe),
            self.o.payload.eq(judged),
            self.o.payload.task.eq(kept),
            self.lane.eq(kept.lane),
            self.read.buffer.eq(kept.done.buffer),
            self.read.enable.eq(full & ~ripe & asks),
            self.rows.buffer.eq(kept.done.buffer),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(full & ripens & ~ripe):
            m.d.sync += ripe.eq(1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [full.eq(1), ripe.eq(0), kept.eq(self.i.payload), judged.eq(anything)]
        return m


def _answers(m, request, answer):
    """One answer, anything, a while after each request; as it is until it is taken."""
    asked, kept, comes, takes = Signal(), Signal.like(Value.cast(answer.payload)), Signal(), Signal()
    offered, anything = Signal(), Signal.like(Value.cast(answer.payload))
    for value in (comes, takes, anything):
        _anything(m, value)
    m.d.comb += [
        answer.valid.eq(asked & offered),
        Value.cast(answer.payload).eq(kept),
        request.ready.eq(takes & ~asked),
    ]
    with m.If(request.valid & request.ready):
        m.d.sync += [asked.eq(1), offered.eq(0), kept.eq(anything)]
    with m.If(asked & comes):
        m.d.sync += offered.eq(1)
    with m.If(answer.valid & answer.ready):
        m.d.sync += [asked.eq(0), offered.eq(0)]


class AnyState(wiring.Component):
    """Stands for :class:`State`: one outcome, any, for each account."""

    def __init__(self, *, sa_entries: int):
        model = State(sa_entries=sa_entries)
        model._MustUse__silence = True
        super().__init__(model.signature)

    def elaborate(self, platform):
        m = Module()
        _answers(m, self.account, self.outcome)
        for value in (self.tables.ready, self.request.ready, self.state.valid, self.state.payload):
            _anything(m, value)
        return m


class AnyRewrite(wiring.Component):
    """Stands for :class:`Rewrite`: a header, any, after a while; taken together with its input."""

    def __init__(self, *, dfes: int):
        model = Rewrite(dfes=dfes)
        model._MustUse__silence = True
        super().__init__(model.signature)

    def elaborate(self, platform):
        m = Module()
        offered, comes, kept = Signal(), Signal(), Signal.like(Value.cast(self.o.payload))
        anything = Signal.like(kept)
        for value in (comes, anything):
            _anything(m, value)
        m.d.comb += [
            self.o.valid.eq(offered & self.i.valid),
            Value.cast(self.o.payload).eq(kept),
            self.i.ready.eq(self.o.valid & self.o.ready),
        ]
        with m.If(self.i.valid & ~offered & comes):
            m.d.sync += [offered.eq(1), kept.eq(anything)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += offered.eq(0)
        return m


class AnyEmit(wiring.Component):
    """Stands for :class:`Emit`: has one departure at a time, and releases it after any time."""

    def __init__(self, *, beat_bytes: int):
        model = Emit(beat_bytes=beat_bytes)
        model._MustUse__silence = True
        super().__init__(model.signature)

    def elaborate(self, platform):
        m = Module()
        busy, takes, ends = Signal(), Signal(), Signal()
        for value in (
            takes,
            ends,
            self.o.valid,
            self.o.payload,
            self.egress.valid,
            self.egress.payload,
            self.sent,
            self.verdict,
            self.bytes,
            self.wiped,
        ):
            _anything(m, value)
        m.d.comb += [self.i.ready.eq(takes & ~busy), self.release.eq(busy & ends)]
        with m.If(self.release):
            m.d.sync += busy.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [busy.eq(1), self.lane.eq(self.i.payload.task.lane)]
        return m


def _commit(bench: Bench, **more):
    """Commit between free lanes that keep the rules of their streams, and answer what they were asked, no
    more.
    """
    with replaced(commit, Inspect=AnyInspect, State=AnyState, Rewrite=AnyRewrite, **more):
        dut = commit.Commit(beat_bytes=BEAT_BYTES, lanes=LANES, sa_entries=2)
        inside = bench.block(dut)
    for at, lane in enumerate(dut.lane):
        keeps_rules(bench.m, lane.done, Assume, name=f"lane_{at}")
        bench.assume(~lane.done.valid | (lane.done.payload.job.info.verdict <= max(Verdict)))
        asked = Signal(5, name=f"asked_{at}")
        bench.m.d.sync += asked.eq(asked + (lane.read.enable & lane.read.ready) - lane.read.valid)
        bench.assume(~lane.read.valid | (asked != 0))
    keeps_rules(bench.m, dut.order, Assume, name="order")
    bench.assume(dut.order.payload < LANES)
    return dut, inside


@proof(
    "icv-first",
    "Commit lets no packet that came to be decrypted go on to be sent before its ICV was found right, nor one whose number was seen before: it is "
    "handed on to be dropped.",
    depth=3,
    unbounded=True,
    search=14,
    limits=ABSTRACT + " What the lane says of the ICV is taken as true (tests/hdl/crypto shows it).",
    mutations=(
        Mutation(
            "a wrong ICV is overlooked",
            COMMIT,
            "with m.Elif(decrypt & ~authentic):",
            "with m.Elif(decrypt & ~authentic & m.submodules.state.account.payload.count):",
        ),
        Mutation(
            "a replay is overlooked",
            COMMIT,
            "with m.Elif(decrypt & outcome.replayed):",
            "with m.Elif(packet.encrypt & outcome.replayed):",
        ),
        Mutation(
            "a drop is forgotten once it is reported",
            COMMIT,
            "drop.eq(packet.decided != Reason.NONE)",
            "drop.eq(packet.tell_drop)",
        ),
    ),
)
def icv_first(bench: Bench) -> None:
    """The packet that is handed to Emit, against what its lane said of it."""
    m = bench.m
    dut, inside = _commit(bench)
    departure = inside.part("emit").i
    info = departure.payload.task.done.job.info
    decrypt = info.verdict == Verdict.DECRYPT
    state = inside.part("state")
    # What accounting answered for the packet that is decided on.
    replayed = Signal()
    with m.If(state.outcome.valid & state.outcome.ready):
        m.d.sync += replayed.eq(state.outcome.payload.replayed)
    leaves = departure.valid & ~departure.payload.drop & decrypt
    m.d.comb += [
        Assert(~leaves | departure.payload.task.done.ok, "plain text leaves before its ICV is verified"),
        Assert(~leaves | ~replayed, "a replayed packet leaves"),
        Assert(
            ~(departure.valid & (info.verdict == Verdict.DROP)) | departure.payload.drop | (info.reason == 0),
            "a packet to be dropped leaves",
        ),
    ]


@proof(
    "dropped-stays",
    "Emit reads nothing of a packet that is to be dropped, sends nothing and names no port for it; nor does it name one for what only wipes.",
    depth=4,
    unbounded=True,
    search=14,
    limits="Emit alone, with any packets and any answers to its reads.",
    mutations=(
        Mutation("a dropped packet is read", EMIT, "reading.eq(~departure.drop),", "reading.eq(1),"),
        Mutation(
            "what wipes is sent",
            EMIT,
            "self.egress.valid.eq(~departure.drop & ~wipe)",
            "self.egress.valid.eq(~departure.drop)",
        ),
        Mutation(
            "a dropped packet is given a port",
            EMIT,
            "self.egress.valid.eq(~departure.drop & ~wipe)",
            "self.egress.valid.eq(~wipe)",
        ),
    ),
)
def dropped_stays(bench: Bench) -> None:
    """Between a departure that is dropped and the next one nothing is read or offered."""
    m = bench.m
    dut = Emit(beat_bytes=BEAT_BYTES)
    now = bench.block(dut)["now"]
    all_keep_rules_of_emit(bench, dut)
    dropping, wiping = Signal(), Signal()
    with m.If(dut.i.valid & dut.i.ready):
        m.d.sync += [
            dropping.eq(dut.i.payload.drop),
            wiping.eq(dut.i.payload.task.done.job.info.verdict == Verdict.WIPE),
        ]
    m.d.comb += [
        Assert(~(dropping & dut.read.enable), "a dropped packet is read"),
        Assert(~(dropping & dut.egress.valid), "a dropped packet is given a port"),
        Assert(~(wiping & dut.egress.valid), "what wipes is given a port"),
        Assert(~(dropping & dut.sent), "a dropped packet counts as sent"),
        Assert(~dut.egress.valid | now.sending | now.ended, "invariant: egress"),
        Assert(~(dropping & (now.sending | now.reading)), "invariant: it is at rest"),
    ]
    # Answers only to what was asked.
    asked = Signal(5)
    m.d.sync += asked.eq(asked + (dut.read.enable & dut.read.ready) - dut.read.valid)
    bench.assume(~dut.read.valid | (asked != 0))


def all_keep_rules_of_emit(bench, dut):
    """Its input keeps the rules; of its output, egress is asserted here, packets in ``emit-stream``."""
    keeps_rules(bench.m, dut.i, Assume, name="i")
    keeps_rules(bench.m, dut.egress, name="egress")


@proof(
    "lane-order",
    "Packets leave a DFE in the order of dispatch over all lanes: each is taken from the lane that the order names, and released there, one after "
    "the other.",
    depth=13,
    limits="2 lanes, from reset. " + ABSTRACT + " Sending takes any time.",
    mutations=(
        Mutation(
            "a packet is taken from whichever lane is ready",
            COMMIT,
            "done = Array(lane.done for lane in self.lane)[chosen]",
            "done = Array(lane.done for lane in self.lane)[~self.lane[0].done.valid]",
        ),
        Mutation(
            "the buffer is released in the lane inspected",
            COMMIT,
            "Array(lane.release for lane in self.lane)[emit.lane[: len(chosen)]].eq(emit.release),",
            "Array(lane.release for lane in self.lane)[inspect.lane[: len(chosen)]].eq(emit.release),",
        ),
    ),
)
def lane_order(bench: Bench) -> None:
    """One packet, any, is followed from the order to its release."""
    m = bench.m
    dut, _ = _commit(bench, Emit=AnyEmit)
    ordered = dut.order.valid & dut.order.ready
    taken = Cat(lane.done.valid & lane.done.ready for lane in dut.lane)
    released = Cat(lane.release for lane in dut.lane)
    through = dut.gone | dut.wiped  # what wipes a buffer keeps its place among the packets
    count, follows, lane, ahead = Signal(3), Signal(), Signal(range(LANES)), Signal(3)
    m.d.sync += count.eq(count + ordered - through)
    with m.If(ordered & ~follows & bench.any(1, "follow")):
        m.d.sync += [follows.eq(1), lane.eq(dut.order.payload), ahead.eq(count - through)]
    with m.Elif(follows & through):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += follows.eq(0)
    m.d.comb += [
        Assert(
            taken == Mux(ordered, Array([1 << at for at in range(LANES)])[dut.order.payload[0]], 0),
            "a packet is taken from another lane than ordered",
        ),
        Assert(released.any() == through, "a buffer is released and no packet is through"),
        Assert(
            ~(follows & through & (ahead == 0)) | (released == Array([1 << at for at in range(LANES)])[lane]),
            "another lane's buffer is released",
        ),
        Assert(~through | (count != 0), "more packets leave than came"),
    ]


@proof(
    "read-share",
    "Each read of a buffer goes to the lane that its reader means, and each answer to the reader that asked. A reader waits for the other one only while "
    "that one reads from the same lane.",
    depth=9,
    limits="2 lanes, from reset. That inspection, which goes first, ends is not shown here: its reads of a packet are bounded.",
    mutations=(
        Mutation(
            "answers go to whoever asks now",
            SHARE,
            "lane.valid & (owners.r_data == number)",
            "lane.valid & (winner == number)",
        ),
        Mutation(
            "the second reader waits for any lane",
            SHARE,
            "reader.enable & (wanted == at)",
            "reader.enable & ((wanted == at) | (reader is self.reader[0]))",
        ),
        Mutation(
            "both are told that they were served",
            SHARE,
            "(self.reader_lane[number] == at) & (winner == number)",
            "self.reader_lane[number] == at",
        ),
    ),
)
def read_share(bench: Bench) -> None:
    """Of each lane one read, any, is followed from request to answer."""
    m = bench.m
    dut = ReadShare(lanes=LANES)
    bench.block(dut)
    asking = []
    for number, reader in enumerate(dut.reader):
        bench.assume(dut.reader_lane[number] < LANES)
        asked = Signal(4, name=f"asked_{number}")
        taken = reader.enable & reader.ready
        m.d.sync += asked.eq(asked + taken - reader.valid)
        # A reader stays with a lane until its reads are answered.
        bench.assume(
            ~bench.started | (asked == 0) | (dut.reader_lane[number] == bench.past(dut.reader_lane[number]))
        )
        m.d.comb += Assert(~reader.valid | (asked != 0), "an answer that was not asked for")
        asking.append(taken)
    for at, lane in enumerate(dut.lane):
        inside = Signal(5, name=f"inside_{at}")
        goes = lane.enable & lane.ready
        m.d.sync += inside.eq(inside + goes - lane.valid)
        bench.assume(lane.valid == bench.past(goes, 4))  # LanePort: data come 4 clocks after the read
        mine = [taken & (dut.reader_lane[number] == at) for number, taken in enumerate(asking)]
        m.d.comb += [
            Assert(goes == (mine[0] | mine[1]), "a read is lost or made up"),
            Assert(~(mine[0] & mine[1]), "two reads at a time"),
        ]
        for number, reader in enumerate(dut.reader):
            m.d.comb += Assert(
                ~mine[number] | (lane.address == reader.address) & (lane.buffer == reader.buffer),
                "another place is read",
            )
            other = dut.reader[1 - number]
            wants = reader.enable & (dut.reader_lane[number] == at)
            blocked = other.enable & (dut.reader_lane[1 - number] == at)
            m.d.comb += Assert(
                ~(wants & ~blocked & lane.ready & (inside < IN_FLIGHT)) | reader.ready,
                "a reader waits for nobody",
            )
        follows, who, ahead = (
            Signal(name=f"follows_{at}"),
            Signal(name=f"who_{at}"),
            Signal(5, name=f"ahead_{at}"),
        )
        with m.If(goes & ~follows & bench.any(1, f"follow_{at}")):
            m.d.sync += [follows.eq(1), who.eq(mine[1]), ahead.eq(inside - lane.valid)]
        with m.Elif(follows & lane.valid):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += follows.eq(0)
        due = follows & lane.valid & (ahead == 0)
        for number, reader in enumerate(dut.reader):
            m.d.comb += Assert(
                ~(due & (who == number)) | reader.valid & (reader.data == lane.data),
                "an answer goes to another reader",
            )
