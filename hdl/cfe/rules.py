# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The classifier's rules over clear 5-tuples: ordered, the first match decides."""

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.cfe.entry import Entry
from spigate.hdl.contract.enums import Action
from spigate.hdl.csr import layout

LANES = 4
"""Rules compared in a clock."""


def check_count(count: int) -> None:
    """Raises ValueError where that cannot be how many rules there are."""
    if count % LANES or not LANES <= count <= 64:
        raise ValueError(f"rules must be a multiple of {LANES}, {LANES} to 64, not {count!r}")


class RuleKey(data.StructLayout):
    """What rules look at. ``ports``: the protocol has ports, and they are given; ``ingress`` is a
    :data:`Port`.
    """

    def __init__(self):
        super().__init__(
            {
                "source": 32,
                "destination": 32,
                "source_port": 16,
                "destination_port": 16,
                "ports": 1,
                "protocol": 8,
                "ingress": 2,
            }
        )


class Outcome(data.StructLayout):
    """What a rule leads to."""

    def __init__(self):
        super().__init__({"action": Action, "dfe": 4, "sa": 16, "generation": 8, "route": 8, "clear": 1})


class RuleResult(data.StructLayout):
    """``hit``, and of the first rule that matches: its index (``rule``) and its ``outcome``, which mean
    nothing without.
    """

    def __init__(self):
        super().__init__({"hit": 1, "rule": 6, "outcome": Outcome()})


class Criteria(data.StructLayout):
    """What of a rule is compared. ``all_ports``: both port ranges are 0 to 65535."""

    def __init__(self):
        super().__init__(
            {
                "source": 32,
                "source_mask": 32,
                "destination": 32,
                "destination_mask": 32,
                "source_port_low": 16,
                "source_port_high": 16,
                "destination_port_low": 16,
                "destination_port_high": 16,
                "all_ports": 1,
                "protocol": 8,
                "any_protocol": 1,
                "ingress": 4,
                "valid": 1,
            }
        )


