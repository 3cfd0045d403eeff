# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A port's device, with scapy behind it instead of a gateway."""

import json
import os
import select
import subprocess
import time
from contextlib import closing
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether

from spigate.firmware_py.control.topology import Interface, NetworkRoute
from spigate.firmware_py.daemon.ports import Ports
from spigate.firmware_py.errors import InputError
from spigate.hdl.contract.enums import Port
from tests.firmware_py.control.network import INSIDE_MAC, PEER, PEER_MAC, SELF, SELF_MAC, mac
from tests.firmware_py.ike.hosts import ip, own_namespace

pytestmark = pytest.mark.xdist_group("host")
OURS_6, THEIRS_6 = "2001:db8::2", "2001:db8::1"
NETWORK = Interface(
    "outside", Port.NETWORK, mac(SELF_MAC), (ip_interface(f"{SELF}/24"), ip_interface(f"{OURS_6}/64")), 1400
)
SERVER = Interface("inside", Port.SERVER, mac(INSIDE_MAC), (ip_interface("10.2.0.1/24"),))
ROUTES = (
    NetworkRoute(ip_network("10.1.0.0/16"), Port.NETWORK, ip_address(PEER)),
    NetworkRoute(ip_network("2001:db8:1::/48"), Port.NETWORK, ip_address(THEIRS_6)),
)


@pytest.fixture
def namespace():
    with own_namespace("spigate-p") as name:
        yield name


def shown(*words):
    return json.loads(
        subprocess.run(["ip", "-j", *words], check=True, capture_output=True, text=True).stdout or "[]"
    )


def readable(device, seconds=3.0):
    return bool(select.select([device], [], [], seconds)[0])


def asked(ports, answer=True, seconds=3.0):
    """Whom the host asks for at the network port until it asks for a peer's address, which is answered."""
    tap, end = ports.taps[Port.NETWORK], time.monotonic() + seconds
    while time.monotonic() < end:
        for raw in tap.packets() if readable(tap, end - time.monotonic()) else ():
            found = Ether(raw)
            if ARP in found and found[ARP].pdst == PEER:
                if answer:
                    tap.write(
                        bytes(
                            Ether(src=PEER_MAC, dst=SELF_MAC)
                            / ARP(op=2, hwsrc=PEER_MAC, psrc=PEER, hwdst=SELF_MAC, pdst=SELF)
                        )
                    )
                return found
            if ICMPv6ND_NS in found and found[ICMPv6ND_NS].tgt == THEIRS_6:
                if answer:
                    tap.write(
                        bytes(
                            Ether(src=PEER_MAC, dst=SELF_MAC)
                            / IPv6(src=THEIRS_6, dst=OURS_6, hlim=255)
                            / ICMPv6ND_NA(tgt=THEIRS_6, R=0, S=1, O=1)
                            / ICMPv6NDOptDstLLAddr(lladdr=PEER_MAC)
                        )
                    )
                return found
    raise AssertionError("the host asks for nobody")


def states():
    return {item["dst"]: item["state"] for item in shown("neighbour", "show", "dev", "outside")}


