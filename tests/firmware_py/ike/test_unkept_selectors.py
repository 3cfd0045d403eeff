# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Types and codes of ICMP, of which the two halves may differ, from end to end (audit s22): RFC 7296 2.9
has TS_UNACCEPTABLE for what cannot be kept. Types and codes are numbers of ports here (3.13.1), which the
data plane does not look at; where the halves had none in common an InputError left the endpoint, and a
rekeying stayed begun for ever."""

import random
from dataclasses import replace
from ipaddress import ip_address

import pytest

from spigate.firmware_py.ike.engine.actions import InstallSa
from spigate.firmware_py.ike.wire.payloads import (
    Nonce,
    Notify,
    SecurityAssociation,
    TrafficSelector,
    TsI,
    TsR,
)
from spigate.firmware_py.ike.wire.registry import ExchangeType, NotifyType
from tests.firmware_py.ike.raw import RawInitiator, connected, events, gateway

ANY, REQUEST, REPLY = (0, 0xFFFF), (0x0800, 0x08FF), (0, 0xFF)
ICMP = 1


def ts(initiator, responder, swapped=False):
    ends = [("10.1.0.0", "10.1.0.255"), ("10.2.0.0", "10.2.0.255")]
    sides = [
        (TrafficSelector(*map(ip_address, end), ICMP, ports),)
        for end, ports in zip(reversed(ends) if swapped else ends, (initiator, responder), strict=True)
    ]
    return TsI(sides[0]), TsR(sides[1])


HALVES = pytest.mark.parametrize(
    "halves", [(REQUEST, REPLY), (REQUEST, REQUEST), (REQUEST, ANY)], ids=["differ", "agree", "one"]
)


def kinds(message):
    return [each.notify_type for each in message.all(Notify)]


@HALVES
def test_of_a_new_child(halves):
    endpoint = gateway()
    raw = connected(endpoint)
    before = endpoint.census()
    assert kinds(raw.create(1, 0x1001, ts=ts(*halves))) == [NotifyType.TS_UNACCEPTABLE]
    assert not events(raw.outputs, "internal-error") and endpoint.census() == before
    answer = raw.create(2, 0x1002)
    assert answer.optional(SecurityAssociation) and endpoint.census()["child_sas"] == 2, "the IKE SA goes on"


@HALVES
def test_of_the_first_child(halves):
    """Beside which the IKE SA stands (RFC 7296 1.2)."""
    endpoint = gateway()
    raw = RawInitiator(endpoint)
    raw.init(0)
    assert kinds(raw.auth(0, ts=ts(*halves))) == [NotifyType.TS_UNACCEPTABLE]
    assert not events(raw.outputs, "internal-error")
    census = endpoint.census()
    assert (census["ike_sas"], census["child_sas"], census["spis"], census["half_open"]) == (1, 0, 0, 0)
    assert raw.create(1, 0x1001).optional(SecurityAssociation)


@HALVES
def test_of_an_answer(halves):
    """The peer narrows a rekeying so: what is begun ends, the old child SA stays, and the next rekeying
    works.
    """
    endpoint = gateway()
    raw = connected(endpoint)
    before = endpoint.census()
    endpoint.rekey(1, "a", "net")
    [request] = raw.requests(endpoint.take())
    [proposal] = request.one(SecurityAssociation).proposals

    def answer(request, spi, *selectors):
        return raw.answer(
            2,
            request,
            SecurityAssociation((replace(proposal, spi=spi.to_bytes(4)),)),
            Nonce(random.randbytes(32)),
            *selectors,
        )

    outputs = answer(request, 0x2002, *ts(*halves, swapped=True))
    assert not events(outputs, "internal-error") and events(outputs, "child-failed")
    for deleted in raw.requests(outputs):  # the peer has made it
        assert deleted.exchange == ExchangeType.INFORMATIONAL
        raw.answer(2, deleted)
    census = endpoint.census()
    assert {name: census[name] for name in ("ike_sas", "child_sas", "spis", "exchanges")} == {
        name: before[name] for name in ("ike_sas", "child_sas", "spis", "exchanges")
    }
    [[old]] = [ike.children.values() for ike in endpoint.ikes]
    assert not old.rekeying
    endpoint.rekey(3, "a", "net")
    asked = raw.requests(endpoint.take())
    assert [each.exchange for each in asked] == [ExchangeType.CREATE_CHILD_SA], "it is asked for once more"
    [proposal] = asked[0].one(SecurityAssociation).proposals
    outputs = answer(asked[0], 0x2003, asked[0].one(TsI), asked[0].one(TsR))
    assert (
        not events(outputs, "child-failed")
        and len([each for each in outputs if isinstance(each, InstallSa)]) == 2
    )
