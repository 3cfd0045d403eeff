# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What strangers and peers may have of the gateway: so many handshakes, IKE SAs, children, numbers; and no
longer than it says.
"""

import tracemalloc
from dataclasses import replace
from ipaddress import ip_address

import pytest

from spigate.firmware_py.ike.crypto import key_exchange, proposals
from spigate.firmware_py.ike.engine import ike_sa, informational
from spigate.firmware_py.ike.engine.actions import Datagram, InstallSa, RemoveSa
from spigate.firmware_py.ike.engine.admission import Limits
from spigate.firmware_py.ike.engine.children import AGAIN_SECONDS, REPLACED_SECONDS, ChildState
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.engine.endpoint import MAX_INIT, MAX_WAITING
from spigate.firmware_py.ike.engine.keyed_exchange import FOLLOW_UP_SECONDS
from spigate.firmware_py.ike.wire.message import NO_SPI, Message
from spigate.firmware_py.ike.wire.payloads import (
    Delete,
    IdI,
    KeyExchange,
    Nonce,
    Notify,
    SecurityAssociation,
    TrafficSelector,
    TsI,
    TsR,
    Vendor,
)
from spigate.firmware_py.ike.wire.registry import ExchangeType, IdType, NotifyType, ProtocolId
from spigate.firmware_py.ipsec.sa import Lifetime
from spigate.hdl.contract.enums import Direction
from tests.firmware_py.ike.network import FAST_ESP, child, net, pair, peer, reverse
from tests.firmware_py.ike.raw import OWN_ESP, RawInitiator, connected, events, gateway

MANY = 10_000
MAX_HALF_OPEN, MAX_FAILED, MAX_FRAGMENTS = MAX_INIT + (12 << 10), 12 << 10, 20 << 10
"""Bytes that one costs at most, with its keys; and what it has sent of its IKE_AUTH."""


def begin(endpoint, now: float, source: str, port: int, *, fails: bool, padding: int = 0) -> bool:
    """A handshake that is left open, or that fails; whether a cookie was asked for."""
    raw = RawInitiator(endpoint, source, port)
    answer = raw._init(now, (), padding)
    cookie = answer.notify(NotifyType.COOKIE) if answer is not None else None
    if cookie is not None:
        raw._init(now, (cookie,), padding)
    if fails and hasattr(raw, "protection"):
        raw.ask(now, ExchangeType.IKE_AUTH)
    return cookie is not None


def bounded(endpoint) -> None:
    census = endpoint.census()
    assert census["half_open"] <= 1024 and census["lingering"] <= 256 and census["ike_sas"] <= 1024 + 256


@pytest.mark.slow
@pytest.mark.parametrize("sources", [1, 5000])
def test_ten_thousand_handshakes(sources):
    """Every other one is left open, every other one fails, from one address or from many; all return
    cookies (audit s04).
    """
    endpoint, asked = gateway(), 0
    for number in range(MANY):
        now = number * 0.001
        asked += begin(
            endpoint,
            now,
            str(ip_address("198.51.0.0") + number % sources),
            1024 + number,
            fails=number % 2 == 0,
        )
        if number % 500 == 20:
            bounded(endpoint)
            assert asked >= 4
    assert asked > MANY * 0.99
    other = connected(endpoint, now, source="203.0.113.7")  # others still get in
    assert events(other.outputs, "child-up")
    for _ in range(3):
        endpoint.tick(now := now + 100)
        endpoint.take()
    census = endpoint.census()
    assert census["ike_sas"] == census["inits"] == census["child_sas"] == census["spis"] == 1
    assert not census["half_open"] and not census["lingering"] and census["timers"] <= 4


@pytest.mark.parametrize("fails", [False, True])
def test_memory_of_handshakes(fails):
    """The longest IKE_SA_INITs, from many addresses: what is kept is bounded, and of failed ones it is
    little.
    """
    kept = 100
    endpoint = gateway(Settings(limits=Limits(half_open=kept, lingering=kept)))
    begin(endpoint, 0, "198.51.100.1", 500, fails=True)
    endpoint.tick(100)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(kept * 3 // 2):
        begin(
            endpoint,
            100 + number * 0.001,
            str(ip_address("198.51.0.0") + number),
            500,
            fails=fails,
            padding=MAX_INIT - 500,
        )
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert endpoint.census()["ike_sas"] == kept
    assert held < kept * (MAX_FAILED if fails else MAX_HALF_OPEN), held


@pytest.mark.parametrize("fails", [False, True])
def test_memory_of_fragments(fails):
    """All fragments of IKE_AUTH but the last: 64 KB each, for the half-open and for those that failed
    afterwards.
    """
    kept = 60
    endpoint = gateway(Settings(limits=Limits(half_open=kept, lingering=kept)))
    begin(endpoint, 0, "198.51.100.1", 500, fails=True)
    endpoint.tick(100)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(kept):
        raw = RawInitiator(endpoint, str(ip_address("198.51.0.0") + number))
        raw.init(100)
        message = Message(
            raw.spi_i, raw.spi_r, ExchangeType.IKE_AUTH, True, False, 1, (Vendor(bytes(61_000)),)
        )
        for fragment in raw.protection.seal(message, 1060)[:-1]:
            raw.send(100, fragment)
        if fails:
            raw.ask(100, ExchangeType.IKE_AUTH)
    del raw, message, fragment
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    census = endpoint.census()
    assert census["lingering" if fails else "half_open"] == kept
    assert held < kept * (MAX_FAILED if fails else MAX_HALF_OPEN + MAX_FRAGMENTS), held


def test_who_is_known_may_send_more():
    endpoint = gateway()
    raw = connected(endpoint)
    message = Message(
        raw.spi_i,
        raw.spi_r,
        ExchangeType.INFORMATIONAL,
        True,
        False,
        raw.message_id,
        (Vendor(bytes(61_000)),),
    )
    for fragment in raw.protection.seal(message, 1060):
        raw.send(1, fragment)
    assert [each for each in raw.outputs if isinstance(each, Datagram)]


def test_transcripts_of_failed_handshakes_are_gone():
    endpoint = gateway()
    for port in range(4):
        raw = RawInitiator(endpoint, port=1000 + port)
        raw.init(0)
        raw.ask(0, ExchangeType.IKE_AUTH)
    census = endpoint.census()
    assert census["lingering"] == 4 and census["transcripts"] == census["half_open"] == 0


def test_lingering_still_answers():
    """The answer that was lost is had again."""
    endpoint = gateway()
    raw = RawInitiator(endpoint)
    raw.init(0)
    raw.ask(0, ExchangeType.IKE_AUTH)
    first = [each.data for each in raw.outputs if isinstance(each, Datagram)]
    assert first and [each.data for each in raw.send(1, raw.last)] == first
    endpoint.tick(50)
    assert not raw.send(50, raw.last)


def test_long_beginning_is_refused():
    endpoint = gateway()
    assert RawInitiator(endpoint).init(0, padding=MAX_INIT) is None
    assert RawInitiator(endpoint, port=501).init(0, padding=MAX_INIT - 500) is not None


def test_a_cookie_is_no_longer_than_what_asks_for_it():
    """Else a stranger has the owner of an address get more than it sends itself (audit s15 b)."""
    endpoint = gateway(Settings(limits=Limits(cookie_threshold=0)))
    raw = RawInitiator(endpoint)
    nonce = Message(
        bytes(7) + b"1", NO_SPI, ExchangeType.IKE_SA_INIT, True, False, 0, (Nonce(bytes(16)),)
    ).pack()
    assert not [output for output in raw.send(0, nonce) if isinstance(output, Datagram)]
    assert events(connected(endpoint).outputs, "child-up"), "a beginning is longer"


def test_one_address_takes_no_room_from_itself():
    """Eight beginnings in the name of a peer's address: it gets in with a cookie, which who is elsewhere
    never sees.
    """
    endpoint = gateway(Settings(limits=Limits(half_open_seconds=1000)))
    for port in range(1, 30):
        raw = RawInitiator(endpoint, port=port)
        raw._init(0, (), 0)
    assert endpoint.half_open == 5
    assert events(connected(endpoint, 0).outputs, "child-up")


# IKE SAs and children of one identity


def test_ike_sas_of_one_identity():
    endpoint = gateway(Settings(ike_sas_per_identity=3))
    peers = [connected(endpoint, now, port=500 + now) for now in range(5)]
    assert len(list(endpoint.ikes)) == 3 and endpoint.census()["child_sas"] == 3
    assert peers[0].ask(10, ExchangeType.INFORMATIONAL) is None  # the oldest went
    assert peers[4].ask(10, ExchangeType.INFORMATIONAL) is not None


def test_used_ike_sa_stays():
    endpoint = gateway(Settings(ike_sas_per_identity=2))
    first, second = connected(endpoint, 0, port=501), connected(endpoint, 1, port=502)
    assert first.ask(5, ExchangeType.INFORMATIONAL) is not None
    third = RawInitiator(endpoint, port=503)
    third.init(6)
    third.auth(6)
    gone = [each for each in third.outputs if isinstance(each, Datagram) and each.destination == second.me]
    assert len(gone) == 1 and second.protection.open(gone[0].data).one(Delete)  # it is told
    assert first.ask(7, ExchangeType.INFORMATIONAL) is not None


def test_an_identity_is_one_however_it_is_written():
    """In 256 ways of writing a.example it had 16 IKE SAs each."""
    endpoint = gateway(Settings(ike_sas_per_identity=2, children_per_identity=3))
    for number, written in enumerate((b"a.example", b"A.example", b"a.EXAMPLE", b"a.eXample")):
        raw = RawInitiator(endpoint, port=500 + number)
        raw.init(number)
        assert raw.auth(number, identity=IdI(IdType.FQDN, written)) is not None
    census = endpoint.census()
    assert census["ike_sas"] == census["child_sas"] == 2
    assert raw.create(5, 0x1001) and raw.create(5, 0x1002).notify(NotifyType.NO_ADDITIONAL_SAS)


def test_other_identities_have_their_own():
    endpoint = gateway(Settings(ike_sas_per_identity=1), remote_identity="*.example")
    connected(endpoint, 0)
    other = RawInitiator(endpoint, port=501)
    other.init(1)
    other.auth(1, identity=IdI(IdType.FQDN, b"c.example"))
    assert len(list(endpoint.ikes)) == 2


def test_children_of_one_identity():
    """On all of its IKE SAs together (audit s07)."""
    endpoint = gateway(Settings(children_per_identity=10))
    peers = [connected(endpoint, 0, port=500 + number) for number in range(4)]
    for raw in peers:
        for spi in range(5):
            raw.create(1, 0x1000 + spi)
    assert endpoint.census()["child_sas"] == 10
    assert peers[0].create(2, 0x2000).notify(NotifyType.NO_ADDITIONAL_SAS)
    late = RawInitiator(endpoint, port=999)
    late.init(2)
    answer = late.auth(2)
    assert answer.notify(NotifyType.NO_ADDITIONAL_SAS) and endpoint.census()["child_sas"] == 10


def test_pairs_of_one_identity():
    """Ten child SAs may have 160 pairs together: each is a policy that packets of others are
    compared with.
    """
    endpoint = gateway(Settings(children_per_identity=10))
    raw = RawInitiator(endpoint)
    raw.init(0)
    raw.auth(0, childless=True)

    def hosts(kind: type, network: str):
        first = ip_address(network)
        return kind(tuple(TrafficSelector(first + 2 * at, first + 2 * at) for at in range(8)))

    def create() -> Message:
        return raw.ask(
            1,
            ExchangeType.CREATE_CHILD_SA,
            SecurityAssociation(proposals.offer(FAST_ESP, raw.message_id.to_bytes(4, "little"))),
            Nonce(bytes(32)),
            hosts(TsI, "10.1.0.0"),
            hosts(TsR, "10.2.0.0"),
        )

    assert [bool(create().notify(NotifyType.NO_ADDITIONAL_SAS)) for _ in range(5)] == [False] * 3 + [True] * 2


# Of one IKE SA


def test_ancestors_are_few_and_heirs_are_found():
    """1100 rekeyings, while a child's is put off (audit s05)."""
    endpoint = gateway()
    raw = connected(endpoint)
    endpoint.rekey(1, "a", "net")
    [request] = raw.requests(endpoint.take())
    raw.answer(1, request, Notify(NotifyType.TEMPORARY_FAILURE))
    for _ in range(1100):
        raw.rekey_ike(1)
        assert endpoint.census()["ike_sas"] <= 1 + ike_sa.MAX_ANCESTORS
    endpoint.tick(10)
    [request] = raw.requests(endpoint.take())  # on the last heir
    assert request.exchange == ExchangeType.CREATE_CHILD_SA
    endpoint.tick(300)
    assert endpoint.census()["ike_sas"] == 1
    raw.ask(301, ExchangeType.INFORMATIONAL, Delete(ProtocolId.IKE))
    endpoint.tick(1000)
    assert not any(endpoint.census().values())


