# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What PHYs say of themselves on their management bus: IEEE 802.3 clause 22, MDC and MDIO.

Nothing is ever written to a PHY. All that is asked is in registers that the standard defines.
"""

from enum import IntEnum
from math import ceil

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

MDC_HZ = 2.5e6
"""Fastest management clock (802.3 22.2.2, MDC: a period of 400 ns or more, 160 ns or more each half)."""
LEAST_HZ = 25e6
"""Slowest core clock. A PHY changes MDIO up to 300 ns behind a rising edge of MDC (22.3.4). It is read at the
next one, which is 400 ns later, and the synchroniser looks back by two clocks.
"""
POLL_SECONDS = 0.01
"""Between polls of a bus. A link at 1000 Mbit/s needs far longer than that to come up again."""
PREAMBLE, HEADER, FRAME = 32, 14, 64
"""Bits of a frame (22.2.4.5): the ones that begin it; start, operation and addresses; all of it. A bit's time
of rest follows, since the PHY may drive its last bit until 300 ns behind the edge.
"""
START_AND_READ = 0b01_10
UNKNOWN_SPEED = 3


class Register(IntEnum):
    """Registers of a PHY (22.2.4.1 to 22.2.4.3, 28.2.4, 40.5.1)."""

    CONTROL = 0
    STATUS = 1
    IDENTIFIER_HIGH = 2
    IDENTIFIER_LOW = 3
    ADVERTISED = 4
    PARTNER = 5
    GIGABIT_CONTROL = 9
    GIGABIT_STATUS = 10


POLL = (
    Register.CONTROL,
    Register.STATUS,
    Register.STATUS,
    Register.IDENTIFIER_HIGH,
    Register.IDENTIFIER_LOW,
    Register.ADVERTISED,
    Register.PARTNER,
    Register.GIGABIT_CONTROL,
    Register.GIGABIT_STATUS,
)
"""What a poll reads. The status twice: its link bit stays 0 after a loss of the link until it is read
(22.2.4.2.13), so that the second one is what is true now.
"""


class PhyStatus(data.StructLayout):
    """What a PHY says of itself.

    Members
    -------
    present : unsigned(1)
        A PHY answers. If none does, all the rest but ``address`` is 0.
    up : unsigned(1)
        It has a link.
    speed : unsigned(2)
        Of the link; 0: 10, 1: 100, 2: 1000 Mbit/s, 3: the two sides have nothing in common. 0 without a link.
    full_duplex : unsigned(1)
        Likewise.
    address : unsigned(5)
        Its address on the bus.
    identifier : unsigned(32)
        Register 2 in the high half, 3 in the low one.
    """

    def __init__(self):
        super().__init__(
            {"present": 1, "up": 1, "speed": 2, "full_duplex": 1, "address": 5, "identifier": 32}
        )


class MdioReader(wiring.Component):
    """Reads one register of one PHY.

    Outputs change with falling edges of MDC, 200 ns from the edges with which PHYs take them.

    Parameters
    ----------
    clock_hz : float
        Clocks a second, :data:`LEAST_HZ` or more.

    Members
    -------
    mdc : Out(1)
        0 at rest.
    mdio_i : In(1)
        At the pin, not synchronised. A resistor pulls it up.
    mdio_o, mdio_oe : Out(1)
    start : In(1)
        Looked at when nothing is going on.
    address, register : In(5)
        With ``start``.
    done : Out(1)
        For one clock: a read has ended.
    answered : Out(1), value : Out(16)
        With ``done``: whether a PHY drove the second bit of the turnaround, and what it sent.
    """

    def __init__(self, *, clock_hz: float):
        if not clock_hz >= LEAST_HZ:
            raise ValueError(f"clock_hz must be {LEAST_HZ:g} or more, not {clock_hz!r}")
        self._half = ceil(clock_hz / (2 * MDC_HZ))
        super().__init__(
            {
                "mdc": Out(1),
                "mdio_i": In(1),
                "mdio_o": Out(1, init=1),
                "mdio_oe": Out(1),
                "start": In(1),
                "address": In(5),
                "register": In(5),
                "done": Out(1),
                "answered": Out(1),
                "value": Out(16),
            }
        )

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.mdio_i, line, init=1)
        busy = Signal()
        clocks = Signal(range(self._half))
        bit = Signal(range(FRAME + 1))
        # Sent from the high end on; ones come in behind.
        header = Signal(HEADER)
        came = Signal(17)
        m.d.comb += [self.value.eq(came[:16]), self.answered.eq(~came[16])]
        m.d.sync += self.done.eq(0)
        with m.If(~busy):
            with m.If(self.start):
                m.d.sync += [
                    busy.eq(1),
                    clocks.eq(self._half - 1),
                    bit.eq(0),
                    header.eq(Cat(self.register, self.address, C(START_AND_READ, 4))),
                    self.mdio_o.eq(1),
                    self.mdio_oe.eq(1),
                ]
        with m.Elif(clocks != 0):
            m.d.sync += clocks.eq(clocks - 1)
        with m.Else():
            m.d.sync += [clocks.eq(self._half - 1), self.mdc.eq(~self.mdc)]
            with m.If(~self.mdc):
                with m.If(bit != FRAME):
                    m.d.sync += came.eq(Cat(line, came))
            with m.Else():
                m.d.sync += bit.eq(bit + 1)
                with m.If(bit >= PREAMBLE - 1):
                    m.d.sync += Cat(header, self.mdio_o).eq(Cat(1, header))
                with m.If(bit == PREAMBLE + HEADER - 1):
                    m.d.sync += self.mdio_oe.eq(0)
                with m.If(bit == FRAME):
                    m.d.sync += [busy.eq(0), self.done.eq(1)]
        return m


class MdioPoller(wiring.Component):
    """Polls the PHYs of one management bus.

    What a poll finds is taken when the next poll of that PHY finds the same, so that a disturbance on the bus
    changes nothing. The identifier is read each time too, since a PHY may be reset, or found at another
    address.

    Parameters
    ----------
    clock_hz : float
        Clocks a second.
    addresses : tuple of (int or None)
        Of the PHYs on the bus, 0 to 31. None: the first address at which one answers, which is searched for
        as long as none does. Straps differ between revisions of a board, and alone on its bus a PHY cannot be
        mistaken for another. Of several PHYs each needs its address: which port it serves cannot be read.
    poll_seconds : float
        From one poll of all of them to the next.

    Members
    -------
    mdc, mdio_i, mdio_o, mdio_oe
        As of :class:`MdioReader`.
    status : Out(PhyStatus).array(len(addresses))
    polls : Out(16).array(len(addresses))
        Of this PHY, or at addresses where one might be; wraps.
    """

    def __init__(
        self, *, clock_hz: float, addresses: tuple[int | None, ...], poll_seconds: float = POLL_SECONDS
    ):
        if not addresses:
            raise ValueError("addresses must have one PHY or more")
        if len(addresses) > 1 and None in addresses:
            raise ValueError(f"each of several PHYs on a bus needs its address, not {addresses!r}")
        for address in addresses:
            if address is not None and not 0 <= address < 32:
                raise ValueError(f"addresses must be 0 to 31, not {address!r}")
        if len(set(addresses)) != len(addresses):
            raise ValueError(f"addresses must differ, not {addresses!r}")
        self._addresses = addresses
        self._reader = MdioReader(clock_hz=clock_hz)
        self._wait = max(1, round(clock_hz * poll_seconds))
        count = len(addresses)
        super().__init__(
            {
                "mdc": Out(1),
                "mdio_i": In(1),
                "mdio_o": Out(1, init=1),
                "mdio_oe": Out(1),
                "status": Out(PhyStatus()).array(count),
                "polls": Out(16).array(count),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = self._reader
        m.submodules.resolve = resolve = Resolve()
        for name in ("mdc", "mdio_o", "mdio_oe"):
            m.d.comb += getattr(self, name).eq(getattr(reader, name))
        count = len(self._addresses)
        which, step = Signal(range(max(count, 2))), Signal(range(len(POLL)))
        addresses = Array(
            Signal(5, init=each or 0, name=f"address_{at}") for at, each in enumerate(self._addresses)
        )
        left = Signal(range(self._wait + 1), init=self._wait)
        m.d.comb += [
            reader.mdio_i.eq(self.mdio_i),
            reader.address.eq(addresses[which]),
            reader.register.eq(Array(int(each) for each in POLL)[step]),
            resolve.step.eq(step),
            resolve.read.eq(reader.done),
            resolve.value.eq(reader.value),
            resolve.answered.eq(reader.answered),
            resolve.address.eq(addresses[which]),
        ]
        with m.FSM():
            with m.State("WAIT"):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.d.sync += left.eq(self._wait)
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += reader.start.eq(1)
                m.next = "READING"
            with m.State("READING"):
                with m.If(reader.done):
                    m.next = "READ"
                    m.d.sync += step.eq(step + 1)
                    with m.If(step == len(POLL) - 1):
                        m.d.sync += step.eq(0)
                        m.next = "TAKE"
            with m.State("TAKE"):
                for at, address in enumerate(self._addresses):
                    with m.If(which == at):
                        self._take(m, at, resolve.status, addresses[at] if address is None else None)
                m.d.sync += which.eq(which + 1)
                m.next = "READ"
                with m.If(which == count - 1):
                    m.d.sync += which.eq(0)
                    m.next = "WAIT"
        return m

    def _take(self, m, at: int, found, searched) -> None:
        """A poll of a PHY has ended; ``searched`` is its address if that is not given."""
        before = Signal(PhyStatus(), name=f"before_{at}")
        m.d.sync += [before.eq(found), self.polls[at].eq(self.polls[at] + 1)]
        with m.If(before == found):
            m.d.sync += self.status[at].eq(found)
        if searched is not None:
            with m.If(~found.present & ~self.status[at].present):
                m.d.sync += searched.eq(searched + 1)


class Resolve(wiring.Component):
    """Makes one status of the registers of a poll.

    Members
    -------
    read : In(1)
        A register was read, the one that :data:`POLL` has at ``step``.
    step : In(range(len(POLL)))
    value : In(16), answered : In(1)
        As of :class:`MdioReader`.
    address : In(5)
    status : Out(PhyStatus)
        Of the last poll, from the clock behind its last register on, until the next ``read``.
    """

    def __init__(self):
        super().__init__(
            {
                "read": In(1),
                "step": In(range(len(POLL))),
                "value": In(16),
                "answered": In(1),
                "address": In(5),
                "status": Out(PhyStatus()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        value = self.value
        answered, real, up, negotiates, extended = (
            Signal(name=name) for name in "answered real up negotiates extended".split()
        )
        forced_speed, forced_duplex = Signal(2), Signal()
        identifier = Signal(32)
        common, gigabit = Signal(5), Signal(2)
        with m.If(self.read):
            m.d.sync += answered.eq(self.answered & (answered | (self.step == 0)))
            with m.Switch(Array(int(each) for each in POLL)[self.step]):
                with m.Case(Register.CONTROL):
                    m.d.sync += [
                        negotiates.eq(value[12]),
                        forced_speed.eq(Cat(value[13], value[6])),
                        forced_duplex.eq(value[8]),
                    ]
                with m.Case(Register.STATUS):
                    # A PHY has some ability and lacks some; a line that is stuck says all or none.
                    m.d.sync += [real.eq(value.any() & ~value.all()), up.eq(value[2]), extended.eq(value[8])]
                with m.Case(Register.IDENTIFIER_HIGH, Register.IDENTIFIER_LOW):
                    m.d.sync += identifier.eq(Cat(value, identifier))
                with m.Case(Register.ADVERTISED):
                    m.d.sync += common.eq(value[5:10])
                with m.Case(Register.PARTNER):
                    m.d.sync += common.eq(common & value[5:10])
                with m.Case(Register.GIGABIT_CONTROL):
                    m.d.sync += gigabit.eq(value[8:10])
                with m.Case(Register.GIGABIT_STATUS):
                    m.d.sync += gigabit.eq(gigabit & value[10:12] & extended.replicate(2))
        speed, full = Signal(2), Signal()
        # The order is that of 802.3 Annex 28B.3. 100BASE-T4 is half duplex; nothing has 100BASE-T2.
        half_10, full_10, half_100, full_100, t4 = common
        half_1000, full_1000 = gigabit
        with m.If(~negotiates):
            m.d.comb += [speed.eq(forced_speed), full.eq(forced_duplex)]
        with m.Elif(gigabit.any()):
            m.d.comb += [speed.eq(2), full.eq(full_1000)]
        with m.Elif(full_100 | t4 | half_100):
            m.d.comb += [speed.eq(1), full.eq(full_100)]
        with m.Elif(full_10 | half_10):
            m.d.comb += [speed.eq(0), full.eq(full_10)]
        with m.Else():
            m.d.comb += speed.eq(UNKNOWN_SPEED)
        status, there = self.status, Signal()
        m.d.comb += [
            there.eq(answered & real),
            status.present.eq(there),
            status.up.eq(there & up),
            status.speed.eq(Mux(status.up, speed, 0)),
            status.full_duplex.eq(status.up & full),
            status.address.eq(self.address),
            status.identifier.eq(Mux(there, identifier, 0)),
        ]
        return m
