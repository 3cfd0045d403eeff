# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two endpoints of ours on a simulated network: the first exchanges, and what may go wrong with them."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.crypto.proposals import offer
from spigate.firmware_py.ike.engine.actions import Datagram, Socket
from spigate.firmware_py.ike.engine.admission import Limits
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.engine.nat import KEEPALIVE, MARKER
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import PreSharedKey
from spigate.firmware_py.ike.peers.retransmission import Retransmission
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import KeyExchange, Nonce, Notify, SecurityAssociation, Unknown
from spigate.firmware_py.ike.wire.registry import ExchangeType, NotifyType, ProtocolId
from spigate.firmware_py.ipsec.sa import Encapsulation
from spigate.hdl.contract.enums import Mode
from tests.firmware_py.ike.network import (
    FAST_IKE,
    Host,
    Nat,
    Network,
    child,
    esp,
    ike,
    joined,
    pair,
    peer,
    reverse,
)

A, B = Socket(ip_address("192.0.2.1"), 500), Socket(ip_address("192.0.2.2"), 500)
ANYWHERE = {"address": None, "local_address": None, "networks": ()}


def connect(network: Network, a: Host, seconds: float = 5) -> None:
    a.initiate("b")
    network.run(seconds)


def text(host: Host, kind: str) -> str:
    return " | ".join(event.text for event in host.events if event.kind == kind)


@pytest.mark.parametrize(
    "proposal",
    [
        "aes256gcm16-prfsha384-ecp384",
        "aes256-sha512-modp2048",
        "aes128-sha256-ecp521",
        "chacha20poly1305-prfsha256-x25519",
        "aes128gcm16-prfsha256-ecp256-ke1_mlkem768",
        "aes256gcm16-prfsha384-x25519-ke1_mlkem768-ke2_mlkem1024",
    ],
)
def test_suites(proposal):
    both = {"proposals": ike(proposal)}
    network, a, b = pair(a=both, b=both)
    connect(network, a)
    assert joined(a, b)
    assert str(a.standing[0].suite) == str(b.standing[0].suite)


@pytest.mark.parametrize("seed", range(20))
def test_loss_and_disorder(seed):
    """IKE_SA_INIT to IKE_AUTH with IKE_INTERMEDIATE in fragments, of which a third is lost."""
    both = {
        "proposals": ike("aes128gcm16-prfsha256-x25519-ke1_mlkem1024"),
        "fragment_bytes": 576,
        "retransmission": Retransmission(timeout=1, factor=1.1, tries=30),
    }
    settings = Settings(limits=Limits(half_open_seconds=300))
    network, a, b = pair(seed=seed, loss=0.3, double=0.2, delay=(0.01, 2), a=both, b=both, settings=settings)
    connect(network, a, 300)
    assert joined(a, b)
    assert len(a.standing) == len(b.standing) == len(a.children) == len(b.children) == 1


def test_both_begin():
    network, a, b = pair()
    a.initiate("b")
    b.initiate("a")
    network.run(5)
    assert joined(a, b)
    assert a.kinds()["ike-up"] == b.kinds()["ike-up"] == 2
    assert len(a.standing) == len(b.standing) == 2


def test_initiating_twice_makes_one():
    network, a, b = pair(child(), child("other", "10.3.0.0/24=10.4.0.0/24", initiate=False))
    a.initiate("b")
    a.initiate("b", "other")
    network.run(5)
    a.initiate("b")
    network.run(5)
    assert len(a.standing) == 1 and sorted(each.config.name for each in a.children) == ["net", "other"]
    assert len(b.plane.sending) == 2 and joined(a, b)


def test_invalid_ke():
    network, a, b = pair(a={"proposals": ike("aes128gcm16-prfsha256-ecp256-x25519")})
    connect(network, a)
    assert joined(a, b) and len(network.seen) == 6


def test_no_proposal():
    network, a, b = pair(a={"proposals": ike("aes256gcm16-prfsha256-ecp256")})
    connect(network, a, 60)
    assert a.kinds()["ike-failed"] == 1 and "NO_PROPOSAL_CHOSEN" in text(a, "refused")
    assert not list(a.endpoint.ikes) and not list(b.endpoint.ikes)


