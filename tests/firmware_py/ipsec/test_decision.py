# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""One decision: beside RFC 4301's text, and its boxes beside brute force over a world of four addresses."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.boxes import Flow
from spigate.firmware_py.ipsec.decision import OWN, Decision, Spd, Verdict, Way
from spigate.firmware_py.ipsec.packet import Refused
from spigate.firmware_py.ipsec.policy import (
    Policy,
    PolicyAction,
    PolicyDatabase,
    PolicyDirection,
    Template,
    exceptions,
)
from spigate.firmware_py.ipsec.sa import ANY_PORTS, Auth, Cipher, Selectors
from spigate.firmware_py.ipsec.sad import SaDatabase
from spigate.hdl.contract.enums import Direction, Mode, Port
from spigate.hdl.contract.protocols import AH, ICMP
from tests.firmware_py.control.network import policy, sa, selectors
from tests.firmware_py.ike.work import lines
from tests.firmware_py.ipsec import rfc4301
from tests.firmware_py.ipsec.test_sa import flows, selections

OUT, IN, FORWARD = PolicyDirection.OUT, PolicyDirection.IN, PolicyDirection.FORWARD
HERE, THERE = "10.2.0.0/24", "10.1.0.0/24"
PORTS = {"network": Port.NETWORK, "server": Port.SERVER, "recirculate": Port.RECIRCULATE}
TINY = [ip_address(number) for number in range(4)]
EVERY_FLOW = [
    Flow(source, destination, protocol, ports)
    for source, destination in product(TINY, TINY)
    for protocol, ports in [
        (1, None),
        (6, (0, 0)),
        (6, (1, 3)),
        *((17, ports) for ports in product(range(4), range(4))),
    ]
]
INBOUND = [sa(0x1000 + reqid, reqid=reqid) for reqid in (1, 2, 3)]
OUTER = sa(
    0x2000,
    reqid=9,
    protocol=AH,
    cipher=Cipher.NULL,
    key=b"",
    salt=b"",
    icv_bytes=0,
    auth=Auth.HMAC_SHA1_96,
    auth_key=bytes(20),
)


def way(destination):
    """0.0.0.0/31 lies behind one router at the network port, 0.0.0.2 and 0.0.0.3 are neighbours at the
    server port.
    """
    if int(destination) < 2:
        return Way(ip_network("0.0.0.0/31"), Port.NETWORK)
    return Way(ip_network(destination), Port.SERVER)


def side(destination):
    return "network" if int(destination) < 2 else "server"


policies = st.builds(
    policy,
    st.sampled_from([OUT, IN, FORWARD]),
    selections,
    st.sampled_from(list(PolicyAction)),
    st.integers(1, 3),
    st.integers(0, 2),
    optional=st.booleans(),
)
spds = st.lists(policies, max_size=7)
locals_ = st.sets(st.sampled_from(TINY[2:]), max_size=1)
defaults = st.sampled_from([PolicyAction.BYPASS, PolicyAction.DISCARD])


def flow_of(drawn):
    source, destination, protocol, sport, dport = drawn
    return Flow(source, destination, protocol, None if protocol == 1 else (sport, dport))


def packet_of(flow):
    return flow.source, flow.destination, flow.protocol, flow.ports


@settings(max_examples=400, deadline=None)
@given(
    spds,
    locals_,
    defaults,
    st.lists(flows, min_size=1, max_size=8),
    st.sampled_from(list(PORTS)),
    st.sampled_from([(), *((one,) for one in INBOUND)]),
)
def test_it_decides_as_the_text_says(given_policies, local, default, drawn, ingress, through):
    through = through if ingress == "recirculate" else ()
    if ingress == "recirculate" and not through:
        return
    spd = Spd(PolicyDatabase(given_policies), default, local, way)
    oracle = rfc4301.Gateway(given_policies, default.value, local, side)
    for flow in map(flow_of, drawn):
        decided = spd.decide(flow, PORTS[ingress], through)
        action, entry = oracle.decide(packet_of(flow), ingress, list(through))
        assert decided.action == action
        if action == "protect":
            assert list(decided.policies) == entry
        assert decided.clear == (action == "bypass" and side(flow.destination) == "network")


