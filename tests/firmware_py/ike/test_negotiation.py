# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What peers agree on where their configurations differ, and what of it the operator is told."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.crypto import authentication, proposals
from spigate.firmware_py.ike.crypto.proposals import WORDS, choose, offer
from spigate.firmware_py.ike.engine import initiator, negotiation
from spigate.firmware_py.ike.engine.actions import MAX_TEXT, Datagram, Event, EventKind, InstallSa, Socket
from spigate.firmware_py.ike.engine.admission import Limits
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.engine.dialogue import MAX_INITS_REPEATED
from spigate.firmware_py.ike.peers.certificates import Authorities
from spigate.firmware_py.ike.peers.pad import KeyPair
from spigate.firmware_py.ike.wire.errors import NoProposalChosen, TsUnacceptable
from spigate.firmware_py.ike.wire.message import NO_SPI, Message
from spigate.firmware_py.ike.wire.payloads import KeyExchange, Nonce, Proposal, SecurityAssociation
from spigate.firmware_py.ike.wire.registry import ExchangeType, NotifyType, TransformType
from spigate.firmware_py.ipsec.policy import PolicyDirection
from spigate.firmware_py.ipsec.sa import Selectors
from tests.firmware_py.ike.authority import MAKERS, SIGNING, Authority
from tests.firmware_py.ike.network import Host, Network, child, esp, joined, net, pair, peer, reverse
from tests.firmware_py.ike.raw import RawInitiator, gateway
from tests.firmware_py.ike.test_children import connected, text, with_children

ODD = replace(child(), traffic=(net("10.1.0.0/24=10.2.0.0/24"), net("10.5.0.0/24=10.6.0.0/24")))
"""No product of sources and destinations."""


def outward(host: Host) -> set[Selectors]:
    return {policy.selectors for policy in host.plane.policies if policy.direction == PolicyDirection.OUT}


# Several child SAs for one configured child


def test_traffic_that_is_no_product_is_made_as_several():
    """It was accepted, and raised an InputError at every try."""
    network, a, b = connected(ODD)
    assert outward(a) == set(ODD.traffic) and len(a.children) == 2 and joined(a, b)
    a.rekey("b", "net")
    network.run(10)
    b.rekey("a", "net")
    network.run(10)
    assert outward(a) == set(ODD.traffic) and len(a.children) == 2 and joined(a, b)
    a.terminate("b", "net")
    network.run(5)
    assert not a.children and not b.children and not a.kinds()["child-failed"]


def test_the_packet_decides_which_of_them():
    network, a, b = pair(ODD)
    a.initiate("b", "net", net("10.5.0.7/32=10.6.0.9/32", 6, (1, 1), (2, 2)))
    network.run(5)
    assert outward(a) == {ODD.traffic[1]}


def test_several_have_no_reqid_in_common():
    """Two SAs with one reqid would be behind both policies, and the newest sends."""
    with pytest.raises(InputError, match="reqid must be 0, because traffic takes several"):
        replace(ODD, reqid=7)
    network, a, b = connected(ODD)
    assert len({sa.reqid for sa in a.plane.outbound}) == 2


def test_a_narrowing_peer_gives_the_rest_in_other_children():
    """ADDITIONAL_TS_POSSIBLE, RFC 7296 2.9."""
    network, a, b = pair()
    nets = [f"10.{each}.0.0/16" for each in (2, 3, 9)]
    with_children(a, child(traffic="10.1.0.0/16=10.0.0.0/8"))
    with_children(b, *(reverse(child(f"n{at}", f"10.1.0.0/16={each}")) for at, each in enumerate(nets)))
    a.initiate("b")
    network.run(10)
    assert outward(a) == {net(f"10.1.0.0/16={each}") for each in nets} and joined(a, b)
    assert len(a.children) == 3 and not a.kinds()["child-failed"]
    a.rekey("b")
    a.rekey("b", "net")
    network.run(20)
    assert len(a.children) == 3 and joined(a, b)


def test_what_a_narrowing_peer_can_make_is_bounded(monkeypatch):
    monkeypatch.setattr(negotiation, "MOST_PARTS", 3)
    network, a, b = pair()
    with_children(a, child(traffic="10.1.0.0/16=10.0.0.0/8"))
    with_children(
        b, *(reverse(child(f"n{each}", f"10.1.0.0/16=10.{2 * each}.0.0/16")) for each in range(1, 12))
    )
    a.initiate("b")
    network.run(30)
    assert len(a.children) <= 2 * 3