def test_wrong_secret():
    network, a, b = pair(a={"local_credential": PreSharedKey(b"another")})
    connect(network, a)
    assert "AUTHENTICATION_FAILED" in text(a, "refused") and b.kinds()["ike-failed"] >= 1
    network.run(60)  # nobody can say who sent that: it is tried a few times more (RFC 7296 2.21.2)
    assert "AUTHENTICATION_FAILED" in text(a, "ike-failed") and a.kinds()["ike-failed"] == 1
    assert b.kinds()["ike-failed"] == 3
    assert not list(a.endpoint.ikes) and not list(b.endpoint.ikes) and not b.plane.inbound


def test_responder_is_someone_else():
    """The initiator finds out last, and tells (RFC 7296 2.21.2)."""
    network, a, b = pair(a={"remote_credential": PreSharedKey(b"another")})
    connect(network, a, 60)
    assert a.kinds()["ike-failed"] == 1 and b.kinds()["ike-failed"] == 3
    assert not list(a.endpoint.ikes) and not b.plane.inbound and not b.plane.policies


@pytest.mark.parametrize(
    "setting", [{"remote_identity": "other.example"}, {"local_identity": Identity.parse("c.example")}]
)
def test_wrong_identity(setting):
    network, a, b = pair(b=setting)
    connect(network, a, 60)
    assert a.kinds()["ike-failed"] == 1 and not a.plane.inbound and not b.plane.inbound


def test_address_may_not_take_part():
    network, a, b = pair(b={"networks": (ip_network("203.0.113.0/24"),)})
    connect(network, a, 200)
    assert len([each for each in network.seen if each.source.address == b.address]) == 0
    assert a.kinds()["ike-failed"] == 1 and b.kinds()["refused"] >= 1


def test_weaker_suite_than_the_identity_allows():
    """Two entries for one address: what the one may do, the other may not."""
    network = Network()
    strong = peer(
        "strong",
        "b",
        "a",
        children=(reverse(child()),),
        proposals=ike("aes256gcm16-prfsha384-ecp384"),
        remote_identity="a.example",
    )
    weak = peer("weak", "b", "a", children=(), remote_identity="weak.example", proposals=FAST_IKE)
    a = network.host("a", "192.0.2.1", peer("b", "a", "b", children=(child(),)))
    network.host("b", "192.0.2.2", strong, weak)
    connect(network, a, 60)
    assert "AUTHENTICATION_FAILED" in text(a, "ike-failed")


# Load


def init(spi: int, port: int = 500, source: str = "192.0.2.1", cookie: bytes | None = None) -> Datagram:
    from spigate.firmware_py.ike.crypto import key_exchange

    payloads = (
        SecurityAssociation(offer(FAST_IKE)),
        KeyExchange(31, key_exchange.start(31).public),
        Nonce(bytes(32)),
    )
    if cookie is not None:
        payloads = (Notify(NotifyType.COOKIE, cookie), *payloads)
    message = Message(spi.to_bytes(8), bytes(8), ExchangeType.IKE_SA_INIT, True, False, 0, payloads)
    return Datagram(Socket(ip_address(source), port), B, message.pack())


def answers(host: Host, datagram: Datagram) -> list[Message]:
    host.endpoint.receive(host.network.now, datagram.data, datagram.destination, datagram.source)
    return [Message.parse(each.data) for each in host.endpoint.take() if isinstance(each, Datagram)]


def test_cookie():
    network, a, b = pair(settings=Settings(limits=Limits(cookie_threshold=0)))
    connect(network, a)
    assert joined(a, b) and len(network.seen) == 6
    assert Message.parse(network.seen[1].data).notify(NotifyType.COOKIE)


def test_cookie_and_invalid_ke():
    network, a, b = pair(
        a={"proposals": ike("aes128gcm16-prfsha256-ecp256-x25519")},
        settings=Settings(limits=Limits(cookie_threshold=0)),
    )
    connect(network, a)
    assert joined(a, b) and len(network.seen) == 8


def test_cookie_holds_for_its_sender_only():
    network, a, b = pair(b=ANYWHERE, settings=Settings(limits=Limits(cookie_threshold=0)))
    cookie = answers(b, init(1))[0].notify(NotifyType.COOKIE).data
    for other in (
        init(2, cookie=cookie),
        init(1, cookie=cookie, source="192.0.2.3"),
        init(1, cookie=bytes(33)),
        init(1, cookie=b""),
    ):
        assert answers(b, other)[0].notify(NotifyType.COOKIE)
    assert b.endpoint.half_open == 0
    assert answers(b, init(1, cookie=cookie))[0].one(SecurityAssociation)
    network.run(200)
    assert answers(b, init(1, cookie=cookie))[0].notify(NotifyType.COOKIE)


