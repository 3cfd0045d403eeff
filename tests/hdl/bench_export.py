# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""cocotbext-axi's own sources, sinks and masters on the exported Verilog."""

import itertools
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Reason
from spigate.hdl.net.packet import ALIGN, MAX_FRAME
from spigate.sim.build import parameters

REGISTERS = rdl.registers()
PORTS = {"network": "server", "server": "network", "inject": "punt"}


class Bench:
    """The core with a foreign model on each port."""

    def __init__(self, dut):
        self.sources = {
            name: AxiStreamSource(AxiStreamBus.from_prefix(dut, f"s_axis_{name}"), dut.clk, dut.rst)
            for name in PORTS
        }
        self.sinks = {
            name: AxiStreamSink(AxiStreamBus.from_prefix(dut, f"m_axis_{name}"), dut.clk, dut.rst)
            for name in PORTS.values()
        }
        self.axil = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)

    @classmethod
    async def start(cls, dut) -> "Bench":
        """Resets the core, and lets the models pause where the parameter ``pauses`` says so."""
        Clock(dut.clk, 10, "ns", impl="gpi").start()
        # The models look at the core's outputs at once, so that it must know its state before they begin.
        dut.rst.value = 1
        await ClockCycles(dut.clk, 2)
        bench = cls(dut)
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        await RisingEdge(dut.clk)
        if parameters()["pauses"]:
            rng = random.Random(1)
            writes, reads = bench.axil.write_if, bench.axil.read_if
            for model in (
                *bench.sources.values(),
                *bench.sinks.values(),
                writes.aw_channel,
                writes.w_channel,
                writes.b_channel,
                reads.ar_channel,
                reads.r_channel,
            ):
                model.set_pause_generator(itertools.cycle([rng.random() < 0.5 for _ in range(97)]))
        return bench

    async def get(self, name, index=None):
        register = REGISTERS[name]
        return await self.axil.read_dword(register.address if index is None else register.at(index))


@cocotb.test()
async def frames_pass_unchanged(dut):
    bench = await Bench.start(dut)
    beat_bytes = len(dut.s_axis_network_tkeep)
    lengths = [*range(14, 14 + 2 * beat_bytes), 60, 61, 64, 65, MAX_FRAME - ALIGN]
    sent = {name: [random.Random(f"{name}{n}").randbytes(n) for n in lengths] for name in PORTS}
    for name, frames in sent.items():
        for frame in frames:
            await bench.sources[name].send(AxiStreamFrame(frame, tuser=0))
    for name, frames in sent.items():
        for frame in frames:
            got = await bench.sinks[PORTS[name]].recv()
            assert bytes(got.tdata) == frame, (name, len(frame))


@cocotb.test()
async def damaged_frames_vanish_and_are_counted(dut):
    bench = await Bench.start(dut)
    good = bytes(range(70))
    source = bench.sources["network"]
    holes = [1] * 70
    holes[5] = 0
    for frame in (
        AxiStreamFrame(good, tuser=1),
        AxiStreamFrame(good, tkeep=holes, tuser=0),
        AxiStreamFrame(good, tkeep=[0] * 70, tuser=0),
    ):
        await source.send(frame)
        await source.send(AxiStreamFrame(good, tuser=0))
    for _ in range(3):
        assert bytes((await bench.sinks["server"].recv()).tdata) == good
    await ClockCycles(dut.clk, 200)
    assert bench.sinks["server"].empty()
    assert await bench.get("drops", Reason.BAD_FRAME) == 3
    assert await bench.get("drops", Reason.ICV) == 0


@cocotb.test()
async def registers_answer_in_any_order(dut):
    bench = await Bench.start(dut)
    axil = bench.axil
    assert await bench.get("id") == int.from_bytes(b"SPIG", "big")
    assert REGISTERS["geometry"].unpack(await bench.get("geometry"))["beat_bytes"] == len(
        dut.s_axis_network_tkeep
    )

    # Many at once: the master keeps its channels full.
    rng = random.Random(2)
    settings = [name for name in REGISTERS if name.startswith("cfe.")]
    values = {
        name: REGISTERS[name].pack(
            {part: rng.getrandbits(field.width) for part, field in REGISTERS[name].fields.items()}
        )
        for name in settings
    }
    writes = [
        cocotb.start_soon(axil.write_dword(REGISTERS[name].address, value)) for name, value in values.items()
    ]
    for write in writes:
        await write
    reads = {name: cocotb.start_soon(bench.get(name)) for name in values}
    for name, task in reads.items():
        assert await task == values[name], name

    # A read and a write at the same time do not wait for one another.
    for _ in range(10):
        value = rng.getrandbits(16)
        write = cocotb.start_soon(axil.write_dword(REGISTERS["cfe.patience"].address, value))
        assert await bench.get("cfe.balance") == values["cfe.balance"]
        await write
        assert await bench.get("cfe.patience") == value


@cocotb.test()
async def errors_are_answered_and_named(dut):
    bench = await Bench.start(dut)
    assert (await bench.axil.read(0xFFF0, 4)).resp == AxiResp.SLVERR
    assert (await bench.axil.write(0xFFF0, b"abcd")).resp == AxiResp.SLVERR
    assert (await bench.axil.write(REGISTERS["cfe.patience"].address, b"ab")).resp == AxiResp.SLVERR
    assert await bench.get("cfe.patience") == 65535
    errors = await bench.get("errors")
    assert {name for name, bit in REGISTERS["errors"].unpack(errors).items() if bit} == {"address", "strobe"}
    await bench.axil.write_dword(REGISTERS["errors"].address, errors)
    assert await bench.get("errors") == 0


@cocotb.test()
async def an_sa_is_one_burst(dut):
    bench = await Bench.start(dut)
    command = REGISTERS["table.command"].pack({"table": 3, "dfe": 1, "count": 13})
    burst = [*range(1, 53), 200, command]
    data = b"".join(word.to_bytes(4, "little") for word in burst)
    for _ in range(3):
        assert (await bench.axil.write(REGISTERS["table.data"].address, data)).resp == AxiResp.OKAY
    assert await bench.get("errors") == 0
