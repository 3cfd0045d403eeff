# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The control plane: what the control element reaches over AXI4-Lite."""

from collections.abc import Collection

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from spigate.hdl.contract import hashing, rdl
from spigate.hdl.contract.enums import PuntClass, Table
from spigate.hdl.crypto.interface import NAMES
from spigate.hdl.csr.axil import ADDRESS_WIDTH, AxiLite, AxiLiteSlave
from spigate.hdl.csr.bank import Bank, member
from spigate.hdl.csr.events import DEPTH, VIEW, Events
from spigate.hdl.csr.window import TableWindow
from spigate.hdl.net.descriptor import (
    CFE_COUNTERS,
    DFE_COUNTERS,
    FORWARD_COUNTERS,
    MAX_DFES,
    CfeControl,
    Policer,
    Report,
    SaState,
    StateRequest,
    TableWrite,
)

MAGIC = 0x5350_4947
VERSION = {"map": 3, "major": 0, "minor": 1, "patch": 0}
"""What ``version`` reads. ``map`` counts the layouts of registers and table entries."""


class ControlPlane(wiring.Component):
    """Registers, table window, state reads, drop counters and events, as ``gateway.rdl`` describes them.

    Parameters
    ----------
    dfes, lanes, contexts : int
        DFEs, lanes in each, packets in work in a lane's engine.
    reporters : int
        Streams of reports.
    beat_bytes, sa_entries, sources, cam_entries, cam_ways, rules, routes : int
        Capabilities to tell and limits of table indices. The CAM has ``cam_ways`` ways of
        :func:`~spigate.hdl.contract.hashing.cam_rows` rows.
    replay_window : int
        Sequence numbers in the anti-replay window.
    clock_khz : int
        Thousand clocks a second.
    algorithms : iterable of str
        What the engines know, of :data:`~spigate.hdl.crypto.interface.NAMES`.

    Members
    -------
    axil : In(AxiLite)
        16-bit byte addresses.
    tables : Out(stream of TableWrite)
    state_request : Out(stream of StateRequest)
        At most one is under way; only for DFEs and SAs that exist.
    state : In(stream of SaState)
        The answer to the request; always ready.
    reports : In(stream of Report).array(reporters)
    cfe : Out(CfeControl())
    cfe_counters : In(CFE_COUNTERS)
    dfe_counters : In(DFE_COUNTERS).array(dfes)
    forward_counters : In(FORWARD_COUNTERS)
    healthy : In(MAX_DFES)
    wiping : In(1)
        Something of an SA that was erased is still in a DFE.
    closed : Out(1)
        The gateway takes no packets yet.
    time : Out(32)
        Clocks since reset.
    """

    def __init__(
        self,
        *,
        dfes: int,
        reporters: int,
        beat_bytes: int,
        lanes: int,
        sa_entries: int,
        sources: int,
        cam_entries: int,
        rules: int,
        routes: int,
        contexts: int = 2,
        cam_ways: int = hashing.WAYS,
        replay_window: int = 64,
        clock_khz: int = 100_000,
        algorithms: Collection[str] = NAMES,
    ):
        if not 1 <= dfes <= MAX_DFES:
            raise ValueError(f"dfes must be 1 to {MAX_DFES}, not {dfes!r}")
        self._dfes, self._reporters, self._sa_entries = dfes, reporters, sa_entries
        cam_rows = hashing.cam_rows(cam_entries)
        self._sizes = {
            Table.CAM: cam_ways * cam_rows,
            Table.RULE: rules,
            Table.ROUTE: routes,
            Table.SA: sa_entries,
            Table.SOURCE: sources,
        }
        for unknown in set(algorithms) - set(NAMES):
            raise ValueError(f"algorithms must be of {', '.join(NAMES)}, not {unknown!r}")
        self._capabilities: dict[str, dict[str, int]] = {
            "id": {"value": MAGIC},
            "version": VERSION,
            "geometry": {"beat_bytes": beat_bytes, "dfes": dfes, "lanes": lanes, "contexts": contexts},
            "dfe_tables": {"sa_entries": sa_entries, "sources": sources},
            "cam": {
                "cam_entries": cam_entries,
                "cam_ways": cam_ways,
                "row_bits": ceil_log2(cam_rows),
            },
            "cfe_tables": {"rules": rules, "routes": routes},
            "algorithms": dict.fromkeys(algorithms, 1),
            "features": {"tunnel": 1, "transport": 1, "replay_window": replay_window},
            "event_geometry": {"depth": DEPTH, "view": VIEW},
            "clock": {"khz": clock_khz},
        }
        for name, values in self._capabilities.items():
            rdl.registers()[name].pack(values)  # refuses what does not fit
        super().__init__(
            {
                "axil": In(AxiLite()),
                "tables": Out(stream.Signature(TableWrite())),
                "state_request": Out(stream.Signature(StateRequest())),
                "state": In(stream.Signature(SaState())),
                "reports": In(stream.Signature(Report())).array(reporters),
                "cfe": Out(CfeControl()),
                "cfe_counters": In(CFE_COUNTERS),
                "dfe_counters": In(DFE_COUNTERS).array(dfes),
                "forward_counters": In(FORWARD_COUNTERS),
                "healthy": In(MAX_DFES),
                "wiping": In(1),
                "closed": Out(1),
                "time": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.slave = slave = AxiLiteSlave(address_width=ADDRESS_WIDTH)
        m.submodules.bank = bank = Bank(
            "gateway", address_width=ADDRESS_WIDTH, counts={"dfe_count": self._dfes}
        )
        m.submodules.window = window = TableWindow(sizes=self._sizes, dfes=self._dfes)
        m.submodules.events = events = Events(reporters=self._reporters)
        wiring.connect(m, wiring.flipped(self.axil), slave.axil)
        wiring.connect(m, slave.bus, bank.bus)
        wiring.connect(m, bank.table, window.bus)
        wiring.connect(m, bank.drops, events.drops)
        wiring.connect(m, bank.event, events.view)
        wiring.connect(m, window.o, wiring.flipped(self.tables))
        for outer, inner in zip(self.reports, events.reports, strict=False):
            wiring.connect(m, wiring.flipped(outer), inner)

        for name, values in self._capabilities.items():
            for field in rdl.registers()[name].fields.values():
                m.d.comb += getattr(bank, member(rdl.registers()[name], field)).eq(values.get(field.name, 0))
        for name in CfeControl().members:
            if name != "punts":
                m.d.comb += Value.cast(self.cfe[name]).eq(getattr(bank, f"cfe_{name}"))
        for kind in PuntClass:
            for name in Policer().members:
                m.d.comb += self.cfe.punts[kind][name].eq(
                    getattr(bank, f"cfe_punt_{kind.name.lower()}_{name}")
                )
        for name in CFE_COUNTERS.members:
            m.d.comb += getattr(bank, f"cfe_count_{name}").eq(self.cfe_counters[name])
        for name in FORWARD_COUNTERS.members:
            m.d.comb += getattr(bank, f"forward_count_{name}").eq(self.forward_counters[name])
        for name in DFE_COUNTERS.members:
            for port, counters in zip(getattr(bank, f"dfe_count_{name}"), self.dfe_counters, strict=False):
                m.d.comb += port.eq(counters[name])
        m.d.sync += self.time.eq(self.time + 1)
        m.d.comb += [
            bank.time.eq(self.time),
            bank.healthy.eq(self.healthy),
            bank.table_status_busy.eq(window.busy),
            bank.table_status_wiping.eq(self.wiping),
            self.closed.eq(window.closed),
            events.mask.eq(Cat(bank.event_mask_low, bank.event_mask_high)),
            events.time.eq(self.time),
            events.pop.eq(bank.event_pop),
            events.pop_written.eq(bank.event_pop_written),
            bank.event_pending.eq(events.pending),
            bank.event_lost.eq(events.lost),
        ]
        no_dfe, no_sa, early = self._read_state(m, bank)
        m.d.comb += [
            bank.errors_address.eq(bank.refused_address),
            bank.errors_strobe.eq(bank.refused_strobe),
            bank.errors_busy.eq(bank.refused_busy),
            bank.errors_table.eq(window.bad_table),
            bank.errors_index.eq(window.bad_index),
            bank.errors_rows.eq(window.bad_rows),
            bank.errors_dfe.eq(window.bad_dfe | no_dfe),
            bank.errors_sa.eq(no_sa),
            bank.errors_request.eq(early),
            bank.errors_pop.eq(events.bad_pop),
        ]
        return m

    def _read_state(self, m, bank):
        """Asks for an SA's state and keeps the answer. Returns pulses for what it refuses: no such DFE, no
        such SA, still busy.
        """
        request = self.state_request
        busy = Signal()
        refused = Signal()
        no_dfe = Signal()
        no_sa = Signal()
        early = Signal()
        kept = Signal(SaState())
        m.d.comb += [
            bank.state_status_busy.eq(busy),
            bank.state_status_refused.eq(refused),
            self.state.ready.eq(1),
        ]
        m.d.comb += [bank.state_soft.eq(kept.soft), bank.state_hard.eq(kept.hard)]
        for name in ("sequence", "window", "bytes", "packets"):
            low, high = getattr(bank, f"state_{name}_low"), getattr(bank, f"state_{name}_high")
            m.d.comb += Cat(low, high).eq(kept[name])
        with m.If(bank.state_select_written):
            m.d.comb += [
                early.eq(busy),
                no_dfe.eq(bank.state_select_dfe >= self._dfes),
                no_sa.eq(bank.state_select_sa >= self._sa_entries),
            ]
            m.d.sync += refused.eq(early | no_dfe | no_sa)
            with m.If(~(early | no_dfe | no_sa)):
                m.d.sync += [
                    busy.eq(1),
                    request.valid.eq(1),
                    request.payload.dfe.eq(bank.state_select_dfe),
                    request.payload.sa.eq(bank.state_select_sa),
                ]
        with m.If(request.valid & request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(self.state.valid):
            m.d.sync += [kept.eq(self.state.payload), busy.eq(0)]
        return no_dfe, no_sa, early