class SinglePairRequired(TsUnacceptable):
    notify = NotifyType.SINGLE_PAIR_REQUIRED


@pytest.fixture
def one_pair_at_a_time(monkeypatch):
    """The responder is one of those that take a single pair of addresses."""
    narrow = negotiation.selectors.narrow

    def narrow_or_refuse(tsi, tsr, ours):
        if any(
            len(side.selectors) > 1 or side.selectors[0].start != side.selectors[0].end for side in (tsi, tsr)
        ):
            raise SinglePairRequired("a single pair")
        return narrow(tsi, tsr, ours)

    monkeypatch.setattr(negotiation.selectors, "narrow", narrow_or_refuse)


@pytest.mark.usefixtures("one_pair_at_a_time")
@pytest.mark.parametrize(
    "packet, expected",
    [(None, "10.1.0.1/32=10.2.0.1/32"), ("10.1.0.5/32=10.2.0.6/32", "10.1.0.5/32=10.2.0.6/32")],
)
def test_a_peer_that_takes_single_pairs(packet, expected):
    """SINGLE_PAIR_REQUIRED, RFC 7296 2.9: asked again about the packet that waits, in IKE_AUTH and in
    CREATE_CHILD_SA.
    """
    network, a, b = pair()
    a.initiate("b", "net", packet and net(packet, 6, (5, 5), (80, 80)))
    network.run(5)
    assert outward(a) == {net(expected)} and joined(a, b) and not a.kinds()["child-failed"]
    a.initiate("b", "net", net("10.1.0.8/32=10.2.0.8/32"))
    network.run(5)
    assert outward(a) == {net(expected), net("10.1.0.8/32=10.2.0.8/32")}
    a.rekey("b", "net")
    network.run(10)
    assert (
        len(a.children) == 2
        and joined(a, b)
        and not a.endpoint._context.reserved - {each.inbound.spi for each in a.children}
    )


# ESN


def without_esn(words: str):
    return tuple(
        replace(each, transforms=tuple(t for t in each.transforms if t.transform_type != TransformType.ESN))
        for each in esp(words)
    )


def test_a_proposal_without_esn_means_none():
    """RFC 7296 3.3.3 has it named; peers in the field leave it out."""
    theirs = offer(without_esn("aes128gcm16"), b"\0\0\1\1")
    chosen = choose(theirs, esp("aes256gcm16-aes128gcm16-esn-noesn"))
    assert not chosen.esn and not chosen.proposal.of(TransformType.ESN)
    assert proposals.check([chosen.proposal], theirs).esn is False
    for refused in (
        lambda: choose(theirs, esp("aes128gcm16-esn")),
        lambda: choose(theirs, esp("aes128gcm16"), esn_required=True),
    ):
        with pytest.raises(NoProposalChosen, match="aes128gcm16"):
            refused()
    ours = offer(esp("aes128gcm16-esn-noesn"), b"\0\0\1\1")
    assert proposals.check([chosen.proposal], ours).esn is False
    with pytest.raises(NoProposalChosen, match="not one of what was offered"):
        proposals.check([chosen.proposal], ours, esn_required=True)
    with pytest.raises(NoProposalChosen, match="not one of what was offered"):
        proposals.check([chosen.proposal], offer(esp("aes128gcm16-esn"), b"\0\0\1\1"))


@pytest.mark.parametrize("required", [False, True])
def test_a_peer_that_leaves_esn_out(required):
    network, a, b = pair(
        b={"children": (replace(reverse(child()), proposals=esp("aes128gcm16-noesn-esn")),)},
        settings=Settings(esn_required=required),
    )
    with_children(a, replace(child(), proposals=without_esn("aes128gcm16")))
    a.initiate("b")
    network.run(5)
    assert bool(a.children) is not required and bool(b.children) is not required
    if not required:
        assert joined(a, b) and not a.children[0].outbound.esn


# Signatures


