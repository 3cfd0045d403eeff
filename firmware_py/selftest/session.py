# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What all checks do with a gateway: write entries in bursts, inject packets and compare what comes up, with
an end to every wait.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.sa import SaState
from spigate.firmware_py.selftest.probes import Batch, Gone, Probe, drops
from spigate.firmware_py.tables.bus import Bus, BusError, PacketPort
from spigate.firmware_py.tables.driver import STATE_WORDS, Driver
from spigate.firmware_py.tables.interface import UNLIMITED, CfeSettings
from spigate.firmware_py.tables.punt import PuntHeader
from spigate.firmware_py.words import counted
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import MARKS, MAX_DFES
from spigate.hdl.contract.enums import Action, Reason, Table

REGISTERS = rdl.registers()
WINDOW = 900
"""Bytes of frames under way at a time: less than the queue to the control element has room for in its
smallest form, so that none is lost where the link is slow.
"""
IN_FLIGHT = 12
"""Frames under way at a time, and bursts of registers."""
HEADER = 18
"""Bytes in front of a frame that comes up."""
SETTLE_CLOCKS = 1 << 14
"""Clocks after which a packet has left, or never will: a DFE takes less for its longest one."""
QUIET_SECONDS = 0.1
"""Without a frame, and so many clocks later, none is on its way any more."""
STILL_SECONDS = 20.0
"""So long the gateway's clock may take for SETTLE_CLOCKS, and its tables for what they are told."""
MAX_FAILURES = 8
"""Of one check; then it is given up, because what follows says the same."""
STRIDE = 8
CLOSED_VLAN = 4094
"""The VLAN that both ports are given: frames from their cables are dropped while the test runs."""
CLOSED_MAC = bytes.fromhex("0253504947fe")
STATE_READS = 100
"""How often an SA's state that is not there yet is asked for."""

Result = TypeVar("Result")


class Gateway(Bus, PacketPort, Protocol):
    """A gateway at the end of a link."""


class Depth(Enum):
    """How much is tried. QUICK: of the CAM's slots and of each SAD every :data:`STRIDE`-th place, and the
    last, and of the rules' bits every fourth. NORMAL: every place; of many near misses of an entry one,
    from entry to entry in turn. THOROUGH: all of them.
    """

    QUICK, NORMAL, THOROUGH = "quick", "normal", "thorough"


class GivenUp(Exception):
    """A check has failed often enough, or cannot go on."""


@dataclass(frozen=True)
class Write:
    """An entry of a table, or (``rows`` less than it has) the first rows of one."""

    table: Table
    index: int
    words: Sequence[int]
    dfe: int = 0


@dataclass(frozen=True)
class State:
    """How far an SA is, and whether it has reached a soft or a hard limit."""

    state: SaState
    soft: bool
    hard: bool


class CountingBus:
    """A :class:`Bus` that counts.

    Members
    -------
    bursts, read_words, written_words : int
    """

    def __init__(self, bus: Bus):
        self._bus = bus
        self.bursts = self.read_words = self.written_words = 0

    async def read(self, address: int, count: int = 1) -> list[int]:
        self.bursts, self.read_words = self.bursts + 1, self.read_words + count
        return await self._bus.read(address, count)

    async def write(self, address: int, words: Sequence[int]) -> None:
        self.bursts, self.written_words = self.bursts + 1, self.written_words + len(words)
        await self._bus.write(address, words)


