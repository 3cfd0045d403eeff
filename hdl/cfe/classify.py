# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""From what the parser found to what becomes of the packet: CAM or rules, route, DFE."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.cfe.balancer import FLOW_BITS, Balancer
from spigate.hdl.cfe.cam import FOUND, Cam
from spigate.hdl.cfe.entry import Entry
from spigate.hdl.cfe.misses import MissLimiter
from spigate.hdl.cfe.parser import Own, Parsed
from spigate.hdl.cfe.rules import RuleResult, Rules, check_count
from spigate.hdl.cfe.xor import parities
from spigate.hdl.contract import hashing
from spigate.hdl.contract.enums import Action, Port, Reason, Table
from spigate.hdl.csr import layout
from spigate.hdl.net.descriptor import FROM_CFE, CfeControl, PacketInfo, Verdict
from spigate.hdl.net.headers import ESP_PROTOCOL, IKE_PORT, UDP_PROTOCOL
from spigate.hdl.net.memory import BlockMemory

MAX_DEPTH = 3
"""What ``depth`` can count to. A packet that deep is not recirculated again, whatever ``depth_limit`` says.
"""


class Flow:
    """How packets go from stage to stage of :class:`Classifier`.

    Members
    -------
    moves, leaves : unsigned(1)
        One goes from stage 1 to 2, from 2 to 3.
    await_room, resolve_room : unsigned(1)
        Stage 2, stage 3 can take one.
    reads_route : unsigned(1)
        Stage 3 reads a route, which no entry is to be written to then.
    """

    def __init__(self):
        self.moves = Signal()
        self.leaves = Signal()
        self.await_room = Signal()
        self.resolve_room = Signal()
        self.reads_route = Signal()


class Asked:
    """The packet of a stage.

    Members
    -------
    parsed : Parsed
    is_esp : unsigned(1)
        The CAM is asked, not rules.
    result : RuleResult
        The answer, in the form in which rules give it.
    """

    def __init__(self, stage: str):
        self.parsed = Signal(Parsed(), name=f"{stage}_parsed")
        self.is_esp = Signal(name=f"{stage}_is_esp")
        self.result = Signal(RuleResult(), name=f"{stage}_result")


class Resolved(Asked):
    """And what is known of it in stage 3.

    Members
    -------
    route : row ``hop`` of the table of routes
        Of its entry.
    needs_route : unsigned(1)
        Its entry leads to a route.
    known : unsigned(1)
        There is an entry, and its route is valid.
    down : unsigned(1)
        The entry's DFE may not get packets.
    """

    def __init__(self, stage: str):
        super().__init__(stage)
        self.route = Signal(layout.row("route", "hop"))
        self.needs_route = Signal()
        self.known = Signal()
        self.down = Signal()


