# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Commands of LiteX's UARTBone, turned into register accesses."""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.csr.axil import DATA_BITS, RegisterBus
from spigate.hdl.net.packet import swap_bytes

ADDRESS_WIDTH = 34
"""Bits of a byte address: the wire has 32 bits of word address."""


class Command(IntEnum):
    """The first byte of a command."""

    WRITE_INCREMENT = 1
    READ_INCREMENT = 2
    WRITE_FIXED = 3
    READ_FIXED = 4


class UartBone(wiring.Component):
    """The framing of LiteX's ``Stream2Wishbone`` (litex 2024.12, ``litex/soc/cores/uart.py``).

    A command is its byte (:class:`Command`), a length in words (1 to 255), the number of the first word (4
    bytes), and for writes the words (4 bytes each); all high byte first. A read is answered by its words, a
    write by nothing. Reads whose access fails are answered by what the bus gives.

    Other bytes than commands are passed over. A command of length 0 does nothing. A command that is not
    whole after a pause is forgotten; words of it that were whole have been written.

    Parameters
    ----------
    pause_clocks : int
        Clocks without a byte that end a command half sent.

    Members
    -------
    i, o : streams of 8
        Bytes from and to the host. Nothing is taken while words are read and sent.
    bus : Out(RegisterBus)
        Addresses of :data:`ADDRESS_WIDTH` bits; reads and writes one after the other.
    timeout : Out(1)
        For one clock: a command ended half sent.
    """

    def __init__(self, *, pause_clocks: int):
        if pause_clocks < 2:
            raise ValueError(f"pause_clocks must be 2 or more, not {pause_clocks!r}")
        self._pause_clocks = pause_clocks
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "bus": Out(RegisterBus(address_width=ADDRESS_WIDTH)),
                "timeout": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        i, o, bus = self.i, self.o, self.bus
        command = Signal(8)
        left = Signal(8)
        address = Signal(32)
        word = Signal(DATA_BITS)
        place = Signal(2)
        writes = Signal()
        m.d.comb += [
            bus.read_address.eq(address),
            bus.write_address.eq(address),
            bus.write_data.eq(word),
            bus.write_strobe.eq(~0),
            writes.eq((command == Command.WRITE_INCREMENT) | (command == Command.WRITE_FIXED)),
        ]
        pause = Signal(range(self._pause_clocks + 1))
        waiting = Signal()
        m.d.sync += pause.eq(0)
        with m.If(waiting & ~i.valid):
            m.d.sync += pause.eq(pause + 1)
            m.d.comb += self.timeout.eq(pause == self._pause_clocks - 1)

        def taken(state: str):
            """In the state of that name a byte is waited for: the condition under which it is there."""
            m.d.comb += [i.ready.eq(1), waiting.eq(1)]
            with m.If(self.timeout):
                m.next = "COMMAND"
            return i.valid

        def word_done():
            m.d.sync += left.eq(left - 1)
            with m.If((command == Command.WRITE_INCREMENT) | (command == Command.READ_INCREMENT)):
                m.d.sync += address.eq(address + 1)
            with m.If(left == 1):
                m.next = "COMMAND"

        with m.FSM():
            with m.State("COMMAND"):
                m.d.comb += i.ready.eq(1)
                m.d.sync += [command.eq(i.payload), place.eq(0)]
                known = Cat(i.payload == each for each in Command).any()
                with m.If(i.valid & known):
                    m.next = "LENGTH"
            with m.State("LENGTH"):
                with m.If(taken("LENGTH")):
                    m.d.sync += left.eq(i.payload)
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                with m.If(taken("ADDRESS")):
                    m.d.sync += [address.eq(Cat(i.payload, address)), place.eq(place + 1)]
                    with m.If(place.all()):
                        m.next = "READ"
                        with m.If(writes):
                            m.next = "DATA"
                        with m.If(left == 0):
                            m.next = "COMMAND"
            with m.State("DATA"):
                with m.If(taken("DATA")):
                    m.d.sync += [word.eq(Cat(i.payload, word)), place.eq(place + 1)]
                    with m.If(place.all()):
                        m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += bus.write.eq(1)
                with m.If(bus.write_done):
                    m.next = "DATA"
                    word_done()
            with m.State("READ"):
                m.d.comb += bus.read.eq(1)
                m.d.sync += word.eq(swap_bytes(bus.read_data))
                with m.If(bus.read_done):
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [o.valid.eq(1), o.payload.eq(word[:8])]
                with m.If(o.ready):
                    m.d.sync += [word.eq(word >> 8), place.eq(place + 1)]
                    with m.If(place.all()):
                        m.next = "READ"
                        word_done()
        return m
