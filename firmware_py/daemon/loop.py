# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The loop of a gateway: sockets and clock around an IKE endpoint, and a data plane that does what it
negotiates.
"""

import asyncio
import logging
import signal
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVarTuple

from spigate.firmware_py.daemon import status
from spigate.firmware_py.daemon.config import Config
from spigate.firmware_py.daemon.control_socket import Control, Row
from spigate.firmware_py.daemon.dataplane import DataPlane, Hooks
from spigate.firmware_py.daemon.keylog import Folder
from spigate.firmware_py.daemon.links import UdpLink, versions
from spigate.firmware_py.daemon.logs import LOG, log
from spigate.firmware_py.daemon.manual_keying import ManualKeying
from spigate.firmware_py.daemon.metrics import serve
from spigate.firmware_py.daemon.sequence_file import SequenceFile
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.engine.actions import (
    Datagram,
    Event,
    EventKind,
    InstallSa,
    KeyLog,
    Output,
    Socket,
)
from spigate.firmware_py.ike.engine.endpoint import Endpoint
from spigate.firmware_py.ipsec.sa import Sa, SaState
from spigate.hdl.contract.protocols import IKE_PORT, NATT_PORT

KEPT_EVENTS = 1000
GOODBYE_SECONDS = 2.0
"""So long the peers have to answer when the gateway ends."""
_WARNINGS = frozenset(
    {
        EventKind.IKE_FAILED,
        EventKind.PEER_DEAD,
        EventKind.CHILD_FAILED,
        EventKind.SA_WORN,
        EventKind.SA_DOWN,
        EventKind.SA_FAILED,
        EventKind.UNDER_LOAD,
        EventKind.REFUSED,
        EventKind.INTERNAL,
    }
)
_IN_VAIN = frozenset({EventKind.IKE_FAILED, EventKind.CHILD_FAILED, EventKind.PEER_DEAD, EventKind.IKE_DOWN})
"""Behind these nobody makes the child that packets wait for."""
_Arguments = TypeVarTuple("_Arguments")


class Daemon:
    """Parameters
    ----------
    config : Config
    make_plane : callable
        Makes the data plane, given the configuration and a clock: seconds that only grow.
    key_log : Path or None
        Folder for the keys of all SAs, where the operator asked for that.
    """

    def __init__(
        self,
        config: Config,
        make_plane: Callable[[Config, Callable[[], float]], DataPlane],
        key_log: Path | None = None,
    ):
        self._config = config
        self._endpoint = Endpoint(config.pad, config.settings)
        self._plane = make_plane(config, lambda: self._now)
        self._manual = ManualKeying(config.sas, SequenceFile(config.state), self._state_of)
        self._key_folder = key_log
        self._key_log: Folder | None = None
        self._events: deque[Row] = deque(maxlen=KEPT_EVENTS)
        self._counts: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._unreached: dict[str, str] = {}

    @property
    def _now(self) -> float:
        return self._loop.time()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT.

        Raises
        ------
        InputError
            Something that it needs is not there.
        BusError
            The hardware is gone.
        """
        self._loop = asyncio.get_running_loop()
        endpoint = self._endpoint
        hooks = Hooks(
            alive=lambda spi: endpoint.alive(self._now, spi),
            expects=endpoint.expects,
            turn=self._settle,
            undone=self._undone,
            moved=lambda spi, local, remote: endpoint.moved(self._now, spi, local, remote),
            expired=self._expired,
            wanted=lambda peer, child, packet: endpoint.initiate(self._now, peer, child, packet),
        )
        async with AsyncExitStack() as stack:
            await self._plane.open(stack, hooks)
            self._udp = {
                (version, port): stack.enter_context(closing(UdpLink(version, port)))
                for version in versions()
                for port in (IKE_PORT, NATT_PORT)
            }
            if self._key_folder is not None:
                self._key_log = stack.enter_context(closing(Folder(self._key_folder)))
            self._control = await stack.enter_async_context(Control(self._config.control, self._commands()))
            if self._config.metrics_port:
                await stack.enter_async_context(
                    serve(
                        self._config.metrics_port, lambda: status.metrics(endpoint, self._plane, self._counts)
                    )
                )
            await self._work()

    async def _work(self) -> None:
        endpoint, loop = self._endpoint, self._loop
        stopped = asyncio.Event()
        loop.set_exception_handler(_unexpected)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        for link in self._udp.values():
            loop.add_reader(link, self._from_udp, link)
        plane, stop = asyncio.create_task(self._plane.run()), asyncio.create_task(stopped.wait())
        log(logging.INFO, "started", peers=",".join(peer.name for peer in self._config.pad))
        try:
            self._manual.start(self._now)
            endpoint.start(self._now)
            self._settle()
            await asyncio.wait((plane, stop), return_when=asyncio.FIRST_COMPLETED)
            if plane.done():
                plane.result()
            endpoint.stop(self._now)
            self._settle()
            end = self._now + GOODBYE_SECONDS
            while any(endpoint.ikes) and self._now < end and not plane.done():
                await asyncio.sleep(0.05)
        finally:
            for task in (plane, stop):
                task.cancel()
            await asyncio.gather(plane, stop, return_exceptions=True)
            for link in self._udp.values():
                loop.remove_reader(link)
            if self._timer is not None:
                self._timer.cancel()
            log(logging.INFO, "stopped")

    def _from_udp(self, link: UdpLink) -> None:
        for datagram in link.datagrams():
            _safely(self._receive, *datagram)
        self._settle()

    def _receive(self, data: bytes, local: Socket, remote: Socket, tos: int) -> None:
        if not self._endpoint.receive(self._now, data, local, remote):
            self._plane.datagram(data, local, remote, tos)

    def _settle(self) -> None:
        """Does what endpoint and SAs keyed by hand want, and asks for the next call of their timers."""
        while outputs := [*self._manual.take(), *self._endpoint.take()]:
            for output in outputs:
                try:
                    self._do(output)
                except Exception as error:  # noqa: BLE001 each output by itself, whatever becomes of the others
                    self._undone(output, error)
            _safely(self._plane.applied)
        if self._timer is not None:
            self._timer.cancel()
        timers = (self._manual.next_timer, self._endpoint.next_timer)
        when = min((each for each in timers if each is not None), default=None)
        self._timer = self._loop.call_at(when, self._tick) if when is not None else None

    def _tick(self) -> None:
        self._manual.tick(self._now)
        self._endpoint.tick(self._now)
        self._settle()

    def _expired(self, sa: Sa, hard: bool) -> None:
        if not self._manual.expired(sa, hard=hard):
            self._endpoint.expired(self._now, sa, hard=hard)

    def _undone(self, output: Output, error: Exception) -> None:
        if not self._manual.undone(output, error):
            self._endpoint.undone(self._now, output, error)

    def _state_of(self, sa: Sa) -> SaState | None:
        return next((each.state for each in self._plane.sas if each.sa == sa), None)

    def _do(self, output: Output) -> None:
        match output:
            case Datagram():
                self._send(output)
            case Event():
                self._tell(output)
            case KeyLog(line=line):
                if self._key_log is not None:
                    _safely(self._key_log.ike, line)
            case _:
                if self._key_log is not None and isinstance(output, InstallSa):
                    _safely(self._key_log.sa, output.sa)
                self._plane.apply(output)

    def _send(self, datagram: Datagram) -> None:
        """What cannot be sent is as if it were lost on the way. Where that begins with a peer that has an
        address, the operator hears of it; addresses that strangers make up fill neither log nor memory.
        """
        source, destination = datagram.source, datagram.destination
        peer = next((each.name for each in self._config.pad if each.address == destination.address), "")
        try:
            link = self._udp.get((source.address.version, source.port))
            if link is None:
                raise OSError(f"this host has no IPv{source.address.version}")
            link.send(datagram)
            self._unreached.pop(peer, None)
        except OSError as error:
            why = error.strerror or str(error)
            new = bool(peer) and self._unreached.get(peer) != why
            level = logging.WARNING if new else logging.DEBUG
            log(level, "not-sent", peer=peer, local=source, remote=destination, text=why)
            if peer:
                self._unreached[peer] = why

    def _tell(self, event: Event) -> None:
        log(
            logging.WARNING if event.kind in _WARNINGS else logging.INFO,
            event.kind.value,
            peer=event.peer,
            child=event.child,
            ike=event.ike,
            text=event.text,
        )
        self._counts[event.kind.value] += event.count
        if event.kind in _IN_VAIN:
            self._plane.forget_held(event.peer)
        row = status.event(event, datetime.now(UTC).isoformat(timespec="milliseconds"))
        self._events.append(row)
        self._control.tell(row)

    # What the operator wants

    def _commands(self) -> dict[str, Callable[..., list[Row]]]:
        return {
            "sas": lambda: status.sas(self._plane, self._now),
            "ike": lambda: status.ikes(self._endpoint, self._now),
            "policies": lambda: status.policies(self._plane),
            "events": lambda: list(self._events),
            **{
                name: lambda peer, child=None, name=name: self._command(name, peer, child)
                for name in ("initiate", "terminate", "rekey")
            },
        }

    def _command(self, name: str, peer: str, child: str | None) -> list[Row]:
        log(logging.INFO, "command", command=name, peer=peer, child=child)
        found = getattr(self._endpoint, name)(self._now, peer, child)
        self._settle()
        if found is False:
            raise InputError(
                f"peer {peer!r} has no {'IKE SA' if child is None else f'child SA {child!r}'} that could "
                f"be replaced"
            )
        return []


def _safely(call: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
    """``call(*arguments)``. What nobody expected of it is logged, and the next is done."""
    try:
        call(*arguments)
    except Exception:  # noqa: BLE001 whatever it is
        LOG.exception("internal error")


def _unexpected(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What should never happen is logged, and the gateway goes on."""
    error = context.get("exception")
    LOG.error("internal error", exc_info=error, extra={"values": {"text": context["message"]}})
