# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ESP and AH in hardware: what IKE negotiates goes to a
:class:`~spigate.firmware_py.control.element.ControlElement`, which programs the gateway when packets ask
for it.

One task does it all, one thing after the other: first what IKE wants, then frames. So a policy is there
before a packet is looked at that it is about. What the host sends and what came up take turns, and what
came up does so by class (:mod:`spigate.firmware_py.tables.punt_queues`), so that no flood of the one keeps
the other waiting.
"""

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from functools import partial

from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.daemon.config import Config
from spigate.firmware_py.daemon.counting import Counting
from spigate.firmware_py.daemon.dataplane import Active, Hooks, Metric, SaOrPolicy, packets_and_drops
from spigate.firmware_py.daemon.host_stack import HostStack
from spigate.firmware_py.daemon.links import DeviceGone
from spigate.firmware_py.daemon.logs import LOG, log
from spigate.firmware_py.daemon.ports import Ports
from spigate.firmware_py.daemon.waiting import Punt, Waiting, trap_policies
from spigate.firmware_py.errors import InputError, SpigateError
from spigate.firmware_py.ike.engine.actions import (
    AddPolicy,
    InstallSa,
    MoveSa,
    RemovePolicy,
    RemoveSa,
    Socket,
)
from spigate.firmware_py.ipsec.packet import Ip
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction
from spigate.firmware_py.ipsec.sa import Address, Identity, Sa, SaState
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.punt import PuntHeader
from spigate.firmware_py.tables.punt_queues import Classes
from spigate.firmware_py.tables.urls import open_remote
from spigate.hdl.contract.enums import Direction, Port, PuntClass, Reason
from spigate.hdl.contract.reasons import class_of

POLL_SECONDS = 1.0
"""So often the hardware is asked for events, counters and how far SAs are."""
STATES = 64
"""SAs that are asked each time; where there are more, they take turns."""
CONFIRM_POLLS = 30
"""Neighbours are asked again with every so manieth."""
MAX_HOSTS = 1024
"""Frames that wait of those that the host sends; what comes then is dropped."""
NEIGHBOUR_SECONDS = 0.02
"""So long changes of neighbours are gathered, at least."""


@dataclass
class HardwareActive(Active):
    """An SA that the control element has. ``state`` and ``where``: as it was when it was last asked."""

    state: SaState = SaState()
    where: str = ""
    told: int = 0
    """What IKE was told: 1 that it is to be replaced, 2 that it has stopped."""


class Hardware:
    """A :class:`~spigate.firmware_py.daemon.dataplane.DataPlane`.

    Parameters
    ----------
    config : Config
    clock : callable
        Seconds that only grow.
    url : str
        Where the gateway is; see :mod:`spigate.firmware_py.tables.urls`.
    """

    def __init__(self, config: Config, clock: Callable[[], float], url: str):
        self._config, self._clock, self._url = config, clock, url
        self._active: OrderedDict[Identity, HardwareActive] = OrderedDict()
        self._spis: set[int] = set()
        self._wanted: deque[Callable[[], Awaitable[None]]] = deque()
        self._punts: Classes[Punt] = Classes()
        self._waited: deque[Punt] = deque()
        self._hosts: deque[Callable[[], Awaitable[None]]] = deque()
        self._wake = asyncio.Event()
        self._polls, self._polling = 0, False
        self._gathering: asyncio.TimerHandle | None = None
        self._drops: Counter[str] = Counter()

    @staticmethod
    def check(config: Config) -> None:
        """Refuses a configuration without ports: InputError."""
        if not config.interfaces:
            raise InputError(
                "a gateway in hardware needs [port.network] and [port.server] in its configuration"
            )

    # For tables

    @property
    def sas(self) -> list[HardwareActive]:
        return list(self._active.values())

    @property
    def policies(self) -> list[Policy]:
        return list(self._control.policies)

    def metrics(self) -> list[Metric]:
        refused = Counter({reason.name.lower(): count for reason, count in self._control.dropped.items()})
        punts = {reason.name.lower(): count for reason, count in self._control.punted.items()}
        dropped = self._counting.drops + self._drops + self._waiting.drops + refused
        return [
            *packets_and_drops(self._counting.done + self._control.software, dropped),
            *self._counting.metrics(),
            Metric("punts_total", "counter", "Frames that came up, by reason.", "reason", punts),
        ]

    # Begin and end

    async def open(self, stack: AsyncExitStack, hooks: Hooks) -> None:
        self._hooks, config = hooks, self._config
        self._gateway = await open_remote(self._url)
        stack.push_async_callback(self._gateway.close)
        self._driver = driver = await Driver.open(self._gateway)
        stack.push_async_callback(self._leave)
        if not self._gateway.fresh:
            await driver.clear()  # whatever stands there, nobody knows its keys any more
        self._ports = stack.enter_context(closing(Ports(config.interfaces, config.routes)))
        traps = trap_policies(config.pad, config.starts)
        self._control = ControlElement(
            tables=driver,
            port=self._gateway,
            topology=self._ports.topology(),
            clock=self._clock,
            policies=[*config.policies, *traps],
            settings=Settings(
                default=PolicyAction.DISCARD, sources=config.sources, cfe=config.cfe, own_host=True
            ),
        )
        self._waiting = Waiting(
            traps, hooks, lambda port, flow: self._control.decide(port, flow).policies, self._again
        )
        self._host = HostStack(self._ports.interfaces)
        self._control.on_host = self._to_host
        self._control.on_unresolved, self._control.on_moved = self._resolve, self._moved
        await self._control.start()
        await driver.check()
        self._counting = await Counting.open(driver)

    async def _leave(self) -> None:
        """Leaves a gateway behind that lets nothing pass."""
        if self._gateway.failure:
            return  # which is told already
        try:
            await self._driver.take_back()
        except BusError as error:
            log(logging.ERROR, "hardware", error=error)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for port, tap in self._ports.taps.items():
            loop.add_reader(tap, self._from_host, port)
        loop.add_reader(self._ports.changes, self._neighbours)
        self._gone = loop.create_future()
        tasks = [
            self._gone,
            *(asyncio.create_task(each()) for each in (self._receive, self._work, self._tick)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._gathering is not None:
                self._gathering.cancel()
            for tap in self._ports.taps.values():
                loop.remove_reader(tap)
            loop.remove_reader(self._ports.changes)

    async def _receive(self) -> None:
        while True:
            try:
                punt = await self._gateway.receive()
            except InputError:  # a header that nobody here knows
                self._drops["malformed"] += 1
                continue
            self._punts.push(class_of(punt[0].reason), punt)
            self._wake.set()

    async def _work(self) -> None:
        turn = False
        while True:
            if self._wanted:
                await self._try(self._wanted.popleft())
            elif self._hosts and (turn or not self._waited and not self._punts):
                turn = False
                await self._try(self._hosts.popleft())
            elif self._waited or self._punts:
                turn = True
                punt = self._waited.popleft() if self._waited else self._punts.pop()[1]
                await self._try(partial(self._punted, *punt))
            else:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._hooks.turn()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self._polling:
                self._polling = True
                self._want(self._poll)

    async def _try(self, do: Callable[[], Awaitable[None]]) -> None:
        """What one SA, policy or frame runs into does not end the others."""
        try:
            await do()
        except BusError:
            raise
        except SpigateError as error:
            log(logging.ERROR, "not done", error=error)
        except Exception as error:
            # What should never happen is logged, and the gateway goes on.
            LOG.error("internal error", exc_info=error, extra={"values": {"text": str(error)}})

    def _want(self, do: Callable[..., Awaitable[None]], *arguments: object) -> None:
        self._wanted.append(partial(do, *arguments))
        self._wake.set()

    def _of_host(self, do: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """The same for a frame that the host sends."""
        if len(self._hosts) >= MAX_HOSTS:
            self._drops["host_queue"] += 1
            return
        self._hosts.append(partial(do, *arguments))
        self._wake.set()

    # What IKE wants

    def apply(self, output: SaOrPolicy) -> None:
        self._want(self._do, output)

    async def _do(self, output: SaOrPolicy) -> None:
        """What cannot be done is given back, for whoever wanted it believes that it is."""
        try:
            await self._apply(output)
        except BusError:
            raise
        except Exception as error:
            self._hooks.undone(output, error)
            raise

    async def _apply(self, output: SaOrPolicy) -> None:
        match output:
            case InstallSa(peer=peer, child=child, sa=sa):
                await self._control.add_sa(sa)
                if sa.direction == Direction.INBOUND:
                    self._spis.add(sa.spi)
                self._active[sa.identity] = HardwareActive(
                    peer, child, sa, self._clock(), await self._control.state(sa)
                )
                if sa.direction == Direction.OUTBOUND:
                    self._waiting.child_is_up(peer, child)
            case RemoveSa(sa=sa):
                await self._remove(sa)
            case MoveSa(old=old, new=new):
                try:
                    await self._control.move_sa(old, new)
                except InputError:
                    await self._remove(old)  # nobody will name it so any more
                    raise
                self._active = OrderedDict(
                    (each.sa.identity, each)
                    for each in (
                        _renamed(active, new) if active.sa == old else active
                        for active in self._active.values()
                    )
                )
            case AddPolicy(policy=policy):
                await self._control.add_policy(policy)
            case RemovePolicy(policy=policy):
                await self._control.remove_policy(policy)

    async def _remove(self, sa: Sa) -> None:
        if sa.identity in self._active and self._active[sa.identity].sa == sa:
            del self._active[sa.identity]
            if sa.direction == Direction.INBOUND:
                self._spis.discard(sa.spi)
        await self._control.remove_sa(sa)

    def applied(self) -> None:
        self._want(self._release)

    async def _release(self) -> None:
        self._waiting.inbound_is_up(self._spis.__contains__)

    def forget_held(self, peer: str) -> None:
        self._waiting.forget(peer)

    # Punts

    async def _punted(self, header: PuntHeader, frame: bytes) -> None:
        local = class_of(header.reason) in (PuntClass.IKE, PuntClass.LINK)
        if local or not self._waiting.waits(header, frame, self._spis.__contains__):
            await self._control.handle(header, frame)

    def _again(self, punts: Iterable[Punt]) -> None:
        """What waited is done before what came later."""
        self._waited.extendleft(reversed(list(punts)))
        self._wake.set()

    # The host at the ports

    def _to_host(self, header: PuntHeader, frame: bytes) -> None:
        """A frame that is for the host, or from it and permitted."""
        injection = self._host.back(header, frame)
        if injection is not None:
            self._of_host(self._control.inject, *injection)
            return
        inward = self._host.inward(header.ingress, frame)
        try:
            if inward is not None:
                self._ports.taps[inward[0]].write(inward[1])
        except OSError:
            self._drops["device"] += 1

    def _from_host(self, port: Port) -> None:
        tap = self._ports.taps[port]
        try:
            for frame in tap.packets():
                injection = self._host.outward(port, frame)
                if injection is not None:
                    self._of_host(self._control.inject, *injection)
        except DeviceGone as error:
            asyncio.get_running_loop().remove_reader(tap)
            if not self._gone.done():
                self._gone.set_exception(error)

    def datagram(self, data: bytes, local: Socket, remote: Socket, tos: int) -> None:
        """ESP in UDP does not come this way: the gateway punts it for what it is."""
        self._drops["malformed"] += 1

    def _neighbours(self) -> None:
        """Changes are gathered until the tables are written: whoever changes faster than that does not make
        them lag.
        """
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._ports.changes)
        self._gathering = loop.call_later(NEIGHBOUR_SECONDS, self._want, self._change)

    async def _change(self) -> None:
        try:
            topology = self._ports.topology()
            await self._control.change_topology(topology)
            self._waiting.neighbours_are(topology)
        finally:
            asyncio.get_running_loop().add_reader(self._ports.changes, self._neighbours)

    def _resolve(self, port: Port, address: Address, header: PuntHeader, frame: bytes) -> None:
        if self._waiting.for_neighbour(self._clock(), port, address, (header, frame)):
            self._ports.resolve(port, address)

    def _moved(self, sa: Sa, outer: Ip) -> None:
        assert outer.ports is not None  # for it came in UDP
        self._hooks.moved(
            sa.spi, Socket(outer.destination, outer.ports[1]), Socket(outer.source, outer.ports[0])
        )

    # What the hardware tells

    async def _poll(self) -> None:
        """Asks, and lets frames have their turn before it is asked again: over a slow link that takes longer
        than it is until then.
        """
        self._polls += 1
        try:
            await self._ask()
        finally:
            self._polling = False

    async def _ask(self) -> None:
        for event, sa in await self._control.poll():
            if (
                event.reason == Reason.GUARD
            ):  # of the others the counters say enough: they are what strangers and peers do
                self._alarm(sa)
        for sa, over in await self._control.worn():
            active = self._active.get(sa.identity)
            if active is not None and active.told <= over:
                active.told = over + 1
                active.state = await self._control.state(sa)
                self._hooks.expired(sa, over)
        await self._control.give_back()
        for _ in range(min(STATES, len(self._active))):
            self._active.move_to_end(next(iter(self._active)))
            await self._look(next(reversed(self._active.values())))
        await self._counting.look()
        for kind, count in (self._gateway.take_lost() + self._punts.take_lost()).items():
            self._drops[f"{kind.name.lower()}_queue"] += count
        self._waiting.tick(self._clock())
        if self._polls % CONFIRM_POLLS == 0:
            self._ports.confirm()
        await self._driver.check()

    def _alarm(self, sa: Sa | None) -> None:
        """A packet was stopped that was about to leave in the clear. No traffic does that, so somebody has
        to look.
        """
        active = self._active.get(sa.identity) if sa is not None else None
        log(
            logging.ERROR,
            "guard",
            peer=active.peer if active else "",
            child=active.child if active else "",
            spi=f"{sa.spi:08x}" if sa is not None else "",
            text="a packet was stopped at the network port that nothing allows there: a fault in the "
            "gateway or in its tables",
        )

    async def _look(self, active: HardwareActive) -> None:
        """Asks how far an SA is."""
        sa, before = active.sa, active.state
        placed = self._control.placed(sa)
        if placed is None:
            return
        active.state = await self._control.state(sa)
        active.where = (
            f"software: {self._control.refusals.get(sa, '')}" if placed.soft else f"DFE {placed.place.dfe}"
        )
        if sa.direction == Direction.INBOUND and active.state.packets != before.packets:
            self._hooks.alive(sa.spi)


def _renamed(active: HardwareActive, new: Sa) -> HardwareActive:
    active.sa = new
    return active
