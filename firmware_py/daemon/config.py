# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The configuration of a gateway: peers (:mod:`spigate.firmware_py.daemon.peers`), policies, the host's
device or the hardware's ports, operation."""

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import Path

from spigate.firmware_py import toml
from spigate.firmware_py.control.topology import AddressWithPrefix, Interface, NetworkRoute, parse_mac
from spigate.firmware_py.daemon import manual, peer_keys
from spigate.firmware_py.daemon import peers as ike
from spigate.firmware_py.daemon.control_socket import CONTROL
from spigate.firmware_py.daemon.manual import ManualSa
from spigate.firmware_py.ike.engine.context import Settings
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ipsec.policy import Policy
from spigate.firmware_py.ipsec.sa import Address
from spigate.firmware_py.tables.interface import BALANCES, RATES_ARE, CfeSettings, Source, punt_rates
from spigate.firmware_py.toml import Key, Schema, Table, integer, list_of, one_of, string
from spigate.hdl.contract.constants import MAX_DFES
from spigate.hdl.contract.enums import Port


def _device(value: object) -> str:
    name = string(value)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", name) or name in (".", ".."):
        raise ValueError
    return name


def _own(address: AddressWithPrefix) -> AddressWithPrefix:
    if address.ip.is_unspecified or address.ip.is_multicast:
        raise ValueError
    return address


def _socket(value: object) -> Path:
    name = string(value)
    if not 1 <= len(os.fsencode(name)) <= _MAX_SOCKET_NAME or "\0" in name:
        raise ValueError
    return Path(name)


def _folder(value: object) -> Path:
    name = string(value)
    if not name or "\0" in name:
        raise ValueError
    return Path(name)


def _mac(value: object) -> bytes:
    mac = parse_mac(string(value))
    if mac[0] & 1 or not any(mac):
        raise ValueError
    return mac


def _weights(value: object) -> list[int]:
    weights = list_of(integer(0, 15))(value)
    if len(weights) > MAX_DFES:
        raise ValueError
    return weights


SIDES = {"network": Port.NETWORK, "server": Port.SERVER}
_A_DEVICE = "a name of at most 15 letters, digits, dots, hyphens and underscores"
_ADDRESSES = (
    "a list of addresses such as 10.1.0.1/24",
    list_of(lambda value: _own(ip_interface(string(value)))),
)
IPV6_MTU = 1280
"""What IPv6 wants at least (RFC 8200 5); Linux takes no address of it at less."""
_MAX_SOCKET_NAME = 107
"""Bytes of a UNIX socket's name (unix(7))."""

