# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What leaves at the network port, and what comes up to the control element."""

from amaranth.hdl import Assert, Assume, Cat, Mux, Signal

from spigate.hdl import forward, punts
from spigate.hdl.contract.enums import Direction, Port, PuntClass, Reason
from spigate.hdl.contract.reasons import CLASSES
from spigate.hdl.dfe.emit import Emit
from spigate.hdl.guard import Guard
from spigate.hdl.net.descriptor import Verdict
from tests.formal.claims.cfe import AnyQueue
from tests.formal.proof import Bench, Mutation, proof, replaced
from tests.formal.streams import all_keep_rules, keeps_rules

GUARD, FORWARD, EMIT, PUNTS = (
    "spigate.hdl.guard",
    "spigate.hdl.forward",
    "spigate.hdl.dfe.emit",
    "spigate.hdl.punts",
)
BEAT_BYTES, SOURCES = 8, 2


@proof(
    "network-guard",
    "The guard passes nothing to the network port but what a DFE protected, what a rule bypassed expressly, and what the control element sent there; "
    "each packet passes whole or is reported once; what goes elsewhere it leaves alone.",
    depth=3,
    unbounded=True,
    search=8,
    limits="2 sources, 8 bytes a beat.",
    mutations=(
        Mutation(
            "what was decrypted may leave",
            GUARD,
            "egress.protected | egress.bypassed",
            "egress.protected | egress.out_of.valid | egress.bypassed",
        ),
        Mutation(
            "the first beat passes",
            GUARD,
            "stops.eq(~may_leave(egress.payload))",
            "stops.eq(~may_leave(egress.payload) & packet.payload.last)",
        ),
        Mutation(
            "the server port is guarded instead",
            GUARD,
            "egress.port != Port.NETWORK",
            "egress.port != Port.SERVER",
        ),
        Mutation(
            "of two stopped at once one is not told",
            GUARD,
            "turn = ~self.reports.valid & ~ends[:at].any()",
            "turn = ~self.reports.valid",
        ),
    ),
)
def network_guard(bench: Bench) -> None:
    """Written from the text: port, and the three reasons."""
    m = bench.m
    dut = Guard(beat_bytes=BEAT_BYTES, sources=SOURCES)
    bench.block(dut)
    all_keep_rules(m, dut)
    stopped = 0
    for at in range(SOURCES):
        packet, egress, out, out_egress = dut.i[at], dut.egress[at], dut.o[at], dut.o_egress[at]
        fields = egress.payload
        allowed = Mux(fields.port == Port.NETWORK, fields.protected | fields.bypassed | fields.injected, 1)
        taken = packet.valid & packet.ready
        # Forwarding takes a packet's beats beside its descriptor, which goes with the last of them.
        bench.assume(out.ready == (out_egress.valid & bench.any(1, f"takes_{at}")))
        bench.assume(out_egress.ready == (out.valid & out.ready & out.payload.last))
        passes = out.valid & out_egress.valid
        m.d.comb += [
            Assert(
                ~passes
                | (out_egress.payload.port != Port.NETWORK)
                | out_egress.payload.protected
                | out_egress.payload.bypassed
                | out_egress.payload.injected,
                "something leaves that nothing lets leave",
            ),
            Assert(
                ~passes
                | (out.payload.as_value() == packet.payload.as_value())
                & (out_egress.payload.as_value() == fields.as_value()),
                "a packet is changed",
            ),
            Assert(~(taken & egress.valid & allowed) | out.valid & out.ready, "a packet is lost"),
            Assert(~(out.valid & out.ready) | taken, "a beat is made up"),
            Assert(~taken | egress.valid, "a beat is taken without its descriptor"),
            Assert(
                (egress.valid & egress.ready) == (taken & packet.payload.last),
                "a descriptor goes without its packet",
            ),
        ]
        # What an aborted packet was is nobody's business.
        stopped = stopped + (taken & packet.payload.last & ~packet.payload.abort & ~(out.valid & out.ready))
    owed = Signal(3)
    m.d.sync += owed.eq(owed + stopped - (dut.reports.valid & dut.reports.ready))
    m.d.comb += [
        Assert(owed == dut.reports.valid, "a stopped packet is not told, or told twice"),
        Assert(
            ~dut.reports.valid | (dut.reports.payload.reason == Reason.GUARD) & dut.reports.payload.dropped,
            "it is told as something else",
        ),
        Assert(dut.stopped == (stopped != 0), "the strobe says something else"),
    ]


