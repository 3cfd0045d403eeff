# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Rekeying from both sides, collisions in every order, and under loss: the tunnel always works."""

import random
from itertools import product

import pytest

from spigate.firmware_py.ike.crypto import keys
from spigate.firmware_py.ike.engine import informational
from spigate.firmware_py.ike.peers.retransmission import Retransmission
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import Delete
from spigate.firmware_py.ike.wire.registry import ExchangeType, ProtocolId
from spigate.firmware_py.ipsec.sa import Lifetime
from tests.firmware_py.ike.network import Network, child, esp, ike, joined, pair

SHORT, LONG, LOST = 0.01, 0.3, None
"""What may happen to a datagram; a long way means that what is sent later can come before."""


def fate(network: Network, plan) -> None:
    """Decides what becomes of the next datagrams: one after the other, as ``plan`` says, the rest at once."""
    plan = iter(plan)
    current = SHORT

    def lose(datagram):
        nonlocal current
        current = next(plan, SHORT)
        return None if current is LOST else datagram

    network.filters.append(lose)
    network.random.uniform = lambda low, high: current


def one_tunnel(one, other) -> None:
    """One IKE SA and one child are left, and nothing else is."""
    for host in (one, other):
        assert len(list(host.endpoint.ikes)) == len(host.standing) == 1
        assert len(host.children) == 1
        assert len(host.plane.inbound) == len(host.plane.outbound) == 1
        assert len(host.plane.policies) == 3
        assert host.endpoint._context.reserved == set(host.plane.inbound)  # no number is lost
    assert one.standing[0].name == other.standing[0].name
    assert joined(one, other)


def nothing_left(*hosts) -> None:
    for host in hosts:
        assert not list(host.endpoint.ikes)
        assert not host.plane.inbound and not host.plane.outbound and not host.plane.policies


def connected(of_child=None, **arguments):
    network, a, b = pair(*((of_child,) if of_child else ()), **arguments)
    a.initiate("b")
    network.run(5)
    assert joined(a, b)
    return network, a, b


def always(network, a, b) -> None:
    """From here on the tunnel works at every moment."""

    def watch():
        assert joined(a, b)

    network.watchers.append(watch)


@pytest.mark.parametrize("what", ["net", None])
@pytest.mark.parametrize("who", ["a", "b"])
def test_from_either_side(what, who):
    network, a, b = connected()
    before = {sa.spi for sa in a.plane.outbound}, a.standing[0].name
    always(network, a, b)
    a.rekey("b", what) if who == "a" else b.rekey("a", what)
    network.run(20)
    one_tunnel(a, b)
    assert (before[0] != {sa.spi for sa in a.plane.outbound}) == (what == "net")
    assert (before[1] != a.standing[0].name) == (what is None)


@pytest.mark.parametrize("ours", ["net", None])
@pytest.mark.parametrize("theirs", ["net", None])
def test_collisions_in_every_order(ours, theirs):
    """243 fates of the first five datagrams; what is lost comes again."""
    for seed, plan in enumerate(product((SHORT, LONG, LOST), repeat=5)):
        network, a, b = connected(seed=seed)
        always(network, a, b)
        fate(network, plan)
        a.rekey("b", ours)
        b.rekey("a", theirs)
        network.run(250)
        one_tunnel(a, b)


@pytest.mark.parametrize("ours", ["net", None])
@pytest.mark.parametrize("theirs", ["net", None])
def test_collisions_of_additional_key_exchanges(ours, theirs):
    """IKE_FOLLOWUP_KE of both (RFC 9370): whose were through first made a child SA, and the other's another
    one.
    """
    of_ike, fates = {"proposals": ike("aes128gcm16-prfsha256-x25519-ke1_ecp256")}, random.Random(9)
    for seed in range(60):
        network, a, b = connected(
            of_child=child(proposals=esp("aes128gcm16-x25519-ke1_ecp256")), a=of_ike, b=of_ike, seed=seed
        )
        always(network, a, b)
        fate(network, [fates.choice((SHORT, LONG, LOST)) for _ in range(9)])
        a.rekey("b", ours)
        b.rekey("a", theirs)
        network.run(400)
        one_tunnel(a, b)


@pytest.mark.parametrize("what", ["net", None])
@pytest.mark.parametrize("ended", ["net", None])
def test_deletion_meets_rekeying(what, ended):
    for seed, plan in enumerate(product((SHORT, LONG, LOST), repeat=5)):
        network, a, b = connected(seed=seed)
        fate(network, plan)
        a.rekey("b", what)
        b.terminate("a", ended)
        network.run(250)
        if ended is None:
            nothing_left(a, b)
        else:
            assert len(a.standing) == len(b.standing) == 1
            # b may have answered the rekeying before it deleted the old one: then the new one stands, at both
            assert len(a.children) == len(b.children)
            assert not a.children or joined(a, b)


@pytest.mark.parametrize("what", ["net", None])
def test_deletion_meets_deletion(what):
    for plan in product((SHORT, LONG, LOST), repeat=5):
        network, a, b = connected()
        fate(network, plan)
        a.terminate("b", what)
        b.terminate("a", what)
        network.run(250)
        if what is None:
            nothing_left(a, b)
        for host in (a, b):
            assert not host.children and not host.plane.inbound and not host.plane.policies


