# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Each exchange ends at each step, on both sides, in every way: nothing is left of it.

What is left is counted by ``Endpoint.census``: SPIs that are reserved, holdings, half-open and lingering
IKE SAs, transcripts, exchanges, follow-ups, timers. The data plane of the tests is strict: nothing is
installed twice or removed when it is not there.
"""

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from spigate.firmware_py.ike.engine import dialogue, ike_sa, responder
from spigate.firmware_py.ike.engine.actions import EventKind
from spigate.firmware_py.ike.peers.retransmission import Retransmission
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import (
    Nonce,
    Notify,
    SecurityAssociation,
    TrafficSelectors,
    Unknown,
)
from spigate.firmware_py.ike.wire.registry import ExchangeType, NotifyType
from tests.firmware_py.ike.network import Host, Network, child, esp, ike, joined, net, pair, reverse
from tests.firmware_py.ike.raw import connected, gateway

QUICK = {
    "retransmission": Retransmission(timeout=0.5, factor=1, tries=3),
    "dpd_seconds": None,
    "rekey_seconds": None,
    "lifetime_seconds": None,
}
PLAIN = ike("aes128gcm16-prfsha256-x25519")
ADDITIONAL = ike("aes128gcm16-prfsha256-x25519-ke1_ecp256")
CHILD = esp("aes128gcm16-x25519")
CHILD_ADDITIONAL = esp("aes128gcm16-x25519-ke1_ecp256")

INIT, INTERMEDIATE, AUTH = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_INTERMEDIATE, ExchangeType.IKE_AUTH
CREATE, FOLLOW_UP, INFORM = (
    ExchangeType.CREATE_CHILD_SA,
    ExchangeType.IKE_FOLLOWUP_KE,
    ExchangeType.INFORMATIONAL,
)

EXCHANGES = {
    "handshake": ((INIT, AUTH), PLAIN, CHILD, lambda a: a.initiate("b")),
    "handshake with more keys": ((INIT, INTERMEDIATE, AUTH), ADDITIONAL, CHILD, lambda a: a.initiate("b")),
    "new child": ((CREATE,), PLAIN, CHILD, lambda a: a.initiate("b", "net")),
    "child rekeyed": ((CREATE, INFORM), PLAIN, CHILD, lambda a: a.rekey("b", "net")),
    "child rekeyed with more keys": (
        (CREATE, FOLLOW_UP, INFORM),
        PLAIN,
        CHILD_ADDITIONAL,
        lambda a: a.rekey("b", "net"),
    ),
    "IKE SA rekeyed": ((CREATE, INFORM), PLAIN, CHILD, lambda a: a.rekey("b")),
    "IKE SA rekeyed with more keys": ((CREATE, FOLLOW_UP, INFORM), ADDITIONAL, CHILD, lambda a: a.rekey("b")),
    "child deleted": ((INFORM,), PLAIN, CHILD, lambda a: a.terminate("b", "net")),
    "IKE SA deleted": ((INFORM,), PLAIN, CHILD, lambda a: a.terminate("b")),
}
ENDS = (
    "request lost",
    "response lost",
    "error",
    "malformed",
    "empty",
    "critical",
    "again",
    "ended here",
    "ended there",
    "exception in the request",
    "exception in the response",
    "exception in the answer",
)
STEPS = [(name, step) for name, (steps, *_) in EXCHANGES.items() for step in range(len(steps))]


class Broken(Exception):
    """Nobody expects it."""


def interfere(monkeypatch, network: Network, a: Host, b: Host, kind: ExchangeType, end: str) -> Counter:
    """From now on, ``kind`` ends so."""
    honest, done = dialogue.Dialogue._seal, Counter()
    wrong = {
        "error": (Notify(NotifyType.NO_ADDITIONAL_SAS),),
        "malformed": (Nonce(bytes(32)), Nonce(bytes(32))),
        "empty": (),
        "critical": (Unknown(b"x", payload_type=201, critical=True),),
        "again": (Notify(NotifyType.TEMPORARY_FAILURE),),
    }

    def seal(self, message):
        if (
            message.exchange == kind
            and message.response
            and end in wrong
            and self.context is b.endpoint._context
        ):
            done["wrong"] += 1
            message = replace(message, payloads=wrong[end])
        return honest(self, message)

    def lose(datagram):
        data = datagram.data[4:] if datagram.source.port == 4500 else datagram.data
        response = bool(data[19] & 0x20)
        if data[18] == kind and end == ("response lost" if response else "request lost"):
            done["lost"] += 1
            return None
        if data[18] == kind == INIT and response and end in wrong and datagram.source.address == b.address:
            done["wrong"] += 1
            message = Message.parse(data)
            return replace(datagram, data=replace(message, payloads=wrong[end]).pack())
        if data[18] == kind and end in ("ended here", "ended there") and not response and not done:
            done["ended"] += 1
            (a.terminate("b") if end == "ended here" else b.terminate("a"))
        return datagram

    def broken(*what):
        done["broken"] += 1
        raise Broken

    monkeypatch.setattr(dialogue.Dialogue, "_seal", seal)
    network.filters.append(lose)
    if end.startswith("exception"):
        _break(monkeypatch, a, b, kind, end, broken)
    return done


def _break(monkeypatch, a: Host, b: Host, kind: ExchangeType, end: str, broken) -> None:
    if end == "exception in the answer":
        if kind == INIT:
            monkeypatch.setattr(responder, "begin", broken)
            return
        answer = ike_sa.IkeSa.answer
        monkeypatch.setattr(
            ike_sa.IkeSa,
            "answer",
            lambda self, now, message: broken() if message.exchange == kind else answer(self, now, message),
        )
        return
    name = {"exception in the request": "request", "exception in the response": "response"}[end]
    for exchange in _all(dialogue.Exchange):
        if (
            name in vars(exchange)
            and exchange.exchange_type == kind
            and not getattr(vars(exchange)[name], "__isabstractmethod__", False)
        ):
            monkeypatch.setattr(exchange, name, broken)


def _all(kind: type) -> list[type]:
    return [kind, *itertools.chain.from_iterable(map(_all, kind.__subclasses__()))]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name, step", STEPS, ids=lambda value: str(value))
def test_nothing_is_left(monkeypatch, name, step, end):
    steps, of_ike, of_child, begin = EXCHANGES[name]
    both = {**QUICK, "proposals": of_ike}
    network, a, b = pair(child(proposals=of_child), a=both, b=both)
    if steps[0] != INIT:
        a.initiate("b")
        network.run(2)
        assert joined(a, b)
    done = interfere(monkeypatch, network, a, b, steps[step], end)
    begin(a)
    network.run(30)
    assert done, "the test did nothing"
    monkeypatch.undo()
    network.filters.clear()
    network.run(200)  # so long has whoever waits for the other

    for host in (a, b):  # what stands has what it needs, and nothing else is reserved
        census = host.endpoint.census()
        assert census["spis"] == census["holdings"] == census["child_sas"] == len(host.plane.inbound), census
        assert not any(
            census[each]
            for each in (
                "half_open",
                "candidates",
                "exchanges",
                "follow_ups",
                "transcripts",
                "plans",
                "lingering",
            )
        ), census
        assert census["ike_sas"] == len(host.standing)
        assert len(host.plane.policies) == 3 * len({sa.reqid for sa in host.plane.inbound.values()})
    a.initiate("b")  # and the next one works
    network.run(5)
    if not joined(a, b):  # one side was gone without a word
        for host in (a, b):
            for each in host.standing:
                each.close(network.now, EventKind.IKE_DOWN, "for the test")
            host.settle()
        a.initiate("b")
        network.run(5)
    assert joined(a, b)

    for host in (a, b):
        host.stop()
    network.run(400)
    for host in (a, b):
        assert not any(host.endpoint.census().values()), host.endpoint.census()
        assert not host.plane.inbound and not host.plane.outbound and not host.plane.policies


LONGEST_SECONDS = 181
"""Of the deadlines of docs/ike.md."""


@pytest.mark.parametrize("who", ["a", "b"])
@pytest.mark.parametrize("name, step", STEPS, ids=lambda value: str(value))
def test_every_state_has_a_deadline(name, step, who):
    """One side falls silent at that step, for ever: the other has nothing left but what it was told to
    keep, with the patience that it has by default."""
    steps, of_ike, of_child, begin = EXCHANGES[name]
    both = {"proposals": of_ike, "lifetime_seconds": None, "rekey_seconds": None}
    network, a, b = pair(child(proposals=of_child), a=both, b=both)
    if steps[0] != INIT:
        a.initiate("b")
        network.run(2)
    silent, seen = {"a": a, "b": b}[who], Counter()

    def cut(datagram):
        data = datagram.data[4:] if datagram.source.port == 4500 else datagram.data
        seen["cut"] += data[18] == steps[step] and datagram.source.address == silent.address
        return None if seen["cut"] else datagram

    network.filters.append(cut)
    begin(a)
    network.run(1)
    network.hosts.remove(silent)
    network.run(2 * LONGEST_SECONDS)
    [other] = network.hosts
    assert not any(other.endpoint.census().values()), other.endpoint.census()
    assert not other.plane.inbound and not other.plane.outbound and not other.plane.policies


def test_retried_at_once_is_still_being_rekeyed():
    """An exchange that ends and is followed by its like keeps what it had begun to replace."""
    endpoint = gateway(children=(replace(reverse(child()), traffic=(net("10.2.0.0/24=10.1.0.0/24"),)),))
    raw = connected(endpoint)
    endpoint.rekey(1, "a", "net")
    [request] = raw.requests(endpoint.take())
    [ike_] = endpoint.ikes
    [made] = ike_.children.values()
    [again] = raw.requests(raw.answer(1, request, Notify(NotifyType.SINGLE_PAIR_REQUIRED)))
    assert again.notify(NotifyType.REKEY_SA) and made.rekeying is ike_.active
    raw.answer(1, again, Notify(NotifyType.TEMPORARY_FAILURE))
    assert made.rekeying is None and endpoint.census()["spis"] == endpoint.census()["holdings"] == 1


def test_answer_without_a_child(monkeypatch):
    """IKE_AUTH is answered as if no child had been asked for: its number is free again, and the peer is
    told.
    """
    network, a, b = pair()
    honest = dialogue.Dialogue._seal

    def seal(self, message):
        if message.exchange == AUTH and message.response:
            kept = tuple(
                each
                for each in message.payloads
                if not isinstance(each, SecurityAssociation | TrafficSelectors)
            )
            message = replace(message, payloads=kept)
        return honest(self, message)

    monkeypatch.setattr(dialogue.Dialogue, "_seal", seal)
    a.initiate("b")
    network.run(5)
    assert a.standing and a.kinds()["child-failed"] == 1
    for host in (a, b):
        census = host.endpoint.census()
        assert not census["spis"] and not census["holdings"] and not host.plane.inbound