@proof(
    "provenance",
    "A DFE says of a packet that it protected it only where it encrypted it for a valid outbound SA, and that it was bypassed only where a rule "
    "says that it may leave in the clear; never one of them of what it decrypted, nor that the control element sent it.",
    depth=2,
    unbounded=True,
    search=10,
    limits="Emit alone, with any packets.",
    mutations=(
        Mutation(
            "whatever has an SA is protected",
            EMIT,
            "(info.verdict == Verdict.ENCRYPT) & control.valid &",
            "control.valid &",
        ),
        Mutation(
            "whatever is bypassed may leave",
            EMIT,
            "(info.verdict == Verdict.BYPASS) & info.clear",
            "(info.verdict == Verdict.BYPASS)",
        ),
    ),
)
def provenance(bench: Bench) -> None:
    """Against the packet that Emit took last."""
    m = bench.m
    dut = Emit(beat_bytes=BEAT_BYTES)
    now = bench.block(dut)["now"]
    keeps_rules(m, dut.i, Assume, name="i")
    job = Signal(dut.i.payload.task.done.job.shape())
    with m.If(dut.i.valid & dut.i.ready):
        m.d.sync += job.eq(dut.i.payload.task.done.job)
    egress, info = dut.egress.payload, job.info
    m.d.comb += [
        Assert(
            ~dut.egress.valid
            | ~egress.protected
            | (info.verdict == Verdict.ENCRYPT)
            & job.control.valid
            & (job.control.direction == Direction.OUTBOUND),
            "protected, and nothing protected it",
        ),
        Assert(
            ~dut.egress.valid | ~egress.bypassed | (info.verdict == Verdict.BYPASS) & info.clear,
            "bypassed, and no rule says so",
        ),
        Assert(~dut.egress.valid | ~egress.injected, "a DFE sends for the control element"),
        Assert(
            ~dut.egress.valid
            | (info.verdict != Verdict.DECRYPT)
            | ~(egress.protected | egress.bypassed | egress.injected),
            "what was decrypted may leave",
        ),
        Assert(~dut.egress.valid | now.sending | now.ended, "invariant: egress"),
    ]


@proof(
    "network-port",
    "Whatever is sent to forwarding, with whatever descriptors, in whatever order: each packet at the network port came with leave to go there, whole.",
    depth=11,
    limits="2 sources, queues of 16 beats, from reset.",
    mutations=(
        Mutation(
            "the guard is passed by",
            FORWARD,
            "enumerate(zip(guard.o, guard.o_egress, strict=True))",
            "enumerate(zip(self.i, self.egress, strict=True))",
        ),
        Mutation(
            "packets for the server port go to both",
            FORWARD,
            "egress.valid & (egress.payload.port == port))",
            "egress.valid & ((egress.payload.port == port) | (egress.payload.port == Port.SERVER) & (port is Port.NETWORK)))",
        ),
    ),
)
def network_port(bench: Bench) -> None:
    """Each beat carries a mark, which a packet has that may leave at the network port. Nothing else can
    leave there.
    """
    m = bench.m
    dut = forward.Forwarding(beat_bytes=BEAT_BYTES, sources=SOURCES, depth=16)
    bench.block(dut)
    for at in range(SOURCES):
        keeps_rules(m, dut.i[at], Assume, name=f"i_{at}")
        keeps_rules(m, dut.egress[at], Assume, name=f"egress_{at}")
        egress, beat = dut.egress[at], dut.i[at].payload
        leave = (egress.payload.port == Port.NETWORK) & (
            egress.payload.protected | egress.payload.bypassed | egress.payload.injected
        )
        bench.assume(~dut.i[at].valid | egress.valid)
        for byte in (2, 3):  # the first two bytes behind the alignment
            bench.assume(~dut.i[at].valid | (beat.data.word_select(byte, 8) == Mux(leave, 0xA5, 0)))
        bench.assume(~beat.last | (beat.count >= 4))
    first = Signal(init=1)
    port = dut.network
    with m.If(port.valid & port.ready):
        m.d.sync += first.eq(port.payload.last)
    keeps_rules(m, port, name="network")
    m.d.comb += Assert(
        ~(port.valid & first) | (port.payload.data[:16] == 0xA5A5), "a packet leaves that may not"
    )


