# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Child SAs: what they carry, how they are protected, how one is made and ended, and what is refused."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from spigate.firmware_py.ike.crypto.proposals import offer, parse
from spigate.firmware_py.ike.engine.children import ChildState
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.engine.exchange import Exchange
from spigate.firmware_py.ike.wire.payloads import Delete, Nonce, Notify, SecurityAssociation, Unknown
from spigate.firmware_py.ike.wire.registry import ExchangeType, NotifyType, ProtocolId
from spigate.firmware_py.ike.wire.selectors import payloads
from spigate.firmware_py.ipsec.policy import PolicyDirection
from spigate.firmware_py.ipsec.sa import AH, Lifetime, Selectors
from spigate.hdl.contract.enums import Mode
from tests.firmware_py.ike.network import Host, Network, child, esp, joined, net, pair, reverse


def connected(*children, **arguments) -> tuple[Network, Host, Host]:
    network, a, b = pair(*children, **arguments)
    a.initiate("b")
    network.run(5)
    return network, a, b


def text(host: Host, kind: str) -> str:
    return " | ".join(event.text for event in host.events if event.kind == kind)


def with_children(host: Host, *children) -> None:
    host.peers = [replace(host.peers[0], children=children)]
    host.boot()


def test_policies_lead_to_the_sas():
    network, a, b = connected()
    out, inward, forward = a.plane.policies
    assert (out.direction, inward.direction, forward.direction) == (
        PolicyDirection.OUT,
        PolicyDirection.IN,
        PolicyDirection.FORWARD,
    )
    assert out.selectors == net("10.1.0.0/24=10.2.0.0/24") and inward.selectors == net(
        "10.2.0.0/24=10.1.0.0/24"
    )
    inbound = next(iter(a.plane.inbound.values()))
    assert out.templates[0].accepts(a.plane.outbound[0]) and inward.templates[0].accepts(inbound)
    assert b.plane.policies[0].selectors == inward.selectors
    a.rekey("b", "net")
    network.run(20)
    assert a.plane.policies == [out, inward, forward]
    assert out.templates[0].accepts(a.plane.outbound[0])


def test_reqids():
    """Numbers of one's own stay free of those that are configured."""
    children = (
        child(reqid=1),
        child("free", "10.3.0.0/24=10.4.0.0/24"),
        child("third", "10.5.0.0/24=10.6.0.0/24", reqid=2),
    )
    network, a, b = connected(*children)
    assert [sa.reqid for sa in a.plane.outbound] == [1, 3, 2] and joined(a, b)


@pytest.mark.parametrize(
    "ours, theirs, agreed",
    [
        ("10.1.0.0/16=10.2.0.0/24", "10.1.0.0/24=10.2.0.0/16", "10.1.0.0/24=10.2.0.0/24"),
        ("0.0.0.0/0=0.0.0.0/0", "10.1.0.0/24=10.2.0.0/24", "10.1.0.0/24=10.2.0.0/24"),
        ("10.1.0.7/32=10.2.0.0/24", "10.1.0.0/24=10.2.0.0/24", "10.1.0.7/32=10.2.0.0/24"),
        ("2001:db8:1::/48=2001:db8:2::/48", "::/0=::/0", "2001:db8:1::/48=2001:db8:2::/48"),
    ],
)
def test_narrowing(ours, theirs, agreed):
    network, a, b = pair()
    with_children(a, child(traffic=ours))
    with_children(b, reverse(child(traffic=theirs)))
    a.initiate("b")
    network.run(5)
    assert joined(a, b) and a.plane.policies[0].selectors == net(agreed)
    assert b.plane.policies[1].selectors == net(agreed)


