# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Nothing that is not authenticated ends or wedges an attempt (RFC 7296 2.4, 2.21), and nobody is taken for
oneself.
"""

from dataclasses import replace

import pytest

from spigate.firmware_py.ike.engine.actions import Datagram, InstallSa
from spigate.firmware_py.ike.engine.attempt import MAX_CANDIDATES, MAX_CANDIDATES_MADE
from spigate.firmware_py.ike.engine.endpoint import Endpoint
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import Auth, IdR, Notify, Unknown
from spigate.firmware_py.ike.wire.registry import IdType, NotifyType
from tests.firmware_py.ike.network import Host, Network, child, joined, pair, peer
from tests.firmware_py.ike.raw import Impostor, without_marker

REPLIES = {
    "authentication failed": (Notify(NotifyType.AUTHENTICATION_FAILED),),
    "no identity": (),
    "wrong AUTH": (IdR(IdType.FQDN, b"b.example"), Auth(2, bytes(32))),
    "another identity": (IdR(IdType.FQDN, b"c.example"), Auth(2, bytes(32))),
    "critical payload": (Unknown(b"x", payload_type=201, critical=True),),
    "two identities": (IdR(IdType.FQDN, b"b.example"), IdR(IdType.FQDN, b"b.example")),
    "invalid syntax": (Notify(NotifyType.INVALID_SYNTAX),),
}


class Between:
    """Answers what ``host`` sends before its peer does, as long as it is ``there``; what the peer sends
    passes, or not.
    """

    def __init__(self, network: Network, host: Host, impostor: Impostor, *, passes: bool, copies: int = 1):
        self.there = True
        self._network, self._host, self._impostor, self._passes, self._copies = (
            network,
            host,
            impostor,
            passes,
            copies,
        )
        network.filters.append(self)

    def __call__(self, datagram: Datagram) -> Datagram | None:
        if datagram.source.address != self._host.address or not self.there:
            return datagram
        for _ in range(self._copies):
            answer = self._impostor.answer(datagram)
            if answer is not None:
                self._network.filters.remove(self)
                self._network.send(answer)
                self._network.filters.append(self)
        return datagram if self._passes else None


@pytest.mark.parametrize("reply", REPLIES)
def test_answer_of_an_impostor_is_one_of_several(reply):
    """It comes first, and the peer's is taken all the same, at once."""
    network, a, b = pair()
    Between(network, a, Impostor(lambda message: REPLIES[reply]), passes=True)
    a.initiate("b")
    network.run(1)
    assert joined(a, b) and len(a.standing) == 1 and not a.kinds()["ike-failed"]
    census = a.endpoint.census()
    assert census["plans"] == census["candidates"] == 0 and census["spis"] == len(a.plane.inbound)


@pytest.mark.parametrize("reply", REPLIES)
def test_attempt_goes_on_after_an_impostor(reply):
    """What the peer says is lost until then."""
    network, a, b = pair()
    between = Between(network, a, Impostor(lambda message: REPLIES[reply]), passes=False)
    a.initiate("b")
    network.run(1)
    assert a.kinds()["refused"] >= 1 and not a.kinds()["ike-failed"]
    between.there = False
    network.run(20)
    assert joined(a, b) and not a.kinds()["ike-failed"]


def test_impostor_that_never_answers_again():
    """It answers IKE_SA_INIT alone: the attempt has a deadline, and the next one comes."""
    network, a, b = pair(a={"initiate": True})
    between = Between(network, a, Impostor(lambda message: 1 / 0), passes=False)
    between._impostor._known = {}
    answer = between._impostor.answer
    between._impostor.answer = lambda datagram: (
        answer(datagram) if without_marker(datagram)[18] == 34 else None
    )
    a.start()
    network.run(400)
    assert a.kinds()["ike-failed"] >= 2 and a.endpoint.next_timer is not None
    between.there = False
    network.run(200)
    assert joined(a, b)


def test_wedge_of_a_broken_answer(monkeypatch):
    """An answer on which the engine itself fails is one that proves nothing (audit s02)."""
    from spigate.firmware_py.ike.engine import initiator

    honest, broken = initiator.verify, {"now": True}
    monkeypatch.setattr(initiator, "verify", lambda *what: 1 / 0 if broken["now"] else honest(*what))
    network, a, b = pair(a={"initiate": True})
    a.start()
    network.run(60)
    assert a.kinds()["internal-error"] and not a.standing and not a.plane.inbound
    broken["now"] = False
    network.run(60)
    assert joined(a, b) and len(a.standing) == 1


def test_candidates_are_bounded():
    network, a, b = pair()
    Between(network, a, Impostor(lambda message: ()), passes=False, copies=100)
    a.endpoint.initiate(0, "b")
    requests = 0
    for _ in range(3):
        a.settle()
        network.run(200)
        requests = max(requests, len([each for each in network.seen if each.source == a.address]))
        assert a.endpoint.census()["candidates"] <= MAX_CANDIDATES
    auths = {
        each.data
        for each in network.seen
        if each.source.address == a.address and without_marker(each)[18] == 35
    }
    assert len(auths) <= MAX_CANDIDATES_MADE
    assert a.kinds()["ike-failed"] == 1 and not any(value for key, value in a.endpoint.census().items())


def test_handshake_has_a_deadline():
    """Whoever answers cookies again and again keeps nothing alive for ever."""
    network, a, b = pair()

    def cookies(datagram: Datagram) -> Datagram | None:
        data = without_marker(datagram)
        if datagram.source.address == a.address and data[18] == 34:
            request = Message.parse(data)
            answer = replace(
                request, initiator=False, response=True, payloads=(Notify(NotifyType.COOKIE, b"x"),)
            )
            a.endpoint.receive(network.now, answer.pack(), datagram.source, datagram.destination)
        return None

    network.filters.append(cookies)
    a.initiate("b")
    network.run(181)
    assert a.kinds()["ike-failed"] == 1 and not any(a.endpoint.census().values())


@pytest.mark.parametrize("pattern", ["%any", "*.example", "b.example"])
def test_reflection(pattern):
    """Who sends our own messages back to us is nobody (audit s14)."""
    host = Endpoint(Pad([peer("b", "a", "b", remote_identity=pattern, children=(child(),), initiate=True)]))
    host.start(0)
    waiting, installed = host.take(), 0
    for now in range(50):
        answers = []
        for each in waiting:
            installed += isinstance(each, InstallSa)
            if isinstance(each, Datagram):
                host.receive(now, each.data, each.source, each.destination)
                answers += host.take()
        host.tick(now)
        waiting = [*answers, *host.take()]
        assert not host.half_open, "it begins nothing"
    assert not installed and not any(each.identity for each in host.ikes)


def test_own_identity_is_no_peer():
    """Two hosts of one name and one secret: each takes the other for itself."""
    network, a, b = pair(
        a={"remote_identity": "%any"},
        b={"remote_identity": "%any", "local_identity": None or peer("x", "a", "b").local_identity},
    )
    a.initiate("b")
    network.run(60)
    assert not a.standing and not b.standing and not a.plane.inbound and not b.plane.inbound
    assert "which is this side" in " ".join(each.text for each in b.events)
