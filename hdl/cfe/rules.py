"""The classifier's rules over clear 5-tuples: ordered, the first match decides."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.cfe.entry import Entry
from spigate.hdl.contract.enums import Action
from spigate.hdl.csr import layout

LANES = 4
"""Rules compared in a clock."""


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
        if count % LANES or not LANES <= count <= 64:
            raise ValueError(f"count must be a multiple of {LANES}, {LANES} to 64, not {count!r}")
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
        count, groups = self._count, self._count // LANES

        entry = self.write.payload
        addresses, value = (
            layout.row("rule", "addresses")(entry.rows[0]),
            layout.row("rule", "value")(entry.rows[1]),
        )
        new = Signal(Criteria())
        outcome = Signal(Outcome())
        for name in ("source", "source_mask", "destination", "destination_mask"):
            m.d.comb += new[name].eq(addresses[name])
        for name in (
            "source_port_low",
            "source_port_high",
            "destination_port_low",
            "destination_port_high",
            "protocol",
            "any_protocol",
            "ingress",
            "valid",
        ):
            m.d.comb += new[name].eq(value[name])
        m.d.comb += [
            new.all_ports.eq(
                (value.source_port_low == 0)
                & value.source_port_high.all()
                & (value.destination_port_low == 0)
                & value.destination_port_high.all()
            ),
            *(outcome[name].eq(value[name]) for name in Outcome().members),
        ]

        # A scan: clock 0 group number, 1 criteria read, 2 compared in parts, 3 matches, 4 first match, 5
        # result.
        group = Signal(range(max(groups, 2)))
        scanning = Signal()
        ending = Signal()
        stage = data.StructLayout({"valid": 1, "first": 1, "last": 1, "group": len(group)})
        stages = [Signal(stage, name=f"stage_{clock}") for clock in range(1, 5)]
        outstanding = Signal(2)
        key = Signal(RuleKey())
        results = [Signal(RuleResult(), name=f"waiting_{at}") for at in range(2)]
        full = Signal(2)
        take = Signal()
        idle = ~stages[0].valid & ~stages[1].valid & ~stages[2].valid & ~stages[3].valid
        m.d.comb += [
            # What began is finished; a new scan gives way to a write, and to results that nobody has taken.
            scanning.eq(self.i.valid & ((group != 0) | (~self.write.valid & (outstanding != 2)))),
            ending.eq(scanning & (group == groups - 1)),
            self.i.ready.eq(ending),
            self.write.ready.eq(idle & (group == 0)),
            take.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += outstanding.eq(outstanding + (scanning & (group == 0)) - take)
        with m.If(scanning):
            m.d.sync += [key.eq(self.i.payload), group.eq(Mux(ending, 0, group + 1))]
        m.d.sync += [
            stages[0].valid.eq(scanning),
            stages[0].first.eq(group == 0),
            stages[0].last.eq(ending),
            stages[0].group.eq(group),
        ]
        for older, newer in zip(stages, stages[1:], strict=False):
            m.d.sync += newer.eq(older)

        writing = self.write.valid & self.write.ready & (entry.index < count)
        matches = Signal(LANES)
        for lane in range(LANES):
            m.submodules[f"criteria_{lane}"] = bank = memory.Memory(
                shape=Criteria(), depth=max(groups, 2), init=[]
            )
            write = bank.write_port()
            read = bank.read_port(domain="comb")
            rule = Signal(Criteria(), name=f"rule_{lane}")
            m.d.comb += [
                write.addr.eq(entry.index[2:]),
                write.data.eq(new),
                write.en.eq(writing & (entry.index[:2] == lane)),
                read.addr.eq(group),
            ]
            m.d.sync += rule.eq(read.data)

            different = [
                (rule[name] ^ key[name]) & rule[f"{name}_mask"] for name in ("source", "destination")
            ]
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
            differs = Signal(len(parts), name=f"differs_{lane}")
            m.d.sync += [differs[at].eq(part) for at, part in enumerate(parts)]
            m.d.sync += matches[lane].eq(~differs.any())

        found = Signal()
        index = Signal(range(count))
        with m.If(stages[2].valid):
            with m.If(stages[2].first | ~found):
                m.d.sync += found.eq(matches.any())
                for lane in reversed(range(LANES)):
                    with m.If(matches[lane]):
                        m.d.sync += index.eq(stages[2].group * LANES + lane)
        m.submodules.outcomes = outcomes = memory.Memory(
            shape=unsigned(outcome.shape().size), depth=count, init=[]
        )
        write = outcomes.write_port()
        read = outcomes.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(entry.index),
            write.data.eq(outcome),
            write.en.eq(writing),
            read.addr.eq(index),
        ]

        # Up to two results wait; the older one is results[0].
        arrives = Signal()
        result = Signal(RuleResult())
        m.d.comb += [
            arrives.eq(stages[3].valid & stages[3].last),
            result.hit.eq(found),
            result.rule.eq(index),
            result.outcome.eq(read.data),
            self.o.valid.eq(full[0]),
            self.o.payload.eq(results[0]),
        ]
        with m.If(take):
            m.d.sync += [results[0].eq(results[1]), full.eq(full >> 1)]
        with m.If(arrives & full[0] & ~take):
            m.d.sync += [results[1].eq(result), full.eq(0b11)]
        with m.Elif(arrives):
            m.d.sync += [results[0].eq(result), full.eq(0b01)]
        return m