class Classifier(wiring.Component):
    """Decides about packets in order; three of them are inside at a time.

    1. Rules are scanned for a packet that is not ESP; the CAM is asked about one that is, and about one
       that may be for the gateway itself.
    2. The result of the scan, or of the CAM, is awaited.
    3. The route is read, and, where the entry names no DFE, the balancer asked and, for a miss, the
       limiter. An entry whose route is not valid is a miss.

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
        hashing.cam_rows(cam_entries)  # refuses what it cannot be
        check_count(rules)
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
        m.submodules.cam = Cam(entries=self._cam_entries)
        m.submodules.rules = Rules(count=self._rules)
        m.submodules.routes = BlockMemory(width=layout.row("route", "hop").size, depth=self._routes)
        flow, asked, awaited, resolved = Flow(), Asked("asked"), Asked("awaited"), Resolved("resolved")
        self._write_tables(m, flow)
        self._ask(m, flow, asked)
        self._await(m, flow, asked, awaited)
        self._resolve(m, flow, awaited, resolved)
        return m

    def _write_tables(self, m, flow: Flow) -> None:
        """One entry at a time, to the table it names; one that there is not vanishes."""
        cam, rules, routes = m.submodules.cam, m.submodules.rules, m.submodules.routes
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
                writes = self.write.valid & ~flow.reads_route & (entry.index < self._routes)
                m.d.comb += [self.write.ready.eq(~flow.reads_route), routes.write_enable.eq(writes)]
            with m.Default():
                m.d.comb += self.write.ready.eq(1)

    def _ask(self, m, flow: Flow, asked: Asked) -> None:
        """Stage 1: ask. Decided packets only pass."""
        cam, rules = m.submodules.cam, m.submodules.rules
        parsed, info = asked.parsed, asked.parsed.info
        asking = Signal()
        scanned = Signal()
        maybe_own = Signal()
        ask_rules = Signal()
        m.d.comb += [
            asked.is_esp.eq(info.protocol == ESP_PROTOCOL),
            ask_rules.eq(asking & ~parsed.decided & ~asked.is_esp),
            rules.i.valid.eq(ask_rules & ~scanned),
            rules.i.payload.source.eq(info.source),
            rules.i.payload.destination.eq(info.destination),
            rules.i.payload.source_port.eq(info.spi[16:]),
            rules.i.payload.destination_port.eq(info.spi[:16]),
            rules.i.payload.ports.eq(parsed.ports),
            rules.i.payload.protocol.eq(info.protocol),
            rules.i.payload.ingress.eq(info.ingress),
            flow.moves.eq(asking & flow.await_room & (~ask_rules | scanned | rules.i.ready)),
            # What may be for the gateway itself is looked up besides: its own addresses stand in the CAM as
            # if they had an SA for IKE.
            maybe_own.eq(parsed.own != Own.NONE),
            cam.start.eq(flow.moves & (maybe_own | ~parsed.decided & asked.is_esp)),
            cam.key.destination.eq(info.destination),
            cam.key.ipv6.eq(maybe_own & parsed.ipv6),
            cam.key.spi.eq(Mux(maybe_own, IKE_PORT, info.spi)),
            cam.key.protocol.eq(Mux(maybe_own, UDP_PROTOCOL, ESP_PROTOCOL)),
            self.i.ready.eq(~asking | flow.moves),
        ]
        with m.If(flow.moves):
            m.d.sync += [asking.eq(0), scanned.eq(0)]
        with m.Elif(rules.i.valid & rules.i.ready):
            m.d.sync += scanned.eq(1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [parsed.eq(self.i.payload), asking.eq(1)]

    def _await(self, m, flow: Flow, asked: Asked, awaited: Asked) -> None:
        """Stage 2: await the answer, in the form in which rules give it."""
        cam, rules = m.submodules.cam, m.submodules.rules
        parsed, found, of_cam = awaited.parsed, awaited.result, awaited.is_esp
        waiting = Signal()
        answered = Signal()
        looking = Signal()
        m.d.comb += [
            flow.leaves.eq(waiting & answered & ~looking & flow.resolve_room),
            flow.await_room.eq(~waiting | flow.leaves),
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
                    parsed.decided.eq(1),
                    parsed.info.verdict.eq(Verdict.PUNT),
                    parsed.info.reason.eq(Mux(parsed.own == Own.IKE, Reason.IKE, Reason.NATT)),
                ]
        with m.If(flow.leaves):
            m.d.sync += waiting.eq(0)
        with m.If(flow.moves):
            m.d.sync += [
                waiting.eq(1),
                parsed.eq(asked.parsed),
                of_cam.eq(asked.is_esp & ~asked.parsed.decided),
                answered.eq(asked.parsed.decided),
                looking.eq(cam.start),
            ]

    def _resolve(self, m, flow: Flow, awaited: Asked, resolved: Resolved) -> None:
        """Stage 3: from the answer to the verdict."""
        m.submodules.balancer = balancer = Balancer(dfes=self._dfes)
        m.submodules.misses = misses = MissLimiter()
        parsed, out = resolved.parsed, self.o.payload
        self._look_up(m, resolved)
        with m.If(flow.leaves):
            m.d.sync += [
                parsed.eq(awaited.parsed),
                resolved.result.eq(awaited.result),
                resolved.is_esp.eq(awaited.is_esp),
            ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += flow.resolve_room.eq(1)
                with m.If(flow.leaves):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += flow.reads_route.eq(1)
                # What is not decided yet, and what a table says, follows.
                m.d.sync += [out[name].eq(parsed.info[name]) for name, _ in PacketInfo() if name != "route"]
                m.d.sync += [out.dfe.eq(FROM_CFE), out.sa.eq(0)]
                with m.If(parsed.decided):
                    m.d.sync += out.route.egress.eq(parsed.info.ingress)
                    m.next = "OFFER"
                with m.Else():
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.next = "OFFER"
                self._decide(m, resolved)
            with m.State("BALANCE"):
                with m.If(balancer.done):
                    m.d.sync += out.dfe.eq(balancer.dfe)
                    with m.If(balancer.none):
                        m.d.sync += out.dfe.eq(FROM_CFE)
                        self._becomes(m, Verdict.DROP, Reason.NO_DFE)
                    m.next = "OFFER"
            with m.State("MISS"):
                with m.If(misses.done):
                    m.d.sync += out.dfe.eq(balancer.dfe)
                    with m.If(balancer.none):
                        m.d.sync += out.dfe.eq(FROM_CFE)
                        self._becomes(m, Verdict.DROP, Reason.NO_DFE)
                    with m.Elif(~misses.allowed):
                        self._becomes(m, Verdict.DROP, Reason.SPI_RATE)
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += [self.o.valid.eq(1), flow.resolve_room.eq(self.o.ready)]
                with m.If(self.o.ready):
                    m.next = "IDLE"
                    with m.If(flow.leaves):
                        m.next = "READ"

    def _look_up(self, m, resolved: Resolved) -> None:
        """What route, balancer and limiter are asked, and what follows from the route."""
        routes, balancer, misses = m.submodules.routes, m.submodules.balancer, m.submodules.misses
        info, entry, is_esp = resolved.parsed.info, resolved.result.outcome, resolved.is_esp
        has_word = is_esp | resolved.parsed.ports
        flow = Cat(info.source, info.destination, info.protocol, Mux(has_word, info.spi, 0))
        m.d.sync += balancer.flow.eq(parities(hashing.masks("flow", len(flow), FLOW_BITS), flow))
        m.d.comb += [
            routes.read_address.eq(entry.route),
            balancer.balance.eq(self.control.balance),
            balancer.weights.eq(self.control.weights),
            balancer.eligible.eq(self.eligible),
            *(port.eq(free) for port, free in zip(balancer.free, self.free, strict=True)),
            misses.interval.eq(self.control.miss_interval),
            misses.open.eq(self.spi_open),
            misses.time.eq(self.time),
            misses.key.destination.eq(info.destination),
            misses.key.spi.eq(info.spi),
            resolved.route.eq(routes.read_data),
            resolved.down.eq(~self.eligible.bit_select(entry.dfe, 1)),
            resolved.needs_route.eq(
                is_esp | (entry.action == Action.PROTECT) | (entry.action == Action.BYPASS)
            ),
            resolved.known.eq(resolved.result.hit & (resolved.route.valid | ~resolved.needs_route)),
        ]

    def _becomes(self, m, verdict: Verdict, reason=Reason.NONE) -> None:
        m.d.sync += [self.o.payload.verdict.eq(verdict), self.o.payload.reason.eq(reason)]

    def _decide(self, m, resolved: Resolved) -> None:
        """All is known but what the balancer and the limiter say."""
        is_esp, known, route = resolved.is_esp, resolved.known, resolved.route
        entry, out = resolved.result.outcome, self.o.payload
        nests = resolved.needs_route & (route.egress == Port.RECIRCULATE)
        m.d.comb += [
            self.hit.eq(known & is_esp),
            self.clear.eq(known & ~is_esp),
            self.miss.eq(~known),
        ]
        m.d.sync += [
            out.route.eq(route),
            out.generation.eq(entry.generation),
            out.clear.eq(entry.clear & ~is_esp),
            out.rule.eq(resolved.result.rule),
            out.ruled.eq(known & ~is_esp),
        ]
        with m.If(~known):
            self._miss(m, is_esp)
        with m.Elif(nests & (resolved.parsed.info.depth == MAX_DEPTH)):
            self._becomes(m, Verdict.DROP, Reason.NESTED)
        with m.Elif(is_esp):
            m.d.sync += [out.dfe.eq(entry.dfe), out.sa.eq(entry.sa)]
            self._becomes(m, Verdict.DECRYPT)
            with m.If(resolved.parsed.info.depth > self.control.depth_limit):
                self._becomes(m, Verdict.DROP, Reason.NESTED)
            with m.Elif(resolved.down):
                self._becomes(m, Verdict.PUNT, Reason.DFE_DOWN)
        with m.Else():
            self._act(m, resolved)

    def _miss(self, m, is_esp) -> None:
        """No table knows what to do with the packet."""
        self._becomes(m, Verdict.PUNT, Mux(is_esp, Reason.UNKNOWN_SPI, Reason.NO_RULE))
        with m.If(is_esp & self.control.miss_drop):
            self._becomes(m, Verdict.DROP, Reason.NO_SA)
        with m.Elif(~is_esp & (self.control.rule_miss == Action.DISCARD)):
            self._becomes(m, Verdict.DROP, Reason.POLICY)
        with m.Else():
            limited = is_esp & self.eligible.any()
            m.d.comb += [m.submodules.balancer.start.eq(1), m.submodules.misses.start.eq(limited)]
            m.next = "BALANCE"
            with m.If(limited):
                m.next = "MISS"

    def _act(self, m, resolved: Resolved) -> None:
        """As the rule says."""
        entry, out = resolved.result.outcome, self.o.payload
        with m.Switch(entry.action):
            with m.Case(Action.PROTECT):
                m.d.sync += [out.dfe.eq(entry.dfe), out.sa.eq(entry.sa)]
                self._becomes(m, Verdict.ENCRYPT)
                with m.If(resolved.down):
                    self._becomes(m, Verdict.PUNT, Reason.DFE_DOWN)
            with m.Case(Action.BYPASS):
                self._becomes(m, Verdict.BYPASS)
                m.d.comb += m.submodules.balancer.start.eq(1)
                m.next = "BALANCE"
            with m.Case(Action.DISCARD):
                self._becomes(m, Verdict.DROP, Reason.POLICY)
            with m.Case(Action.PUNT):
                self._becomes(m, Verdict.PUNT, Reason.RULE)