@pytest.mark.parametrize("seed", range(25))
def test_under_loss(seed):
    """A fifth is lost, a fifth comes twice, all of it in any order; both rekey everything again and again."""
    patient = {"retransmission": Retransmission(tries=15, factor=1.0)}
    network, a, b = pair(seed=seed, loss=0.2, double=0.2, delay=(0.01, 0.5), a=patient, b=patient)
    a.initiate("b")
    network.run(60)
    assert joined(a, b)
    always(network, a, b)
    for _ in range(4):
        for host, name in ((a, "b"), (b, "a")):
            what = network.random.choice(["net", None, "nothing"])
            if what != "nothing":
                host.rekey(name, what)
            network.run(network.random.choice([0, 0, 0.05, 0.3]))
        network.run(network.random.choice([1, 5, 20]))
    network.run(300)
    one_tunnel(a, b)


def test_lifetimes_by_themselves():
    short = child(soft=Lifetime(seconds=100), hard=Lifetime(seconds=130))
    network, a, b = pair(
        short,
        a={"rekey_seconds": 350, "lifetime_seconds": 400},
        b={"rekey_seconds": 350, "lifetime_seconds": 400},
    )
    a.initiate("b")
    network.run(5)
    always(network, a, b)
    network.run(3000)
    one_tunnel(a, b)
    assert a.kinds()["child-rekeyed"] >= 29 and a.kinds()["ike-rekeyed"] >= 8
    assert not a.kinds()["child-down"] and not b.kinds()["child-down"]


def test_jitter_keeps_two_sides_apart():
    """Both have the same limit, and hardly ever meet."""
    network, a, b = connected()
    network.run(3600 * 20)
    one_tunnel(a, b)
    redundant = sum("redundant" in event.text for host in (a, b) for event in host.events)
    assert a.kinds()["child-rekeyed"] >= 20 and redundant == 0


def test_used_up():
    network, a, b = connected()
    always(network, a, b)
    a.expired(a.plane.outbound[0], hard=False)
    network.run(20)
    one_tunnel(a, b)
    network.watchers.clear()
    b.expired(b.plane.outbound[0], hard=True)
    network.run(5)
    assert not a.children and not b.children and len(a.standing) == 1


@pytest.mark.parametrize("who", ["a", "b"])
def test_own_key_exchange_and_another_group(monkeypatch, who):
    """Perfect forward secrecy; the first group is not the other side's, so it comes again with
    INVALID_KE_PAYLOAD.
    """
    network, a, b = pair(child(proposals=esp("aes128gcm16-ecp256-curve25519")))
    b.peers = [
        b.peers[0].__class__(
            **{
                **vars(b.peers[0]),
                "children": (
                    b.peers[0]
                    .children[0]
                    .__class__(
                        **{**vars(b.peers[0].children[0]), "proposals": esp("aes128gcm16-curve25519")}
                    ),
                ),
            }
        )
    ]
    b.boot()
    a.initiate("b")
    network.run(5)
    secrets, made = [], keys.child_keys
    monkeypatch.setattr(
        keys,
        "child_keys",
        lambda prf, d, suite, ni, nr, own: secrets.append(tuple(own)) or made(prf, d, suite, ni, nr, own),
    )
    for number in (1, 2):
        a.rekey("b", "net") if who == "a" else b.rekey("a", "net")
        network.run(20)
        one_tunnel(a, b)
        assert a.kinds()["child-rekeyed"] == b.kinds()["child-rekeyed"] == number
    assert all(len(each) == 1 for each in secrets)  # in every child's keys there is one of its own
    assert sorted(secrets[::2]) == sorted(secrets[1::2]) and len(set(secrets)) == 2


@pytest.mark.parametrize("what", ["net", None])
@pytest.mark.parametrize("who", ["a", "b"])
def test_additional_key_exchanges(what, who):
    """ML-KEM in IKE_INTERMEDIATE and IKE_FOLLOWUP_KE (RFC 9370)."""
    proposals = ike("aes256gcm16-prfsha384-curve25519-ke1_mlkem768-ke2_mlkem1024")
    network, a, b = pair(
        child(proposals=esp("aes256gcm16-curve25519-ke1_mlkem768")),
        a={"proposals": proposals},
        b={"proposals": proposals},
        loss=0.1,
    )
    a.initiate("b")
    network.run(60)
    always(network, a, b)
    a.rekey("b", what) if who == "a" else b.rekey("a", what)
    network.run(60)
    one_tunnel(a, b)
    assert len(a.standing[0].suite.additional) == 2


@pytest.mark.parametrize(
    "proposal", ["aes128gcm16-prfsha256-x25519", "aes128gcm16-prfsha256-x25519-ke1_mlkem768"]
)
@pytest.mark.parametrize("who", ["a", "b", "both"])
@pytest.mark.parametrize("wait", [0, 0.015, 0.025, 0.035])
def test_ended_while_it_is_rekeyed(proposal, who, wait):
    """What comes out of a rekeying is not wanted any more, on either side."""
    both = {"proposals": ike(proposal)}
    network, a, b = pair(a=both, b=both)
    a.initiate("b")
    network.run(5)
    a.rekey("b")
    network.run(wait)
    if who != "b":
        a.terminate("b")
    if who != "a":
        b.terminate("a")
    network.run(120)  # who is not answered any more gives up
    nothing_left(a, b)


def test_rival_that_is_deleted_is_no_successor():
    """Both rekey the IKE SA; A deletes what it made, and then the old one, while B still waits for its own
    answer.
    """
    network, a, b = connected()
    a.rekey("b")
    b.rekey("a")
    network.filters.append(lambda datagram: None)
    network.run(0.011)
    [rival] = [each for each in b.endpoint.ikes if each.predecessor is not None]
    for each in (rival, rival.predecessor):
        deletion = Message(
            each.spi_i, each.spi_r, ExchangeType.INFORMATIONAL, True, False, 0, (Delete(ProtocolId.IKE),)
        )
        informational.answer(each, network.now, deletion).then(None, ())
    b.settle()
    nothing_left(b)
