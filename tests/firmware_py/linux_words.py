# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a Linux kernel is told, so that it has the policies and SAs of a world
(:mod:`tests.firmware_py.linux_world`), in words of ``ip``, ``tc`` and sysctl.

What it has otherwise by default it is told, too: what no policy names is blocked; its inbound policies are
for what comes in at the network port and not for what servers send (marks); fragments are put together
before policy is asked (``act_ct``: RFC 4301 7); and packets with a source route whose turn it is not are
forwarded like others (RFC 1812 5.3.13.4: whoever can refuse them must not by default).
"""

from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection
from spigate.firmware_py.ipsec.sa import Cipher, Sa
from spigate.hdl.contract.enums import Port
from tests.firmware_py.differential import DEEPER, INSIDE, LOCAL, MACS, ROUTER, SELF, SERVERS

DEVICES = {Port.NETWORK: "network", Port.SERVER: "server"}
LAST = 0xFFFFFFF0
"""Of priorities."""
ANY = "src 0.0.0.0/0 dst 0.0.0.0/0"


def state_words(sa: Sa) -> str:
    name = f"src {sa.source} dst {sa.destination} proto esp spi {sa.spi:#x}"
    if sa.cipher == Cipher.AES_GCM:
        suite = f"aead rfc4106(gcm(aes)) 0x{(sa.key + sa.salt).hex()} 128"
    else:
        suite = f"auth-trunc hmac(sha256) 0x{sa.auth_key.hex()} 128 enc cbc(aes) 0x{sa.key.hex()}"
    return f"xfrm state add {name} reqid {sa.reqid} mode {sa.mode.name.lower()} replay-window {sa.replay_window} {suite}"


def policy_words(policy: Policy, priority: int | None) -> list[str]:
    """To add it, or, with None, to delete it. Of equal priorities Linux has no order that it tells; here
    the age is in them. Inbound it has two directions, for this host and for what is forwarded; the latter
    sees what the servers send too, so it looks at the mark of the network port.
    """
    what = policy.selectors
    selectors = f"src {what.source} dst {what.destination}"
    if what.protocol is not None:
        selectors += f" proto {what.protocol}"
        for name, (low, high) in (("sport", what.source_ports), ("dport", what.destination_ports)):
            selectors += f" {name} {low}" if low == high else ""
    made = []
    for direction in ("out",) if policy.direction == PolicyDirection.OUT else ("in", "fwd"):
        words = f"{selectors} dir {direction}" + " mark 1 mask 1" * (direction == "fwd")
        if priority is None:
            made.append(f"xfrm policy delete {words}")
            continue
        words += (
            f" action {'block' if policy.action == PolicyAction.DISCARD else 'allow'} priority {priority}"
        )
        for template in policy.templates:
            words += (
                f" tmpl src {template.source} dst {template.destination} proto esp reqid {template.reqid} mode {template.mode.name.lower()}"
                + " level use" * template.optional
            )
        made.append(f"xfrm policy add {words}")
    return made


def commands(default: str) -> list:
    """For a router with :data:`TOPOLOGY`. Marks: 1, in the clear at the network port; 3, decrypted; 2, from
    the servers.
    """
    settings = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.disable_ipv6": 1, "net.ipv4.icmp_ratelimit": 0}
    for device in ("all", "default", *DEVICES.values()):
        settings.update(
            {
                f"net.ipv4.conf.{device}.{name}": 0
                for name in ("rp_filter", "send_redirects", "accept_redirects")
            }
        )
        settings[f"net.ipv4.conf.{device}.accept_source_route"] = 1
    links, neighbours = [], []
    for port, device in DEVICES.items():
        address = SELF if port == Port.NETWORK else INSIDE
        links += [
            f"link set {device} address {MACS[address].hex(':')} up",
            f"address add {address}/24 dev {device}",
        ]
    for address, mac in MACS.items():
        if address not in LOCAL:
            device = DEVICES[Port.SERVER if address in (DEEPER, *SERVERS) else Port.NETWORK]
            neighbours.append(f"neighbour add {address} lladdr {mac.hex(':')} dev {device} nud permanent")
    routes = [f"route add default via {ROUTER} dev network", f"route add 10.4.0.0/16 via {DEEPER} dev server"]
    last = [
        f"xfrm policy add {ANY} dev network dir out mark 3 mask 3 action block priority {LAST}"
    ]  # what was decrypted (RFC 4301 5.1)
    if default == "discard":
        last = [
            "xfrm policy setdefault in block",
            f"xfrm policy add {ANY} dir fwd mark 1 mask 3 action block priority {LAST}",
            f"xfrm policy add {ANY} dev network dir out action block priority {LAST}",
            f"xfrm policy add {ANY} dev server dir out mark 2 mask 3 action block priority {LAST}",
        ]
    filters = []
    for device, marks in (
        (
            "network",
            (
                "pref 1 protocol ip handle 1 fw action skbedit mark 3 continue",
                "pref 2 protocol ip flower ip_flags frag action ct continue",
                "pref 3 protocol ip handle 3 fw action ok",
                "pref 4 protocol ip matchall action skbedit mark 1",
            ),
        ),
        (
            "server",
            (
                "pref 2 protocol ip flower ip_flags frag action ct continue",
                "pref 4 protocol ip matchall action skbedit mark 2",
            ),
        ),
    ):
        filters += [
            f"qdisc add dev {device} ingress",
            *(f"filter add dev {device} ingress {words}" for words in marks),
        ]
    return [
        ("sysctl", [f"{name}={value}" for name, value in settings.items()]),
        ("ip", ["link set lo up", *links, *neighbours, *routes]),
        ("tc", filters),
        ("ip", last),
    ]