def turns_up(ports, address):
    """Waits until the topology knows ``address``."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert readable(ports.changes), "nobody says that a neighbour has turned up"
        found = ports.topology().neighbours.get((Port.NETWORK, ip_address(address)))
        if found:
            return found
    raise AssertionError(f"{address} does not turn up")


def test_ports_are_devices_of_this_host(namespace):
    with closing(Ports([NETWORK, SERVER], ROUTES)) as ports:
        links = {link["ifname"]: link for link in shown("address") if link["ifname"] != "lo"}
        assert set(links) == {"outside", "inside"}
        assert (links["outside"]["address"], links["outside"]["mtu"]) == (SELF_MAC, 1400) and "UP" in links[
            "outside"
        ]["flags"]
        addresses = {
            (info["local"], info["prefixlen"])
            for info in links["outside"]["addr_info"]
            if info["scope"] == "global"
        }
        assert addresses == {(SELF, 24), (OURS_6, 64)}
        routes = {(route["dst"], route.get("gateway")) for route in shown("route") + shown("-6", "route")}
        assert {("10.1.0.0/16", PEER), ("2001:db8:1::/48", THEIRS_6)} <= routes
        topology = ports.topology()
        assert topology.interfaces == {Port.NETWORK: NETWORK, Port.SERVER: SERVER} and not topology.neighbours
        assert topology.route(ip_address("10.1.7.7")).gateway == ip_address(PEER)
        for address in (PEER, THEIRS_6):
            ports.resolve(Port.NETWORK, ip_address(address))
            asked(ports)
            assert turns_up(ports, address).mac == mac(PEER_MAC)
        assert ports.topology().one_hop(ip_network("10.1.0.0/16")).destination_mac == mac(PEER_MAC)
        ports.topology()
        while readable(ports.changes, 0.1):
            ports.topology()
        # One that was not heard of lately is asked again, and what it then says is news.
        for tap in ports.taps.values():
            list(tap.packets())
        ip("-4", "neighbour", "replace", PEER, "dev", "outside", "lladdr", PEER_MAC, "nud", "stale")
        assert states()[PEER] == ["STALE"]
        ports.confirm()
        assert asked(ports)[ARP].pdst == PEER
        assert turns_up(ports, PEER) and states()[PEER] == ["REACHABLE"]
        # Who does not answer is no neighbour.
        ports.resolve(Port.SERVER, ip_address("10.2.0.99"))
        assert readable(ports.taps[Port.SERVER])
        assert (Port.SERVER, ip_address("10.2.0.99")) not in ports.topology().neighbours
        ports.resolve(Port.SERVER, ip_address("172.16.0.1"))  # nor who cannot be there
    assert [link["ifname"] for link in shown("link")] == ["lo"]
    assert not shown("route")


def test_who_is_at_a_port_does_not_configure_this_host(namespace):
    with closing(Ports([NETWORK, SERVER], ())) as ports:
        ports.taps[Port.NETWORK].write(
            bytes(
                Ether(src=PEER_MAC, dst="33:33:00:00:00:01")
                / IPv6(src="fe80::1", dst="ff02::1", hlim=255)
                / ICMPv6ND_RA(routerlifetime=1800)
                / ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64)
            )
        )
        ports.taps[Port.NETWORK].write(
            bytes(Ether(src=PEER_MAC, dst=SELF_MAC) / IP(src=PEER, dst=SELF) / UDP(dport=9))
        )
        time.sleep(0.2)
        assert not [route for route in shown("-6", "route") if route["dst"] == "default"]
        assert not [
            info
            for link in shown("address")
            for info in link["addr_info"]
            if info["local"].startswith("2001:db8:bad")
        ]
        for name in ("accept_ra", "accept_redirects"):
            assert Path("/proc/sys/net/ipv6/conf/outside", name).read_text() == "0\n"


@pytest.mark.parametrize(
    ("interfaces", "routes", "message"),
    [
        (
            [NETWORK, Interface("outside", Port.SERVER, mac(INSIDE_MAC))],
            (),
            "TAP device outside: .*no other process that has it",
        ),
        (
            [NETWORK, Interface("inside", Port.SERVER, mac("01:00:00:00:00:01"))],
            (),
            "ip link set inside .*01:00:00:00:00:01",
        ),
        (
            [NETWORK, Interface("inside", Port.SERVER, mac(INSIDE_MAC), (ip_interface("ff02::1/64"),))],
            (),
            "ip address replace ff02::1/64",
        ),
        (
            [NETWORK],
            (NetworkRoute(ip_network("10.1.0.0/16"), Port.NETWORK, ip_address("172.16.0.1")),),
            "ip -4 route replace 10.1.0.0/16 via 172.16.0.1",
        ),
    ],
)
def test_what_linux_refuses_is_named_and_nothing_is_left(namespace, interfaces, routes, message):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InputError, match=message):
        Ports(interfaces, routes)
    assert [link["ifname"] for link in shown("link")] == ["lo"]
    assert len(os.listdir("/proc/self/fd")) == before