def test_deletions_of_what_is_not_there():
    """Each costs the same, and few are remembered (audit s08)."""
    endpoint = gateway()
    raw = connected(endpoint)
    endpoint.rekey(0, "a")
    endpoint.take()
    for number in range(5):
        raw.ask(
            1,
            ExchangeType.INFORMATIONAL,
            Delete(ProtocolId.ESP, tuple((number << 16 | each).to_bytes(4) for each in range(1000))),
        )
    [ike] = endpoint.ikes
    assert len(ike.stillborn) == informational.MAX_STILLBORN


def test_wishes_of_the_data_plane_are_few():
    """Soft limits are told of with each packet, and packets that wait with each flow."""
    endpoint = gateway()
    connected(endpoint)
    [ike] = endpoint.ikes
    [made] = ike.children.values()
    endpoint.rekey(1, "a")  # in front of all others
    for _ in range(1000):
        endpoint.expired(1, made.outbound, hard=False)
    assert ike.queued == 1
    for number in range(1000):
        endpoint.initiate(1, "a", "net", net(f"10.2.0.1/32=10.1.0.{number % 200}/32", 17, (number, number)))
    assert ike.queued == MAX_WAITING
    endpoint.terminate(1, "a")
    assert ike.queued == 1 and ike.state.name == "DELETING"


