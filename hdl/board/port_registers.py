# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The registers of the Ethernet ports, the part ``port`` of ``board.rdl``."""

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from spigate.hdl.board.ethernet import Statistics
from spigate.hdl.board.mac import Inband
from spigate.hdl.board.mdio import PhyStatus
from spigate.hdl.contract import rdl
from spigate.hdl.csr.axil import RegisterBus

NAME = "port"
PORTS = 2
WIDE = ("rx_bytes", "tx_bytes")
"""Statistics that are two registers, ``_low`` and ``_high``."""


class PortRegisters(wiring.Component):
    """Answers reads with what the ports count. Writes fail, and so do reads where there is no register.

    Parameters
    ----------
    ports : int
        Ports there are, 1 to :data:`PORTS`.

    Members
    -------
    bus : In(RegisterBus)
        Word addresses begin at 0 with the part.
    statistics : In(Statistics).array(ports)
    inband : In(Inband).array(ports)
    resetting, link : In(1).array(ports)
    resets : In(32).array(ports)
        As of :class:`~spigate.hdl.board.link_watch.LinkWatch`, with ``link`` for its ``up``.
    phy : In(PhyStatus).array(ports)
    polls : In(16).array(ports)
        As of :class:`~spigate.hdl.board.mdio.MdioPoller`.
    """

    def __init__(self, ports: int = PORTS):
        if not 1 <= ports <= PORTS:
            raise ValueError(f"ports must be 1 to {PORTS}, not {ports!r}")
        self._ports = ports
        self._registers = [each for each in rdl.registers("board").values() if each.port == NAME]
        self._first = min(each.address for each in self._registers)
        last = max(each.at(PORTS - 1) for each in self._registers)
        self._words = (last - self._first) // 4 + 1
        super().__init__(
            {
                "bus": In(RegisterBus(address_width=(self._words - 1).bit_length() + 2)),
                "statistics": In(Statistics()).array(ports),
                "inband": In(Inband()).array(ports),
                "resetting": In(1).array(ports),
                "link": In(1).array(ports),
                "resets": In(32).array(ports),
                "phy": In(PhyStatus()).array(ports),
                "polls": In(16).array(ports),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        words = [Const(0, 32)] * (1 << len(bus.read_address))
        there = [Const(0)] * len(words)
        for register in self._registers:
            name = register.name.removeprefix(f"{NAME}.")
            for index in range(self._ports):
                at = (register.at(index) - self._first) // 4
                words[at], there[at] = self._value(name, index), Const(1)
        # A multiplexer of wide words wants a register on either side.
        address = Signal.like(bus.read_address)
        waited = Signal(2)
        m.d.sync += [
            address.eq(bus.read_address),
            bus.read_data.eq(Array(words)[address]),
            bus.read_error.eq(~Array(there)[address]),
            waited.eq(0),
        ]
        with m.If(bus.read & ~bus.read_done):
            m.d.sync += waited.eq(waited + 1)
        m.d.comb += [
            bus.read_done.eq(bus.read & (waited == 2)),
            bus.write_done.eq(bus.write),
            bus.write_error.eq(1),
        ]
        return m

    def _value(self, name: str, index: int):
        """The word of the register ``name`` of a port."""
        statistics, inband, phy = self.statistics[index], self.inband[index], self.phy[index]
        if name == "status":
            return Cat(inband.up, inband.speed, inband.full_duplex, self.resetting[index], self.link[index])
        if name == "phy":
            told = Cat(phy.present, phy.up, phy.speed, phy.full_duplex)
            return Cat(told, Const(0, 3), phy.address, Const(0, 3), self.polls[index])
        if name == "phy_id":
            return phy.identifier
        if name == "resets":
            return self.resets[index]
        for wide in WIDE:
            if name == f"{wide}_low":
                return statistics[wide][:32]
            if name == f"{wide}_high":
                return statistics[wide][32:]
        return statistics[name]