@settings(max_examples=100, deadline=None)
@given(spds, locals_, defaults, st.sampled_from([Port.NETWORK, Port.SERVER, Port.RECIRCULATE]))
def test_boxes_are_disjoint_and_have_one_decision(given_policies, local, default, ingress):
    """Each flow's box has that flow; of all other flows in it the same becomes, by the same next hop; and
    two boxes are the same, or have nothing in common."""
    spd = Spd(PolicyDatabase(given_policies), default, local, way)
    boxes = {}
    for flow in EVERY_FLOW:
        decided = spd.decide(flow, ingress, None)
        if flow.destination in local and flow.protocol == ICMP:
            assert decided.region is None, "what is said of a path is looked at in each message"
            continue
        assert decided.region is not None and flow.matches(decided.region)
        boxes.setdefault(decided.region, []).append((flow, decided))
    for box, members in boxes.items():
        assert [flow for flow in EVERY_FLOW if flow.matches(box)] == [flow for flow, _ in members]
        assert len({replace(decided, region=None) for _, decided in members}) == 1
        decided = members[0][1]
        if decided.action == Verdict.BYPASS:
            assert len({way(flow.destination) for flow, _ in members}) == 1
            assert len({flow.source in local for flow, _ in members}) == 1
        assert {flow.destination in local for flow, _ in members} == {
            decided.action == Verdict.HOST
        } or decided.action == Verdict.DISCARD


def admitted(spd, one):
    return {
        flow
        for flow in EVERY_FLOW
        if spd.admits(flow, (one,)) and (one.selectors is None or flow.matches(one.selectors))
    }


@settings(max_examples=100, deadline=None)
@given(spds, st.one_of(st.none(), selections))
def test_the_boxes_of_an_sa_are_what_policy_lets_out_of_it(given_policies, own):
    spd = Spd(PolicyDatabase(given_policies))
    one = replace(INBOUND[0], selectors=own)
    boxes = spd.carried(one)
    if boxes is not None:
        assert {flow for flow in EVERY_FLOW if any(flow.matches(box) for box in boxes)} == admitted(spd, one)


@settings(max_examples=100, deadline=None)
@given(spds, locals_, selections)
def test_straight_is_what_every_packet_would_go(given_policies, local, box):
    spd = Spd(PolicyDatabase(given_policies), PolicyAction.DISCARD, local, way)
    inside = [
        flow for flow in EVERY_FLOW if flow.matches(box) and way(flow.destination).egress == Port.SERVER
    ]
    if spd.straight(box):
        assert all(spd.decide(flow, Port.RECIRCULATE, None).action == Verdict.BYPASS for flow in inside)


def test_straight_ways_are_few_and_there_are_some():
    spd = Spd(PolicyDatabase([policy(OUT, selectors(HERE, THERE))]), local=[ip_address("10.2.0.1")])
    assert spd.straight(selectors(THERE, "10.2.0.10/32"))
    for source, destination in (("0.0.0.0/0", "10.1.0.0/25"), (THERE, HERE)):
        assert not spd.straight(selectors(source, destination)), "an outbound policy; a local address"


# Inbound: the SAs that policy asks for, in their order


def bundle(*reqids, **more):
    ends = {"source": ip_address("0.0.0.0"), "destination": ip_address("0.0.0.0"), "mode": Mode.TUNNEL}
    made = tuple(
        Template(
            **ends, reqid=reqid, protocol=AH if reqid == 9 else 50, optional=reqid == more.get("optional")
        )
        for reqid in reqids
    )
    return Policy(
        selectors=selectors(THERE, HERE), direction=FORWARD, action=PolicyAction.PROTECT, templates=made
    )


INNER = Flow(ip_address("10.1.0.9"), ip_address("10.2.0.9"), 17, (1, 2))
BETWEEN = policy(IN, selectors("192.0.2.1/32", "192.0.2.2/32"), reqid=2)