@proof(
    "punt-classes",
    "No class of punts uses up what IKE has: only IKE takes the tokens of its limit and the room of its queue, so it is refused only where it is beyond its own rate or "
    "its own queue is full; and it is served first, behind no more than the packet that has begun. Each packet is kept or told as dropped, once.",
    depth=3,
    unbounded=True,
    search=10,
    limits="Queues are free, but packets leave them without pauses; any limits.",
    mutations=(
        Mutation(
            "all spend IKE's tokens",
            PUNTS,
            "policer.spend.eq(spends & (its == each))",
            "policer.spend.eq(spends)",
        ),
        Mutation(
            "each beat takes a token",
            PUNTS,
            "decides.eq(entry.o.valid & entry.o.ready & first)",
            "decides.eq(entry.o.valid & entry.o.ready)",
        ),
        Mutation(
            "others go into IKE's queue",
            PUNTS,
            "to_ike.eq(its == PuntClass.IKE)",
            "to_ike.eq(its != PuntClass.REST)",
        ),
        Mutation(
            "a drop is counted as kept",
            PUNTS,
            "judged.last & ~judged.abort & ~full)",
            "judged.last & ~judged.abort)",
        ),
        Mutation(
            "IKE goes last", PUNTS, "Mux(inside, chosen, ~ike.o.valid)", "Mux(inside, chosen, queue.o.valid)"
        ),
        Mutation(
            "IKE depends on the room for unknown SPIs",
            PUNTS,
            "let.eq(may.bit_select(kind, 1))",
            "let.eq(may.bit_select(kind, 1) & self.spi_open)",
        ),
    ),
)
def punt_classes(bench: Bench) -> None:
    """The class of a packet, from its header, against what it takes."""
    m = bench.m
    with replaced(punts, PacketFifo=AnyQueue):
        dut = punts.PuntQueues(beat_bytes=BEAT_BYTES, depth=16)
        inside = bench.block(dut)
    keeps_rules(m, dut.i, Assume, name="i")
    ike, others = inside["ike"], inside["queue"]
    keeps_rules(m, ike.o, Assume, name="ike")
    keeps_rules(m, others.o, Assume, name="others")
    keeps_rules(m, dut.o, name="o")
    for queue in (ike, others):
        # A packet in a queue does not pause.
        bench.assume(~bench.past(queue.o.valid & ~(queue.o.ready & queue.o.payload.last)) | queue.o.valid)
    for queue in (ike, others):
        # It takes whatever comes while drops can be told; what it drops it tells beside the packet's end
        # (proof packet-queue).
        ends = queue.i.valid & queue.i.payload.last & ~queue.i.payload.abort
        bench.assume((queue.i.ready == queue.dropped.ready) & (~queue.dropped.valid | ends))
    # What comes out of the slice at the entry (proof slice).
    came = inside["entry"].o
    keeps_rules(m, came, Assume, name="entry")
    taken, begins = came.valid & came.ready, Signal(init=1)
    says_ike = Cat(
        came.payload.data[8:16] == each for each, its in CLASSES.items() if its == PuntClass.IKE
    ).any()
    # The beat behind it: of what class its packet is, and whether that was within its limit when it came.
    have, ends, is_ike, within = Signal(), Signal(), Signal(), Signal()
    moves = dut.dropped.ready
    policer = inside.part(f"policer_{PuntClass.IKE.name.lower()}")
    with m.If(moves):
        m.d.sync += [have.eq(came.valid), ends.eq(came.payload.last & ~came.payload.abort)]
    with m.If(taken):
        m.d.sync += begins.eq(came.payload.last)
        with m.If(begins):
            m.d.sync += [is_ike.eq(says_ike), within.eq(policer.open)]
    m.d.comb += [
        Assert(
            bench.past(have & moves & ends) == dut.kept + bench.past(dut.dropped.valid & dut.dropped.ready),
            "a packet is neither kept nor dropped, or counted twice",
        ),
        Assert(
            policer.spend == bench.past(taken & begins & says_ike & policer.open),
            "a packet of IKE takes no token, or more than one, or another packet does",
        ),
        Assert(~ike.i.valid | is_ike, "another class fills IKE's queue"),
        Assert(~others.i.valid | ~is_ike, "IKE is in the others' queue"),
        Assert(~(have & is_ike & within) | ike.i.valid, "IKE is refused within its limit"),
        Assert(inside["has"] == have, "invariant: a beat"),
        Assert(inside["first"] == begins, "invariant: a packet begins"),
        Assert(~have | (inside["judged"].last & ~inside["judged"].abort == ends), "invariant: its end"),
        Assert(~(have | ~begins) | ((inside["its"] == PuntClass.IKE) == is_ike), "invariant: its class"),
        Assert(~((have | ~begins) & is_ike) | (inside["let"] == within), "invariant: let in"),
    ]
    # Served first.
    starts = Signal(init=1)
    with m.If(dut.o.valid):
        m.d.sync += starts.eq(dut.o.ready & dut.o.payload.last)
    m.d.comb += [
        Assert(
            ~(dut.o.valid & starts & ike.o.valid) | (ike.o.ready == dut.o.ready),
            "IKE waits for a packet that has not begun",
        ),
        Assert(starts == ~inside["inside"], "invariant: a packet has begun"),
    ]