def test_used_up_is_one_s_own():
    """Two peers that receive on the same SPI (audit s06)."""
    network, a, b = pair()
    other = network.host(
        "c",
        "192.0.2.3",
        peer(
            "b",
            "c",
            "b",
            address=ip_address("192.0.2.2"),
            local_address=ip_address("192.0.2.3"),
            children=(child("net", "10.3.0.0/24=10.2.0.0/24"),),
        ),
    )
    b.peers.append(peer("c", "b", "c", children=(reverse(other.peers[0].children[0]),)))
    b.boot()
    a.initiate("b")
    other.initiate("b")
    network.run(5)
    of_a, of_c = sorted(b.children, key=lambda each: str(each.outbound.destination))
    of_c.outbound = replace(of_c.outbound, spi=of_a.outbound.spi)
    b.endpoint.expired(network.now, of_a.outbound, hard=True)
    assert (of_a.state, of_c.state) == (ChildState.GONE, ChildState.INSTALLED)


# In time


def test_hard_limit_is_hard():
    """The peer answers nothing: the SA ends when it says (audit s13)."""
    endpoint = gateway(
        children=(reverse(child(hard=Lifetime(seconds=10), soft=Lifetime(seconds=9), jitter=0)),)
    )
    connected(endpoint)
    endpoint.tick(9.9)
    assert not [each for each in endpoint.take() if isinstance(each, RemoveSa)]
    endpoint.tick(10)
    assert {each.sa.direction for each in endpoint.take() if isinstance(each, RemoveSa)} == set(Direction)


