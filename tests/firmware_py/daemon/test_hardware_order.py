# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What hardware does, in which order, and how much waits."""

import asyncio
import logging
import socket
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from spigate.firmware_py.daemon import hardware
from spigate.firmware_py.daemon.hardware import NEIGHBOUR_SECONDS, Hardware, HardwareActive
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.engine.actions import InstallSa, MoveSa, RemoveSa
from spigate.firmware_py.ipsec.sa import Encapsulation
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.punt import PuntHeader
from spigate.firmware_py.tables.punt_queues import ROOM
from spigate.hdl.contract.enums import Direction, Port, PuntClass, Reason, Table
from spigate.hdl.contract.reasons import class_of
from tests.firmware_py.control import network
from tests.firmware_py.control.network import sa
from tests.firmware_py.tables.registers import MemoryBus
from tests.firmware_py.tables.test_driver import GCM, Entries, registers


class Gateway(MemoryBus):
    """One with an SA that somebody left behind. Its answer number ``fails`` is ``failure``."""

    failure, fresh = None, False  # the way to it holds, and somebody was here before

    def __init__(self, fails, failure):
        super().__init__(registers())
        self.tables, self._fails, self._failure = Entries(self), fails, failure
        self.tables.entries[Table.SA, 1, 200] = [1]

    async def write(self, address, words):
        self._fails -= 1
        if not self._fails:
            raise self._failure
        await super().write(address, words)

    async def close(self):
        pass


