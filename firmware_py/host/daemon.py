"""The loop of a gateway on a host: sockets, device and clock around an IKE endpoint and a plane of packets."""
import asyncio
import logging
import signal
from collections import Counter, deque
from contextlib import AsyncExitStack, ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.host import status
from spigate.firmware_py.host.config import Config
from spigate.firmware_py.host.control import Control
from spigate.firmware_py.host.keylog import Folder
from spigate.firmware_py.host.links import FAMILIES, RawLink, Sender, Tun, UdpLink, in_udp
from spigate.firmware_py.host.logs import LOG, log
from spigate.firmware_py.host.metrics import serve
from spigate.firmware_py.host.plane import Plane, configured, outward
from spigate.firmware_py.host.routes import Routes
from spigate.firmware_py.ike.config import START_ON_TRAFFIC
from spigate.firmware_py.ike.endpoint import Endpoint
from spigate.firmware_py.ike.events import (
    IKE_PORT,
    NAT_PORT,
    AddPolicy,
    Datagram,
    Event,
    EventKind,
    InstallSa,
    KeyLog,
    RemovePolicy,
)
from spigate.firmware_py.ike.nat import KEEPALIVE
from spigate.firmware_py.sa import AH, ESP

KEPT_EVENTS = 1000
GOODBYE_SECONDS = 2.0
"""So long the peers have to answer when the gateway ends."""
_WARNINGS = frozenset({EventKind.IKE_FAILED, EventKind.PEER_DEAD, EventKind.CHILD_FAILED, EventKind.UNDER_LOAD,
                       EventKind.REFUSED})
_IN_VAIN = frozenset({EventKind.IKE_FAILED, EventKind.CHILD_FAILED, EventKind.PEER_DEAD, EventKind.IKE_DOWN})
"""Behind these nobody makes the child that packets wait for."""


