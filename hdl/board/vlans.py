# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two sides on one Ethernet port, each a VLAN of its own, and the part ``vlans`` of ``board.rdl``."""

from amaranth.hdl import Array, Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from spigate.hdl.board.tags import SIDES, PutTag, Split
from spigate.hdl.contract.protocols import VLAN_BITS
from spigate.hdl.contract.vlans import DEFAULT_VLANS, IDENTIFIERS, SIDE_NAMES, check, registers
from spigate.hdl.csr.axil import RegisterBus
from spigate.hdl.net.merge import Merge
from spigate.hdl.net.packet import Beat, packets


class Events(data.StructLayout):
    """What the registers count, each bit of it one frame; by the names of the registers."""

    def __init__(self):
        super().__init__(dict.fromkeys((name for name in registers() if name != IDENTIFIERS), 1))


class VlanRegisters(wiring.Component):
    """The identifiers, and what became of frames.

    A write that would make an identifier 0 or 4095, or both the same, is an error and changes nothing.

    Parameters
    ----------
    identifiers : tuple of int
        What they are after a reset: the network's, the server's.

    Members
    -------
    bus : In(RegisterBus)
        Word addresses begin at 0 with the part.
    identifiers : Out(12).array(SIDES)
    events : In(Events)
    """

    def __init__(self, *, identifiers: tuple[int, ...] = DEFAULT_VLANS):
        check(identifiers)
        self._reset = identifiers
        self._registers = registers()
        self._first = min(each.address for each in self._registers.values())
        words = (max(each.address for each in self._registers.values()) - self._first) // 4 + 1
        super().__init__(
            {
                "bus": In(RegisterBus(address_width=(words - 1).bit_length() + 2)),
                "identifiers": Out(VLAN_BITS).array(SIDES),
                "events": In(Events()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        words = [Const(0, 32)] * (1 << len(bus.read_address))
        there = [Const(0)] * len(words)
        for name, register in self._registers.items():
            at = (register.address - self._first) // 4
            there[at] = Const(1)
            if name != IDENTIFIERS:
                words[at] = count = Signal(32, name=name)
                m.d.sync += count.eq(count + self.events[name])
                continue
            words[at] = word = Signal(32, init=register.pack(dict(zip(SIDE_NAMES, self._reset, strict=True))))
            fields = [register.fields[side] for side in SIDE_NAMES]
            for port, field in zip(self.identifiers, fields, strict=True):
                m.d.comb += port.eq(word[field.low : field.low + field.width])
            network, server = (bus.write_data[field.low : field.low + field.width] for field in fields)
            sound = Signal()
            m.d.comb += [
                sound.eq((network != server) & network.any() & ~network.all() & server.any() & ~server.all()),
                bus.write_error.eq(~sound | (bus.write_address != at)),
            ]
            with m.If(bus.write & ~bus.write_error):
                for field, value in zip(fields, (network, server), strict=True):
                    m.d.sync += word[field.low : field.low + field.width].eq(value)
        m.d.comb += [
            bus.write_done.eq(bus.write),
            bus.read_done.eq(bus.read),
            bus.read_data.eq(Array(words)[bus.read_address]),
            bus.read_error.eq(~Array(there)[bus.read_address]),
        ]
        return m


class Vlans(wiring.Component):
    """Makes two ports for the gateway out of one Ethernet port. A frame of a side has its VLAN's tag at the
    port and none at the gateway; nothing passes from one side to the other here.

    Frames to send leave in turns. A side must not pause for good within a frame that it sends: the other one
    waits for its end. The gateway's outputs, which are queues of whole frames, never do.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    identifiers : tuple of int
        As of :class:`VlanRegisters`.

    Members
    -------
    received : In(packets), sent : Out(packets)
        The port's ``o`` and ``i``. What is received never waits.
    i : In(packets).array(SIDES)
        To send: the network's, the server's.
    o : Out(packets).array(SIDES)
        What came likewise, as of :class:`~spigate.hdl.board.tags.Split`.
    bus : In(RegisterBus)
        As of :class:`VlanRegisters`.
    """

    def __init__(self, *, beat_bytes: int, identifiers: tuple[int, ...] = DEFAULT_VLANS):
        self._beat_bytes = beat_bytes
        self._registers = VlanRegisters(identifiers=identifiers)
        super().__init__(
            {
                "received": In(packets(beat_bytes)),
                "sent": Out(packets(beat_bytes)),
                "i": In(packets(beat_bytes)).array(SIDES),
                "o": Out(packets(beat_bytes)).array(SIDES),
                "bus": self._registers.signature.members["bus"],
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = control = self._registers
        m.submodules.split = split = Split(beat_bytes=self._beat_bytes)
        m.submodules.merge = merge = Merge(Beat(self._beat_bytes), count=SIDES, last=lambda beat: beat.last)
        connect(m, flipped(self.bus), control.bus)
        connect(m, flipped(self.received), split.i)
        connect(m, merge.o, flipped(self.sent))
        short = []
        for number, name in enumerate(SIDE_NAMES):
            m.submodules[f"put_{name}"] = put = PutTag(beat_bytes=self._beat_bytes)
            connect(m, flipped(self.i[number]), put.i)
            connect(m, put.o, merge.i[number])
            connect(m, split.o[number], flipped(self.o[number]))
            m.d.comb += [
                put.identifier.eq(control.identifiers[number]),
                split.identifiers[number].eq(control.identifiers[number]),
                control.events[f"rx_{name}"].eq(split.good[number]),
                control.events[f"rx_{name}_dropped"].eq(split.dropped[number]),
                control.events[f"tx_{name}"].eq(put.good),
            ]
            short.append(put.short)
        m.d.comb += [
            control.events.rx_other.eq(split.other),
            # The two never end one in the same clock: the merge takes from one at a time.
            control.events.tx_short.eq(short[0] | short[1]),
        ]
        return m