@pytest.mark.parametrize("fails", [100, 1800, 2600])
@pytest.mark.parametrize(
    "failure",
    [asyncio.CancelledError(), BusError("refused"), ValueError("a fault")],
    ids=lambda each: type(each).__name__,
)
def test_however_it_ends_nothing_is_left_at_work(monkeypatch, fails, failure):
    """While it clears what was left behind, or later: what it had written then, and what it had not come
    to.
    """
    gateway = Gateway(fails, failure)

    async def opened(url):
        return gateway

    async def run():
        monkeypatch.setattr(hardware, "open_remote", opened)
        plane = Hardware(None, lambda: 0.0, "unix:none")
        async with AsyncExitStack() as stack:
            with suppress(AttributeError):  # it has no configuration
                await plane.open(stack, None)
            for at in range(1 << 10):
                await plane._driver.write_sa(at % 2, at // 2 % 256, GCM, None)

    with pytest.raises(type(failure)):
        asyncio.run(run())
    assert not gateway.tables.update()


class Bench:
    """Hardware whose gateway punts ``punts``, and whose control element waits until it may go on."""

    def __init__(self, punts):
        self.handled = []
        self.may, self.plane = asyncio.Event(), Hardware(None, lambda: 0.0, "unix:none")
        self._punts = iter(punts)
        self.plane._gateway = SimpleNamespace(receive=self._receive)
        self.plane._waiting = SimpleNamespace(waits=lambda header, frame, inbound: False)
        self.plane._control = SimpleNamespace(handle=self._handle)
        self.plane._hooks = SimpleNamespace(turn=lambda: None)

    async def _receive(self):
        for punt in self._punts:
            return punt
        await asyncio.Event().wait()

    async def _handle(self, header, frame):
        await self.may.wait()
        self.handled.append((header.reason, frame))

    async def run(self):
        tasks = [asyncio.create_task(each()) for each in (self.plane._receive, self.plane._work)]
        await asyncio.sleep(0.05)
        self.may.set()
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return self.handled


def test_a_flood_of_one_kind_does_not_keep_the_other_waiting_and_has_an_end():
    for flood, other in (
        (Reason.IKE, Reason.NO_RULE),
        (Reason.NOT_IP, Reason.UNKNOWN_SPI),
        (Reason.NO_RULE, Reason.IKE),
    ):
        room = ROOM[class_of(flood)]
        punts = [(PuntHeader(flood, Port.NETWORK), b"flood")] * (3 * room) + [
            (PuntHeader(other, Port.NETWORK), b"one")
        ]

        async def run(punts=punts):
            bench = Bench(punts)
            return await bench.run(), bench.plane._punts.lost

        handled, lost = asyncio.run(run())
        assert (other, b"one") in handled[:3]
        assert room <= len(handled) - 1 <= room + 1 and lost == {class_of(flood): len(punts) - len(handled)}


def test_what_ike_wants_comes_first():
    async def run():
        bench = Bench([(PuntHeader(Reason.NO_RULE, Port.NETWORK), bytes([number])) for number in range(3)])

        async def policy():
            bench.handled.append("policy")

        bench.plane._want(policy)
        return await bench.run()

    assert asyncio.run(run())[0] == "policy"


def test_questions_that_take_long_leave_frames_their_turn(monkeypatch):
    """Over a slow link the gateway is asked for longer than it is until it is asked again."""
    monkeypatch.setattr(hardware, "POLL_SECONDS", 0.01)
    asked = []

    async def ask():
        asked.append(True)
        await asyncio.sleep(0.05)

    async def run():
        bench = Bench(())
        bench.may.set()
        bench.plane._ask = ask
        tasks = [asyncio.create_task(each()) for each in (bench.plane._tick, bench.plane._work)]
        while len(asked) < 2:
            await asyncio.sleep(0.01)
        bench.plane._punts.push(PuntClass.IKE, (PuntHeader(Reason.IKE, Port.NETWORK), b"one"))
        bench.plane._wake.set()
        while len(asked) < 4:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return bench.handled

    assert asyncio.run(run()) == [(Reason.IKE, b"one")]


def test_what_the_guard_stops_is_told(monkeypatch):
    """It was an event that nobody looked at."""
    told = []
    monkeypatch.setattr(
        hardware,
        "log",
        lambda level, event, **values: told.append(
            (level, event, values["peer"], values["child"], values["spi"])
        ),
    )
    inbound = sa(0x1001, Direction.INBOUND)

    async def some(*found):
        return found

    async def run():
        bench = Bench(())
        plane = bench.plane
        plane._active[inbound.identity] = HardwareActive("right", "net", inbound, 0.0)
        events = [
            (SimpleNamespace(reason=Reason.GUARD), inbound),
            (SimpleNamespace(reason=Reason.ICV), inbound),
            (SimpleNamespace(reason=Reason.GUARD), None),
        ]
        plane._control = SimpleNamespace(
            poll=lambda: some(*events), worn=some, give_back=some, placed=lambda sa: None
        )
        plane._counting, plane._driver = SimpleNamespace(look=some), SimpleNamespace(check=some)
        plane._gateway, plane._waiting.tick = SimpleNamespace(take_lost=Counter), lambda now: None
        await plane._poll()

    asyncio.run(run())
    assert told == [
        (logging.ERROR, "guard", "right", "net", "00001001"),
        (logging.ERROR, "guard", "", "", ""),
    ]


def test_of_many_changes_the_last_one_counts():
    """Who speaks at a port may change neighbours as fast as it likes."""
    done, known, may = [], [], asyncio.Event()
    ours, theirs = socket.socketpair()

    def topology():
        ours.recv(1 << 16)
        return known[-1]

    async def change_topology(found):
        await may.wait()
        done.append(found)

    async def run():
        bench = Bench(())
        plane = bench.plane
        plane._ports = SimpleNamespace(topology=topology, changes=ours)
        plane._control.change_topology = change_topology
        plane._waiting.neighbours_are = lambda topology: None
        asyncio.get_running_loop().add_reader(ours, plane._neighbours)
        task = asyncio.create_task(plane._work())
        for number in range(50):
            known.append(number)
            theirs.send(b"changed")
            await asyncio.sleep(NEIGHBOUR_SECONDS / 10)
            assert len(plane._wanted) <= 1
        may.set()
        await asyncio.sleep(3 * NEIGHBOUR_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with ours, theirs:
        asyncio.run(run())
    assert len(done) == 2 and done[-1] == 49


def test_sas_of_two_peers_behind_one_nat_with_one_spi():
    """They are told apart by the peers' ports."""
    first, second = (
        replace(sa(0x1001, Direction.OUTBOUND, reqid=port), encapsulation=Encapsulation(4500, port))
        for port in (1, 2)
    )
    plane = Hardware(None, lambda: 0.0, "unix:none")
    bench = network.Bench()
    plane._control = bench.control
    plane._waiting = SimpleNamespace(child_is_up=lambda peer, child: None)

    async def run():
        for output in (InstallSa("a", "net", first), InstallSa("b", "net", second)):
            await plane._apply(output)
        assert [active.sa for active in plane.sas] == list(bench.control._sas) == [first, second]
        await plane._apply(RemoveSa(first))
        assert [active.sa for active in plane.sas] == list(bench.control._sas) == [second]

    asyncio.run(run())


def test_a_second_sa_with_the_name_of_one_that_is_there():
    """It is refused, whether it comes or moves there; when it is removed, the first stays."""
    first = sa(0x1001, Direction.OUTBOUND)
    second, elsewhere = replace(first, reqid=2), replace(first, reqid=2, destination=ip_address("192.0.2.77"))
    plane = Hardware(None, lambda: 0.0, "unix:none")
    bench = network.Bench()
    plane._control = bench.control
    plane._waiting = SimpleNamespace(child_is_up=lambda peer, child: None)

    async def run():
        for output in (
            InstallSa("a", "net", first),
            InstallSa("b", "net", second),
            RemoveSa(second),
            InstallSa("b", "net", elsewhere),
        ):
            await plane._try(partial(plane._apply, output))
        assert [active.sa for active in plane.sas] == list(bench.control._sas) == [first, elsewhere]
        await plane._try(partial(plane._apply, MoveSa(elsewhere, second)))
        await plane._try(partial(plane._apply, RemoveSa(second)))
        assert [active.sa for active in plane.sas] == list(bench.control._sas) == [first], (
            "nor is one left that nobody can remove"
        )

    asyncio.run(run())


def test_what_cannot_be_done_is_given_back():
    """The tables, or another SA of that name, do not take it: IKE believed in a child SA that was nowhere."""

    async def refuse(*what):
        raise InputError("there is one")

    async def run():
        bench, undone = Bench(()), []
        bench.plane._hooks = SimpleNamespace(
            turn=lambda: None, undone=lambda output, error: undone.append((output, str(error)))
        )
        bench.plane._control = SimpleNamespace(
            add_sa=refuse, move_sa=refuse, remove_sa=lambda sa: asyncio.sleep(0)
        )
        made = sa(0x1000, Direction.OUTBOUND)
        wanted = [InstallSa("b", "net", made), MoveSa(made, replace(made, spi=0x1001))]
        for each in wanted:
            bench.plane.apply(each)
        await bench.run()
        return wanted, undone

    wanted, undone = asyncio.run(run())
    assert undone == [(each, "there is one") for each in wanted]