HOST = Schema(
    "host",
    "How the gateway is operated; and, with `--dataplane soft`, the device that protected packets go "
    "through.",
    (
        Key("device", _A_DEVICE, _device, "Name of the TUN device (soft).", "spigate0"),
        Key(
            "addresses",
            *_ADDRESSES,
            "Addresses of the TUN device, if this host has none of its own on the protected side (soft).",
            [],
            "none",
        ),
        toml.number("device_mtu", 576, 0xFF00, "Largest packet into the TUN device (soft).", 1380),
        toml.number(
            "mtu",
            576,
            0xFFFF,
            "Largest packet to the peers; what is longer outside goes in fragments (soft).",
            1500,
        ),
        Key(
            "control",
            f"the name of a socket, at most {_MAX_SOCKET_NAME} bytes",
            _socket,
            "Control socket, for `spigate sas` and the others.",
            CONTROL,
        ),
        Key(
            "state",
            "the name of a folder",
            _folder,
            "Folder for what outlives the gateway: the sequence numbers of SAs that are keyed by hand. Only "
            "its owner may enter it; it is made where it is not there.",
            Path("/var/lib/spigate"),
        ),
        toml.number("metrics_port", 0, 0xFFFF, "TCP port at 127.0.0.1 for Prometheus; 0: none.", 0),
        toml.choice(
            "log_format",
            {"text": "text", "json": "json"},
            "Form of the log at standard error: key=value, or JSON.",
            "text",
        ),
        toml.choice(
            "log_level",
            {each: each.upper() for each in ("debug", "info", "warning", "error")},
            "The least that is logged.",
            "info",
        ),
    ),
)
PORT = Schema(
    "port.NAME",
    "A port of the gateway in hardware: `[port.network]`, where the peers are, and `[port.server]`, "
    "where the "
    "protected servers are. Each has a TAP device on this host, through which the host speaks there "
    "itself: IKE, "
    "ARP, and what policies let pass. Not used by `--dataplane soft`.",
    (
        Key("mac", "a station's Ethernet address such as 02:00:00:00:00:01", _mac, "The port's own address."),
        Key("addresses", *_ADDRESSES, "The gateway's addresses there.", [], "none"),
        toml.number("mtu", 576, 1900, "Largest packet there.", 1500),
        Key(
            "device",
            _A_DEVICE,
            _device,
            "Name of the TAP device.",
            None,
            "`spigate-network` or `spigate-server`",
        ),
    ),
)
ROUTE = Schema(
    "route",
    "A network behind a router at one of the ports: `[[route]]`.",
    (
        Key("destination", "a network", peer_keys.network, "Where to."),
        Key(
            "gateway",
            "an IP address",
            lambda value: ip_address(string(value)),
            "The router, in the network of one of a port's addresses.",
        ),
    ),
)
SOURCE = Schema(
    "source",
    "Who may speak in the clear where a policy lets traffic pass: `[[source]]`. None: whoever such a "
    "policy names. "
    "What this host says itself counts as coming in at `server`. Not used by `--dataplane soft`.",
    (
        Key("network", "a network", peer_keys.network, "Source addresses."),
        Key(
            "ports",
            "a list of network, server",
            list_of(one_of(SIDES)),
            "Where they come in.",
            list(SIDES.values()),
            "both",
        ),
    ),
)
GATEWAY = Schema(
    "gateway",
    "How the gateway in hardware goes about it.",
    (
        toml.choice(
            "balance",
            BALANCES,
            "How a new SA, or a clear packet, finds its DFE. SAs "
            "take turns with `round-robin` and `weighted`. Only `flow-hash` keeps clear packets of a "
            "flow in order.",
            "flow-hash",
        ),
        Key(
            "enable",
            f"a list of DFEs, 0 to {MAX_DFES - 1}",
            list_of(integer(0, MAX_DFES - 1)),
            "DFEs that get work.",
            list(range(MAX_DFES)),
            "all",
        ),
        Key(
            "weights",
            f"a list of at most {MAX_DFES} numbers, 0 to 15",
            _weights,
            "Of the DFEs, for `weighted`.",
            [1] * MAX_DFES,
            "1 each",
        ),
        toml.number(
            "patience",
            0,
            0xFFFF,
            "Clocks within which a DFE that has packets finishes one; otherwise its SAs move, until it does. "
            "Longer than any packet takes, which is below 16384.",
            0xFFFF,
        ),
        toml.number("depth_limit", 0, 3, "Layers of IPsec, one inside the other, behind the first.", 3),
        Key(
            "miss_interval",
            f"a number, 0 to {0xFF_FFFF}",
            toml.integer(0, 0xFF_FFFF),
            "Clocks within which packets of one unknown SPI come up to this host once; 0: all do.",
            None,
            "10 ms",
        ),
        Key(
            "punt_rates",
            RATES_ARE,
            punt_rates,
            "Frames a second that come up to this host at the most, of each class: IKE to an address of "
            "its own; ARP, neighbour discovery and what is not IP; packets of SAs that the hardware "
            "cannot do alone, and of those that this "
            "host does; unknown SPIs; all others. 0: no limit.",
            list(CfeSettings.rates),
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a configuration says.

    Members
    -------
    pad, settings
        Who may take part, and how IKE goes about it.
    starts : dict of (str, str) to str
        By names of peer and child: ``now``, ``traffic`` or ``never``.
    sas : tuple of ManualSa
        Those that are keyed by hand.
    policies : tuple of Policy
        What comes before what is negotiated.
    interfaces, routes, sources, cfe
        Of a gateway in hardware; ``interfaces`` are none, or one for each of its ports, ``sources`` None
        where there is no restriction.
    device, addresses, device_mtu, mtu, control, state, metrics_port, log_format, log_level
        As in :data:`HOST`.
    """

    pad: Pad
    settings: Settings
    starts: dict[tuple[str, str], str]
    sas: tuple[ManualSa, ...]
    policies: tuple[Policy, ...]
    interfaces: tuple[Interface, ...]
    routes: tuple[NetworkRoute, ...]
    sources: tuple[Source, ...] | None
    cfe: CfeSettings
    device: str
    addresses: tuple[AddressWithPrefix, ...]
    device_mtu: int
    mtu: int
    control: Path
    state: Path
    metrics_port: int
    log_format: str
    log_level: str


def read(path: Path, *, key_log: bool = False) -> Config:
    """The configuration in the file ``path``; files that it names are relative to its folder.

    Raises
    ------
    ConfigError
        A key is missing, unknown or wrong, or a file is; the message names file, key and what was expected,
        and nothing of what is secret.
    """
    path = Path(path)
    top = toml.load(toml.read(path), str(path))
    table = top.table("host", {})
    host = HOST.read(table)
    table.done()
    settings = ike.read_settings(top.table("ike", {}), key_log=key_log)
    sas = manual.read_sas(top.tables("sa"), ike.Files(path.parent))
    policies = manual.read_policies(top.tables("policy"), sas)
    interfaces = _interfaces(top.table("port", {}))
    routes = tuple(_route(item, interfaces) for item in top.tables("route"))
    sources = tuple(_source(item) for item in top.tables("source")) if top.has("source") else None
    cfe = _cfe(top.table("gateway", {}))
    pad, starts = ike.read_pad(top, path.parent)
    top.done()
    host["addresses"], host["control"] = tuple(host["addresses"]), Path(host["control"])
    host["state"] = path.parent / host["state"]
    ours = [
        *host["addresses"],
        *(each.source for peer in pad for child in peer.children for each in child.traffic),
    ]
    if host["device_mtu"] < IPV6_MTU and any(each.version == 6 for each in ours):
        raise table.error("device_mtu", f"{IPV6_MTU} or more, because there is IPv6", host["device_mtu"])
    return Config(
        pad=pad,
        settings=settings,
        starts=starts,
        sas=sas,
        policies=policies,
        interfaces=interfaces,
        routes=routes,
        sources=sources,
        cfe=cfe,
        **host,
    )


def _interfaces(table: Table) -> tuple[Interface, ...]:
    found: list[Interface] = []
    given = any(map(table.has, SIDES))
    for name, port in SIDES.items():
        item = table.table(name, ... if given else {})
        if not given:
            continue
        values = PORT.read(item)
        values["name"] = values.pop("device") or f"spigate-{name}"
        for key, key_of in (("mac", "mac"), ("device", "name")):
            if any(values[key_of] == getattr(other, key_of) for other in found):
                shown = values[key_of] if key == "device" else values[key_of].hex(":")
                raise item.error(key, "another one than the other port's", shown)
        if values["mtu"] < IPV6_MTU and any(each.version == 6 for each in values["addresses"]):
            raise item.error("mtu", f"{IPV6_MTU} or more, because there is IPv6", values["mtu"])
        found.append(item.build(Interface, port=port, **{**values, "addresses": tuple(values["addresses"])}))
    table.done()
    return tuple(found)


def _route(table: Table, interfaces: tuple[Interface, ...]) -> NetworkRoute:
    values = ROUTE.read(table)
    gateway: Address = values["gateway"]
    port = next(
        (each.port for each in interfaces if any(gateway in address.network for address in each.addresses)),
        None,
    )
    if port is None:
        raise table.error("gateway", "an address in the network of a port", str(gateway))
    if gateway.version != values["destination"].version:
        raise table.error(
            "gateway", f"an IPv{values['destination'].version} address, as destination has them", str(gateway)
        )
    return table.build(NetworkRoute, port=port, **values)


def _source(table: Table) -> Source:
    values = SOURCE.read(table)
    return table.build(Source, network=values["network"], ingress=frozenset(values["ports"]))


def _cfe(table: Table) -> CfeSettings:
    values = GATEWAY.read(table)
    enable, weights, rates = (
        values.pop("enable"),
        tuple(values.pop("weights")),
        tuple(values.pop("punt_rates")),
    )
    return table.build(
        CfeSettings, enable=sum(1 << dfe for dfe in set(enable)), weights=weights, rates=rates, **values
    )