class Compare(wiring.Component):
    """The criteria of every fourth rule, one of them compared in a clock.

    Parameters
    ----------
    groups : int

    Members
    -------
    write : In(1)
        Of ``write_data`` to ``write_group``.
    group : In(range(groups))
        Which one to compare.
    key : In(RuleKey)
        With what, a clock later.
    matches : Out(1)
        The answer, three clocks behind ``group``.
    """

    def __init__(self, *, groups: int):
        self._depth = max(groups, 2)
        super().__init__(
            {
                "write": In(1),
                "write_group": In(range(self._depth)),
                "write_data": In(Criteria()),
                "group": In(range(self._depth)),
                "key": In(RuleKey()),
                "matches": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = bank = memory.Memory(shape=Criteria(), depth=self._depth, init=[])
        write = bank.write_port()
        read = bank.read_port(domain="comb")
        rule = Signal(Criteria())
        key = self.key
        m.d.comb += [
            write.addr.eq(self.write_group),
            write.data.eq(self.write_data),
            write.en.eq(self.write),
            read.addr.eq(self.group),
        ]
        m.d.sync += rule.eq(read.data)

        different = [(rule[name] ^ key[name]) & rule[f"{name}_mask"] for name in ("source", "destination")]
        parts = [value[at : at + 8].any() for value in different for at in range(0, 32, 8)]
        parts += [
            (rule.protocol != key.protocol) & ~rule.any_protocol,
            ~rule.valid,
            ~rule.ingress.bit_select(key.ingress, 1),
            ~rule.all_ports & ~key.ports,
        ]
        for name in ("source_port", "destination_port"):
            parts += [
                key.ports & (rule[f"{name}_low"] > key[name]),
                key.ports & (rule[f"{name}_high"] < key[name]),
            ]
        differs = Signal(len(parts))
        m.d.sync += [
            *(differs[at].eq(part) for at, part in enumerate(parts)),
            self.matches.eq(~differs.any()),
        ]
        return m


class Scan:
    """Where a scan is. Clock 0: group number; 1: criteria read; 2: compared in parts; 3: matches; 4: first
    match; 5: result.

    Members
    -------
    group : range(groups)
        In clock 0.
    key : RuleKey
        From clock 1 on.
    stages : list of Signal
        Of clock 1 to 4: whether there is a group (``valid``), which it is, and whether it is the scan's
        ``first`` or ``last``.
    """

    def __init__(self, groups: int):
        self.group = Signal(range(max(groups, 2)))
        self.key = Signal(RuleKey())
        stage = data.StructLayout({"valid": 1, "first": 1, "last": 1, "group": len(self.group)})
        self.stages = [Signal(stage, name=f"stage_{clock}") for clock in range(1, 5)]


class Rules(wiring.Component):
    """An ordered table of rules, as ``rule_entry`` of ``entries.rdl``; rule 0 comes first.

    Parameters
    ----------
    count : int
        4 to 64, a multiple of 4.

    Members
    -------
    write : In(stream of Entry)
        Taken between two lookups, so that each lookup sees one state of the table. An index of ``count`` or
        more is ignored.
    i : In(stream of RuleKey)
        Taken at the end of its scan, ``count`` / 4 clocks after it began; the next scan may follow at once.
    o : Out(stream of RuleResult)
        One item a key, in order, five clocks after the end of the scan or later.
    """

    def __init__(self, *, count: int = 32):
        check_count(count)
        self._count = count
        super().__init__(
            {
                "write": In(stream.Signature(Entry())),
                "i": In(stream.Signature(RuleKey())),
                "o": Out(stream.Signature(RuleResult())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        scan, entry = Scan(self._count // LANES), self.write.payload
        criteria, outcome = self._decode(m)
        taken = Signal()
        m.d.comb += taken.eq(self.o.valid & self.o.ready)
        self._scan(m, scan, taken)

        writing = self.write.valid & self.write.ready & (entry.index < self._count)
        matches = Signal(LANES)
        for lane in range(LANES):
            m.submodules[f"criteria_{lane}"] = compare = Compare(groups=self._count // LANES)
            m.d.comb += [
                compare.write.eq(writing & (entry.index[:2] == lane)),
                compare.write_group.eq(entry.index[2:]),
                compare.write_data.eq(criteria),
                compare.group.eq(scan.group),
                compare.key.eq(scan.key),
                matches[lane].eq(compare.matches),
            ]
        result = self._first(m, scan, matches)
        m.submodules.outcomes = outcomes = memory.Memory(
            shape=unsigned(outcome.shape().size), depth=self._count, init=[]
        )
        write = outcomes.write_port()
        read = outcomes.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(entry.index),
            write.data.eq(outcome),
            write.en.eq(writing),
            read.addr.eq(result.rule),
            result.outcome.eq(read.data),
        ]
        self._keep(m, scan, result, taken)
        return m

    def _decode(self, m):
        """What an entry says, as it is kept: its criteria and its outcome."""
        rows = self.write.payload.rows
        addresses, value = layout.row("rule", "addresses")(rows[0]), layout.row("rule", "value")(rows[1])
        criteria = Signal(Criteria())
        outcome = Signal(Outcome())
        every_port = (
            (value.source_port_low == 0)
            & value.source_port_high.all()
            & (value.destination_port_low == 0)
            & value.destination_port_high.all()
        )
        for name in Criteria().members:
            if name == "all_ports":
                m.d.comb += criteria.all_ports.eq(every_port)
            else:
                row = addresses if name in addresses.shape().fields else value
                m.d.comb += criteria[name].eq(row[name])
        m.d.comb += [outcome[name].eq(value[name]) for name in Outcome().members]
        return criteria, outcome

    def _scan(self, m, scan: Scan, taken) -> None:
        """Counts through the groups. What began is finished; a new scan gives way to a write, and to results
        that nobody has taken.
        """
        outstanding = Signal(2)
        ending = Signal()
        group = scan.group
        scanning = Signal()
        stages = scan.stages
        first = group == 0
        idle = ~stages[0].valid & ~stages[1].valid & ~stages[2].valid & ~stages[3].valid
        m.d.comb += [
            scanning.eq(self.i.valid & ((group != 0) | (~self.write.valid & (outstanding != 2)))),
            ending.eq(scanning & (group == self._count // LANES - 1)),
            self.i.ready.eq(ending),
            self.write.ready.eq(idle & first),
        ]
        m.d.sync += [
            outstanding.eq(outstanding + (scanning & first) - taken),
            stages[0].valid.eq(scanning),
            stages[0].first.eq(first),
            stages[0].last.eq(ending),
            stages[0].group.eq(group),
            *(newer.eq(older) for older, newer in pairwise(stages)),
        ]
        with m.If(scanning):
            m.d.sync += [scan.key.eq(self.i.payload), group.eq(Mux(ending, 0, group + 1))]

    def _first(self, m, scan: Scan, matches):
        """The first match of all groups so far; its outcome is to be looked up."""
        found = Signal()
        index = Signal(range(self._count))
        stage = scan.stages[2]
        with m.If(stage.valid):
            with m.If(stage.first | ~found):
                m.d.sync += found.eq(matches.any())
                for lane in reversed(range(LANES)):
                    with m.If(matches[lane]):
                        m.d.sync += index.eq(stage.group * LANES + lane)
        result = Signal(RuleResult())
        m.d.comb += [result.hit.eq(found), result.rule.eq(index)]
        return result

    def _keep(self, m, scan: Scan, result, taken) -> None:
        """Up to two results wait; the older one is ``results[0]``."""
        results = [Signal(RuleResult(), name=f"waiting_{at}") for at in range(2)]
        full = Signal(2)
        arrives = Signal()
        m.d.comb += [
            arrives.eq(scan.stages[3].valid & scan.stages[3].last),
            self.o.valid.eq(full[0]),
            self.o.payload.eq(results[0]),
        ]
        with m.If(taken):
            m.d.sync += [results[0].eq(results[1]), full.eq(full >> 1)]
        with m.If(arrives & full[0] & ~taken):
            m.d.sync += [results[1].eq(result), full.eq(0b11)]
        with m.Elif(arrives):
            m.d.sync += [results[0].eq(result), full.eq(0b01)]