class Session:
    """A gateway under test.

    Parameters
    ----------
    gateway : Gateway
    bus : CountingBus
        On its registers.
    driver : Driver
        On ``bus``.
    depth : Depth

    Members
    -------
    working : list of int
        DFEs that take packets, as far as it is known by now.
    failures : list of (str, str)
        What the check at work has found: where, and what.
    frames : int
        Injected so far.
    limit : int
        Failures of a check after which it is given up.
    way : int
        The way of the CAM that other checks use: the first one in which nothing was found to be wrong.
    """

    def __init__(self, gateway: Gateway, bus: CountingBus, driver: Driver, *, depth: Depth = Depth.NORMAL):
        self.bus, self.driver, self.has, self.depth = bus, driver, driver.capabilities, depth
        self.working = list(range(self.has.dfes))
        self.failures: list[tuple[str, str]] = []
        self.frames, self.limit, self.way = 0, MAX_FAILURES, 0
        self._gateway = gateway
        self._came: asyncio.Queue[tuple[PuntHeader, bytes]] = asyncio.Queue()
        self._broken: BusError | None = None
        self._before: Counter[Reason] = Counter()
        self._receiving = asyncio.create_task(self._receive())

    def places(self, size: int) -> list[int]:
        """The indices of a table of that size that are tried."""
        return sorted({*range(0, size, STRIDE), size - 1}) if self.quick else [*range(size)]

    def slot(self, row: int) -> int:
        """The index of a row of that way."""
        return self.way * self.has.cam_rows + row

    @property
    def quick(self) -> bool:
        """As little is tried as finds what is wrong with a whole memory."""
        return self.depth == Depth.QUICK

    @property
    def thorough(self) -> bool:
        """Every near miss is tried at every index."""
        return self.depth == Depth.THOROUGH

    async def close(self) -> None:
        """Listens no more."""
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)

    async def _receive(self) -> None:
        while True:
            try:
                self._came.put_nowait(await self._gateway.receive())
            except InputError:
                pass  # a header that nobody here knows: its packet is missed
            except BusError as error:
                self._broken = error
                return

    def fail(self, where: str, what: str) -> None:
        """Notes a failure. Raises GivenUp where there are enough of them."""
        self.failures.append((where, what))
        if len(self.failures) >= self.limit:
            raise GivenUp

    # Registers and tables

    async def in_flight(self, calls: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
        """Results of calls that are begun in this order, :data:`IN_FLIGHT` at a time at the most."""
        given, under_way = deque(calls), deque[asyncio.Task[Result]]()
        found: list[Result] = []
        try:
            while given or under_way:
                while given and len(under_way) < IN_FLIGHT:
                    under_way.append(asyncio.create_task(given.popleft()))
                found.append(await under_way.popleft())
        finally:
            for call in given:
                call.close()
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        return found

    async def register(self, name: str) -> int:
        """The word of a register."""
        return (await self.bus.read(REGISTERS[name].address))[0]

    async def write(self, writes: Iterable[Write]) -> None:
        """Writes entries, and waits until they stand in their tables."""
        data, calls = REGISTERS["table.data"], []
        for each in writes:
            command = self._command(each.table, each.index, each.dfe, count=len(each.words) // rdl.ROW_WORDS)
            if len(each.words) == data.count:
                calls.append(self.bus.write(data.address, [*each.words, *command]))
            else:
                calls += [
                    self.bus.write(data.address, each.words),
                    self.bus.write(REGISTERS["table.index"].address, command),
                ]
        await self.in_flight(calls)
        await self.written()

    async def erase(self, entries: Iterable[tuple[Table, int, int]]) -> None:
        """Erases entries: table, index and DFE of each."""
        await self.in_flight(
            self.bus.write(REGISTERS["table.index"].address, self._command(table, index, dfe, erase=1))
            for table, index, dfe in entries
        )
        await self.written()

    async def clear(self, tables: Iterable[Table]) -> None:
        """Erases every entry of ``tables``."""
        sizes = {
            Table.CAM: self.has.cam_ways * self.has.cam_rows,
            Table.RULE: self.has.rules,
            Table.ROUTE: self.has.routes,
            Table.SA: self.has.sa_entries,
            Table.SOURCE: self.has.sources,
        }
        await self.erase(
            (table, index, dfe)
            for table in tables
            for dfe in range(self.has.dfes if table in (Table.SA, Table.SOURCE) else 1)
            for index in range(sizes[table])
        )

    @staticmethod
    def _command(table: Table, index: int, dfe: int, **fields: int) -> list[int]:
        return [index, REGISTERS["table.command"].pack({"table": table, "dfe": dfe, **fields})]

    async def written(self) -> None:
        """Waits until the window has nothing to do, and a little more, for an entry's way to its DFE. Raises
        BusError where that does not end.
        """
        end = asyncio.get_running_loop().time() + STILL_SECONDS
        while REGISTERS["table_status"].unpack(await self.register("table_status"))["busy"]:
            if asyncio.get_running_loop().time() > end:
                raise BusError(f"the table window is busy for {STILL_SECONDS:.0f} s")
        await self.register("table_status")

    async def states(self, dfe: int, indices: Iterable[int]) -> list[State]:
        """States of SAs of a DFE. BusError where it does not tell one."""
        select, status = REGISTERS["state.select"], REGISTERS["state.status"]

        async def ask(index: int) -> list[int]:
            await self.bus.write(select.address, [select.pack({"sa": index, "dfe": dfe})])
            return []

        async def look() -> list[int]:
            return await self.bus.read(status.address, STATE_WORDS)

        given, found = list(indices), []
        answers = await self.in_flight(call for index in given for call in (ask(index), look()))
        for index, words in zip(given, answers[1::2], strict=True):
            for _ in range(STATE_READS):
                told = status.unpack(words[0])
                if not told["busy"] and not told["refused"]:
                    break
                await ask(index)
                words = await look()
            else:
                raise BusError(f"DFE {dfe} does not tell the state of its SA {index}")
            _, *halves, soft, hard = words
            whole = [low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True)]
            found.append(
                State(SaState(*whole), bool(soft >> index % MARKS & 1), bool(hard >> index % MARKS & 1))
            )
        return found

    async def configure(self, *, enable: Iterable[int] = (), miss: Action = Action.PUNT) -> None:
        """The classifier's settings for a test: ports closed, no limits. ``enable``: DFEs that get packets;
        ``miss``: what becomes of what is found neither in the CAM nor in the rules, PUNT or DISCARD.
        """
        await self.driver.configure(
            CfeSettings(
                enable=sum(1 << dfe for dfe in enable),
                weights=(1,) * MAX_DFES,
                miss_drop=miss == Action.DISCARD,
                rule_miss=miss,
                miss_interval=0,
                rates=UNLIMITED,
                network_mac=CLOSED_MAC,
                server_mac=CLOSED_MAC,
                network_vlan=CLOSED_VLAN,
                server_vlan=CLOSED_VLAN,
            )
        )

    async def drops(self) -> Counter[Reason]:
        """The drop counters."""
        words = await self.bus.read(REGISTERS["drops"].address, REGISTERS["drops"].elements)
        return Counter({reason: words[reason] for reason in Reason})

    # Packets

    async def ask(self, probes: Iterable[Probe]) -> None:
        """Injects, and compares what comes up and which drops are counted. Raises GivenUp as :meth:`fail`
        does, BusError where the gateway does not answer any more.
        """
        self._before, batch = await self.drops(), Batch()
        try:
            await self._ask(probes, batch)
        except GivenUp:
            while batch.waiting:  # what is still under way must not come up in the next batch
                await self._take(batch)
            raise

    async def _ask(self, probes: Iterable[Probe], batch: Batch) -> None:
        noted = 0
        for probe in probes:
            while batch.waiting and not self._fits(batch, probe):
                await self._take(batch)
            await self._gateway.inject(probe.mode, probe.port, probe.depth, probe.frame)
            self.frames += 1
            batch.sent(probe)
            while not self._came.empty():
                batch.came(*self._came.get_nowait())
            noted = self._note(batch, noted)
        while batch.waiting:
            await self._take(batch)
        after = await self.drops()
        moved = Counter({reason: (after[reason] - self._before[reason]) % (1 << 32) for reason in Reason})
        self._compare(batch, moved, noted)

    def _fits(self, batch: Batch, probe: Probe) -> bool:
        used = sum(HEADER + each.size for each in batch.waiting.values())
        return len(batch.waiting) < IN_FLIGHT and used + HEADER + probe.size <= WINDOW

    def _note(self, batch: Batch, noted: int) -> int:
        for probe, what in batch.wrong[noted:]:
            self.fail(probe.what, what)
        return len(batch.wrong)

    async def _take(self, batch: Batch) -> None:
        """Waits for a frame; where none comes any more, what is under way is done with."""
        if all(isinstance(probe.becomes, Gone) for probe in batch.waiting.values()):
            await self._settle(batch)
            return
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                batch.came(*await self._came.get())
        except TimeoutError:
            await self._settle(batch)

    async def _settle(self, batch: Batch) -> None:
        """Waits until nothing can come any more, or something has come while probes wait for it, or all that
        wait have been counted as dropped.
        """
        loop = asyncio.get_running_loop()
        begun, end, quiet = await self.driver.time(), loop.time() + STILL_SECONDS, loop.time() + QUIET_SECONDS
        hopes = any(not isinstance(probe.becomes, Gone) for probe in batch.waiting.values())
        while (await self.driver.time() - begun) % (1 << 32) < SETTLE_CLOCKS or loop.time() < quiet:
            if not hopes and await self._counted(drops(batch.sent_so_far)):
                batch.waiting.clear()
                return
            if self._broken is not None:
                raise self._broken
            if loop.time() > end:
                raise BusError(f"the gateway's clock does not count {SETTLE_CLOCKS} in {STILL_SECONDS:.0f} s")
            if not self._came.empty():
                batch.came(*self._came.get_nowait())
                if hopes:
                    return
        while not self._came.empty():
            batch.came(*self._came.get_nowait())
        batch.settled()

    async def _counted(self, wanted: Mapping[Reason, int]) -> bool:
        """Whether so many drops have been counted since the batch began."""
        register = REGISTERS["drops"]
        for reason, count in wanted.items():
            now = (await self.bus.read(register.at(reason)))[0]
            if (now - self._before[reason]) % (1 << 32) < count:
                return False
        return True

    def _compare(self, batch: Batch, moved: Counter[Reason], noted: int) -> None:
        """Notes what went wrong: with packets first, else with the counters of drops."""
        asked = batch.sent_so_far
        wanted = drops(asked)
        others = [
            f"{count} as {reason.name.lower()}"
            for reason, count in moved.items()
            if count > wanted.get(reason, 0)
        ]
        meanwhile = f"; dropped meanwhile: {', '.join(others)}" if others else ""
        failed = batch.wrong[noted:]
        for probe, what in failed:
            self.fail(probe.what, what + meanwhile)
        for header, frame in batch.strays:
            came = f"a frame of {counted(len(frame), 'byte')} came up as {header.reason.name.lower()}"
            self.fail(batch.nearest(frame).what, f"{came}, and should not{meanwhile}")
        if batch.wrong or batch.strays:
            return
        for reason, count in wanted.items():
            if moved[reason] != count:
                first = next(each for each in asked if each.becomes == Gone(reason))
                where = first.what if count == 1 else f"{first.what}, and others with it"
                told = f"{counted(moved[reason], 'drop')} as {reason.name.lower()} counted, not {count}"
                self.fail(where, told + meanwhile)
