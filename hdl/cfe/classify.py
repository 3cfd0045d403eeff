"""From what the parser found to what becomes of the packet: CAM or rules, route, DFE."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.cfe.balancer import FLOW_BITS, Balancer
from spigate.hdl.cfe.cam import FOUND, Cam
from spigate.hdl.cfe.entry import Entry
from spigate.hdl.cfe.misses import MissLimiter
from spigate.hdl.cfe.parser import Own, Parsed
from spigate.hdl.cfe.rules import RuleResult, Rules
from spigate.hdl.cfe.xor import parities
from spigate.hdl.contract import hashing
from spigate.hdl.contract.constants import FROM_CFE, MAX_DEPTH
from spigate.hdl.contract.enums import Action, Port, Reason, Table
from spigate.hdl.contract.protocols import ESP as ESP_PROTOCOL
from spigate.hdl.contract.protocols import IKE_PORT
from spigate.hdl.contract.protocols import UDP as UDP_PROTOCOL
from spigate.hdl.csr import layout
from spigate.hdl.net.descriptor import CfeControl, PacketInfo, Verdict
from spigate.hdl.net.memory import BlockMemory

"""What ``depth`` can count to. A packet that deep is not recirculated again, whatever ``depth_limit`` says.
"""


class Classifier(wiring.Component):
    """Decides about packets in order; three of them are inside at a time.

    1. Rules are scanned for a packet that is not ESP; the CAM is asked about one that is, and about one
       that may be for the gateway
    itself. 2. The result of the scan, or of the CAM, is awaited. 3. The route is read, and, where the entry
    names no DFE, the balancer asked and, for a miss, the limiter. An entry whose route is not valid is a
    miss.

    Parameters
    ----------
    dfes, cam_entries, rules, routes : int

    Members
    -------
    write : In(stream of Entry)
        Of the tables CAM, RULE and ROUTE.
    i : In(stream of Parsed)
    o : Out(stream of PacketInfo)
        With ``dfe`` :data:`FROM_CFE` where no DFE has to do with it.
    control : In(CfeControl)
    eligible : In(dfes)
        DFEs that may get packets.
    free : In(12).array(dfes)
    spi_open : In(1)
        The control element has room and time for an unknown SPI.
    time : In(32)
    clear, hit, miss : Out(1)
        For a clock: a packet was decided by a rule, found in the CAM, found in neither.
    """

    def __init__(self, *, dfes: int, cam_entries: int = 1024, rules: int = 32, routes: int = 64):
        if not 2 <= routes <= 256:
            raise ValueError(f"routes must be 2 to 256, not {routes!r}")
        self._dfes, self._cam_entries, self._rules, self._routes = dfes, cam_entries, rules, routes
        super().__init__(
            {
                "write": In(stream.Signature(Entry())),
                "i": In(stream.Signature(Parsed())),
                "o": Out(stream.Signature(PacketInfo())),
                "control": In(CfeControl()),
                "eligible": In(dfes),
                "free": In(12).array(dfes),
                "time": In(32),
                "spi_open": In(1, init=1),
                "clear": Out(1),
                "hit": Out(1),
                "miss": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.cam = cam = Cam(entries=self._cam_entries)
        m.submodules.rules = rules = Rules(count=self._rules)
        hop = layout.row("route", "hop")
        m.submodules.routes = routes = BlockMemory(width=hop.size, depth=self._routes)
        reads_route = Signal()
        self._write_tables(m, cam, rules, routes, reads_route)

        # 1: ask. Decided packets only pass.
        asked, asking, scanned = Signal(Parsed()), Signal(), Signal()
        waiting, await_room, maybe_own = Signal(), Signal(), Signal()
        is_esp, ask_rules, moves = Signal(), Signal(), Signal()
        info = asked.info
        m.d.comb += [
            is_esp.eq(info.protocol == ESP_PROTOCOL),
            ask_rules.eq(asking & ~asked.decided & ~is_esp),
            rules.i.valid.eq(ask_rules & ~scanned),
            rules.i.payload.source.eq(info.source),
            rules.i.payload.destination.eq(info.destination),
            rules.i.payload.source_port.eq(info.spi[16:]),
            rules.i.payload.destination_port.eq(info.spi[:16]),
            rules.i.payload.ports.eq(asked.ports),
            rules.i.payload.protocol.eq(info.protocol),
            rules.i.payload.ingress.eq(info.ingress),
            moves.eq(asking & await_room & (~ask_rules | scanned | rules.i.ready)),
            # What may be for the gateway itself is looked up besides: its own addresses stand in the CAM as
            # if they had an SA for IKE.
            maybe_own.eq(asked.own != Own.NONE),
            cam.start.eq(moves & (maybe_own | ~asked.decided & is_esp)),
            cam.key.destination.eq(info.destination),
            cam.key.ipv6.eq(maybe_own & asked.ipv6),
            cam.key.spi.eq(Mux(maybe_own, IKE_PORT, info.spi)),
            cam.key.protocol.eq(Mux(maybe_own, UDP_PROTOCOL, ESP_PROTOCOL)),
            self.i.ready.eq(~asking | moves),
        ]
        with m.If(moves):
            m.d.sync += [asking.eq(0), scanned.eq(0)]
        with m.Elif(rules.i.valid & rules.i.ready):
            m.d.sync += scanned.eq(1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [asked.eq(self.i.payload), asking.eq(1)]

        # 2: await the answer, in the form in which rules give it.
        awaiting, answered, found = Signal(Parsed()), Signal(), Signal(RuleResult())
        resolve_room, leaves, of_cam, looking = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            leaves.eq(waiting & answered & ~looking & resolve_room),
            await_room.eq(~waiting | leaves),
            rules.o.ready.eq(waiting & ~answered & ~of_cam),
        ]
        with m.If(rules.o.valid & rules.o.ready):
            m.d.sync += [answered.eq(1), found.eq(rules.o.payload)]
        with m.If(cam.done):
            m.d.sync += looking.eq(0)
            with m.If(of_cam):
                m.d.sync += [
                    answered.eq(1),
                    found.hit.eq(cam.result.hit),
                    *(found.outcome[name].eq(cam.result[name]) for name in FOUND),
                ]
            with m.Elif(cam.result.hit):
                m.d.sync += [
                    awaiting.decided.eq(1),
                    awaiting.info.verdict.eq(Verdict.PUNT),
                    awaiting.info.reason.eq(Mux(awaiting.own == Own.IKE, Reason.IKE, Reason.NATT)),
                ]
        with m.If(leaves):
            m.d.sync += waiting.eq(0)
        with m.If(moves):
            m.d.sync += [
                waiting.eq(1),
                awaiting.eq(asked),
                of_cam.eq(is_esp & ~asked.decided),
                answered.eq(asked.decided),
                looking.eq(cam.start),
            ]

        self._resolve(m, awaiting, found, of_cam, leaves, resolve_room, routes, hop, reads_route)
        return m

    def _write_tables(self, m, cam, rules, routes, reads_route):
        """One entry at a time, to the table it names; one that there is not vanishes."""
        entry = self.write.payload
        m.d.comb += [
            cam.write.payload.eq(entry),
            rules.write.payload.eq(entry),
            routes.write_address.eq(entry.index),
            routes.write_data.eq(entry.rows[0]),
        ]
        with m.Switch(entry.table):
            with m.Case(Table.CAM):
                m.d.comb += [cam.write.valid.eq(self.write.valid), self.write.ready.eq(cam.write.ready)]
            with m.Case(Table.RULE):
                m.d.comb += [rules.write.valid.eq(self.write.valid), self.write.ready.eq(rules.write.ready)]
            with m.Case(Table.ROUTE):
                m.d.comb += [
                    self.write.ready.eq(~reads_route),
                    routes.write_enable.eq(self.write.valid & ~reads_route & (entry.index < self._routes)),
                ]
            with m.Default():
                m.d.comb += self.write.ready.eq(1)

    def _resolve(self, m, awaiting, found, of_cam, arrives, room, routes, hop, reads_route):
        """Stage 3."""
        control = self.control
        m.submodules.balancer = balancer = Balancer(dfes=self._dfes)
        m.submodules.misses = misses = MissLimiter()
        parsed, result, is_esp = Signal(Parsed()), Signal(RuleResult()), Signal()
        entry = result.outcome
        info, out = parsed.info, self.o.payload
        route = hop(routes.read_data)
        flow = Cat(info.source, info.destination, info.protocol, Mux(is_esp | parsed.ports, info.spi, 0))
        m.d.sync += balancer.flow.eq(parities(hashing.masks("flow", len(flow), FLOW_BITS), flow))
        m.d.comb += [
            routes.read_address.eq(entry.route),
            balancer.balance.eq(control.balance),
            balancer.weights.eq(control.weights),
            balancer.eligible.eq(self.eligible),
            *(port.eq(free) for port, free in zip(balancer.free, self.free, strict=True)),
            misses.interval.eq(control.miss_interval),
            misses.open.eq(self.spi_open),
            misses.time.eq(self.time),
            misses.key.destination.eq(info.destination),
            misses.key.spi.eq(info.spi),
        ]
        with m.If(arrives):
            m.d.sync += [parsed.eq(awaiting), result.eq(found), is_esp.eq(of_cam)]

        down, known, needs_route = Signal(), Signal(), Signal()
        m.d.comb += [
            down.eq(~self.eligible.bit_select(entry.dfe, 1)),
            needs_route.eq(is_esp | (entry.action == Action.PROTECT) | (entry.action == Action.BYPASS)),
            known.eq(result.hit & (route.valid | ~needs_route)),
        ]

        def decide(verdict, reason=Reason.NONE):
            m.d.sync += [out.verdict.eq(verdict), out.reason.eq(reason)]

        def of_entry():
            m.d.sync += [out.dfe.eq(entry.dfe), out.sa.eq(entry.sa)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += room.eq(1)
                with m.If(arrives):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += reads_route.eq(1)
                # What is not decided yet, and what a table says, follows.
                m.d.sync += [out[name].eq(info[name]) for name, _ in PacketInfo() if name != "route"]
                m.d.sync += [out.dfe.eq(FROM_CFE), out.sa.eq(0)]
                with m.If(parsed.decided):
                    m.d.sync += out.route.egress.eq(info.ingress)
                    m.next = "OFFER"
                with m.Else():
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.next = "OFFER"
                m.d.sync += [
                    out.route.eq(route),
                    out.generation.eq(entry.generation),
                    out.clear.eq(entry.clear & ~is_esp),
                    out.rule.eq(result.rule),
                    out.ruled.eq(known & ~is_esp),
                ]
                m.d.comb += [
                    self.hit.eq(known & is_esp),
                    self.clear.eq(known & ~is_esp),
                    self.miss.eq(~known),
                ]
                with m.If(~known):
                    decide(Verdict.PUNT, Mux(is_esp, Reason.UNKNOWN_SPI, Reason.NO_RULE))
                    with m.If(is_esp & control.miss_drop):
                        decide(Verdict.DROP, Reason.NO_SA)
                    with m.Elif(~is_esp & (control.rule_miss == Action.DISCARD)):
                        decide(Verdict.DROP, Reason.POLICY)
                    with m.Else():
                        m.d.comb += [balancer.start.eq(1), misses.start.eq(is_esp & self.eligible.any())]
                        m.next = "BALANCE"
                        with m.If(is_esp & self.eligible.any()):
                            m.next = "MISS"
                with m.Elif(needs_route & (route.egress == Port.RECIRCULATE) & (info.depth == MAX_DEPTH)):
                    decide(Verdict.DROP, Reason.NESTED)
                with m.Elif(is_esp):
                    of_entry()
                    decide(Verdict.DECRYPT)
                    with m.If(info.depth > control.depth_limit):
                        decide(Verdict.DROP, Reason.NESTED)
                    with m.Elif(down):
                        decide(Verdict.PUNT, Reason.DFE_DOWN)
                with m.Else():
                    with m.Switch(entry.action):
                        with m.Case(Action.PROTECT):
                            of_entry()
                            decide(Verdict.ENCRYPT)
                            with m.If(down):
                                decide(Verdict.PUNT, Reason.DFE_DOWN)
                        with m.Case(Action.BYPASS):
                            decide(Verdict.BYPASS)
                            m.d.comb += balancer.start.eq(1)
                            m.next = "BALANCE"
                        with m.Case(Action.DISCARD):
                            decide(Verdict.DROP, Reason.POLICY)
                        with m.Case(Action.PUNT):
                            decide(Verdict.PUNT, Reason.RULE)
            with m.State("BALANCE"):
                with m.If(balancer.done):
                    m.d.sync += out.dfe.eq(balancer.dfe)
                    with m.If(balancer.none):
                        m.d.sync += out.dfe.eq(FROM_CFE)
                        decide(Verdict.DROP, Reason.NO_DFE)
                    m.next = "OFFER"
            with m.State("MISS"):
                with m.If(misses.done):
                    m.d.sync += out.dfe.eq(balancer.dfe)
                    with m.If(balancer.none):
                        m.d.sync += out.dfe.eq(FROM_CFE)
                        decide(Verdict.DROP, Reason.NO_DFE)
                    with m.Elif(~misses.allowed):
                        decide(Verdict.DROP, Reason.SPI_RATE)
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += [self.o.valid.eq(1), room.eq(self.o.ready)]
                with m.If(self.o.ready):
                    m.next = "IDLE"
                    with m.If(arrives):
                        m.next = "READ"