def test_hard_limit_of_the_ike_sa():
    endpoint = gateway(lifetime_seconds=100, rekey_seconds=None)
    connected(endpoint)
    endpoint.rekey(99, "a", "net")  # is never answered
    endpoint.tick(100)
    assert len([each for each in endpoint.take() if isinstance(each, RemoveSa)]) == 2
    endpoint.tick(100 + ike_sa.DELETING_SECONDS)
    assert not any(value for value in endpoint.census().values())


def test_late_answer_makes_no_child_beyond_the_hard_limit():
    """Whoever kept its answer back until the IKE SA was over had a new child SA for three minutes more."""
    endpoint = gateway(lifetime_seconds=100, rekey_seconds=None)
    raw = connected(endpoint)
    endpoint.rekey(99, "a", "net")
    [request] = raw.requests(endpoint.take())
    endpoint.tick(100)
    endpoint.take()
    chosen = replace(request.one(SecurityAssociation).proposals[0], spi=b"\0\0\x20\0")
    outputs = raw.answer(
        101, request, SecurityAssociation((chosen,)), Nonce(bytes(32)), request.one(TsI), request.one(TsR)
    )
    assert [each.one(Delete) for each in raw.requests(outputs)] == [Delete(ProtocolId.IKE)]
    census = endpoint.census()
    assert (
        not [each for each in outputs if isinstance(each, InstallSa)]
        and census["spis"] == census["child_sas"] == 0
    )


