# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Every packet that comes into the classifier is accounted for."""

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring

from spigate.hdl.cfe import ingress
from spigate.hdl.cfe.router import Router
from spigate.hdl.contract.enums import Port, Reason
from spigate.hdl.net.descriptor import CE_HEADER_BYTES, Verdict
from spigate.hdl.net.fifo import PacketFifo
from tests.formal.proof import AnySeq, Bench, Mutation, proof, replaced
from tests.formal.streams import all_keep_rules, keeps_rules

ROUTER, INGRESS = "spigate.hdl.cfe.router", "spigate.hdl.cfe.ingress"
DFES, BEAT_BYTES = 2, 8


@proof(
    "router-accounts",
    "Each packet that the router takes goes, beat by beat, to the DFE that its verdict names, or behind its header to the direct way, or it is "
    "reported as dropped once; never to two of them, and never a part of it. What was decided to be dropped or punted goes to no DFE.",
    depth=6,
    unbounded=True,
    search=14,
    limits="2 DFEs, 8 bytes a beat.",
    mutations=(
        Mutation("a packet without room is sent anyway", ROUTER, "return fits & slot", "return slot"),
        Mutation("a drop is not reported", ROUTER, 'm.next = "REPORT"', 'm.next = "IDLE"'),
        Mutation(
            "the first DFE gets everything",
            ROUTER,
            "with m.If(chosen):\n                m.d.comb += [port.valid.eq(self.i.valid)",
            "with m.If(chosen | (port is self.dfe[0])):\n                m.d.comb += [port.valid.eq(self.i.valid)",
        ),
        Mutation(
            "what is to be dropped is sent",
            ROUTER,
            "with m.If(new.verdict == Verdict.DROP):",
            "with m.If((new.verdict == Verdict.DROP) & new.ipv4):",
        ),
    ),
)
def router(bench: Bench) -> None:
    """The router has one packet at a time, so that what it took and did not pass on is what it reports."""
    m = bench.m
    dut = Router(beat_bytes=BEAT_BYTES, dfes=DFES)
    inside = bench.block(dut)
    all_keep_rules(m, dut)
    beat = dut.i.payload
    taken = dut.i.valid & dut.i.ready
    passed = [port.valid & port.ready for port in [*dut.dfe, dut.direct]]

    # The verdict of the packet at work.
    has, info = Signal(), Signal(dut.info.payload.shape())
    with m.If(taken & beat.last):
        m.d.sync += has.eq(0)
    with m.If(dut.info.valid & dut.info.ready):
        m.d.sync += [has.eq(1), info.eq(dut.info.payload)]
    for_dfe = (
        (info.verdict == Verdict.BYPASS)
        | (info.verdict == Verdict.DECRYPT)
        | (info.verdict == Verdict.ENCRYPT)
    )
    m.d.comb += Assert(~taken | has, "a packet is taken before its verdict")
    for at, port in enumerate(dut.dfe):
        m.d.comb += [
            Assert(
                ~port.valid | for_dfe & (info.dfe == at),
                "a packet goes to a DFE that its verdict does not name",
            ),
            Assert(
                ~passed[at] | taken & (port.payload.as_value() == beat.as_value()),
                "a beat is changed, or made up",
            ),
        ]
    header_beats = CE_HEADER_BYTES // BEAT_BYTES
    ahead = Signal(range(header_beats + 1))
    with m.If(passed[-1]):
        m.d.sync += ahead.eq(Mux(dut.direct.payload.last, 0, Mux(taken, ahead, ahead + 1)))
    m.d.comb += [
        Assert(
            ~dut.direct.valid | ~for_dfe & (info.verdict != Verdict.DROP),
            "a packet for a DFE, or for nobody, goes the direct way",
        ),
        Assert(
            ~passed[-1] | taken | ~dut.direct.payload.last & (ahead < header_beats), "a header is too long"
        ),
        Assert(
            ~(passed[-1] & taken) | (dut.direct.payload.as_value() == beat.as_value()), "a beat is changed"
        ),
        Assert(
            ~(passed[-1] & taken) | (ahead == Mux(info.verdict == Verdict.DIRECT, 0, header_beats)),
            "a header is missing",
        ),
        Assert(sum(passed) <= 1, "a packet goes to two places"),
    ]

    egress = dut.direct_egress
    m.d.comb += Assert(
        ~(egress.valid & ~bench.past(egress.valid))
        | (egress.payload.injected == (info.verdict == Verdict.DIRECT)),
        "sent by the control element, and was not, or the other way about",
    )

    # Taken and not passed on is reported, and nothing else is: a packet is passed whole or not at all.
    parts, some = Signal(), Signal()
    owed = Signal()
    with m.If(taken):
        m.d.sync += [parts.eq(~beat.last), some.eq(~beat.last & Cat(passed).any())]
    m.d.sync += owed.eq(
        Mux(taken & beat.last & ~Cat(passed).any(), 1, owed & ~(dut.reports.valid & dut.reports.ready))
    )
    m.d.comb += [
        Assert(~(taken & parts) | (Cat(passed).any() == some), "a part of a packet is passed on"),
        Assert(owed == dut.reports.valid, "a drop without its report, or the other way about"),
        Assert(
            ~dut.reports.valid
            | dut.reports.payload.dropped
            & (dut.reports.payload.reason == Mux(for_dfe, Reason.QUEUE_FULL, info.reason)),
            "a drop for another reason",
        ),
    ]
    # What a DFE gets has room there: what its queue said three clocks before at the latest.
    for at, port in enumerate(dut.dfe_info):
        begins = port.valid & ~bench.past(port.valid)
        m.d.comb += Assert(
            ~begins
            | ~bench.past(bench.started, 3)
            | (bench.past(dut.dfe_free[at], 3) >= ((port.payload.length + BEAT_BYTES - 1) >> 3)),
            "a packet is sent without room",
        )
    # Invariants.
    work = inside["work"]
    own, target, at_header = work.info, work.target, work.header_beat
    within = inside.within
    going = within("LOOK") | within("COMPARE") | within("TRY") | within("SEND")
    direct = within("DIRECT") | within("HEADER") | within("SEND DIRECT")
    states = ("IDLE", "LOOK", "COMPARE", "TRY", "SEND", "DIRECT", "HEADER", "SEND DIRECT", "DROP", "REPORT")
    m.d.comb += [
        Assert(sum(within(state) for state in states) == 1, "invariant: a state"),
        Assert(~has | (own.as_value() == info.as_value()), "invariant: its descriptor"),
        Assert(
            ~(has & for_dfe & going) | (target == Cat(info.dfe == dfe for dfe in range(DFES))),
            "invariant: its target",
        ),
        Assert(~going | has & for_dfe, "invariant: on its way to a DFE"),
        Assert(~direct | has & ~for_dfe & (info.verdict != Verdict.DROP), "invariant: on the direct way"),
        Assert(~within("DROP") | has & (for_dfe | (info.verdict == Verdict.DROP)), "invariant: dropped"),
        Assert(within("REPORT") == owed, "invariant: reported"),
        Assert(
            ~parts | within("SEND") | within("SEND DIRECT") | within("DROP"), "invariant: within a packet"
        ),
        Assert(~parts | (some == (within("SEND") | within("SEND DIRECT"))), "invariant: passed on or not"),
        Assert(
            ahead
            == Mux(
                within("HEADER"),
                at_header,
                Mux(within("SEND DIRECT") & (info.verdict != Verdict.DIRECT), header_beats, 0),
            ),
            "invariant: its header",
        ),
        Assert(
            ~(within("DROP") | within("REPORT"))
            | (work.reason == Mux(for_dfe, Reason.QUEUE_FULL, info.reason)),
            "invariant: its reason",
        ),
        Assert(~within("HEADER") | (info.verdict != Verdict.DIRECT), "invariant: a header"),
        Assert(at_header < header_beats, "invariant: of its header"),
        Assert(within("HEADER") | (at_header == 0), "invariant: of its header"),
        Assert(~owed | ~has, "invariant: reported behind its end"),
        Assert(has | ~parts, "invariant: parts"),
        Assert(has | owed | dut.info.ready, "invariant: at rest"),
        Assert(~(has & dut.info.ready), "invariant: one packet"),
    ]


