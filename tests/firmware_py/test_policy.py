from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spigate.firmware_py.decision import Flow, decide, steps
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.policy import PolicyAction, PolicyDatabase, PolicyDirection
from spigate.firmware_py.punt import Port
from spigate.firmware_py.sa import Direction
from tests.firmware_py.network import policy, sa, selectors
from tests.firmware_py.test_sa import flows, selections

OUT, IN, FORWARD = PolicyDirection.OUT, PolicyDirection.IN, PolicyDirection.FORWARD
HERE, THERE = "10.2.0.0/24", "10.1.0.0/24"


def test_the_lowest_priority_decides_and_then_the_first_added():
    added = [policy(OUT, selectors(HERE, THERE), reqid=n, priority=given)
             for n, given in enumerate((5, 1, 5, 1), 1)]
    assert [one.templates[0].reqid for one in PolicyDatabase(added)] == [2, 4, 1, 3]


def test_what_an_sa_may_carry_is_what_the_policies_say_that_name_it():
    wide, narrow = selectors(THERE, HERE), selectors("10.1.0.9/32", HERE)
    other = selectors("10.3.0.0/24", HERE)
    database = PolicyDatabase([policy(FORWARD, narrow), policy(FORWARD, wide), policy(IN, wide),
                               policy(FORWARD, other), policy(FORWARD, other, reqid=2), policy(OUT, wide)])
    assert database.permitted(sa(0x1000)) == [wide, other]
    assert database.permitted(sa(0x1000, reqid=2)) == [other]
    assert database.permitted(sa(0x1000, reqid=3)) == []
    with pytest.raises(InputError, match="sa must be inbound, not outbound"):
        database.permitted(sa(0x1000, Direction.OUTBOUND))


def test_protect_wants_a_template_and_others_have_none():
    one = policy(OUT, selectors(HERE, THERE))
    with pytest.raises(InputError, match="templates must be given for action protect"):
        replace(one, templates=())
    with pytest.raises(InputError, match="templates must be empty for action bypass"):
        replace(one, action=PolicyAction.BYPASS)


def verdict(policies, flow, ingress, default):
    """What the policies say about one packet, straight from RFC 4301 5: policy after policy, no rules, nothing kept."""
    if ingress == Port.NETWORK:
        for one in policies.inbound():
            if flow.matches(one.selectors):
                optional = one.templates and all(template.optional for template in one.templates)
                if one.action == PolicyAction.BYPASS or optional:
                    break
                return PolicyAction.DISCARD
    for one in policies.outbound():
        if flow.matches(one.selectors):
            if one.action == PolicyAction.PROTECT and ingress == Port.NETWORK:
                return PolicyAction.DISCARD
            return one.action
    return default


policies = st.builds(policy, st.sampled_from([OUT, IN, FORWARD]), selections, st.sampled_from(list(PolicyAction)),
                     st.just(1), st.integers(0, 2), optional=st.booleans())
arrivals = st.tuples(flows, st.sampled_from([Port.NETWORK, Port.SERVER, Port.RECIRCULATE]))


@settings(max_examples=400)
@given(st.lists(policies, max_size=5), st.lists(arrivals, min_size=1, max_size=12),
       st.sampled_from([PolicyAction.BYPASS, PolicyAction.DISCARD]))
def test_learned_rules_never_say_other_than_the_policies(given_policies, packets, default):
    """Whatever comes in which order: the rules learned so far, tried in order, give each packet what the policies
    give it, or punt it."""
    database = PolicyDatabase(given_policies)
    known = steps(database)
    rules = {}
    for (source, destination, protocol, sport, dport), ingress in packets:
        flow = Flow(source, destination, protocol, None if protocol == 1 else (sport, dport))
        expected = verdict(database, flow, ingress, default)
        decision = decide(known, flow, ingress, default)
        assert decision.action == expected and flow.matches(decision.selectors) and ingress in decision.ingress
        for step in decision.before:
            rules.setdefault((step.order, step.ingress, step.selectors), None)
        rules[decision.order, decision.ingress, decision.selectors] = decision.action
        for (other_source, other_destination, other_protocol, a, b), other_ingress in packets:
            other = Flow(other_source, other_destination, other_protocol, None if other_protocol == 1 else (a, b))
            found = next((action for (order, ports, what), action in sorted(rules.items(), key=lambda item: item[0][0])
                          if other_ingress in ports and other.matches(what)), None)
            assert found in (None, verdict(database, other, other_ingress, default))


@pytest.mark.parametrize(("destination", "kept"), [
    ("10.1.0.1", selectors(HERE, THERE)),
    ("10.9.0.1", selectors("10.2.0.1/32", "10.9.0.1/32")),
    ("10.8.0.1", selectors("10.2.0.1/32", "10.8.0.1/32", protocol=17, source_ports=(1, 1), destination_ports=(2, 2))),
])
def test_a_decision_is_as_wide_as_it_can_be(destination, kept):
    """A policy's selectors, all between two hosts, or, where a policy names other ports of theirs, the flow alone."""
    database = PolicyDatabase([policy(OUT, selectors(HERE, THERE)),
                               policy(OUT, selectors(HERE, "10.8.0.0/24", protocol=17, destination_ports=(53, 53)))])
    flow = Flow(ip_address("10.2.0.1"), ip_address(destination), 17, (1, 2))
    assert decide(steps(database), flow, Port.SERVER, PolicyAction.BYPASS).selectors == kept