def test_half_open_per_source_and_in_all():
    limits = Limits(cookie_threshold=100, half_open=12, per_source=5)
    network, a, b = pair(b=ANYWHERE, settings=Settings(limits=limits))

    def persistent(spi: int, **source) -> bool:
        """Returns the cookie that it is asked for."""
        answer = answers(b, init(spi, **source))
        asked = answer and answer[0].notify(NotifyType.COOKIE)
        if asked:
            answer = answers(b, init(spi, cookie=asked.data, **source))
        return bool(answer)

    assert sum(persistent(spi) for spi in range(1, 10)) == 5
    assert sum(persistent(spi, source=f"198.51.100.{spi}") for spi in range(1, 8)) == 7
    assert b.endpoint.half_open == 12
    assert persistent(30, source="198.51.100.30") and b.endpoint.half_open == 12  # the oldest went
    network.run(limits.half_open_seconds + 1)
    assert b.endpoint.half_open == 0 and not b.endpoint._inits and b.kinds()["ike-failed"] == 12


def test_repeated_init_is_answered_alike():
    network, a, b = pair()
    datagram = init(1)
    first, second = answers(b, datagram), answers(b, datagram)
    assert first == second and b.endpoint.half_open == 1


# Bytes that are wrong


def test_noise():
    network, a, b = pair()
    connect(network, a)
    established = [each for each in network.seen if len(each.data) > 28]
    for count in range(3000):
        datagram = network.random.choice(established)
        data = bytearray(datagram.data)
        for _ in range(network.random.randint(1, 4)):
            data[network.random.randrange(len(data))] ^= 1 << network.random.randrange(8)
        if count % 3 == 0:
            data = data[: network.random.randrange(len(data))]
        host = b if datagram.destination == B else a
        host.receive(bytes(data), datagram.destination, datagram.source)
    network.run(120)
    assert joined(a, b)
    assert a.standing and b.standing


def test_critical_payload():
    network, a, b = pair()
    message = Message.parse(init(1).data)
    critical = replace(message, payloads=(*message.payloads, Unknown(b"x", payload_type=200, critical=True)))
    answer = answers(b, Datagram(A, B, critical.pack()))[0]
    assert answer.notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD).data == bytes([200])
    harmless = replace(message, payloads=(*message.payloads, Unknown(b"x", payload_type=200)))
    assert answers(b, Datagram(A, B, harmless.pack()))[0].one(SecurityAssociation)


def test_versions():
    network, a, b = pair()
    data = bytearray(init(1).data)
    data[17] = 0x30
    assert answers(b, Datagram(A, B, bytes(data)))[0].notify(NotifyType.INVALID_MAJOR_VERSION)
    data[17] = 0x10
    assert not answers(b, Datagram(A, B, bytes(data)))
    data[17] = 0x21  # a later minor version is the same protocol
    assert answers(b, Datagram(A, B, bytes(data)))[0].one(SecurityAssociation)


def test_forged_answers_do_not_stop_it():
    """What anybody could have sent, before keys are there, is a hint at most (RFC 7296 2.21.1)."""
    network, a, b = pair()
    network.filters.append(lambda datagram: None if network.now < 3 else datagram)
    a.initiate("b")
    request = Message.parse(network.seen[0].data)
    for payloads in (
        (Notify(NotifyType.NO_PROPOSAL_CHOSEN),),
        (Notify(NotifyType.COOKIE, b""),),
        (),
        (Notify(NotifyType.INVALID_KE_PAYLOAD, b"\0\2"),),
        (Notify(NotifyType.INVALID_KE_PAYLOAD, b""),),
    ):
        forged = replace(request, initiator=False, response=True, payloads=payloads)
        a.receive(forged.pack(), A, B)
    network.run(20)
    assert joined(a, b)


def test_esp_is_not_for_the_endpoint():
    network, a, b = pair()
    ends = Socket(B.address, 4500), Socket(A.address, 4500)
    assert not b.receive(b"\0\0\1\0" + bytes(40), *ends)
    assert not b.receive(KEEPALIVE, *ends)
    assert b.receive(MARKER, *ends) and b.receive(b"", B, A)


# NAT


def natted(**settings):
    network, a, b = pair(b=ANYWHERE, **settings)
    return network, a, b, Nat(network, "192.0.2.1", "198.51.100.1")


