# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The register bank of an address map: one generator for any RDL file that :mod:`spigate.hdl.contract.rdl`
can read.
"""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from spigate.hdl.contract import rdl
from spigate.hdl.csr.axil import DATA_BITS, RegisterBus

TIMEOUT = 1024
"""Clocks that an access to an external part waits before it is given up."""
GROUP_BITS = 4
"""Registers whose addresses differ in these low bits share the first stage of the read multiplexer."""


def member(register: rdl.Register, field: rdl.Field) -> str:
    """The name of a field's member: that of its register with ``_`` for ``.``, and the field's own unless
    it is ``value``.
    """
    name = register.name.replace(".", "_")
    return name if field.name == "value" else f"{name}_{field.name}"


class Bank(wiring.Component):
    """Registers on a bus, as the RDL file describes them.

    Whole words only: a write with some strobes off is an error, one with all off does nothing. An access to
    an address that is not there, and a write to a register without writable fields, is an error. Registers
    that cannot be read read as 0.

    Parameters
    ----------
    name : str
        The address map is ``hdl/contract/<name>.rdl``.
    address_width : int
        Bits of a byte address.
    counts : dict of str to int
        Elements that arrays have in this gateware, where fewer than in the map: by the name of the array of
        registers or register files.

    Members
    -------
    bus : In(RegisterBus)
    *field* : one member a field (:func:`member`), an array of them in an array.
        ``sw = rw`` or ``w``: Out, the value that was written. ``hw = w``: In, what is read. ``hwset``: In,
        each 1 sets a bit; software clears a bit by writing 1.
    *register*_written : Out(1)
        ``swmod``: for one clock, the first one with the new value.
    *component* : Out(RegisterBus)
        Accesses to an ``external`` register, register file or array. Word addresses begin at 0 with the
        component; it answers with an error where it has a gap.
    refused_address, refused_strobe, refused_busy : Out(1)
        For one clock: an access failed because there is nothing at its address; it was no whole word; an
        external part did not answer for :data:`TIMEOUT` clocks.
    """

    def __init__(self, name: str, *, address_width: int, counts: dict[str, int] | None = None):
        self._registers = list(rdl.registers(name).values())
        self._address_width = address_width
        self._counts = counts or {}
        for key, count in self._counts.items():
            limits = [
                register.count for register in self._registers if _within(register, key) and register.count
            ]
            if not limits:
                raise ValueError(f"{name}.rdl has no array {key!r}")
            if not 1 <= count <= limits[0]:
                raise ValueError(f"{key!r} must have 1 to {limits[0]} elements, not {count!r}")
        members = {
            "bus": In(RegisterBus(address_width=address_width)),
            "refused_address": Out(1),
            "refused_strobe": Out(1),
            "refused_busy": Out(1),
        }
        self._ports: dict[str, list[rdl.Register]] = {}
        for register in self._registers:
            if register.port:
                self._ports.setdefault(register.port, []).append(register)
                continue
            for field in register.fields.values():
                given = field.driven or field.set_by_hardware
                port = In(field.width) if given else Out(field.width, init=field.reset)
                members[member(register, field)] = (
                    port.array(self._count(register)) if register.count else port
                )
            if _strobed(register):
                members[_written(register)] = Out(1)
        for name, registers in self._ports.items():
            members[name] = Out(RegisterBus(address_width=ceil_log2(_extent(registers)[1]) + 2))
        super().__init__(members)

    def _count(self, register: rdl.Register) -> int | None:
        return next((count for key, count in self._counts.items() if _within(register, key)), register.count)

    def elaborate(self, platform):
        m = Module()
        places = {}
        for register in self._registers:
            if register.port:
                continue
            fields = {
                field.name: getattr(self, member(register, field)) for field in register.fields.values()
            }
            for index in range(self._count(register) or 1):
                at = (register.address + index * register.stride) // 4
                ports = {name: port[index] for name, port in fields.items()} if register.count else fields
                places[at] = _Place(
                    register,
                    ports,
                    {
                        name: Signal(field.width, name=f"{member(register, field)}_held")
                        if field.set_by_hardware
                        else ports[name]
                        for name, field in register.fields.items()
                    },
                )
        write_nothing, write_busy = self._write_side(m, places)
        read_nothing, read_busy = self._read_side(m, places)
        m.d.comb += [
            self.refused_address.eq(write_nothing | read_nothing),
            self.refused_busy.eq(write_busy | read_busy),
        ]
        return m

    def _write_side(self, m, places):
        bus = self.bus
        own = {
            at: Signal(name=f"write_{4 * at:03x}")
            for at, place in places.items()
            if _writable(place.register)
        }
        away = {
            name: Signal(name=f"write_{name}")
            for name, registers in self._ports.items()
            if any(map(_writable, registers))
        }
        # Decoded a clock before it is used; the address stands still meanwhile.
        m.d.sync += [select.eq(bus.write_address == at) for at, select in own.items()]
        m.d.sync += [select.eq(self._at_port(name, bus.write_address)) for name, select in away.items()]

        act = Signal()
        error = Signal()
        nothing = Signal()
        with m.FSM(name="write"):
            with m.State("IDLE"):
                with m.If(bus.write & bus.write_strobe.all()):
                    m.next = "ACT"
                with m.Elif(bus.write):
                    m.d.comb += self.refused_strobe.eq(bus.write_strobe.any())
                    m.d.sync += error.eq(bus.write_strobe.any())
                    m.next = "ANSWER"
            with m.State("ACT"):
                m.d.comb += [act.eq(1), nothing.eq(~Cat(own.values(), away.values()).any())]
                m.d.sync += error.eq(nothing)
                m.next = "ANSWER"
                with m.If(Cat(away.values()).any()):
                    m.next = "WAIT"
            gap, busy = self._wait(m, "write", away, error)
            with m.State("ANSWER"):
                m.d.comb += [bus.write_done.eq(1), bus.write_error.eq(error)]
                m.next = "IDLE"

        for name in away:
            port = getattr(self, name)
            m.d.comb += [
                port.write_address.eq(bus.write_address),
                port.write_data.eq(bus.write_data),
                port.write_strobe.eq(~0),
            ]
        for at, select in own.items():
            place = places[at]
            for name, field in place.register.fields.items():
                data = bus.write_data[field.low : field.low + field.width]
                if field.set_by_hardware:
                    cleared = Mux(act & select, data, 0)
                    m.d.sync += place.values[name].eq(place.values[name] & ~cleared | place.ports[name])
                elif field.writable:
                    with m.If(act & select):
                        m.d.sync += place.ports[name].eq(data)
            if _strobed(place.register):
                m.d.sync += getattr(self, _written(place.register)).eq(act & select)
        return nothing | gap, busy

    def _read_side(self, m, places):
        bus = self.bus
        # Two stages: within each group of neighbours, then among the groups.
        groups: dict[int, dict[int, Value]] = {}
        for at, place in places.items():
            groups.setdefault(at >> GROUP_BITS, {})[at % (1 << GROUP_BITS)] = self._word(m, at, place)
        picked = {group: Signal(DATA_BITS, name=f"group_{group:02x}") for group in groups}
        found = {group: Signal(name=f"found_{group:02x}") for group in groups}
        for group, words in groups.items():
            m.d.sync += [picked[group].eq(0), found[group].eq(0)]
            with m.Switch(bus.read_address[:GROUP_BITS]):
                for low, word in words.items():
                    with m.Case(low):
                        m.d.sync += [picked[group].eq(word), found[group].eq(1)]
        away = {name: Signal(name=f"read_{name}") for name in self._ports}
        m.d.sync += [select.eq(self._at_port(name, bus.read_address)) for name, select in away.items()]

        error = Signal()
        nothing = Signal()
        readable = {name: select for name, select in away.items() if any(map(_readable, self._ports[name]))}
        with m.FSM(name="read"):
            with m.State("IDLE"):
                with m.If(bus.read):
                    m.next = "PICK"
            with m.State("PICK"):
                m.d.comb += nothing.eq(~Cat(away.values()).any())
                m.d.sync += bus.read_data.eq(0)
                with m.Switch(bus.read_address[GROUP_BITS:]):
                    for group in groups:
                        with m.Case(group):
                            with m.If(found[group]):
                                m.d.comb += nothing.eq(0)
                            m.d.sync += bus.read_data.eq(picked[group])
                m.d.sync += error.eq(nothing)
                m.next = "ANSWER"
                with m.If(Cat(readable.values()).any()):
                    m.next = "WAIT"
            gap, busy = self._wait(m, "read", readable, error)
            with m.State("ANSWER"):
                m.d.comb += [bus.read_done.eq(1), bus.read_error.eq(error)]
                m.next = "IDLE"
        for name in readable:
            m.d.comb += getattr(self, name).read_address.eq(bus.read_address)
        return nothing | gap, busy

    def _wait(self, m, way, selects, error):
        """The state in which an external part is asked. Returns pulses: it has nothing there; it did not
        answer in time.
        """
        waited = Signal(range(TIMEOUT))
        done = Signal()
        failed = Signal()
        gap = Signal()
        busy = Signal()
        with m.State("WAIT"):
            for name, select in selects.items():
                port = getattr(self, name)
                with m.If(select):
                    m.d.comb += [
                        getattr(port, way).eq(1),
                        done.eq(getattr(port, f"{way}_done")),
                        failed.eq(getattr(port, f"{way}_error")),
                    ]
                    if way == "read":
                        m.d.sync += self.bus.read_data.eq(Mux(failed, 0, port.read_data))
            m.d.comb += [gap.eq(done & failed), busy.eq(~done & waited.all())]
            m.d.sync += [waited.eq(waited + 1), error.eq(~done | failed)]
            with m.If(done | busy):
                m.d.sync += waited.eq(0)
                m.next = "ANSWER"
        return gap, busy

    def _at_port(self, name, address):
        start, words = _extent(self._ports[name])
        return (address >= start) & (address < start + words)

    @staticmethod
    def _word(m, at, place):
        word = Signal(DATA_BITS, name=f"word_{4 * at:03x}")
        for name, field in place.register.fields.items():
            if field.readable:
                m.d.comb += word[field.low : field.low + field.width].eq(place.values[name])
        return word


@dataclass(frozen=True)
class _Place:
    """A register in the bank itself: its fields' members, and what a read of each gives."""

    register: rdl.Register
    ports: dict[str, Value]
    values: dict[str, Value]


def _within(register, array):
    return register.name == array or register.name.startswith(f"{array}.")


def _written(register):
    return register.name.replace(".", "_") + "_written"


def _strobed(register):
    return any(field.strobed for field in register.fields.values())


def _readable(register):
    return any(field.readable for field in register.fields.values())


def _writable(register):
    return any(field.writable for field in register.fields.values())


def _extent(registers):
    """First word and number of words of an external component."""
    start = registers[0].address // 4
    end = (
        max((register.address + ((register.count or 1) - 1) * register.stride) // 4 for register in registers)
        + 1
    )
    return start, end - start
