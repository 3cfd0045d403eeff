# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import json
import shutil
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spigate.firmware_py.control.topology import (
    IpFiles,
    Neighbour,
    NetworkRoute,
    NextHop,
    Topology,
    from_ip,
    parse_mac,
)
from spigate.firmware_py.errors import InputError
from spigate.hdl.contract.enums import Port
from tests.firmware_py.control.network import INSIDE_MAC, PEER, PEER_MAC, SELF_MAC, SERVERS, TOPOLOGY, mac

CAPTURE = Path(__file__).parents[2] / "data" / "captures" / "esp-tunnel-gcm128"
END = ip_address("192.0.2.2")


def test_reads_what_ip_prints():
    found = from_ip(IpFiles.of(CAPTURE), endpoints=[ip_address("192.0.2.1"), END])
    assert (found.interfaces[Port.NETWORK].name, found.interfaces[Port.SERVER].name) == ("ebn", "ebs")
    assert found.interfaces[Port.NETWORK].mac == mac("02:00:00:00:00:02")
    assert {END, ip_address("10.2.0.1"), ip_address("2001:db8::2")} <= found.local
    behind_peer = NextHop(Port.NETWORK, mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02"))
    assert found.next_hop(ip_address("10.1.0.77")) == found.next_hop(ip_address("192.0.2.1")) == behind_peer
    assert found.next_hop(ip_address("2001:db8:1::5")) == behind_peer
    server = NextHop(Port.SERVER, mac("02:00:00:00:02:10"), mac("02:00:00:00:02:01"))
    assert found.next_hop(ip_address("10.2.0.10")) == server
    assert found.next_hop(ip_address("10.2.0.11")) is None, "nobody answered there"
    assert found.next_hop(ip_address("172.16.0.1")) is None, "no route"


def test_ports_may_be_named_instead():
    found = from_ip(IpFiles.of(CAPTURE), network="ebs", server="ebn")
    assert found.interfaces[Port.NETWORK].name == "ebs"


def test_next_hops_of_a_network():
    assert TOPOLOGY.next_hops(ip_network("10.2.0.0/24")) == {
        NextHop(Port.SERVER, mac(where), mac(INSIDE_MAC)) for where in SERVERS.values()
    }
    assert TOPOLOGY.next_hops(ip_network("10.2.0.10/32")) == {TOPOLOGY.next_hop(ip_address("10.2.0.10"))}
    assert TOPOLOGY.next_hops(ip_network("10.1.5.0/24")) == {
        NextHop(Port.NETWORK, mac(PEER_MAC), mac(SELF_MAC))
    }
    assert len(TOPOLOGY.next_hops(ip_network("10.0.0.0/8"))) == 4, "all routes inside"
    assert TOPOLOGY.next_hops(ip_network("172.16.0.0/12")) == set()


def test_behind_which_port_a_source_lies():
    assert TOPOLOGY.behind(ip_address("10.1.7.7"), Port.NETWORK) == ip_network("10.1.0.0/16")
    assert TOPOLOGY.behind(ip_address("10.1.7.7"), Port.SERVER) is None
    assert TOPOLOGY.behind(ip_address("172.16.0.1"), Port.NETWORK) is None


SECOND = ip_address("192.0.2.9")
BEHIND_PEER = NextHop(Port.NETWORK, mac(PEER_MAC), mac(SELF_MAC))


def known(*addresses, complete=False):
    """The same network with a second router, of which these neighbours are known."""
    second = Neighbour(SECOND, Port.NETWORK, b"\2\0\0\0\0\x09")
    neighbours = [each for each in [*TOPOLOGY.neighbours.values(), second] if str(each.address) in addresses]
    return Topology(
        TOPOLOGY.interfaces.values(),
        neighbours,
        [*TOPOLOGY.routes, NetworkRoute(ip_network("10.1.128.0/17"), Port.NETWORK, SECOND)],
        complete=complete,
    )


@pytest.mark.parametrize(
    ("addresses", "network", "complete", "server"),
    [
        (["10.2.0.10"], "10.2.0.0/24", True, "10.2.0.10"),
        (["10.2.0.10"], "10.2.0.0/24", False, None),
        (["10.2.0.10"], "10.2.0.10/32", False, "10.2.0.10"),
        (["10.2.0.10"], "10.2.0.10/31", False, None),
        (["10.2.0.10"], "10.2.0.11/32", False, None),
        ([], "10.2.0.0/24", True, None),
        (["10.2.0.10", "10.2.0.11"], "10.2.0.0/24", True, None),
        (["10.2.0.10"], "10.2.0.0/23", False, None),
    ],
)
def test_one_hop_of_a_connected_network(addresses, network, complete, server):
    """Where others may turn up, one known neighbour is not all."""
    hop = server and NextHop(Port.SERVER, mac(SERVERS[server]), mac(INSIDE_MAC))
    assert known(*addresses, complete=complete).one_hop(ip_network(network)) == hop


@pytest.mark.parametrize(
    ("addresses", "network", "complete", "hop"),
    [
        ([PEER], "10.1.0.0/24", False, BEHIND_PEER),
        ([], "10.1.0.0/24", False, None),
        ([], "10.1.0.0/24", True, None),
        ([PEER], "10.1.0.0/16", True, BEHIND_PEER),
        ([PEER], "10.1.0.0/16", False, None),
        ([PEER, str(SECOND)], "10.1.0.0/16", False, None),
        ([str(SECOND)], "10.1.0.0/16", False, None),
        ([PEER, str(SECOND)], "10.1.0.0/17", False, BEHIND_PEER),
        ([PEER], "172.16.0.0/12", False, None),
        ([PEER], "10.0.0.0/8", False, None),
    ],
)
def test_one_hop_of_a_network_behind_routers(addresses, network, complete, hop):
    """Of a router that is not known nobody can say that it is the same."""
    assert known(*addresses, complete=complete).one_hop(ip_network(network)) == hop


def test_next_hops_are_those_that_are_known():
    assert known(PEER).next_hops(ip_network("10.1.0.0/16")) == {BEHIND_PEER}


@pytest.fixture
def folder(tmp_path):
    for file in CAPTURE.glob("*.json"):
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("addr.json", None, "addr.json: expected the output of ip -j, but there is no such file"),
        ("neigh.json", "", "neigh.json: expected JSON as ip -j prints it"),
        ("route.json", '{"dst": 1}', "route.json: expected a list of objects"),
        ("route.json", '[{"dev": "ebn", "dst": 1}]', "route.json, key dst: expected str, not 1"),
        (
            "route.json",
            '[{"dev": "ebn", "dst": "10.1.0.0/40"}]',
            "route.json, key dst: expected a network, not '10.1",
        ),
        (
            "route.json",
            '[{"dev": "ebn", "dst": "default", "gateway": "x"}]',
            "key gateway: expected an IP address, not",
        ),
        (
            "neigh.json",
            '[{"dev": "ebn", "dst": "10.1.0.1", "lladdr": "02:00"}]',
            "neigh.json, key lladdr: expected an Ethernet address such as .*, not '02:00'",
        ),
        ("addr.json", "[]", "addr.json: expected one interface with the address of an SA's end, not none"),
    ],
)
def test_errors_name_file_and_key(folder, file, change, message):
    (folder / file).unlink() if change is None else (folder / file).write_text(change)
    (folder / "link.json").unlink()
    with pytest.raises(InputError, match=message):
        from_ip(IpFiles.of(folder), endpoints=[END])


