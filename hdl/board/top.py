# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A whole board, from pin to pin: clocks, Ethernet ports, the host link, and the gateway between them."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, ClockDomain, Const, Instance, IOPort, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from spigate.hdl.board.clocks import TX, Clocks
from spigate.hdl.board.ethernet import LONGEST, EthernetPort
from spigate.hdl.board.link_watch import LinkWatch
from spigate.hdl.board.mac import Rgmii
from spigate.hdl.board.mdio import POLL_SECONDS, MdioPoller
from spigate.hdl.board.port_registers import PortRegisters
from spigate.hdl.board.tags import TAG_BYTES
from spigate.hdl.board.uart_link import UartLink
from spigate.hdl.board.vlans import Vlans
from spigate.hdl.contract.vlans import SIDE_NAMES, check

PHY_RESET_SECONDS = 0.01
"""PHYs want to be reset for so long after power is good (Marvell 88E1512, Broadcom B50612D)."""
BLINK_SECONDS = 0.05
"""An LED that shows events is lit for so long."""
STEADY_SECONDS = 0.001
"""In-band status must have said the same for so long: fifty of the longest frames at 1000 Mbit/s."""
LEDS = 8


class Top(wiring.Component):
    """A board's design. It makes its own clock domains.

    Parameters
    ----------
    gateway : Gateway or None
        None: a bridge. What comes in at one side goes out at the other as it is, and the gateway's registers
        do not answer.
    beat_bytes : int
        Of the gateway, or of the bridge.
    input_mhz, core_mhz : float
        The board's oscillator, and the clock to make of it for all but the pins.
    baud : float
        Of the host link.
    management : tuple of dict of str to (int or None)
        Management buses, each with the addresses of its PHYs by the port that they serve, ``network`` or
        ``server``; addresses are those of :class:`~spigate.hdl.board.mdio.MdioPoller`.
    phy_resets, leds : int
        Pins there are; LEDs up to :data:`LEDS`.
    button : bool
        Whether there is one for the reset.
    vlans : tuple of int, or None
        None: each side has a port. Otherwise there is one port, ``network``, and these are the identifiers
        that the network's and the server's VLAN have on it after a reset.
    phy_reset_seconds : float
        How long PHYs are reset.
    poll_seconds, steady_seconds : float
        Between polls of PHYs; for how long in-band status must be steady.

    Members
    -------
    clock : In(1)
    reset_n : In(1)
        With ``button``.
    network, server : Out(Rgmii)
        With ``vlans`` no ``server``.
    phy_reset_n : Out(phy_resets)
    mdc : Out(len(management))
    io_ports : list of IOPort
        ``mdio``, with a pin for each bus. Where there is no bus there is neither ``mdc`` nor ``mdio``.
    uart_rx : In(1), uart_tx : Out(1)
    leds_n : Out(leds)
        Lit by 0. LED 0 blinks a few times a second: the clock runs. 1 and 2: a frame came in, went out at
        the network port. 3 and 4: likewise at the server port, dark without one. 5: a port lost a frame or
        got a bad one. 6: the host link sends. 7: the PHYs are being reset.
    """

    def __init__(
        self,
        gateway,
        *,
        beat_bytes: int,
        input_mhz: float,
        core_mhz: float,
        baud: float,
        management: tuple[Mapping[str, int | None], ...],
        phy_resets: int,
        leds: int,
        button: bool,
        vlans: tuple[int, ...] | None = None,
        phy_reset_seconds: float = PHY_RESET_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        steady_seconds: float = STEADY_SECONDS,
    ):
        if not 1 <= leds <= LEDS:
            raise ValueError(f"leds must be 1 to {LEDS}, not {leds!r}")
        if gateway is not None and gateway.beat_bytes != beat_bytes:
            raise ValueError(f"beat_bytes must be the gateway's {gateway.beat_bytes}, not {beat_bytes!r}")
        self._gateway, self._beat_bytes = gateway, beat_bytes
        self._input_mhz, self._core_mhz, self._baud = input_mhz, core_mhz, baud
        if vlans is not None:
            check(vlans)
        self._vlans = vlans
        self._ports = SIDE_NAMES if vlans is None else SIDE_NAMES[:1]
        self._reset_clocks = round(core_mhz * 1e6 * phy_reset_seconds)
        self._steady_clocks = round(core_mhz * 1e6 * steady_seconds)
        named = [side for bus in management for side in bus]
        if len(set(named)) != len(named) or not set(named) <= set(self._ports):
            raise ValueError(f"management must name {' and '.join(self._ports)} once at most, not {named!r}")
        self._buses = [
            (
                tuple(bus),
                MdioPoller(clock_hz=core_mhz * 1e6, addresses=tuple(bus.values()), poll_seconds=poll_seconds),
            )
            for bus in management
        ]
        self.io_ports = [IOPort(len(management), name="mdio")] if management else []
        super().__init__(
            {
                "clock": In(1),
                **({"reset_n": In(1)} if button else {}),
                **{name: Out(Rgmii()) for name in self._ports},
                "phy_reset_n": Out(phy_resets),
                **({"mdc": Out(len(management))} if management else {}),
                "uart_rx": In(1),
                "uart_tx": Out(1),
                "leds_n": Out(leds),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.domains += [ClockDomain("sync"), ClockDomain(TX, reset_less=True)]
        clock_hz = self._core_mhz * 1e6
        m.submodules.clocks = clocks = Clocks(input_mhz=self._input_mhz, core_mhz=self._core_mhz)
        m.d.comb += clocks.clock.eq(self.clock)
        if "reset_n" in self.signature.members:
            m.d.comb += clocks.reset.eq(~self.reset_n)
        m.submodules.link = link = UartLink(beat_bytes=self._beat_bytes, clock_hz=clock_hz, baud=self._baud)
        m.d.comb += [link.rx.eq(self.uart_rx), self.uart_tx.eq(link.tx)]
        ports = {}
        longest = LONGEST if self._vlans is None else LONGEST + TAG_BYTES
        for name in self._ports:
            m.submodules[name] = ports[name] = port = EthernetPort(
                beat_bytes=self._beat_bytes, domain=TX, longest=longest
            )
            connect(m, port.rgmii, flipped(getattr(self, name)))
        # The PHYs' clocks come and go with their reset, so the MACs are in reset meanwhile.
        waited = Signal(range(self._reset_clocks + 1))
        resetting = Signal(init=1)
        with m.If(waited == self._reset_clocks):
            m.d.sync += resetting.eq(0)
        with m.Else():
            m.d.sync += waited.eq(waited + 1)
        m.d.comb += self.phy_reset_n.eq((~resetting).replicate(len(self.phy_reset_n)))
        m.submodules.registers = registers = PortRegisters(len(ports))
        connect(m, link.port, registers.bus)
        for at, (name, port) in enumerate(ports.items()):
            m.submodules[f"{name}_watch"] = watch = LinkWatch(steady_clocks=self._steady_clocks)
            m.d.comb += [
                watch.inband.eq(port.inband),
                watch.phy.eq(registers.phy[at]),
                port.reset.eq(resetting | watch.reset),
                registers.statistics[at].eq(port.statistics),
                registers.inband[at].eq(port.inband),
                registers.resetting[at].eq(resetting),
                registers.link[at].eq(watch.up),
                registers.resets[at].eq(watch.resets),
            ]
        self._manage(m, registers, resetting)
        self._join(m, link, *self._sides(m, link, ports))
        self._show(m, link, resetting, list(ports.values()))
        return m

    def _manage(self, m, registers, resetting) -> None:
        """The pollers of the management buses, and their pins."""
        for number, (sides, poller) in enumerate(self._buses):
            m.submodules[f"mdio_{number}"] = ResetInserter(resetting)(poller)
            m.submodules[f"mdio_pin_{number}"] = Instance(
                "BB",
                i_I=poller.mdio_o,
                i_T=~poller.mdio_oe,
                o_O=poller.mdio_i,
                io_B=self.io_ports[0][number],
            )
            m.d.comb += self.mdc[number].eq(poller.mdc)
            for status, polls, side in zip(poller.status, poller.polls, sides, strict=True):
                at = self._ports.index(side)
                m.d.comb += [registers.phy[at].eq(status), registers.polls[at].eq(polls)]

    def _sides(self, m, link, ports) -> list[tuple[Any, Any]]:
        """The two streams of each side: to send, and what came."""
        if self._vlans is None:
            # Nothing is there: an access is refused at once.
            m.d.comb += [
                link.vlans.read_done.eq(link.vlans.read),
                link.vlans.write_done.eq(link.vlans.write),
                link.vlans.read_error.eq(1),
                link.vlans.write_error.eq(1),
            ]
            return [(port.i, port.o) for port in ports.values()]
        m.submodules.vlans = vlans = Vlans(beat_bytes=self._beat_bytes, identifiers=self._vlans)
        (port,) = ports.values()
        connect(m, link.vlans, vlans.bus)
        connect(m, port.o, vlans.received)
        connect(m, vlans.sent, port.i)
        return list(zip(vlans.i, vlans.o, strict=True))

    def _join(self, m, link, network, server) -> None:
        """The gateway, or what stands in its place."""
        (network_i, network_o), (server_i, server_o) = network, server
        if self._gateway is None:
            connect(m, network_o, server_i)
            connect(m, server_o, network_i)
            m.d.comb += link.inject.ready.eq(1)
            return
        m.submodules.gateway = gateway = self._gateway
        connect(m, network_o, gateway.network_i)
        connect(m, gateway.network_o, network_i)
        connect(m, server_o, gateway.server_i)
        connect(m, gateway.server_o, server_i)
        connect(m, gateway.punt, link.punt)
        connect(m, link.inject, gateway.inject)
        connect(m, link.axil, gateway.axil)

    def _show(self, m, link, resetting, ports) -> None:
        """The LEDs."""
        clocks = round(self._core_mhz * 1e6 * BLINK_SECONDS)
        beat = Signal(range(8 * clocks))
        m.d.sync += beat.eq(beat + 1)
        lit = [beat[-1]]
        losses = []
        for port in ports:
            counts = port.statistics
            lit += [_blink(m, counts.rx_good, clocks), _blink(m, counts.tx_good, clocks)]
            losses += [
                getattr(counts, name)[0]
                for name in ("rx_bad", "rx_short", "rx_long", "rx_dropped", "rx_preamble", "tx_lost")
            ]
        lit += [Const(0)] * 2 * (len(SIDE_NAMES) - len(ports))
        lit += [_blink(m, Cat(losses), clocks), ~link.tx, resetting]
        m.d.sync += self.leds_n.eq(~Cat(lit)[: len(self.leds_n)])


def _blink(m, value, clocks: int) -> Signal:
    """1 for ``clocks`` clocks after each change of ``value``, whose lowest bits are looked at."""
    seen = Signal(min(len(value), 16))
    left = Signal(range(clocks + 1))
    m.d.sync += [seen.eq(value), left.eq(Mux(seen != value[: len(seen)], clocks, left - left.any()))]
    return left.any()
