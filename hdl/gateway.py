# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The gateway: read this page first, then follow a packet through cfe/, dfe/ and forward.py."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from spigate.hdl.cfe.cfe import Cfe
from spigate.hdl.contract.enums import Table
from spigate.hdl.contract.parameters import PARAMETERS, check
from spigate.hdl.copies import copies
from spigate.hdl.crypto.engine import CompactEngine
from spigate.hdl.crypto.interface import Engine
from spigate.hdl.csr.axil import ADDRESS_WIDTH, AxiLite
from spigate.hdl.csr.control import ControlPlane
from spigate.hdl.dfe.dfe import Dfe
from spigate.hdl.forward import Forwarding
from spigate.hdl.net.descriptor import ALL_DFES, SaState, StateRequest, TableWrite
from spigate.hdl.net.packet import packets
from spigate.hdl.net.slice import across


class Gateway(wiring.Component):
    """An IPsec gateway between a network port and a server port.

    Parameters
    ----------
    beat_bytes, dfes, lanes, cam_entries, rules, routes, sa_entries, sources, clock_khz : int
        What they are, their ranges and defaults: :data:`~spigate.hdl.contract.parameters.PARAMETERS`, and
        docs/parameters.md with what each costs. ``clock_khz`` changes nothing but the register ``clock``.
    engine : type of Engine
        Of every lane. The capability registers tell what it declares.

    Members
    -------
    network_i, network_o, server_i, server_o : packet streams
        Ethernet frames without frame check sequence.
    inject, punt : packet streams
        The control element's port: frames behind ``InjectHeader`` and ``PuntHeader`` and two alignment bytes.
    axil : In(AxiLite)
        Registers, described in ``hdl/contract/gateway.rdl``.
    """

    def __init__(
        self,
        *,
        beat_bytes: int = PARAMETERS["beat_bytes"].default,
        dfes: int = PARAMETERS["dfes"].default,
        lanes: int = PARAMETERS["lanes"].default,
        cam_entries: int = PARAMETERS["cam_entries"].default,
        rules: int = PARAMETERS["rules"].default,
        routes: int = PARAMETERS["routes"].default,
        sa_entries: int = PARAMETERS["sa_entries"].default,
        sources: int = PARAMETERS["sources"].default,
        clock_khz: int = PARAMETERS["clock_khz"].default,
        engine: type[Engine] = CompactEngine,
    ):
        given = locals()
        check({name: given[name] for name in PARAMETERS})
        self.beat_bytes, self.dfes, self.lanes = beat_bytes, dfes, lanes
        self.cam_entries, self.rules, self.routes = cam_entries, rules, routes
        self.sa_entries, self.sources, self.clock_khz, self.engine = sa_entries, sources, clock_khz, engine
        super().__init__(
            {
                "network_i": In(packets(beat_bytes)),
                "network_o": Out(packets(beat_bytes)),
                "server_i": In(packets(beat_bytes)),
                "server_o": Out(packets(beat_bytes)),
                "inject": In(packets(beat_bytes)),
                "punt": Out(packets(beat_bytes)),
                "axil": In(AxiLite(address_width=ADDRESS_WIDTH)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cfe = Cfe(
            beat_bytes=self.beat_bytes,
            dfes=self.dfes,
            cam_entries=self.cam_entries,
            rules=self.rules,
            routes=self.routes,
        )
        dfes = copies(
            platform,
            "dfe",
            lambda: Dfe(
                beat_bytes=self.beat_bytes,
                lanes=self.lanes,
                sa_entries=self.sa_entries,
                sources=self.sources,
                dfes=self.dfes,
                engine=self.engine,
            ),
            self.dfes,
        )
        forwarding = Forwarding(beat_bytes=self.beat_bytes, sources=self.dfes + 1)
        control = ControlPlane(
            dfes=self.dfes,
            reporters=self.dfes + 2,
            beat_bytes=self.beat_bytes,
            lanes=self.lanes,
            sa_entries=self.sa_entries,
            sources=self.sources,
            cam_entries=self.cam_entries,
            rules=self.rules,
            routes=self.routes,
            clock_khz=self.clock_khz,
            contexts=self.engine.contexts,
            algorithms=self.engine.algorithms.names,
        )
        m.submodules.cfe, m.submodules.forwarding, m.submodules.control = cfe, forwarding, control
        self._join_frames(m, dfes)
        self._join_control(m, dfes)
        return m

    def _join_frames(self, m: Module, dfes: list[Dfe]) -> None:
        """Frames in, classified, to a DFE or (punts, injected frames) straight to forwarding, and out. After
        a reset nothing comes in before all tables are empty. The control element's port is where the host
        link is, which may be far from the classifier.
        """
        cfe, forwarding, control = m.submodules.cfe, m.submodules.forwarding, m.submodules.control
        injected = packets(self.beat_bytes).create()
        across(m, "injected", injected, cfe.inject)
        for port, inner in (
            (self.network_i, cfe.network),
            (self.server_i, cfe.server),
            (self.inject, injected),
        ):
            m.d.comb += [
                inner.payload.eq(port.payload),
                inner.valid.eq(port.valid & ~control.closed),
                port.ready.eq(inner.ready & ~control.closed),
            ]
        across(m, "direct", cfe.direct, forwarding.i[self.dfes])
        across(m, "direct_egress", cfe.direct_egress, forwarding.egress[self.dfes])
        for index, dfe in enumerate(dfes):
            m.submodules[f"dfe_{index}"] = dfe
            across(m, f"dfe_{index}_i", cfe.dfe[index], dfe.i)
            across(m, f"dfe_{index}_info", cfe.dfe_info[index], dfe.info, half=True)
            across(m, f"dfe_{index}_o", dfe.o, forwarding.i[index])
            across(m, f"dfe_{index}_egress", dfe.egress, forwarding.egress[index])
            m.d.comb += [
                cfe.dfe_free[index].eq(dfe.free),
                cfe.dfe_busy[index].eq(dfe.busy),
                cfe.dfe_gone[index].eq(dfe.gone),
                dfe.index.eq(index),
                dfe.time.eq(control.time),
            ]
        connect(m, forwarding.network, wiring.flipped(self.network_o))
        connect(m, forwarding.server, wiring.flipped(self.server_o))
        connect(m, forwarding.punt, wiring.flipped(self.punt))
        across(m, "recirculate", forwarding.recirculate, cfe.recirculate)
        across(m, "recirculate_egress", forwarding.recirculate_egress, cfe.recirculate_egress)

    def _join_control(self, m: Module, dfes: list[Dfe]) -> None:
        """The control element's side: settings, tables, counters, and what became of packets."""
        cfe, forwarding, control = m.submodules.cfe, m.submodules.forwarding, m.submodules.control
        connect(m, wiring.flipped(self.axil), control.axil)
        for index, reporter in enumerate([*dfes, cfe, forwarding]):
            across(m, f"reports_{index}", reporter.reports, control.reports[index], half=True)
        m.submodules.tables = tables = TableRoutes(dfes=self.dfes)
        connect(m, control.tables, tables.i)
        connect(m, tables.cfe, cfe.tables)
        m.submodules.states = states = StateRoutes(dfes=self.dfes)
        connect(m, control.state_request, states.request)
        connect(m, states.state, control.state)
        for index, dfe in enumerate(dfes):
            connect(m, tables.dfe[index], dfe.tables)
            connect(m, states.dfe_request[index], dfe.state_request)
            connect(m, dfe.state, states.dfe_state[index])
            m.d.comb += control.dfe_counters[index].eq(dfe.counters)
        m.d.comb += [
            cfe.control.eq(control.cfe),
            cfe.time.eq(control.time),
            cfe.spi_open.eq(forwarding.spi_open),
            forwarding.punts.eq(control.cfe.punts),
            control.healthy.eq(cfe.healthy),
            control.wiping.eq(Cat(dfe.wiping for dfe in dfes).any()),
            control.cfe_counters.eq(cfe.counters),
            control.forward_counters.eq(forwarding.counters),
        ]


class TableRoutes(wiring.Component):
    """Sends table writes to where the table is: CAM, rules and routes to ``cfe``, SAs and clear sources to
    the named DFE.

    One register stage, so that the wires across the device begin and end at a register: a row every other
    clock. Rows for a DFE that does not exist vanish.
    """

    def __init__(self, *, dfes: int):
        writes = stream.Signature(TableWrite())
        super().__init__({"i": In(writes), "cfe": Out(writes), "dfe": Out(writes).array(dfes)})

    def elaborate(self, platform):
        m = Module()
        targets = [self.cfe, *self.dfe]
        waiting = [target.valid for target in targets]
        write = self.i.payload
        of_dfe = (write.table == Table.SA) | (write.table == Table.SOURCE)
        free = Signal()
        m.d.comb += [free.eq(~Cat(waiting).any()), self.i.ready.eq(free)]
        for target in targets:
            with m.If(target.ready):
                m.d.sync += target.valid.eq(0)
        with m.If(free):
            for target in targets:
                m.d.sync += target.payload.eq(write)
            with m.If(self.i.valid & ~of_dfe):
                m.d.sync += self.cfe.valid.eq(1)
            for index, target in enumerate(self.dfe):
                with m.If(self.i.valid & of_dfe & ((write.dfe == index) | (write.dfe == ALL_DFES))):
                    m.d.sync += target.valid.eq(1)
        return m


class StateRoutes(wiring.Component):
    """Asks the DFE that a request names for an SA's state. The answer of a DFE that does not
    exist is zero.
    """

    def __init__(self, *, dfes: int):
        super().__init__(
            {
                "request": In(stream.Signature(StateRequest())),
                "state": Out(stream.Signature(SaState())),
                "dfe_request": Out(stream.Signature(16)).array(dfes),
                "dfe_state": In(stream.Signature(SaState())).array(dfes),
            }
        )

    def elaborate(self, platform):
        m = Module()
        request = Signal(StateRequest())
        asked = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                m.d.sync += [request.eq(self.request.payload), asked.eq(0)]
                with m.If(self.request.valid):
                    m.next = "ASK"
            with m.State("ASK"):
                # Only one DFE is asked at a time, so its answer is the only one there is.
                known = Signal()
                for index, (ask, state) in enumerate(zip(self.dfe_request, self.dfe_state, strict=True)):
                    with m.If(request.dfe == index):
                        m.d.comb += [
                            known.eq(1),
                            ask.payload.eq(request.sa),
                            ask.valid.eq(~asked),
                            state.ready.eq(self.state.ready),
                            self.state.valid.eq(state.valid),
                            self.state.payload.eq(state.payload),
                        ]
                        with m.If(ask.ready):
                            m.d.sync += asked.eq(1)
                with m.If(~known):
                    m.d.comb += self.state.valid.eq(1)
                with m.If(self.state.valid & self.state.ready):
                    m.next = "IDLE"
        return m