class AnyQueue(wiring.Component):
    """Stands for the ingress queue: takes beats when it likes, and sends anything."""

    def __init__(self, **sizes):
        model = PacketFifo(**sizes)
        model._MustUse__silence = True
        super().__init__(model.signature)

    def elaborate(self, platform):
        m = Module()
        for value in (
            self.i.ready,
            self.o.valid,
            self.o.payload,
            self.dropped.valid,
            self.dropped.payload,
            self.free,
        ):
            m.d.comb += Value.cast(value).eq(AnySeq(len(Value.cast(value))))
        return m


LONGEST = 16


@proof(
    "ingress-accounts",
    "Each packet that comes in at a port goes whole into that port's queue with its origin, or it is reported as dropped once; what is damaged or too "
    "long goes into none.",
    depth=9,
    limits=f"Network port and recirculation, frames up to {LONGEST} bytes, from reset. The queue is free (proof packet-queue).",
    mutations=(
        Mutation(
            "a frame too long is kept",
            INGRESS,
            "bad.eq(over | beat.abort | short)",
            "bad.eq(beat.abort | short)",
        ),
        Mutation(
            "a damaged frame is kept", INGRESS, "bad.eq(over | beat.abort | short)", "bad.eq(over | short)"
        ),
        Mutation(
            "a drop does not wait for the report before",
            INGRESS,
            "Mux(bad, ~report.valid, origins.w_rdy)",
            "Mux(bad, 1, origins.w_rdy)",
        ),
        Mutation(
            "a packet goes without an origin",
            INGRESS,
            "Mux(bad, ~report.valid, origins.w_rdy)",
            "Mux(bad, ~report.valid, 1)",
        ),
    ),
)
def ingress_accounts(bench: Bench) -> None:
    """Packets in are counted against packets queued, origins and reports."""
    m = bench.m
    for port in (Port.NETWORK, Port.RECIRCULATE):
        name = port.name.lower()
        with replaced(ingress, PacketFifo=AnyQueue, MAX_FRAME=LONGEST, QUEUE_BYTES=128, QUEUE_PACKETS=2):
            dut = ingress.Ingress(beat_bytes=BEAT_BYTES, port=port)
            inside = bench.block(dut, name)
        if port is Port.RECIRCULATE:
            keeps_rules(m, dut.egress, Assume, name=f"{name}_egress")
        for stream, claim in ((dut.i, Assume), (dut.reports, Assert)):
            keeps_rules(m, stream, claim, name=f"{name}_{'i' if claim is Assume else 'reports'}")
        queue = inside["queue"].i
        keeps_rules(m, queue, name=f"{name}_queue")
        beat = dut.i.payload
        came, kept, reported, origins = (
            Signal(4, name=f"{name}_{what}") for what in ("came", "kept", "reported", "origins")
        )
        ends = queue.valid & queue.ready & queue.payload.last
        m.d.sync += [
            came.eq(came + (dut.i.valid & dut.i.ready & beat.last)),
            kept.eq(kept + (ends & ~queue.payload.abort)),
            reported.eq(reported + (dut.reports.valid & dut.reports.ready)),
            origins.eq(origins + (dut.origin.valid & dut.origin.ready)),
        ]
        # One may be in the alignment, one offered to be reported.
        inside_now = (came - kept - reported - dut.reports.valid)[:4]
        m.d.comb += [
            Assert(inside_now <= 1, f"{name}: a packet is lost, or accounted for twice"),
            Assert(
                (port is Port.NETWORK) | (inside_now == 0),
                f"{name}: a packet is lost, or accounted for twice",
            ),
            Assert(
                ((kept - origins)[:4] <= 3) & (~dut.origin.valid | (kept != origins)),
                f"{name}: an origin without its packet",
            ),
            Assert(
                ~dut.reports.valid | dut.reports.payload.dropped, f"{name}: a report of what is not dropped"
            ),
        ]
        # The longest frame is whole beats; what is kept is no longer, and was not damaged.
        length = Signal(4, name=f"{name}_length")
        with m.If(queue.valid & queue.ready):
            m.d.sync += length.eq(Mux(queue.payload.last, 0, length + (length != 15)))
        m.d.comb += Assert(
            ~(ends & ~queue.payload.abort) | (length < LONGEST // BEAT_BYTES),
            f"{name}: a frame too long is kept",
        )
        aborted = Signal(4, name=f"{name}_aborted")
        m.d.sync += aborted.eq(aborted + (dut.i.valid & dut.i.ready & beat.last & beat.abort))
        m.d.comb += Assert((came - aborted - kept)[:4] <= 8, f"{name}: a damaged frame is kept")
