# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A whole board, from pin to pin: clocks, two Ethernet ports, the host link, and the gateway between them."""

from collections.abc import Mapping

from amaranth.hdl import Cat, ClockDomain, Instance, IOPort, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from spigate.hdl.board.clocks import TX, Clocks
from spigate.hdl.board.ethernet import EthernetPort
from spigate.hdl.board.link_watch import LinkWatch
from spigate.hdl.board.mac import Rgmii
from spigate.hdl.board.mdio import POLL_SECONDS, MdioPoller
from spigate.hdl.board.port_registers import PortRegisters
from spigate.hdl.board.uart_link import UartLink

PHY_RESET_SECONDS = 0.01
"""PHYs want to be reset for so long after power is good (Marvell 88E1512, Broadcom B50612D)."""
BLINK_SECONDS = 0.05
"""An LED that shows events is lit for so long."""
STEADY_SECONDS = 0.001
"""In-band status must have said the same for so long: fifty of the longest frames at 1000 Mbit/s."""
LEDS = 8
SIDES = ("network", "server")


class Top(wiring.Component):
    """A board's design. It makes its own clock domains.

    Parameters
    ----------
    gateway : Gateway or None
        None: a bridge. What comes in at one port goes out at the other as it is, and the gateway's registers
        do not answer.
    beat_bytes : int
        Of the gateway, or of the bridge.
    input_mhz, core_mhz : float
        The board's oscillator, and the clock to make of it for all but the pins.
    baud : float
        Of the host link.
    management : tuple of dict of str to (int or None)
        Management buses, each with the addresses of its PHYs by the side that they serve, ``network`` or
        ``server``; addresses are those of :class:`~spigate.hdl.board.mdio.MdioPoller`.
    phy_resets, leds : int
        Pins there are; LEDs up to :data:`LEDS`.
    button : bool
        Whether there is one for the reset.
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
    phy_reset_n : Out(phy_resets)
    mdc : Out(len(management))
    io_ports : list of IOPort
        ``mdio``, with a pin for each bus. Where there is no bus there is neither ``mdc`` nor ``mdio``.
    uart_rx : In(1), uart_tx : Out(1)
    leds_n : Out(leds)
        Lit by 0. LED 0 blinks a few times a second: the clock runs. 1 and 2: a frame came in, went out at
        the network port. 3 and 4: likewise at the server port. 5: a port lost a frame or got a bad one.
        6: the host link sends. 7: the PHYs are being reset.
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
        self._reset_clocks = round(core_mhz * 1e6 * phy_reset_seconds)
        self._steady_clocks = round(core_mhz * 1e6 * steady_seconds)
        named = [side for bus in management for side in bus]
        if len(set(named)) != len(named) or not set(named) <= set(SIDES):
            raise ValueError(f"management must name network and server once at most, not {named!r}")
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
                "network": Out(Rgmii()),
                "server": Out(Rgmii()),
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
        for name in SIDES:
            m.submodules[name] = ports[name] = port = EthernetPort(beat_bytes=self._beat_bytes, domain=TX)
            connect(m, port.rgmii, flipped(getattr(self, name)))
        # The PHYs' clocks come and go with their reset, so the MACs are in reset meanwhile.
        waited = Signal(range(self._reset_clocks + 1))
        resetting = Signal(init=1)
        with m.If(waited == self._reset_clocks):
            m.d.sync += resetting.eq(0)
        with m.Else():
            m.d.sync += waited.eq(waited + 1)
        m.d.comb += self.phy_reset_n.eq((~resetting).replicate(len(self.phy_reset_n)))
        m.submodules.registers = registers = PortRegisters()
        connect(m, link.port, registers.bus)
        for at, port in enumerate(ports.values()):
            watch = LinkWatch(steady_clocks=self._steady_clocks)
            m.submodules[f"{SIDES[at]}_watch"] = watch
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
        self._join(m, link, **ports)
        self._show(m, link, resetting, **ports)
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
                at = SIDES.index(side)
                m.d.comb += [registers.phy[at].eq(status), registers.polls[at].eq(polls)]

    def _join(self, m, link, network, server) -> None:
        """The gateway, or what stands in its place."""
        if self._gateway is None:
            connect(m, network.o, server.i)
            connect(m, server.o, network.i)
            m.d.comb += link.inject.ready.eq(1)
            return
        m.submodules.gateway = gateway = self._gateway
        connect(m, network.o, gateway.network_i)
        connect(m, gateway.network_o, network.i)
        connect(m, server.o, gateway.server_i)
        connect(m, gateway.server_o, server.i)
        connect(m, gateway.punt, link.punt)
        connect(m, link.inject, gateway.inject)
        connect(m, link.axil, gateway.axil)

    def _show(self, m, link, resetting, network, server) -> None:
        """The LEDs."""
        clocks = round(self._core_mhz * 1e6 * BLINK_SECONDS)
        beat = Signal(range(8 * clocks))
        m.d.sync += beat.eq(beat + 1)
        lit = [beat[-1]]
        losses = []
        for port in (network, server):
            counts = port.statistics
            lit += [_blink(m, counts.rx_good, clocks), _blink(m, counts.tx_good, clocks)]
            losses += [
                getattr(counts, name)[0]
                for name in ("rx_bad", "rx_short", "rx_long", "rx_dropped", "rx_preamble", "tx_lost")
            ]
        lit += [_blink(m, Cat(losses), clocks), ~link.tx, resetting]
        m.d.sync += self.leds_n.eq(~Cat(lit)[: len(self.leds_n)])


def _blink(m, value, clocks: int) -> Signal:
    """1 for ``clocks`` clocks after each change of ``value``, whose lowest bits are looked at."""
    seen = Signal(min(len(value), 16))
    left = Signal(range(clocks + 1))
    m.d.sync += [seen.eq(value), left.eq(Mux(seen != value[: len(seen)], clocks, left - left.any()))]
    return left.any()