def test_protocols_and_ports():
    web = Selectors(ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24"), 6, (0, 65535), (443, 443))
    network, a, b = connected(replace(child(), traffic=(web,)))
    assert a.plane.policies[0].selectors == web
    assert b.plane.policies[0].selectors.source_ports == (443, 443)


def test_packet_decides_which_child():
    """RFC 7296 2.9: the packet that asked stands in front, and the answer is about it."""
    network, a, b = pair()
    wide = replace(child(), traffic=(net("10.1.0.0/24=10.2.0.0/24"), net("10.1.0.0/24=10.3.0.0/24")))
    with_children(a, wide)
    with_children(b, reverse(child("one")), reverse(child("two", "10.1.0.0/24=10.3.0.0/24")))
    packet = Selectors(ip_network("10.1.0.9/32"), ip_network("10.3.0.9/32"), 17, (1000, 1000), (53, 53))
    a.initiate("b", "net", packet)
    network.run(5)
    assert joined(a, b) and net("10.1.0.0/24=10.3.0.0/24") in [each.selectors for each in a.plane.policies]


def test_no_common_traffic_and_no_common_algorithm():
    """The IKE SA stands all the same."""
    for theirs, why in (
        (child(traffic="10.7.0.0/24=10.8.0.0/24"), "TS_UNACCEPTABLE"),
        (child(proposals=esp("aes256-sha512")), "NO_PROPOSAL_CHOSEN"),
    ):
        network, a, b = pair()
        with_children(b, reverse(theirs))
        a.initiate("b")
        network.run(5)
        assert (
            why in text(a, "child-failed") and a.standing and b.standing and not a.children and not b.children
        )
        a.initiate("b", "net")
        network.run(5)
        assert text(a, "child-failed").count(why) == 2 and a.standing
        assert len(a.endpoint._context.reserved) == len(b.endpoint._context.reserved) == 0


@pytest.mark.parametrize(
    "protocol, words", [(ProtocolId.ESP, "aes128-sha256"), (ProtocolId.AH, "sha256-esn")]
)
def test_transport_mode(protocol, words):
    config = child(traffic="", mode=Mode.TRANSPORT, protocol=protocol, proposals=(parse(words, protocol),))
    network, a, b = connected(config)
    assert joined(a, b) and {sa.mode for sa in (*a.plane.outbound, *b.plane.outbound)} == {Mode.TRANSPORT}
    assert a.plane.policies[0].selectors == net("192.0.2.1/32=192.0.2.2/32") and len(a.plane.policies) == 2
    assert (a.plane.outbound[0].protocol == AH) == (protocol == ProtocolId.AH)
    b.rekey("a", "net")
    network.run(20)
    assert joined(a, b) and a.kinds()["child-rekeyed"] == 1


def test_modes_that_do_not_meet():
    """Transport mode is a wish that the responder may decline; tunnel mode is none. What was made is
    deleted again.
    """
    network, a, b = pair()
    hosts = "192.0.2.1/32=192.0.2.2/32"
    with_children(a, child(traffic=hosts, mode=Mode.TRANSPORT))
    with_children(b, reverse(child(traffic=hosts)))
    a.initiate("b")
    network.run(5)
    assert "wants tunnel mode" in text(a, "child-failed") and not a.plane.inbound and not b.plane.inbound
    with_children(a, child(traffic=hosts))
    with_children(b, reverse(child(traffic=hosts, mode=Mode.TRANSPORT)))
    a.initiate("b")
    network.run(5)
    assert "NO_PROPOSAL_CHOSEN" in text(a, "child-failed") and not b.plane.inbound


def test_several_children_end_alone():
    network, a, b = connected(
        child(),
        child(
            "other",
            "10.3.0.0/24=10.4.0.0/24",
            protocol=ProtocolId.AH,
            proposals=(parse("sha256", ProtocolId.AH),),
        ),
    )
    assert joined(a, b) and len(a.children) == 2
    b.terminate("a", "net")
    network.run(5)
    assert [each.config.name for each in a.children] == ["other"] == [each.config.name for each in b.children]
    assert len(a.plane.policies) == 3 and joined(a, b)


def test_children_go_with_the_ike_sa_that_replaces():
    network, a, b = connected(child(), child("other", "10.3.0.0/24=10.4.0.0/24"))
    sending = dict(a.plane.sending)
    a.rekey("b")
    network.run(10)
    assert a.plane.sending == sending and joined(a, b) and len(a.standing[0].children) == 2
    b.terminate("a", "other")
    network.run(10)
    assert len(a.children) == len(b.children) == 1


def test_soft_limits_are_shortened_at_random():
    limits = {
        "soft": Lifetime(bytes=1000, packets=100, seconds=1000),
        "hard": Lifetime(bytes=2000, packets=200, seconds=2000),
    }
    seen = set()
    for seed in range(10):
        network, a, b = connected(child(**limits, jitter=0.3), seed=seed)
        sa = a.plane.outbound[0]
        assert 700 <= sa.soft.bytes <= 1000 and 70 <= sa.soft.packets <= 100 and sa.soft.seconds is None
        assert sa.hard == limits["hard"]
        seen.add(sa.soft.bytes)
    assert len(seen) > 5


class Raw(Exchange):
    """Any request at all; keeps what is answered."""

    def __init__(self, exchange_type: int, *payloads):
        self.exchange_type = exchange_type
        self._payloads = payloads
        self.answer = None

    def request(self, ike, now):
        return self._payloads

    def response(self, ike, now, message):
        self.answer = message


def ask(network: Network, host: Host, exchange_type: int, *payloads):
    raw = Raw(exchange_type, *payloads)
    host.standing[0].submit(raw, network.now)
    host.settle()
    network.run(3)
    return raw.answer


def new_child(spi: bytes = b"\0\0\x10\1", *notifies):
    return (
        *notifies,
        SecurityAssociation(offer(esp("aes128gcm16"), spi)),
        Nonce(bytes(32)),
        *payloads([net("10.1.0.0/24=10.2.0.0/24")]),
    )


CREATE, INFORM = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL


def test_rekeying_what_is_not_there():
    network, a, b = connected()
    answer = ask(
        network,
        a,
        CREATE,
        *new_child(b"\0\0\x10\1", Notify(NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=b"\0\0\x20\1")),
    )
    found = answer.notify(NotifyType.CHILD_SA_NOT_FOUND)
    assert (found.protocol, found.spi) == (ProtocolId.ESP, b"\0\0\x20\1") and len(b.children) == 1


def test_peer_lost_the_child():
    """CHILD_SA_NOT_FOUND: it is forgotten, and made anew."""
    network, a, b = connected()
    b.children[0].remove(network.now, "for the test")
    b.settle()
    a.rekey("b", "net")
    network.run(20)
    assert joined(a, b) and len(a.children) == len(b.children) == 1


def test_busy_peer_is_asked_again():
    """TEMPORARY_FAILURE: again after a while, each time a longer one."""
    network, a, b = connected()
    b.children[0].state = ChildState.DELETING
    a.rekey("b", "net")
    network.run(6)
    assert not a.kinds()["child-rekeyed"] and not a.kinds()["child-failed"]
    b.children[0].state = ChildState.INSTALLED
    network.run(30)
    assert a.kinds()["child-rekeyed"] == 1 and joined(a, b)


def test_deleting_what_is_not_there():
    network, a, b = connected()
    assert ask(network, a, INFORM, Delete(ProtocolId.ESP, (b"\0\0\x20\1",))).payloads == ()
    assert len(b.children) == 1


@pytest.mark.parametrize("spi", [b"", b"\0\0\0\1", bytes(8)])
def test_spis_that_cannot_be(spi):
    """INVALID_SYNTAX ends the IKE SA, on both sides (RFC 7296 2.21.3)."""
    network, a, b = connected()
    answer = ask(network, a, CREATE, *new_child(spi))
    assert answer.notify(NotifyType.INVALID_SYNTAX) or answer.notify(NotifyType.NO_PROPOSAL_CHOSEN)
    assert len(b.children) <= 1


def test_critical_payload_is_refused_and_the_ike_sa_stands():
    network, a, b = connected()
    answer = ask(network, a, INFORM, Unknown(b"x", payload_type=201, critical=True))
    assert answer.notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD).data == bytes([201])
    assert ask(network, a, INFORM, Unknown(b"x", payload_type=201)).payloads == ()
    assert b.standing and joined(a, b)


