# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""No register reads a key."""

from amaranth.hdl import Assert, Cat, Module, Signal, Value
from amaranth.lib import wiring

from spigate.hdl.contract import rdl
from spigate.hdl.csr import control
from spigate.hdl.csr.events import Events
from tests.formal.proof import Bench, Mutation, elaborated, inputs, proof, replaced

CONTROL, BANK, WINDOW = (f"spigate.hdl.csr.{name}" for name in ("control", "bank", "window"))
SIZES = {
    "dfes": 1,
    "reporters": 1,
    "beat_bytes": 8,
    "lanes": 1,
    "sa_entries": 256,
    "sources": 16,
    "cam_entries": 1024,
    "rules": 32,
    "routes": 16,
}


class SameEvents(wiring.Component):
    """Stands for the events of both copies: they say anything, the same. That they are asked the same is
    asserted.
    """

    def __init__(self, said: dict):
        self._said = said
        model = Events(reporters=SIZES["reporters"])
        model._MustUse__silence = True
        super().__init__(model.signature)

    def elaborate(self, platform):
        m = Module()
        for path, member, value in self.signature.flatten(self):
            if member.flow == wiring.Out:
                value = Value.cast(value)
                m.d.comb += value.eq(self._said.setdefault(path, Signal(len(value), name="said")))
        return m


@proof(
    "keys-not-read",
    "Nothing that was staged for a table can be read at the bus, or seen in any answer, error, count or moment of one: two gateways that differ "
    "in it alone answer alike for ever. It leaves at the tables' port only, and is then erased here.",
    depth=2,
    unbounded=True,
    search=26,
    limits="Control plane with one DFE; drop counters and events, which see no staged data, are free. What DFEs answer of SA states is free and the same.",
    mutations=(
        Mutation(
            "a read gives what was written last",
            BANK,
            "m.d.comb += nothing.eq(~Cat(away.values()).any())\n                m.d.sync += bus.read_data.eq(0)",
            "m.d.comb += nothing.eq(~Cat(away.values()).any())\n                m.d.sync += bus.read_data.eq(bus.write_data)",
        ),
        Mutation(
            "the time tells what goes to the tables",
            CONTROL,
            "bank.time.eq(self.time),",
            "bank.time.eq(self.time ^ window.o.payload.data[:32]),",
            deep=True,
        ),
        Mutation(
            "an error tells a bit",
            WINDOW,
            "self.bad_table.eq(work.unknown)",
            "self.bad_table.eq(work.unknown ^ m.submodules.staged.read_ports[0].data[0])",
            deep=True,
        ),
    ),
)
def keys(bench: Bench) -> None:
    """Two copies with the same inputs but for data written to ``table.data``: all their registers are equal
    but those that hold such data.
    """
    m = bench.m
    said, both, registers = {}, [], []
    for name in ("one", "two"):
        with replaced(control, Events=lambda reporters: SameEvents(said)):
            dut = control.ControlPlane(**SIZES)
            found: list[tuple[tuple, Signal]] = []
            parts = {}
            m.submodules[name] = _flat(dut, found, parts)
        both.append((dut, parts))
        registers.append(found)
    (one, parts_one), (two, parts_two) = both
    for value in said.values():
        m.d.comb += value.eq(bench.any(len(value)))

    # The same in both, but for data on their way in.
    secret = {id(Value.cast(dut.axil.wdata)) for dut, _ in both}
    for left, right in zip(inputs(one), inputs(two), strict=True):
        left_any = bench.any(len(left))
        m.d.comb += [left.eq(left_any), right.eq(bench.any(len(right)) if id(left) in secret else left_any)]
    first = rdl.registers()["table.data"].address // 4
    bus_one, bus_two = (parts[("slave",)].bus for parts in (parts_one, parts_two))
    staged = (bus_one.write_address >= first) & (
        bus_one.write_address < first + rdl.registers()["table.data"].count
    )
    bench.assume(~bus_one.write | staged | (bus_one.write_data == bus_two.write_data))

    for parts, bus in ((parts_one, bus_one), (parts_two, bus_two)):
        bank = parts[("bank", "inside")]
        m.d.comb += Assert(
            bank.within("IDLE", "write") | bus.write, "invariant: a write that is under way is asked for"
        )

    # What may differ: the word on its way, and the row on its way to a table. (The staged rows are a memory.)
    for (path, left), (_, right) in zip(*registers, strict=True):
        left, right = _public(path, left, right, parts_one, parts_two)
        if left is not None:
            m.d.comb += Assert(left == right, f"{'.'.join(path)}.{getattr(left, 'name', 'value')} differs")
    for (path, member, left), (_, _, right) in zip(
        one.signature.flatten(one), two.signature.flatten(two), strict=True
    ):
        if member.flow == wiring.Out:
            if path == ("tables", "payload"):
                left, right = _fields(left), _fields(right)
            m.d.comb += Assert(Value.cast(left) == Value.cast(right), f"{'.'.join(map(str, path))} differs")
    # The events are asked the same.
    for left, right in zip(inputs(parts_one[("events",)]), inputs(parts_two[("events",)]), strict=True):
        m.d.comb += Assert(left == right, "events are asked something else")


def _flat(component, found, parts, path=()):
    """The component's module with all its parts made too. Their registers are noted in ``found``, they
    themselves in ``parts``.
    """
    inside = elaborated(component)
    module = inside.module
    parts[path] = component
    parts[(*path, "inside")] = inside
    for name, (part, place) in list(module._named_submodules.items()):
        if isinstance(part, wiring.Component) and type(part).__module__.startswith(("spigate", "tests")):
            module._named_submodules[name] = (_flat(part, found, parts, (*path, name)), place)
    driven = [signal for signal, domains in module._driving.items() if "sync" in domains]
    driven += [
        fsm.state for fsm in module._generated.values() if not any(fsm.state is signal for signal in driven)
    ]
    found.extend((path, signal) for signal in driven)
    return module


def _fields(payload):
    """All but the data."""
    return Cat(Value.cast(payload[name]) for name in payload.shape().members if name != "data")


def _public(path, left, right, parts_one, parts_two):
    """What must be equal of a register of the two copies."""
    if path == ("slave",) and left is Value.cast(parts_one[path].bus.write_data):
        return None, None
    if path == ("window",) and left is Value.cast(parts_one[path].o.payload):
        return _fields(parts_one[path].o.payload), _fields(parts_two[path].o.payload)
    return left, right
