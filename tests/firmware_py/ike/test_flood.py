# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A flood of handshakes that strangers begin: cookies, nothing kept, a tunnel that goes on, and an operator
who can still read the log.
"""

import tracemalloc
from dataclasses import replace
from ipaddress import ip_address

import pytest

from spigate.firmware_py.ike.crypto import key_exchange
from spigate.firmware_py.ike.crypto.proposals import offer
from spigate.firmware_py.ike.engine.actions import Datagram, Event, Socket
from spigate.firmware_py.ike.engine.admission import Limits
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.engine.strangers import PER_PERIOD, PERIOD_SECONDS
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import KeyExchange, Nonce, Notify, SecurityAssociation
from spigate.firmware_py.ike.wire.registry import ExchangeType, NotifyType
from spigate.firmware_py.ipsec.packet import ipv4_header
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.hdl.contract.enums import Direction
from spigate.hdl.contract.protocols import UDP
from tests.firmware_py.ike.network import FAST_IKE, Host, joined, pair

FLOOD = 100_000
SPOOFED = ip_address("10.0.0.0")
B = Socket(ip_address("192.0.2.2"), 500)
ANYWHERE = {"address": None, "local_address": None, "networks": ()}
PUBLIC = key_exchange.start(31).public
PACKET = ipv4_header(ip_address("10.1.0.1"), ip_address("10.2.0.1"), UDP, 108) + bytes(108)
KEPT = 2 << 20
"""Bytes that the flood may cost at its height, for 16 half-open handshakes and what is on its way."""


def beginning(number: int, *payloads) -> bytes:
    """An IKE_SA_INIT with that SPI."""
    body = (*payloads, SecurityAssociation(offer(FAST_IKE)), KeyExchange(31, PUBLIC), Nonce(bytes(32)))
    return Message(number.to_bytes(8), bytes(8), ExchangeType.IKE_SA_INIT, True, False, 0, body).pack()


def spoofed(number: int) -> Socket:
    return Socket(SPOOFED + number, 500)


class Tunnel:
    """ESP on what two endpoints negotiated, each packet on what is sent on now."""

    def __init__(self, sender: Host, receiver: Host):
        self._sender, self._receiver = sender, receiver
        self._working: dict = {}

    def passes(self) -> None:
        """A packet, from the one to the other."""
        [sa] = self._sender.plane.sending.values()
        out = self._working.setdefault((sa.spi, "out"), SoftSa(sa))
        twin = self._working.setdefault(
            (sa.spi, "in"), SoftSa(replace(self._receiver.plane.inbound[sa.spi], direction=Direction.INBOUND))
        )
        assert twin.decapsulate(out.encapsulate(PACKET))[20:] == PACKET[20:]


@pytest.mark.slow
def test_flood_of_beginnings():
    """100,000, each from another address and with another SPI, while a tunnel is used and rekeyed."""
    network, a, b = pair(b=ANYWHERE)
    a.initiate("b")
    network.run(5)
    tunnels = Tunnel(a, b), Tunnel(b, a)
    template, answers = beginning(1), 0
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for number in range(2, FLOOD + 2):
        b.endpoint.receive(network.now, number.to_bytes(8) + template[8:], B, spoofed(number))
        for output in b.endpoint.take():
            answers += isinstance(output, Datagram)
            if isinstance(output, Event):
                b.events.append(output)
            else:
                last = output
        if number % 1000 == 0:
            network.run(0.1)
            for each in tunnels:
                each.passes()
            assert b.endpoint.half_open == 16
        if number % 20_000 == 0:
            (a if number % 40_000 else b).rekey(
                "b" if number % 40_000 else "a", None if number % 60_000 == 0 else "net"
            )
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < KEPT, peak
    assert answers == FLOOD
    assert a.kinds()["child-rekeyed"] + b.kinds()["child-rekeyed"] >= 6 and a.kinds()["ike-rekeyed"] == 1
    assert b.endpoint.census()["inits"] == 16 and len(b.endpoint._context.timers._heap) < 200
    assert joined(a, b) and len(b.standing) == 1

    # Who was asked for a cookie and returns it gets in, the flood still being there.
    [asked] = Message.parse(last.data).payloads
    assert asked.notify_type == NotifyType.COOKIE
    b.endpoint.receive(
        network.now, beginning(FLOOD + 1, Notify(NotifyType.COOKIE, asked.data)), B, last.destination
    )
    [answer] = b.endpoint.take()
    assert Message.parse(answer.data).one(KeyExchange) and b.endpoint.half_open == 17
    network.run(60)
    assert b.endpoint.half_open == 0 and len(b.standing) == 1


def test_newcomer_in_a_flood():
    """A peer of ours whose first handshake falls into a flood."""
    network, a, b = pair(b=ANYWHERE)
    for number in range(1, 100):
        b.endpoint.receive(network.now, beginning(number), B, spoofed(number))
    b.endpoint.take()
    a.initiate("b")
    network.run(1)
    assert joined(a, b)
    assert any(Message.parse(each.data).notify(NotifyType.COOKIE) for each in network.seen[:2])


def test_events_of_a_flood_are_counted_and_few():
    """Nobody may come from these addresses, and everybody does; then, who may come does, and fails."""
    network, a, b = pair()
    template = beginning(1)
    for number in range(FLOOD):
        network.now += 10 * PERIOD_SECONDS / FLOOD
        b.endpoint.receive(network.now, template, B, spoofed(number))
        b.tick()
    network.run(2 * PERIOD_SECONDS)
    refused = [event for event in b.events if event.kind == "refused"]
    assert len(refused) <= 11 * (PER_PERIOD + 1)
    assert sum(event.count for event in refused) == FLOOD
    many = max(refused, key=lambda event: event.count)
    assert many.text.startswith(f"{many.count} more within 10 s; the last, 10.")
    assert not list(b.endpoint.ikes) and not b.plane.policies


def test_failed_handshakes_do_not_fill_the_log():
    network, a, b = pair(
        b=ANYWHERE, settings=Settings(limits=Limits(cookie_threshold=1000, half_open_seconds=1))
    )
    for number in range(1, 501):
        b.endpoint.receive(network.now, beginning(number), B, spoofed(number))
    network.run(30)
    failed = [event for event in b.events if event.kind == "ike-failed"]
    assert len(failed) == PER_PERIOD + 1 and sum(event.count for event in failed) == 500