def test_policies_come_and_go_at_the_same_cost_however_many_there_are():
    """Each was compared with all: a peer's 32 child SAs of 64 pairs took 88 seconds to delete, the newest
    first.
    """
    many = [
        policy(OUT, selectors(f"10.2.{number >> 8}.{number & 255}/32", THERE), priority=number % 3)
        for number in range(3000)
    ]
    database = PolicyDatabase()

    def come_and_go():
        for each in many:
            database.add(each)
        kept = list(database)
        for each in reversed(many):
            database.remove(each)
        return kept

    count, kept = lines(come_and_go)
    assert kept == sorted(many, key=lambda each: each.priority) and not len(database)
    assert count < 300 * len(many), count


def test_a_policy_that_is_there_twice_decides_at_its_first_place_until_both_are_gone():
    first = policy(OUT, selectors(HERE, THERE), reqid=1)
    other = policy(OUT, selectors("10.0.0.0/8", THERE), reqid=2)
    database = PolicyDatabase([first, other, first])
    assert list(database) == [first, first, other]
    database.remove(first)
    assert list(database) == [first, other]
    database.remove(first)
    assert list(database) == [other]
    with pytest.raises(InputError):
        database.remove(first)


@pytest.mark.parametrize(
    ("given_policies", "through", "admitted"),
    [
        ([bundle(1)], [INBOUND[0]], True),
        ([bundle(1)], [INBOUND[1]], False),
        ([bundle(1)], [], False),
        ([bundle(1, 9)], [INBOUND[0], OUTER], True),
        ([bundle(1, 9)], [OUTER, INBOUND[0]], False),
        ([bundle(1, 9)], [INBOUND[0]], False),
        ([bundle(1, 9)], [OUTER], False),
        ([bundle(1, 9)], [INBOUND[0], OUTER, OUTER], False),
        ([bundle(1)], [INBOUND[0], OUTER], False),
        ([bundle(1, 9, optional=9)], [INBOUND[0]], True),
        ([bundle(1, 9, optional=9)], [], False),
        ([bundle(1, optional=1)], [], True),
        ([bundle(1, optional=1)], [INBOUND[1]], False),
        # A tunnel that a policy of its own asks for around the other one's packets.
        ([bundle(1), BETWEEN], [INBOUND[0], INBOUND[1]], True),
        ([bundle(1), BETWEEN], [INBOUND[0], INBOUND[2]], False),
        ([bundle(1), BETWEEN], [INBOUND[0]], True),
        ([bundle(1)], [INBOUND[0], INBOUND[1]], False),
        ([], [INBOUND[0]], False),
        ([], [], False),
        ([policy(FORWARD, selectors(THERE, HERE), PolicyAction.BYPASS)], [INBOUND[0]], False),
        ([policy(FORWARD, selectors(THERE, HERE), PolicyAction.BYPASS)], [], True),
        ([policy(FORWARD, selectors(THERE, HERE), PolicyAction.DISCARD), bundle(1)], [INBOUND[0]], False),
    ],
)
def test_the_sas_really_used_are_those_that_policy_asks_for(given_policies, through, admitted):
    spd = Spd(PolicyDatabase(given_policies))
    assert spd.admits(INNER, through) == admitted
    assert rfc4301.Gateway(given_policies, "discard").inbound(packet_of(INNER), through) == admitted


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.lists(st.tuples(st.sampled_from([1, 2, 9]), st.booleans()), min_size=1, max_size=3),
        ),
        max_size=4,
    ),
    st.lists(st.sampled_from([*INBOUND, OUTER]), max_size=3),
)
def test_chains_are_those_of_the_text(drawn, through):
    """Templates in any number, also of policies about the packets of SAs themselves."""
    made = []
    for between, chain in drawn:
        templates = tuple(
            Template(
                source=ip_address("0.0.0.0"),
                destination=ip_address("0.0.0.0"),
                mode=Mode.TUNNEL,
                reqid=reqid,
                protocol=AH if reqid == 9 else 50,
                optional=optional,
            )
            for reqid, optional in chain
        )
        what = selectors("192.0.2.1/32", "192.0.2.2/32") if between else selectors(THERE, HERE)
        made.append(
            Policy(
                selectors=what,
                direction=IN,
                action=PolicyAction.PROTECT,
                templates=templates,
                priority=len(made) % 2,
            )
        )
    assert Spd(PolicyDatabase(made)).admits(INNER, through) == rfc4301.Gateway(made, "discard").inbound(
        packet_of(INNER), through
    )