def test_late_key_exchange_makes_no_child_beyond_the_hard_limit():
    endpoint = gateway(
        lifetime_seconds=100, rekey_seconds=None, children=(reverse(child(proposals=(OWN_ESP,))),)
    )
    raw = RawInitiator(endpoint)
    raw.init(0)
    raw.auth(0, childless=True)
    answer = raw.create(99, 0x1000, esp=(OWN_ESP,), ke=(KeyExchange(31, key_exchange.start(31).public),))
    endpoint.tick(100)
    endpoint.take()
    census = endpoint.census()
    assert census["spis"] == census["follow_ups"] == 0
    link = answer.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    late = raw.ask(101, ExchangeType.IKE_FOLLOWUP_KE, KeyExchange(19, key_exchange.start(19).public), link)
    assert late.notify(NotifyType.STATE_NOT_FOUND)
    assert not [each for each in raw.outputs if isinstance(each, InstallSa)]


def test_child_whose_successor_is_deleted():
    """The peer rekeys a child, and deletes the new one (case child-stuck-replaced)."""
    endpoint = gateway()
    raw = connected(endpoint, 0)
    rekeys = Notify(NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=b"\0\0\1\1")
    for spi in (0x1001, 0x1002, 0x1003):
        assert not raw.create(1, spi, rekeys).notify(NotifyType.TEMPORARY_FAILURE)
        raw.ask(1, ExchangeType.INFORMATIONAL, Delete(ProtocolId.ESP, (spi.to_bytes(4),)))
        [ike] = endpoint.ikes
        assert [each.state for each in ike.children.values()] == [ChildState.INSTALLED]
    endpoint.tick(3300)  # and this side rekeys it when it is time
    assert [each for each in raw.requests(endpoint.take()) if each.notify(NotifyType.REKEY_SA)]


def test_child_whose_successor_is_deleted_after_its_soft_limit():
    endpoint = gateway(
        children=(reverse(child(hard=Lifetime(seconds=100), soft=Lifetime(seconds=50), jitter=0)),)
    )
    raw = connected(endpoint, 0)
    raw.create(49, 0x1001, Notify(NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=b"\0\0\1\1"))
    endpoint.tick(51)
    raw.ask(52, ExchangeType.INFORMATIONAL, Delete(ProtocolId.ESP, (b"\0\0\x10\1",)))
    endpoint.take()
    endpoint.tick(52 + AGAIN_SECONDS)
    assert len(raw.requests(endpoint.take())) == 1


def test_child_that_is_replaced_and_never_deleted():
    endpoint = gateway(children=(reverse(child(hard=Lifetime(), soft=Lifetime())),))
    raw = connected(endpoint, 0)
    raw.create(1, 0x1001, Notify(NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=b"\0\0\1\1"))
    endpoint.tick(1 + REPLACED_SECONDS)
    [request] = raw.requests(endpoint.take())
    raw.answer(182, request)
    [ike] = endpoint.ikes
    assert [each.outbound.spi for each in ike.children.values()] == [0x1001]


def test_additional_key_exchanges_that_never_come():
    """Each new one takes the place of the one before, and the last has a deadline (audit s16)."""
    endpoint = gateway(children=(reverse(child(proposals=(OWN_ESP,))),))
    raw = RawInitiator(endpoint)
    raw.init(0)
    raw.auth(0, childless=True)
    for spi in range(100):
        answer = raw.create(
            1, 0x1000 + spi, esp=(OWN_ESP,), ke=(KeyExchange(31, key_exchange.start(31).public),)
        )
        assert answer.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
        census = endpoint.census()
        assert census["spis"] == census["holdings"] == census["follow_ups"] == 1
    endpoint.tick(1 + FOLLOW_UP_SECONDS)
    census = endpoint.census()
    assert census["spis"] == census["holdings"] == census["follow_ups"] == 0 and census["ike_sas"] == 1


def test_what_comes_back_is_dropped():
    """An IKE_SA_INIT with an SPI of this side's."""
    network, a, b = pair()
    a.initiate("b")
    request = network.seen[0]
    a.endpoint.receive(0, request.data, request.source, request.destination)
    assert not a.endpoint.take() and len(list(a.endpoint.ikes)) == 1