@pytest.mark.parametrize("announces", [True, False])
def test_sha1_from_who_announced_better(monkeypatch, announces):
    key, root = MAKERS["rsa"](), Authority(MAKERS["ecdsa256"]())
    own = root.issue(
        key.public_key(),
        extensions=((x509.SubjectAlternativeName([x509.DNSName("a.example")]), False), (SIGNING, True)),
    )
    sign = authentication.sign
    monkeypatch.setattr(authentication, "sign", lambda key, octets, hashes: sign(key, octets, None))
    if not announces:
        monkeypatch.setattr(authentication, "hashes_of", lambda notify: None)
    network, a, b = pair(
        a={"local_credential": KeyPair(key, (own,))}, b={"remote_credential": Authorities([root.certificate])}
    )
    a.initiate("b")
    network.run(5)
    assert bool(b.standing) is not announces


# What is told


def test_what_was_offered_is_told_where_it_was_refused():
    for theirs, said, told in (
        (replace(child(), proposals=esp("aes256gcm16")), "NO_PROPOSAL_CHOSEN", "aes128gcm16-noesn"),
        (child(traffic="10.7.0.0/24=10.8.0.0/24"), "TS_UNACCEPTABLE", "10.1.0.0/24 to 10.2.0.0/24"),
    ):
        network, a, b = pair()
        with_children(b, reverse(theirs))
        a.initiate("b")
        network.run(5)
        assert text(a, "child-failed") == f"ESP tunnel child net: the peer says {said}; offered was {told}"
        assert told in text(b, "child-failed")
        a.initiate("b", "net")
        network.run(5)
        assert text(a, "child-failed").count(f"{said}; offered was {told}") == 2


def test_what_ike_offered_is_told_too():
    network, a, b = pair(b={"proposals": proposals.IKE_DEFAULT[1:]})
    a.initiate("b")
    network.run(5)
    told = "aes128gcm16-prfsha256-curve25519"
    assert f"says NO_PROPOSAL_CHOSEN; offered was {told}" in text(a, "refused") and told in text(b, "refused")


def test_what_was_agreed_on_is_told():
    network, a, b = connected(replace(child(), proposals=esp("aes128gcm16-esn")))
    for host, traffic in ((a, "10.1.0.0/24 to 10.2.0.0/24"), (b, "10.2.0.0/24 to 10.1.0.0/24")):
        assert text(host, "child-up").endswith(f" out, aes-gcm-128, 16-byte ICV, ESN, {traffic}")


def test_texts_are_bounded():
    assert len(Event(EventKind.REFUSED, "", "x" * 120_000).text) == MAX_TEXT
    words = "-".join(word for word, each in WORDS.items() if each.transform_type == TransformType.INTEG)
    many = offer(esp(f"aes128-{words}") * 60)
    assert len(proposals.texts(many)) <= proposals.MAX_TEXT


# Where a peer may be


def somewhere() -> tuple[Network, Host, Host]:
    """B takes A, who is behind a NAT, from 192.0.2.0/24."""
    network, a, b = pair(
        b={"address": None, "local_address": None, "networks": (ip_network("192.0.2.0/24"),)}
    )
    a.initiate("b")
    network.run(5)
    assert joined(a, b)
    b.standing[0].path.remote_nat = True
    return network, a, b


def test_answers_go_only_where_the_peer_may_be():
    """A copy of a request of the peer's was answered to whoever sent it."""
    network, a, b = somewhere()
    last = [each for each in network.seen if each.source.address == a.address][-1]
    network.seen.clear()
    for address, answered in (("203.0.113.66", False), ("192.0.2.1", True)):
        b.receive(last.data, last.destination, Socket(ip_address(address), 53))
        assert bool(network.seen) is answered


def test_who_began_at_one_address_goes_on_there():
    """IKE_AUTH in the name of an address whose holder has heard nothing made a child SA that all traffic to
    it went into.
    """
    endpoint = gateway(children=(child(traffic=""),))
    raw = RawInitiator(endpoint, "198.51.100.66")
    raw.init(0)
    there, raw.me = raw.me, Socket(ip_address("203.0.113.5"), 500)
    assert raw.auth(0, traffic=net("203.0.113.5/32=192.0.2.2/32")) is None and not raw.outputs
    raw.me, raw.message_id = replace(there, port=4500), 1
    assert raw.auth(0, traffic=net("198.51.100.66/32=192.0.2.2/32"))
    assert {str(each.sa.source) for each in raw.outputs if isinstance(each, InstallSa)} == {
        "198.51.100.66",
        "192.0.2.2",
    }