# What goes on


@pytest.mark.parametrize(
    ("ingress", "destination", "default", "action", "clear"),
    [
        (Port.RECIRCULATE, 0, "bypass", "discard", False),
        (Port.RECIRCULATE, 2, "discard", "bypass", False),
        (Port.NETWORK, 2, "bypass", "bypass", False),
        (Port.NETWORK, 0, "bypass", "bypass", True),
        (Port.SERVER, 0, "discard", "discard", False),
        (Port.SERVER, 2, "discard", "discard", False),
        (Port.SERVER, 0, "bypass", "bypass", True),
        (OWN, 2, "discard", "bypass", False),
        (OWN, 0, "discard", "discard", False),
    ],
)
def test_where_no_policy_matches(ingress, destination, default, action, clear):
    spd = Spd(PolicyDatabase(), PolicyAction(default), (), way)
    decided = spd.decide(Flow(TINY[3], TINY[destination], 17, (1, 2)), ingress, None)
    assert (decided.action, decided.clear) == (action, clear)


def test_a_later_fragment_is_no_part_of_a_box():
    """Where a policy looks at ports, no box says which packets are fragments."""
    spd = Spd(
        PolicyDatabase(
            [
                policy(
                    OUT, selectors(HERE, THERE, protocol=17, destination_ports=(53, 53)), PolicyAction.BYPASS
                )
            ]
        )
    )
    flow = Flow(ip_address("10.2.0.1"), ip_address("10.1.0.1"), 17, None)
    assert spd.decide(flow, Port.SERVER) == Decision(Verdict.DISCARD, Port.SERVER)
    assert spd.wants_whole(flow, Port.SERVER) and not spd.wants_whole(
        replace(flow, destination=ip_address("10.3.0.1")), Port.SERVER
    )


@pytest.mark.parametrize(
    ("destination", "port", "kept"),
    [
        ("10.1.0.1", 80, selectors(HERE, THERE, protocol=17, destination_ports=(54, 0xFFFF))),
        ("10.1.0.1", 53, selectors(HERE, THERE, protocol=17, destination_ports=(53, 53))),
        ("10.1.9.1", 80, selectors(HERE, "10.1.8.0/21")),
    ],
)
def test_boxes_are_as_large_as_policies_leave_them(destination, port, kept):
    spd = Spd(
        PolicyDatabase(
            [
                policy(
                    OUT, selectors(HERE, THERE, protocol=17, destination_ports=(53, 53)), PolicyAction.BYPASS
                ),
                policy(OUT, selectors(HERE, "10.1.0.0/16")),
            ]
        )
    )
    flow = Flow(ip_address("10.2.0.9"), ip_address(destination), 17, (1, port))
    assert spd.decide(flow, Port.SERVER).region == kept


def test_boxes_of_ipv6():
    here, there = "2001:db8:2::/64", "2001:db8:1::/48"
    spd = Spd(
        PolicyDatabase(
            [
                policy(OUT, selectors(here, "2001:db8:1:8000::/49"), PolicyAction.DISCARD),
                policy(OUT, selectors(HERE, THERE)),
                policy(OUT, selectors(here, there), reqid=6),
            ]
        ),
        local=[ip_address("2001:db8:1::1"), ip_address("10.1.0.1")],
    )
    flow = Flow(ip_address("2001:db8:2::9"), ip_address("2001:db8:1:4000::9"), 58, None)
    decided = spd.decide(flow, Port.SERVER)
    assert decided.policy.templates[0].reqid == 6 and decided.region == selectors(
        here, "2001:db8:1:4000::/50"
    )