def test_nat_floats_and_encapsulates():
    network, a, b, nat = natted()
    connect(network, a)
    assert joined(a, b)
    assert [each.source.port for each in network.seen[:3]] == [500, 500, 4500]
    assert network.seen[2].data[:4] == MARKER
    assert a.plane.outbound[0].encapsulation == Encapsulation(4500, 4500)
    port = nat.ports[4500]
    assert b.plane.outbound[0].encapsulation == Encapsulation(4500, port)
    assert b.plane.outbound[0].destination == ip_address("198.51.100.1")
    assert [sa.encapsulation for sa in b.plane.inbound.values()] == [Encapsulation(port, 4500)]
    network.run(25)
    assert any(each.data == KEEPALIVE for each in network.seen)
    a.rekey("b")
    network.run(10)
    b.rekey("a", "net")
    network.run(10)
    assert joined(a, b) and len(a.children) == len(b.children) == 1


def test_nat_forgets_its_mapping():
    """The peer's next message comes from another port: SAs move, and go on counting."""
    network, a, b, nat = natted()
    connect(network, a)
    old = b.plane.outbound[0]
    nat.forget()
    network.run(60)
    assert b.kinds()["peer-moved"] == 1
    new = b.plane.outbound[0]
    assert new.encapsulation.destination_port == nat.ports[4500] != old.encapsulation.destination_port
    assert new.key == old.key and joined(a, b) and len(b.plane.outbound) == 1
    b.rekey("a", "net")
    network.run(10)
    assert joined(a, b) and not b.kinds()["peer-dead"]


def test_esp_shows_where_a_peer_behind_a_nat_is():
    """Without a word of IKE; and a host that is behind the NAT itself believes nobody."""
    network, a, b, nat = natted()
    connect(network, a)
    elsewhere = Socket(ip_address("198.51.100.7"), 999)
    for host in (a, b):
        (sa,) = host.plane.inbound.values()
        assert host.endpoint.expects(sa.spi)
        host.moved(sa.spi, Socket(sa.destination, 4500), elsewhere)
        host.moved(1, Socket(sa.destination, 4500), elsewhere)
    assert b.plane.outbound[0].encapsulation == Encapsulation(4500, 999)
    assert b.plane.outbound[0].destination == elsewhere.address and b.kinds()["peer-moved"] == 1
    assert a.plane.outbound[0].encapsulation == Encapsulation(4500, 4500) and not a.kinds()["peer-moved"]
    assert not b.endpoint.expects(1)


def test_encapsulation_by_force():
    network, a, b = pair(a={"force_encapsulation": True})
    connect(network, a)
    assert joined(a, b) and a.plane.outbound[0].encapsulation and b.plane.outbound[0].encapsulation


def test_no_nat_no_encapsulation():
    network, a, b = pair()
    connect(network, a)
    assert a.plane.outbound[0].encapsulation is None
    assert {each.source.port for each in network.seen} == {500}


def test_transport_mode_through_a_nat():
    network, a, b, nat = natted()
    config = child(traffic="", mode=Mode.TRANSPORT)
    a.peers, b.peers = [replace(a.peers[0], children=(config,))], [replace(b.peers[0], children=(config,))]
    a.boot()
    b.boot()
    connect(network, a)
    assert joined(a, b)
    assert str(a.plane.policies[0].selectors.source) == "192.0.2.1/32"
    assert str(b.plane.policies[0].selectors.destination) == "198.51.100.1/32"


def test_ah_does_not_pass_a_nat():
    from spigate.firmware_py.ike.crypto.proposals import parse

    network, a, b, nat = natted()
    config = child(protocol=ProtocolId.AH, proposals=(parse("sha256", ProtocolId.AH),))
    a.peers, b.peers = (
        [replace(a.peers[0], children=(config,))],
        [replace(b.peers[0], children=(reverse(config),))],
    )
    a.boot()
    b.boot()
    connect(network, a)
    assert "NO_PROPOSAL_CHOSEN" in text(a, "child-failed") and a.standing and not a.children


# Life and death


def test_dead_peer():
    network, a, b = pair(a={"dpd_seconds": 10})
    connect(network, a)
    network.hosts.remove(b)
    network.run(150)
    assert (
        a.kinds()["peer-dead"] == 1 and not a.plane.inbound and not a.plane.outbound and not a.plane.policies
    )


