# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""AXI4-Lite at the boundary, and the plain register bus behind it."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

DATA_BITS = 32
OKAY, SLVERR = 0, 2
"""The responses to an access that went well, and to one that failed."""


ADDRESS_WIDTH = 16
"""Bits of the gateway's byte addresses."""


class AxiLite(wiring.Signature):
    """AXI4-Lite with 32-bit data (ARM IHI 0022, part B), seen from the manager; names as there, without a
    prefix.

    Parameters
    ----------
    address_width : int
        Bits of a byte address.
    """

    def __init__(self, *, address_width: int = ADDRESS_WIDTH):
        if address_width < 3:
            raise ValueError(f"address_width must be 3 or more, not {address_width!r}")
        self.address_width = address_width
        super().__init__(
            {
                "awaddr": Out(address_width),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(DATA_BITS),
                "wstrb": Out(DATA_BITS // 8),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(address_width),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(DATA_BITS),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class RegisterBus(wiring.Signature):
    """Accesses to 32-bit registers, seen from the one who asks. Reads and writes do not wait for one another.

    Members
    -------
    read, write : Out(1)
        Held, address and data unchanged, until the answer, then 0 for at least one clock. Who asks may give
        up earlier.
    read_address, write_address : Out(address_width - 2)
        Number of the word.
    write_data : Out(32)
    write_strobe : Out(4)
        Bytes to be written.
    read_done, write_done : In(1)
        The answer: for one clock, only during an access.
    read_data : In(32), read_error, write_error : In(1)
        Valid with the answer. An access with an error had no effect.
    """

    def __init__(self, *, address_width: int):
        super().__init__(
            {
                "read": Out(1),
                "read_address": Out(address_width - 2),
                "read_done": In(1),
                "read_data": In(DATA_BITS),
                "read_error": In(1),
                "write": Out(1),
                "write_address": Out(address_width - 2),
                "write_data": Out(DATA_BITS),
                "write_strobe": Out(DATA_BITS // 8),
                "write_done": In(1),
                "write_error": In(1),
            }
        )


class AxiLiteSlave(wiring.Component):
    """Turns AXI4-Lite transfers into accesses on a register bus, one read and one write at a time.

    Address and data of a write may come in either order. The two low address bits and the protection bits are
    ignored. An access with an error is answered with SLVERR.

    Parameters
    ----------
    address_width : int
        Bits of a byte address.

    Members
    -------
    axil : In(AxiLite)
    bus : Out(RegisterBus)
    """

    def __init__(self, *, address_width: int):
        super().__init__(
            {
                "axil": In(AxiLite(address_width=address_width)),
                "bus": Out(RegisterBus(address_width=address_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axil, bus = self.axil, self.bus

        # One transfer of each channel is kept; all outputs come from registers.
        have_address = Signal()
        have_data = Signal()
        m.d.comb += [
            axil.awready.eq(~have_address),
            axil.wready.eq(~have_data),
            bus.write.eq(have_address & have_data & ~axil.bvalid),
        ]
        with m.If(axil.awvalid & axil.awready):
            m.d.sync += [have_address.eq(1), bus.write_address.eq(axil.awaddr[2:])]
        with m.If(axil.wvalid & axil.wready):
            m.d.sync += [have_data.eq(1), bus.write_data.eq(axil.wdata), bus.write_strobe.eq(axil.wstrb)]
        with m.If(axil.bready):
            m.d.sync += axil.bvalid.eq(0)
        with m.If(bus.write & bus.write_done):
            m.d.sync += [
                have_address.eq(0),
                have_data.eq(0),
                axil.bvalid.eq(1),
                axil.bresp.eq(Mux(bus.write_error, SLVERR, OKAY)),
            ]

        reading = Signal()
        m.d.comb += [axil.arready.eq(~reading), bus.read.eq(reading & ~axil.rvalid)]
        with m.If(axil.arvalid & axil.arready):
            m.d.sync += [reading.eq(1), bus.read_address.eq(axil.araddr[2:])]
        with m.If(axil.rready):
            m.d.sync += axil.rvalid.eq(0)
        with m.If(bus.read & bus.read_done):
            m.d.sync += [
                reading.eq(0),
                axil.rvalid.eq(1),
                axil.rdata.eq(bus.read_data),
                axil.rresp.eq(Mux(bus.read_error, SLVERR, OKAY)),
            ]
        return m


class AxiLiteMaster(wiring.Component):
    """Turns accesses on a register bus into AXI4-Lite transfers of whole words, one read and one write at a
    time.

    Who asks may give up. The transfer goes on, because AXI cannot take it back; its answer is nobody's, and
    the next access of its kind waits for it.

    Parameters
    ----------
    address_width : int
        Bits of a byte address.

    Members
    -------
    bus : In(RegisterBus)
        Any other response than OKAY is an error.
    axil : Out(AxiLite)
    """

    def __init__(self, *, address_width: int):
        super().__init__(
            {
                "bus": In(RegisterBus(address_width=address_width)),
                "axil": Out(AxiLite(address_width=address_width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axil, bus = self.axil, self.bus
        given_up = Signal()
        with m.FSM(name="write"):
            with m.State("IDLE"):
                m.d.sync += [
                    axil.awaddr.eq(Cat(Const(0, 2), bus.write_address)),
                    axil.wdata.eq(bus.write_data),
                    axil.wstrb.eq(bus.write_strobe),
                    given_up.eq(0),
                ]
                with m.If(bus.write):
                    m.d.sync += [axil.awvalid.eq(1), axil.wvalid.eq(1)]
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += [
                    axil.bready.eq(1),
                    bus.write_done.eq(axil.bvalid & bus.write & ~given_up),
                    bus.write_error.eq(axil.bresp != OKAY),
                ]
                with m.If(axil.awready):
                    m.d.sync += axil.awvalid.eq(0)
                with m.If(axil.wready):
                    m.d.sync += axil.wvalid.eq(0)
                with m.If(~bus.write):
                    m.d.sync += given_up.eq(1)
                with m.If(axil.bvalid):
                    m.next = "IDLE"
        abandoned = Signal()
        with m.FSM(name="read"):
            with m.State("IDLE"):
                m.d.sync += [axil.araddr.eq(Cat(Const(0, 2), bus.read_address)), abandoned.eq(0)]
                with m.If(bus.read):
                    m.d.sync += axil.arvalid.eq(1)
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += [
                    axil.rready.eq(1),
                    bus.read_done.eq(axil.rvalid & bus.read & ~abandoned),
                    bus.read_data.eq(axil.rdata),
                    bus.read_error.eq(axil.rresp != OKAY),
                ]
                with m.If(axil.arready):
                    m.d.sync += axil.arvalid.eq(0)
                with m.If(~bus.read):
                    m.d.sync += abandoned.eq(1)
                with m.If(axil.rvalid):
                    m.next = "IDLE"
        return m
