# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a host reaches over its link: the gateway's registers, the board's, and frames."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.crc.catalog import CRC32_ETHERNET
from amaranth.lib.wiring import In, Out, connect, flipped

from spigate.hdl.board.rings import InjectRing, PuntRing
from spigate.hdl.board.uartbone import ADDRESS_WIDTH as LINK_WIDTH
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import LINK_MAGIC, LINK_MAP
from spigate.hdl.csr.axil import ADDRESS_WIDTH, DATA_BITS, AxiLite, AxiLiteMaster, RegisterBus
from spigate.hdl.csr.bank import TIMEOUT as BANK_TIMEOUT
from spigate.hdl.csr.bank import Bank
from spigate.hdl.net.packet import packets

MAP_WIDTH = 18
"""Bits of a byte address in the space of ``board.rdl``."""
TIMEOUT = 2 * BANK_TIMEOUT
"""Clocks that an access waits before it counts as refused: more than the gateway's own limit."""
RING_BITS = 11
"""Logarithm of the words of a ring: 8 KiB, some 90 of the smallest frames."""
RINGS = ("punt", "inject")


class HostLink(wiring.Component):
    """One space of 32-bit words for a host, as ``board.rdl`` describes it, and the streams of the control
    element.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat of the packet streams.
    punt_bits, inject_bits : int
        Logarithms of the words of the rings.
    receive_bytes : int
        What the transport keeps while it is busy with an answer, for the register; 0: no limit.

    Members
    -------
    bus : In(RegisterBus)
        From the transport; addresses of :data:`~spigate.hdl.board.uartbone.ADDRESS_WIDTH` bits. Reads and
        writes must not overlap.
    framing_error, overrun, timeout : In(1)
        Pulses of the transport, which registers count.
    axil : Out(AxiLite)
        To the gateway's registers.
    punt : In(packets), inject : Out(packets)
        The gateway's packet port for the control element.
    *component* : Out(RegisterBus)
        Each ``external`` component of ``board.rdl`` but the rings.
    """

    def __init__(
        self,
        *,
        beat_bytes: int,
        punt_bits: int = RING_BITS,
        inject_bits: int = RING_BITS,
        receive_bytes: int = 0,
    ):
        self._punt = PuntRing(beat_bytes=beat_bytes, bits=punt_bits)
        self._inject = InjectRing(beat_bytes=beat_bytes, bits=inject_bits)
        self._bank = bank = Bank("board", address_width=MAP_WIDTH)
        self._geometry = {
            "map": LINK_MAP,
            "punt_bits": punt_bits,
            "inject_bits": inject_bits,
            "receive_bytes": receive_bytes,
        }
        rdl.registers("board")["link.geometry"].pack(self._geometry)  # refuses what does not fit
        ports = {register.port for register in rdl.registers("board").values() if register.port}
        self._parts = sorted(ports - set(RINGS))
        super().__init__(
            {
                "bus": In(RegisterBus(address_width=LINK_WIDTH)),
                "framing_error": In(1),
                "overrun": In(1),
                "timeout": In(1),
                "axil": Out(AxiLite(address_width=ADDRESS_WIDTH)),
                "punt": In(packets(beat_bytes)),
                "inject": Out(packets(beat_bytes)),
                **{name: bank.signature.members[name] for name in self._parts},
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = bank = self._bank
        m.submodules.master = master = AxiLiteMaster(address_width=ADDRESS_WIDTH)
        m.submodules.punts = punts = self._punt
        m.submodules.injects = injects = self._inject
        connect(m, master.axil, flipped(self.axil))
        connect(m, flipped(self.punt), punts.i)
        connect(m, injects.o, flipped(self.inject))
        connect(m, bank.punt, punts.bus)
        connect(m, bank.inject, injects.bus)
        for name in self._parts:
            connect(m, getattr(bank, name), flipped(getattr(self, name)))
        m.d.comb += [
            bank.link_id.eq(LINK_MAGIC),
            *(getattr(bank, f"link_geometry_{name}").eq(value) for name, value in self._geometry.items()),
            bank.link_punt_head.eq(punts.head),
            bank.link_punt_used.eq(punts.used),
            punts.tail.eq(bank.link_punt_tail),
            punts.tail_written.eq(bank.link_punt_tail_written),
            bank.link_inject_tail.eq(injects.tail),
            bank.link_inject_used.eq(injects.used),
            injects.head.eq(bank.link_inject_head),
            injects.head_written.eq(bank.link_inject_head_written),
        ]
        for name, happened in (
            ("inject_bad", injects.bad),
            ("framing_errors", self.framing_error),
            ("overruns", self.overrun),
            ("timeouts", self.timeout),
        ):
            counter = getattr(bank, f"link_{name}")
            m.d.sync += counter.eq(counter + happened)
        self._answer(m, bank, master)
        return m

    def _answer(self, m, bank, master) -> None:
        """Leads an access to where its address is, and accounts for it."""
        bus = self.bus
        word = Signal(LINK_WIDTH - 2)
        m.d.comb += word.eq(Mux(bus.write, bus.write_address, bus.read_address))
        targets = {
            "gateway": (master.bus, word < 1 << ADDRESS_WIDTH - 2),
            "board": (bank.bus, (word >= 1 << ADDRESS_WIDTH - 2) & (word < 1 << MAP_WIDTH - 2)),
        }
        for target, _ in targets.values():
            m.d.comb += [
                target.read_address.eq(bus.read_address),
                target.write_address.eq(bus.write_address),
                target.write_data.eq(bus.write_data),
                target.write_strobe.eq(bus.write_strobe),
            ]
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=8).create()
        sent = Signal(range(8))
        octets = Cat(_high_first(word), _high_first(bus.write_data))
        m.d.comb += [crc.data.eq(octets.word_select(sent, 8)), bank.link_crc.eq(crc.crc)]

        waited = Signal(range(TIMEOUT))
        error = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [waited.eq(0), sent.eq(0), error.eq(1), bus.read_data.eq(0)]
                with m.If(bus.read | bus.write):
                    m.next = "ANSWER"
                    with m.If(bus.write):
                        m.next = "SUM"
                    for name, (_, there) in targets.items():
                        with m.If(there):
                            m.next = name
            for name, (target, _) in targets.items():
                with m.State(name):
                    m.d.comb += [target.read.eq(bus.read), target.write.eq(bus.write)]
                    m.d.sync += waited.eq(waited + 1)
                    with m.If(target.read_done):
                        m.d.sync += [
                            bus.read_data.eq(Mux(target.read_error, 0, target.read_data)),
                            error.eq(target.read_error),
                        ]
                        m.next = "ANSWER"
                    with m.Elif(target.write_done):
                        m.d.sync += error.eq(target.write_error)
                        m.next = "SUM"
                    with m.Elif(waited.all()):
                        m.next = "ANSWER"
                        with m.If(bus.write):
                            m.next = "SUM"
            with m.State("SUM"):
                m.d.comb += crc.valid.eq(1)
                m.d.sync += sent.eq(sent + 1)
                with m.If(sent.all()):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [
                    bus.read_done.eq(bus.read),
                    bus.write_done.eq(bus.write),
                    bus.read_error.eq(error),
                    bus.write_error.eq(error),
                ]
                m.d.sync += [
                    bank.link_writes.eq(bank.link_writes + bus.write),
                    bank.link_refused.eq(bank.link_refused + error),
                ]
                with m.If(error):
                    m.d.sync += [
                        bank.link_refused_at_address.eq(word << 2),
                        bank.link_refused_at_write.eq(bus.write),
                    ]
                m.next = "IDLE"


def _high_first(word) -> Cat:
    """The bytes of a word, the one in its high bits first."""
    return Cat(word.word_select(at, 8) for at in reversed(range(DATA_BITS // 8)))
