# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A lookup in the CAM is never false."""

from amaranth.hdl import Assert, Cat, Signal

from spigate.hdl.cfe import cam
from spigate.hdl.csr import layout
from tests.formal.memory import OneRow
from tests.formal.proof import AnySeq, Bench, Mutation, proof, replaced

CAM = "spigate.hdl.cfe.cam"


@proof(
    "cam",
    "A hit is of an entry that was written, valid, and all of whose key is that looked up; what is found is of the same write, never a "
    "mix of old and new. Where a row that is read has the key, it is found.",
    depth=7,
    unbounded=True,
    search=12,
    limits="3 ways of 32 rows; memory as its contract has it. In each way one row, any, stands for all, and keys are hashed to any rows.",
    mutations=(
        Mutation(
            "the last bits of the key are not compared",
            CAM,
            "for at in range(0, len(difference), 24)]",
            "for at in range(0, 168, 24)]",
        ),
        Mutation("an entry that is not valid hits", CAM, "differs[-1].eq(~read.valid)", "differs[-1].eq(0)"),
        Mutation(
            "writes do not wait for lookups",
            CAM,
            "self.write.ready.eq(~(running[0] & Cat(reading).any()))",
            "self.write.ready.eq(1)",
        ),
        Mutation(
            "the key of the packet behind is compared",
            CAM,
            "read.key.as_value() ^ keys[-1].as_value()",
            "read.key.as_value() ^ keys[-2].as_value()",
        ),
        Mutation(
            "a hit in two ways mixes them",
            CAM,
            "self.result[name].eq(result[name]) for name",
            "self.result[name].eq(result[name] | found[-1][name]) for name",
        ),
    ),
)
def lookup(bench: Bench) -> None:
    """Ghosts keep the entry last written at the real row of each way."""
    m = bench.m
    with replaced(cam, BlockMemory=OneRow, parities=lambda columns, key: AnySeq(5)):
        dut = cam.Cam(entries=64)
        inside = bench.block(dut)
    entry, value = dut.write.payload, layout.row("cam", "value")(dut.write.payload.rows[1])
    rows = 32
    latency = dut.LATENCY
    looked_up = bench.past(dut.key, latency)
    ways = range(len(inside["hits"]))
    hits = Cat(inside["hits"])
    fields = [name for name in dut.result.shape().members if name != "hit"]
    for way in ways:
        memory = inside.part(f"way_{way}")
        written = Signal(value.shape(), name=f"written_{way}")
        destination = Signal(128, name=f"destination_{way}")
        with m.If(dut.write.valid & dut.write.ready & (entry.index == way * rows + memory.at)):
            m.d.sync += [written.eq(value), destination.eq(entry.rows[0])]
        stored = memory.row
        # When the memory was read: one clock behind `start`, and `result` four clocks behind that.
        then, at_then = bench.past(written, 4), bench.past(destination, 4)
        real = bench.past(memory.read_address == memory.at, 4) & bench.past(bench.started, latency)
        same = (
            then.valid
            & (at_then == looked_up.destination)
            & (then.spi == looked_up.spi)
            & (then.protocol == looked_up.protocol)
            & (then.ipv6 == looked_up.ipv6)
        )
        wins = bench.past(hits[way] & ~hits[:way].any() if way else hits[way])
        m.d.comb += [
            Assert(~(dut.done & dut.result.hit & wins & real) | same, f"way {way}: a false hit"),
            Assert(~(dut.done & real & same) | dut.result.hit, f"way {way}: an entry is not found"),
        ]
        for name in fields:
            m.d.comb += Assert(
                ~(dut.done & dut.result.hit & wins & real) | (dut.result[name] == then[name]),
                f"way {way}: {name} of another entry",
            )
        # Invariant: the row is what was written.
        held = inside["stored"](stored)
        m.d.comb += Assert(
            (held.key.destination == destination)
            & (held.key.spi == written.spi)
            & (held.key.protocol == written.protocol)
            & (held.key.ipv6 == written.ipv6)
            & (held.valid == written.valid),
            "invariant: the row",
        )
        m.d.comb += [
            Assert(held.result[name] == written[name], "invariant: the row's result") for name in fields
        ]
    m.d.comb += Assert(~dut.result.hit | bench.past(hits.any()), "a hit of no way")