def test_what_cannot_be_read_ends_the_ike_sa():
    network, a, b = connected()
    answer = ask(network, a, CREATE, Nonce(bytes(32)))
    assert answer.notify(NotifyType.INVALID_SYNTAX)
    assert not b.standing and not b.plane.inbound and not b.plane.policies


def test_unknown_status_is_ignored():
    network, a, b = connected()
    assert ask(network, a, INFORM, Notify(40000, b"?")).payloads == ()
    assert ask(network, a, CREATE, *new_child(b"\0\0\x10\1", Notify(40000))).one(SecurityAssociation)


def test_bound_on_children():
    network, a, b = connected(settings=Settings(children_per_identity=3))
    answers = [ask(network, a, CREATE, *new_child((5000 + number).to_bytes(4))) for number in range(4)]
    assert [each.notify(NotifyType.NO_ADDITIONAL_SAS) is not None for each in answers] == [
        False,
        False,
        True,
        True,
    ]
    assert len(b.children) == 3


def test_follow_up_of_nothing():
    from spigate.firmware_py.ike.crypto import key_exchange
    from spigate.firmware_py.ike.wire.payloads import KeyExchange

    network, a, b = connected()
    started = key_exchange.start(36)
    answer = ask(
        network,
        a,
        ExchangeType.IKE_FOLLOWUP_KE,
        KeyExchange(36, started.public),
        Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, b"link"),
    )
    assert answer.notify(NotifyType.STATE_NOT_FOUND) and b.standing


def test_ipv6_outside():
    network, a, b = pair()
    for host, own, other in ((a, "2001:db8::1", "2001:db8::2"), (b, "2001:db8::2", "2001:db8::1")):
        host.address = ip_address(own)
        host.peers = [
            replace(
                host.peers[0],
                address=ip_address(other),
                local_address=host.address,
                networks=(ip_network("2001:db8::/64"),),
            )
        ]
        host.boot()
    a.initiate("b")
    network.run(5)
    assert joined(a, b) and str(a.plane.outbound[0].destination) == "2001:db8::2"