def test_living_peer_is_asked_only_in_silence():
    network, a, b = pair(a={"dpd_seconds": 10}, b={"dpd_seconds": None})
    connect(network, a)
    spi = next(iter(a.plane.inbound))
    for _ in range(10):
        network.run(5)
        a.alive(spi)
    assert len(network.seen) == 4
    network.run(35)
    assert len(network.seen) == 4 + 2 * 3 and a.standing


def test_peer_that_is_kept_up():
    network, a, b = pair(a={"dpd_seconds": 10, "initiate": True, "retry_seconds": 5})
    a.start()
    network.run(5)
    network.hosts.remove(b)
    network.run(300)
    assert not a.children and a.kinds()["ike-failed"] >= 1
    b.boot()
    network.hosts.append(b)
    network.run(120)
    assert joined(a, b) and len(a.standing) == 1
    b.terminate("a")
    network.run(20)
    assert joined(a, b)
    a.terminate("b")
    network.run(200)
    assert not a.standing and not b.standing and a.endpoint.next_timer is None


def test_restart_with_initial_contact():
    network, a, b = pair(b={"dpd_seconds": None})
    connect(network, a)
    old = set(b.plane.inbound)
    a.boot()
    connect(network, a)
    assert joined(a, b) and len(b.standing) == 1 and not old & set(b.plane.inbound)
    assert "the peer began anew" in text(b, "ike-down")


def test_initial_contact_spares_what_is_newer():
    """Both begin at once and the second IKE_AUTH comes late: its INITIAL_CONTACT is not about what was made
    since.
    """
    network, a, b = pair()
    late = []

    def hold(datagram):
        if (
            datagram.source == B
            and len(datagram.data) > 28
            and datagram.data[18] == ExchangeType.IKE_AUTH
            and not datagram.data[19] & 0x20
            and len(late) < 1
        ):
            late.append(datagram)
            return None
        return datagram

    network.filters.append(hold)
    a.initiate("b")
    b.initiate("a")
    network.run(30)
    assert len(late) == 1
    assert len(a.standing) == len(b.standing) == 2 and joined(a, b)


def test_terminate_and_stop():
    network, a, b = pair()
    connect(network, a)
    a.terminate("b", "net")
    network.run(5)
    assert a.standing and b.standing and not a.plane.inbound and not b.plane.inbound and not b.plane.policies
    a.stop()
    network.run(5)
    assert not a.standing and not b.standing
    network.run(200)
    assert a.endpoint.next_timer is None and b.endpoint.next_timer is None
    assert not a.endpoint._context.ikes and not a.endpoint._context.reserved


def test_commands_name_what_is_wrong():
    network, a, b = pair()
    with pytest.raises(InputError, match="no peer 'x'; there are b"):
        a.initiate("x")
    with pytest.raises(InputError, match="has no child 'x'; it has net"):
        a.initiate("b", "x")
    network, a, b = pair(a=ANYWHERE)
    with pytest.raises(InputError, match="has no address"):
        a.initiate("b")


def test_nothing_secret_is_shown():
    network, a, b = pair(settings=Settings(key_log=True))
    connect(network, a)
    shown = (
        repr(a.events) + repr(a.children) + repr(a.plane.outbound) + repr(a.peers) + repr(vars(a.standing[0]))
    )
    for secret in (
        bytes.fromhex(a.key_log[0].split(",")[2]),
        a.plane.outbound[0].key,
        b"a secret of two peers",
    ):
        assert repr(secret)[2:-1] not in shown and secret.hex() not in shown


def test_requests_are_answered_once():
    """Every datagram of the whole exchange again, an hour later: nothing happens."""
    network, a, b = pair(a={"dpd_seconds": None}, b={"dpd_seconds": None})
    connect(network, a)
    a.rekey("b", "net")
    network.run(60)
    before = a.kinds(), b.kinds(), set(a.plane.inbound), set(b.plane.inbound)
    for datagram in list(network.seen):
        host = b if datagram.destination == B else a
        host.receive(datagram.data, datagram.destination, datagram.source)
    network.run(20)
    assert (a.kinds(), b.kinds(), set(a.plane.inbound), set(b.plane.inbound)) == before
    assert joined(a, b)


def test_esn_and_suites_of_children():
    for words in (
        "aes128gcm16-esn",
        "aes256-sha256",
        "aes128ctr-sha384",
        "chacha20poly1305",
        "null-sha256",
        "aes128ccm8",
    ):
        network, a, b = pair(child(proposals=esp(words)))
        connect(network, a)
        assert joined(a, b), words
        assert a.plane.outbound[0].esn == words.endswith("-esn")