def test_a_default_route(folder):
    (folder / "route.json").write_text('[{"dev": "ebn", "dst": "default", "gateway": "192.0.2.1"}]')
    assert from_ip(IpFiles.of(folder), endpoints=[END]).next_hop(ip_address("8.8.8.8")).port == Port.NETWORK


def test_an_interface_that_is_not_there(folder):
    with pytest.raises(InputError, match="expected an Ethernet interface 'eth9', there are ebn, ebs"):
        from_ip(IpFiles.of(folder), network="eth9")


@pytest.mark.parametrize(
    "text", ["", "02:00:00:00:00", "2:0:0:0:0:1", "02:00:00:00:00:0g", None, "02-00-00-00-00-01"]
)
def test_refuses_what_is_no_ethernet_address(text):
    with pytest.raises(InputError, match="expected an Ethernet address"):
        parse_mac(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)


@given(st.sampled_from(["addr.json", "neigh.json", "route.json"]), st.data())
def test_only_named_errors_escape(tmp_path_factory, file, data):
    folder = tmp_path_factory.mktemp("ip")
    for source in CAPTURE.glob("*.json"):
        content = json.loads(source.read_text())
        if source.name == file:
            item = data.draw(st.sampled_from(content))
            item[data.draw(st.sampled_from(sorted(item)))] = data.draw(values)
        (folder / source.name).write_text(json.dumps(content))
    try:
        from_ip(IpFiles.of(folder), endpoints=[END])
    except InputError:
        pass


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(28, 32), st.booleans(), st.integers(0, 1)), max_size=6)
)
def test_how_far_a_next_hop_reaches(drawn):
    """The largest network in which all have one route, or a neighbour by itself; tried on all of 16
    addresses.
    """
    routes = [
        NetworkRoute(
            ip_network((number, length), strict=False),
            Port.SERVER,
            ip_address(PEER) if routed else None,
            metric,
        )
        for number, length, routed, metric in drawn
    ]
    made = Topology((), (), routes)
    for destination in map(ip_address, range(16)):
        found, route = made.reach(destination), made.route(destination)
        assert destination in found
        if route is not None and route.gateway is None:
            assert found == ip_network(destination)
            continue
        tiny = [address for address in map(ip_address, range(16)) if address in found]
        assert {made.route(address) for address in tiny} == {route}
        if found.prefixlen > 28 and (route is None or found != route.destination):
            wider = found.supernet()
            assert {made.route(address) for address in map(ip_address, range(16)) if address in wider} != {
                route
            }
