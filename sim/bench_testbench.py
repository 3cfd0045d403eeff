# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Inside the simulator: the measurements of :mod:`spigate.sim.bench`. Tables are written by the driver
alone, before the clock of a measurement runs. A job is a dict; its ``kind`` names the function here that
does it.
"""

import contextlib
import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import Event, SimTimeoutError, with_timeout

from spigate.firmware_py.ipsec.packet import UDP
from spigate.firmware_py.ipsec.sa import ESP, Selectors
from spigate.firmware_py.tables.driver import WRITE_CLOCKS, Driver
from spigate.firmware_py.tables.interface import UNLIMITED, CamEntry, CamKey, CfeSettings, Route, Rule, Source
from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Action, Direction, Port, Reason
from spigate.sim.bench_traffic import (
    ETHERNET,
    FIRST_SPI,
    IP_BYTES,
    OURS,
    PEER,
    PROTECTED,
    SENDER,
    Tunnels,
    behind,
    ipv4,
    misplaced,
)
from spigate.sim.board import PERIOD_NS, Arrival, Board, Sink
from spigate.sim.board import Source as Sender
from spigate.sim.build import parameters
from spigate.sim.session import holds

STATUS = rdl.registers()["table_status"]
SMALLEST = 64
"""Bytes of the frames for the CFE."""
SETTLE = 20_000
"""Clocks in which the last packets that are dropped have been counted."""
LOST = 200_000
"""Clocks after which a packet that has not come is lost."""
WARM_UP, COUNTED = 20, 200
"""Frames of a measurement of the CFE."""


async def received(sink: Sink, driver: Driver) -> Arrival:
    """The next frame that leaves there. AssertionError: none does in :data:`LOST` clocks."""
    with contextlib.suppress(SimTimeoutError):
        return await with_timeout(sink.receive(), LOST * PERIOD_NS, "ns")
    raise AssertionError(f"a packet is lost; dropped so far: {(await driver.counters()).drops}")


class Bench:
    """A gateway under measurement."""

    def __init__(self, board: Board, driver: Driver, stand_in: bool):
        self.board, self.driver, self.dfes, self.stand_in = board, driver, driver.capabilities.dfes, stand_in

    def tunnels(self, job: dict[str, Any]) -> Tunnels:
        return Tunnels(
            job["suite"],
            Direction[job["direction"].upper()],
            count=job["sas"],
            dfes=self.dfes,
            encrypted=not self.stand_in,
        )

    def ports(self, job: dict[str, Any]) -> tuple[Sender, Sink]:
        """Where the job's packets go in, and where they come out."""
        board = self.board
        return (
            (board.network, board.server_out)
            if job["direction"] == "inbound"
            else (board.server, board.network_out)
        )

    async def stream(self, job: dict[str, Any]) -> dict[str, Any]:
        """Clocks from one packet to the next, in steady state, and what else became of packets. Inbound,
        every ``repeat``-th packet comes once more, two packets late. The number of packets must be a
        multiple of 8, or 4 for a single lane.
        """
        tunnels, (source, sink) = self.tunnels(job), self.ports(job)
        await tunnels.write(self.driver)
        plain = [tunnels.clear(job["size"], number) for number in range(job["packets"])]
        frames = [tunnels.frame(number, packet) for number, packet in enumerate(plain)]
        sent: list[bytes] = []
        place = []
        for number, frame in enumerate(frames):
            place.append(len(sent))
            sent.append(frame)
            if job.get("repeat") and number % job["repeat"] == 2:
                sent.append(frames[number - 2])
        before = (await self.driver.counters()).drops

        # As many are inside as there is room for, those behind the one that left last counted: what does
        # not fit is dropped.
        window = self.dfes * holds(max(map(len, frames)), lanes=self.driver.capabilities.lanes)
        first, progress, keep = sink.received, Event(), sink.on_arrival

        def arrive(arrival: Arrival) -> None:
            keep(arrival)
            progress.set()

        async def feed() -> None:
            for number, frame in enumerate(sent):
                while number - place[min(sink.received - first, len(place) - 1)] >= window:
                    progress.clear()
                    await progress.wait()
                await source.send(frame)

        sink.on_arrival = arrive
        task = cocotb.start_soon(feed())
        arrived = [await received(sink, self.driver) for _ in plain]
        await task
        sink.on_arrival = keep
        await self.board.clocks(SETTLE)
        after = (await self.driver.counters()).drops
        replays = after.get(Reason.REPLAY, 0) - before.get(Reason.REPLAY, 0)
        await tunnels.erase(self.driver)
        # Contexts end at about the same time: from the last packet of a group of them to the last one of
        # another.
        skip = len(arrived) // 4
        return {
            "clocks": (arrived[-1].last - arrived[skip - 1].last) / (len(arrived) - skip),
            "misplaced": misplaced(plain, [tunnels.opened(arrival.frame) for arrival in arrived], job["sas"]),
            "replays": replays,
            "repeats": len(sent) - len(plain),
            "other drops": sum(after.values()) - sum(before.values()) - replays,
        }

    async def latency(self, job: dict[str, Any]) -> int:
        """Clocks from a packet's first beat in to its last one out."""
        tunnels, (source, sink) = self.tunnels(job), self.ports(job)
        await tunnels.write(self.driver)
        packet = tunnels.clear(job["size"], 0)
        await source.send(tunnels.frame(0, packet))
        arrival = await sink.receive()
        misplaced([packet], [tunnels.opened(arrival.frame)], 1)
        await tunnels.erase(self.driver)
        clocks: int = arrival.last - source.started
        return clocks

    async def registers(self, job: dict[str, Any]) -> list[int]:
        """Bursts and words for one SA."""
        tunnels, bus = self.tunnels(job), self.board.bus
        before = bus.bursts, bus.words
        await self.driver.write_sa(0, 0, tunnels.sas[0], None)
        after = bus.bursts, bus.words
        await self.driver.erase_sa(0, 0)
        return [after[0] - before[0], after[1] - before[1]]

    async def classify(self, job: dict[str, Any]) -> float:
        """Clocks that the CFE takes for one of its smallest frames, ``what`` of: ``known`` SPI, ``unknown``
        SPI, ``bypassed``. What becomes of them costs the DFEs less than that: SAs are absent, so that they
        punt.
        """
        board, driver, dfes = self.board, self.driver, range(self.dfes)
        keys = [CamKey(OURS, FIRST_SPI + dfe) for dfe in dfes]
        rules = [
            Rule(
                Selectors(PROTECTED, ip_network(behind(dfe))),
                frozenset({Port.SERVER}),
                Action.BYPASS,
                dfe=dfe,
                clear=True,
            )
            for dfe in dfes
        ]
        await driver.write_route(0, Route(Port.NETWORK))
        for dfe in dfes:
            await driver.write_source(dfe, 0, Source(PROTECTED, frozenset({Port.SERVER})))
            await driver.add_rule(rules[dfe])
            if job["what"] == "known":
                await driver.add_cam(CamEntry(keys[dfe], dfe, 0, 0))
        if job["what"] == "bypassed":
            source, sink = board.server, board.network_out
            packets = [
                ipv4(SENDER, behind(dfe), UDP, bytes(SMALLEST - len(ETHERNET) - IP_BYTES)) for dfe in dfes
            ]
        else:
            source, sink = board.network, board.punt
            packets = [
                ipv4(PEER, OURS, ESP, key.spi.to_bytes(4) + bytes(SMALLEST - len(ETHERNET) - IP_BYTES - 4))
                for key in keys
            ]
        for number in range(WARM_UP + COUNTED + 1):
            if number == WARM_UP + 1:
                start = source.started
            await source.send(ETHERNET + packets[number % self.dfes])
        clocks = (source.started - start) / COUNTED
        # Where the DFEs are slower than the CFE, not all come out.
        await board.clocks(SETTLE)
        while sink.waiting():
            await sink.receive()
        for dfe in dfes:
            await driver.write_source(dfe, 0, None)
            await driver.remove_rule(rules[dfe])
            await driver.remove_cam(keys[dfe])
        return clocks


@cocotb.test()
async def measure(dut: Any) -> None:
    given = parameters()
    board = Board(dut)
    await board.start()
    driver = await Driver.open(board.bus)
    await driver.configure(
        CfeSettings(
            enable=(1 << driver.capabilities.dfes) - 1, patience=0xFFFF, miss_interval=0, rates=UNLIMITED
        )
    )
    bench = Bench(board, driver, given["stand_in"])
    found = {}
    for name, job in given["jobs"].items():
        found[name] = await getattr(bench, job["kind"])(job)
        await board.clocks(WRITE_CLOCKS)  # What is erased is on its way.
        while STATUS.unpack((await board.bus.read(STATUS.address))[0])["wiping"]:
            await board.clocks(100)
        board.check()
    Path(given["out"]).write_text(json.dumps(found))