class Daemon:
    """Parameters
    ----------
    config : Config
    key_log : Path or None
        Folder for the keys of all SAs, where the operator asked for that.
    """

    def __init__(self, config: Config, key_log: Path | None = None):
        self._config = config
        self._endpoint = Endpoint(config.pad, config.settings)
        on_traffic = {child for child, start in config.starts.items() if start == START_ON_TRAFFIC}
        self._plane = Plane(config.pad, on_traffic, config.policies, mtu=config.mtu, clock=lambda: self._now)
        self._key_log = Folder(key_log) if key_log is not None else None
        self._events: deque[dict] = deque(maxlen=KEPT_EVENTS)
        self._counts: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _now(self) -> float:
        return self._loop.time()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. InputError where something that it needs is not there."""
        self._loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            self._open(stack)
            async with AsyncExitStack() as services:
                self._control = await services.enter_async_context(Control(self._config.control, self._commands()))
                if self._config.metrics_port:
                    await services.enter_async_context(serve(
                        self._config.metrics_port, lambda: status.metrics(self._endpoint, self._plane, self._counts)))
                await self._work()

    def _open(self, stack: ExitStack) -> None:
        config = self._config
        versions = [version for version in FAMILIES if version == 4 or Path("/proc/net/if_inet6").exists()]
        self._udp = {(version, port): stack.enter_context(closing(UdpLink(version, port)))
                     for version in versions for port in (IKE_PORT, NAT_PORT)}
        self._raw = [stack.enter_context(closing(RawLink(version, protocol)))
                     for version in versions for protocol in (ESP, AH)]
        self._senders = {version: stack.enter_context(closing(Sender(version))) for version in versions}
        self._tun = stack.enter_context(closing(Tun(config.device)))
        self._routes = stack.enter_context(closing(Routes(config.device, config.device_mtu, config.addresses)))
        if self._key_log is not None:
            stack.enter_context(closing(self._key_log))
        for peer in config.pad:
            for child in peer.children:
                for traffic in configured(peer, child):
                    self._routes.hold(traffic)

    async def _work(self) -> None:
        endpoint, plane, loop = self._endpoint, self._plane, self._loop
        plane.on_alive = lambda spi: endpoint.alive(self._now, spi)
        plane.on_moved, plane.expects = endpoint.moved, endpoint.expects
        plane.on_expired = lambda spi, hard: endpoint.expired(self._now, spi, hard=hard)
        plane.on_wanted = lambda peer, child, packet: endpoint.initiate(self._now, peer, child, packet)
        stopped = asyncio.Event()
        loop.set_exception_handler(_unexpected)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        loop.add_reader(self._tun, self._from_device)
        for link in self._raw:
            loop.add_reader(link, self._from_raw, link)
        for link in self._udp.values():
            loop.add_reader(link, self._from_udp, link)
        log(logging.INFO, "started", device=self._config.device, peers=",".join(peer.name for peer in self._config.pad))
        try:
            endpoint.start(self._now)
            self._settle()
            await stopped.wait()
            endpoint.stop(self._now)
            self._settle()
            end = self._now + GOODBYE_SECONDS
            while any(endpoint.ikes) and self._now < end:
                await asyncio.sleep(0.05)
        finally:
            for link in (self._tun, *self._raw, *self._udp.values()):
                loop.remove_reader(link)
            if self._timer is not None:
                self._timer.cancel()
            log(logging.INFO, "stopped")

    # Packets

    def _from_device(self) -> None:
        for packet in self._tun.packets():
            self._transmit(self._plane.send(packet))
        self._settle()

    def _from_raw(self, link: RawLink) -> None:
        for packet in link.packets():
            self._deliver(packet)
        self._settle()

    def _from_udp(self, link: UdpLink) -> None:
        for data, local, remote, tos in link.datagrams():
            if not self._endpoint.receive(self._now, data, local, remote) and data != KEEPALIVE:
                self._deliver(in_udp(data, local, remote, tos))
        self._settle()

    def _deliver(self, packet: bytes) -> None:
        plain = self._plane.receive(packet)
        if plain is not None:
            self._to_device(plain)

    def _to_device(self, plain: bytes) -> None:
        try:
            self._tun.write(plain)
        except OSError:
            self._plane.drops["device"] += 1

    def _transmit(self, packets: list[bytes]) -> None:
        for packet in packets:
            try:
                self._senders[packet[0] >> 4].send(packet)
            except (OSError, KeyError):
                self._plane.drops["network"] += 1

    # IKE

    def _settle(self) -> None:
        """Does what the endpoint wants, and asks for the next call of its timers."""
        while outputs := self._endpoint.take():
            for output in outputs:
                self._do(output)
            for plain in self._plane.early():
                self._to_device(plain)
        if self._timer is not None:
            self._timer.cancel()
        when = self._endpoint.next_timer
        self._timer = self._loop.call_at(when, self._tick) if when is not None else None

    def _tick(self) -> None:
        self._endpoint.tick(self._now)
        self._settle()

    def _do(self, output: object) -> None:
        match output:
            case Datagram(source=source):
                try:
                    self._udp[source.address.version, source.port].send(output)
                except (OSError, KeyError) as error:  # as if it were lost on the way
                    log(logging.DEBUG, "not sent", remote=output.destination, error=error)
            case Event():
                self._tell(output)
            case KeyLog(line=line):
                if self._key_log is not None:
                    self._key_log.ike(line)
            case _:
                if self._key_log is not None and isinstance(output, InstallSa):
                    self._key_log.sa(output.sa)
                self._transmit(self._plane.apply(output))
                self._route(output)

    def _route(self, output: object) -> None:
        if not isinstance(output, AddPolicy | RemovePolicy) or not outward(output.policy):
            return
        try:
            if isinstance(output, AddPolicy):
                self._routes.hold(output.policy.selectors)
            else:
                self._routes.release(output.policy.selectors)
        except InputError as error:
            log(logging.ERROR, "route", error=error)

    def _tell(self, event: Event) -> None:
        log(logging.WARNING if event.kind in _WARNINGS else logging.INFO, event.kind.value, peer=event.peer,
            child=event.child, ike=event.ike, text=event.text)
        self._counts[event.kind.value] += event.count
        if event.kind in _IN_VAIN:
            self._plane.forget_held(event.peer)
        row = status.event(event, datetime.now(UTC).isoformat(timespec="milliseconds"))
        self._events.append(row)
        self._control.tell(row)

    # What the operator wants

    def _commands(self) -> dict:
        return {"sas": lambda: status.sas(self._plane, self._now), "ike": lambda: status.ikes(self._endpoint, self._now),
                "policies": lambda: status.policies(self._plane), "events": lambda: list(self._events),
                **{name: lambda peer, child=None, name=name: self._command(name, peer, child)
                   for name in ("initiate", "terminate", "rekey")}}

    def _command(self, name: str, peer: str, child: str | None) -> list[dict]:
        log(logging.INFO, "command", command=name, peer=peer, child=child)
        getattr(self._endpoint, name)(self._now, peer, child)
        self._settle()
        return []


def _unexpected(loop: asyncio.AbstractEventLoop, context: dict) -> None:
    """What should never happen is logged, and the gateway goes on."""
    error = context.get("exception")
    LOG.error("internal error", exc_info=error, extra={"values": {"text": context["message"]}})
