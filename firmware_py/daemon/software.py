# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""ESP and AH in this process: packets between a TUN device and raw sockets, by way of a
:class:`~spigate.firmware_py.daemon.plane.Plane`.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, closing

from spigate.firmware_py.daemon.config import Config
from spigate.firmware_py.daemon.dataplane import Hooks, Metric, SaOrPolicy
from spigate.firmware_py.daemon.links import DeviceGone, RawLink, Sender, Tun, in_udp, versions
from spigate.firmware_py.daemon.logs import log
from spigate.firmware_py.daemon.peer_keys import START_ON_TRAFFIC
from spigate.firmware_py.daemon.plane import Plane, SoftwareActive, outward
from spigate.firmware_py.daemon.routes import Routes
from spigate.firmware_py.daemon.waiting import configured
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.engine.actions import AddPolicy, RemovePolicy, Socket
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction
from spigate.hdl.contract.protocols import AH, ESP, NATT_KEEPALIVE


class Software:
    """A :class:`~spigate.firmware_py.daemon.dataplane.DataPlane`.

    Parameters
    ----------
    config : Config
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, config: Config, clock: Callable[[], float]):
        self._config = config
        on_traffic = {child for child, start in config.starts.items() if start == START_ON_TRAFFIC}
        self._plane = Plane(
            config.pad,
            on_traffic,
            config.policies,
            mtu=config.mtu,
            clock=clock,
            local=lambda: self._routes.own,
        )

    @property
    def sas(self) -> list[SoftwareActive]:
        return self._plane.sas

    @property
    def policies(self) -> list[Policy]:
        return list(self._plane.policies)

    async def open(self, stack: AsyncExitStack, hooks: Hooks) -> None:
        config, plane = self._config, self._plane
        plane.on_alive, plane.on_moved, plane.on_expired = hooks.alive, hooks.moved, hooks.expired
        plane.on_network = self._transmit
        plane.on_wanted, plane.expects, self._turn = hooks.wanted, hooks.expects, hooks.turn
        self._raw = [
            stack.enter_context(closing(RawLink(version, protocol)))
            for version in versions()
            for protocol in (ESP, AH)
        ]
        self._senders = {version: stack.enter_context(closing(Sender(version))) for version in versions()}
        self._tun = stack.enter_context(closing(Tun(config.device)))
        self._routes = stack.enter_context(
            closing(Routes(config.device, config.device_mtu, config.addresses))
        )
        for peer in config.pad:
            for child in peer.children:
                for traffic in configured(peer, child):
                    self._routes.hold(traffic)
        for policy in config.policies:
            if outward(policy) and policy.action == PolicyAction.PROTECT:
                self._routes.hold(policy.selectors)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._gone = loop.create_future()
        loop.add_reader(self._tun, self._from_device)
        for link in self._raw:
            loop.add_reader(link, self._from_raw, link)
        loop.add_reader(self._routes.changes, self._addresses)
        try:
            await self._gone
        finally:
            for link in self._raw:
                loop.remove_reader(link)
            loop.remove_reader(self._tun)
            loop.remove_reader(self._routes.changes)

    def _addresses(self) -> None:
        """This host has other addresses."""
        try:
            self._routes.look()
        except InputError as error:
            log(logging.ERROR, "route", error=error)
        self._plane.addresses_changed()

    def _from_device(self) -> None:
        try:
            for packet in self._tun.packets():
                self._transmit(self._plane.send(packet))
        except DeviceGone as error:
            asyncio.get_running_loop().remove_reader(self._tun)
            self._gone.set_exception(error)
        self._turn()

    def _from_raw(self, link: RawLink) -> None:
        for packet in link.packets():
            self._deliver(packet)
        self._turn()

    def datagram(self, data: bytes, local: Socket, remote: Socket, tos: int) -> None:
        if data != NATT_KEEPALIVE:
            self._deliver(in_udp(data, local, remote, tos))

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

    # What IKE wants

    def apply(self, output: SaOrPolicy) -> None:
        self._transmit(self._plane.apply(output))
        if not isinstance(output, AddPolicy | RemovePolicy) or not outward(output.policy):
            return
        try:
            if isinstance(output, AddPolicy):
                self._routes.hold(output.policy.selectors)
            else:
                self._routes.release(output.policy.selectors)
        except InputError as error:
            log(logging.ERROR, "route", error=error)

    def applied(self) -> None:
        for plain in self._plane.early():
            self._to_device(plain)

    def forget_held(self, peer: str) -> None:
        self._plane.forget_held(peer)

    def metrics(self) -> list[Metric]:
        return self._plane.metrics()