def test_local_addresses_are_in_no_box():
    spd = Spd(
        PolicyDatabase([policy(OUT, selectors(HERE, "0.0.0.0/0"))]),
        PolicyAction.BYPASS,
        [ip_address("192.0.2.2")],
        None,
    )
    region = spd.decide(Flow(ip_address("10.2.0.9"), ip_address("192.0.2.1"), 1, None), Port.SERVER).region
    assert (
        region == selectors(HERE, "192.0.2.0/31")
        and spd.decide(Flow(ip_address("10.2.0.9"), ip_address("192.0.2.2"), 1, None), Port.SERVER).action
        == Verdict.HOST
    )


# The newest child sends


def test_of_equal_policies_the_one_with_the_newest_sa_sends():
    """A peer that was killed and has come back: the first child is dead, and stays for a while."""
    ours = [policy(OUT, selectors(HERE, THERE), reqid=reqid) for reqid in (1, 2)]
    theirs = [policy(FORWARD, selectors(THERE, HERE), reqid=reqid) for reqid in (1, 2)]
    spd = Spd(PolicyDatabase([*ours, *theirs]))
    decided = spd.decide(Flow(ip_address("10.2.0.1"), ip_address("10.1.0.1"), 1, None), Port.SERVER)
    assert list(decided.policies) == ours
    sas = SaDatabase()
    with pytest.raises(Refused, match="no_sa"):
        sas.outbound(decided.policies)
    for age, (spi, reqid) in enumerate([(0x3001, 1), (0x3002, 2), (0x3003, 1)]):
        made = sa(spi, Direction.OUTBOUND, reqid=reqid)
        sas.add(made, age)
        assert sas.outbound(decided.policies) == [made]
    sas.remove(made)
    assert sas.outbound(decided.policies)[0].spi == 0x3002
    assert all(spd.admits(INNER, (one,)) for one in INBOUND[:2]) and not spd.admits(INNER, (INBOUND[2],)), (
        "each may receive"
    )


def test_unequal_policies_keep_their_order():
    narrow = policy(OUT, selectors("10.2.0.1/32", THERE), reqid=2)
    for others in (
        [narrow],
        [policy(OUT, selectors(HERE, THERE), reqid=2, priority=1)],
        [policy(OUT, selectors(HERE, THERE), PolicyAction.DISCARD)],
    ):
        first = policy(OUT, selectors(HERE, THERE), reqid=1)
        spd = Spd(PolicyDatabase([first, *others]))
        assert spd.decide(
            Flow(ip_address("10.2.0.1"), ip_address("10.1.0.1"), 1, None), Port.SERVER
        ).policies == (first,)


# Policies


def test_the_lowest_priority_decides_and_then_the_first_added():
    added = [
        policy(OUT, selectors(HERE, THERE), reqid=n, priority=given)
        for n, given in enumerate((5, 1, 5, 1), 1)
    ]
    assert [one.templates[0].reqid for one in PolicyDatabase(added)] == [2, 4, 1, 3]


def test_protect_wants_a_template_and_others_have_none():
    one = policy(OUT, selectors(HERE, THERE))
    with pytest.raises(InputError, match="templates must be given for action protect"):
        replace(one, templates=())
    with pytest.raises(InputError, match="templates must be empty for action bypass"):
        replace(one, action=PolicyAction.BYPASS)


def test_exceptions_are_for_both_ways():
    traffic = Selectors(ip_network(HERE), ip_network(THERE), 17, ANY_PORTS, (53, 53))
    for action in (PolicyAction.BYPASS, PolicyAction.DISCARD):
        out, back = exceptions(action, traffic)
        assert (out.direction, back.direction, out.action, back.action) == (OUT, IN, action, action)
        assert out.selectors == traffic and back.selectors == Selectors(
            ip_network(THERE), ip_network(HERE), 17, (53, 53)
        )