def test_nobody_is_told_more_than_it_said():
    """Before its address is known: a later version, a cookie."""
    endpoint = gateway(Settings(limits=Limits(cookie_threshold=0)))
    raw = RawInitiator(endpoint)
    for payloads in (
        (Nonce(bytes(16)),),
        (Nonce(bytes(16)), KeyExchange(31, b"x")),
        (Nonce(bytes(16)), KeyExchange(31, b"x"), SecurityAssociation((Proposal(1, 1, b"", ()),))),
    ):
        begun = Message(raw.spi_i, NO_SPI, ExchangeType.IKE_SA_INIT, True, False, 0, payloads).pack()
        for data in (begun, begun[:17] + b"\x30" + begun[18:], begun[:17] + b"\x30" + begun[18:28]):
            said = [each for each in raw.send(0, data) if isinstance(each, Datagram)]
            assert sum(len(each.data) for each in said) <= len(data)
    assert said == [] and raw._init(0, (), 0).notify(NotifyType.COOKIE)


def test_a_repeated_beginning_is_not_answered_for_ever():
    """The same datagram with somebody else's address made as many answers as it came, each longer than
    itself.
    """
    network, a, b = pair()
    a.initiate("b")
    first = network.seen[0]
    network.filters.append(lambda datagram: None)
    network.seen.clear()
    for _ in range(100):
        b.receive(first.data, first.destination, first.source)
    assert len(network.seen) == 1 + MAX_INITS_REPEATED


def test_nobody_is_told_a_version_who_may_not_take_part():
    network, a, b = somewhere()
    later = bytes(8) + b"x" * 8 + bytes([33, 0x30, 34, 8]) + bytes(4) + (36).to_bytes(4) + bytes(8)
    network.seen.clear()
    for address, answered in (("203.0.113.66", False), ("192.0.2.77", True)):
        b.receive(later, Socket(b.address, 500), Socket(ip_address(address), 500))
        assert bool(network.seen) is answered


def test_a_peer_moves_only_where_it_may_be_and_not_often():
    """Who rewrites ports of what passes, without keys, moved it with each packet: a line and two changes of
    SAs each.
    """
    network, a, b = somewhere()
    spi = next(iter(b.plane.inbound))
    here = Socket(b.address, 4500)
    b.moved(spi, here, Socket(ip_address("203.0.113.9"), 4500))
    assert not b.kinds()["peer-moved"]
    for each in range(5000):
        b.moved(spi, here, Socket(a.address, 1024 + each % 2))
    assert b.kinds()["peer-moved"] == 1
    for _ in range(200):
        network.run(1)
        for each in range(4):
            b.moved(spi, here, Socket(a.address, 1024 + each % 2))
    assert 20 < b.kinds()["peer-moved"] <= 201


# Who begins anew


@pytest.mark.parametrize("contact", [True, False])
def test_a_peer_that_was_killed_is_reached_on_its_newest_child(monkeypatch, contact):
    """../cases/restart-without-initial-contact: of two policies for the same traffic the older one's dead
    child sent.
    """
    if not contact:
        plan = initiator.Plan
        monkeypatch.setattr(
            "spigate.firmware_py.ike.engine.endpoint.Plan",
            lambda wanted, initial_contact: plan(wanted, False),
        )
    network, a, b = pair(a={"initiate": True})
    a.start()
    network.run(5)
    a.boot()
    a.start()
    network.run(5)
    assert len(b.standing) == (1 if contact else 2)
    newest = b.standing[-1].children.values()
    assert b.plane.sending == {each.reqid: each.outbound for each in newest}
    assert len(outward(b)) == 1 and len(b.plane.policies) == 3 and joined(a, b)
    network.run(300)  # the dead one is found to be dead, and nothing of the living goes with it
    assert len(b.standing) == 1 and joined(a, b) and len(b.plane.policies) == 3


def test_peers_of_one_entry_keep_their_own():
    """Two that show different identities and want the same are two."""
    network, a, b = pair()
    c = network.host("c", "192.0.2.3", peer("b", "c", "b"))
    with_children(c, child())
    b.peers = [
        peer(
            "any",
            "b",
            "a",
            address=None,
            local_address=None,
            remote_identity="%any",
            networks=(ip_network("192.0.2.0/24"),),
            children=(reverse(child()),),
        )
    ]
    b.boot()
    for host in (a, c):
        host.initiate("b")
    network.run(5)
    assert len(b.children) == 2 and len({each.reqid for each in b.children}) == 2
