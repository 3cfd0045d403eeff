"""Configuration in TOML: ports, next hops, SAs, policies, clear sources, and how the gateway goes about it.

.. code-block:: toml

    [gateway]
    default = "discard"             # what no policy names: discard, or bypass, as Linux has it
    miss = "inject"                 # the packet that makes the control element learn: inject or drop
    balance = "round_robin"         # weighted, least_loaded, flow_hash
    enable = [0, 1]                 # DFEs; all where it is not given
    weights = [1, 1]
    patience = 65535
    unknown_spi = "punt"            # or drop
    depth_limit = 3
    miss_interval = 1000000         # clocks; 10 ms where it is not given
    # A second: IKE, link, exceptions, unknown SPIs, the rest; 0: no limit.
    punt_rates = [10000, 2000, 5000, 2000, 2000]

    [port.network]
    mac = "02:00:00:00:00:02"
    addresses = ["192.0.2.2/24"]

    [[next_hop]]
    destination = "10.1.0.0/24"     # a network, or one address that is a neighbour
    port = "network"
    gateway = "192.0.2.1"           # optional
    mac = "02:00:00:00:00:01"

    [[source]]                      # none: whoever a policy, or default, lets pass
    network = "10.1.0.0/24"
    ports = ["network"]

    [[sa]]
    direction = "inbound"
    spi = 0x1001
    source = "192.0.2.1"
    destination = "192.0.2.2"
    mode = "tunnel"
    cipher = "aes-gcm"
    key = "00112233445566778899aabbccddeeff"
    salt = "01020304"
    icv_bytes = 16
    soft = { bytes = 1000000 }
    selectors = { source = "10.1.0.0/24", destination = "10.2.0.0/24" }

    [[policy]]
    direction = "fwd"
    action = "protect"
    selectors.source = "10.1.0.0/24"
    selectors.destination = "10.2.0.0/24"
    selectors.protocol = 17
    selectors.destination_ports = [53, 53]
    template = { source = "192.0.2.1", destination = "192.0.2.2", mode = "tunnel", reqid = 1 }
"""

from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from pathlib import Path

from spigate.firmware_py import toml
from spigate.firmware_py.control.settings import Miss, Settings
from spigate.firmware_py.control.topology import (
    AddressWithPrefix,
    Interface,
    Neighbour,
    NetworkRoute,
    Topology,
    parse_mac,
)
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import Auth, Cipher, Encapsulation, Lifetime, Network, Sa, Selectors
from spigate.firmware_py.tables.interface import RATES_ARE, CfeSettings, Source, punt_rates
from spigate.firmware_py.toml import LARGEST, Table, integer, list_of, one_of, string
from spigate.hdl.contract.enums import Action, Balance, Df, Direction, Mode, Port
from spigate.hdl.contract.protocols import AH, ESP

SIDES = {"network": Port.NETWORK, "server": Port.SERVER}
PORTS = {**SIDES, "recirculate": Port.RECIRCULATE}


@dataclass(frozen=True)
class Config:
    """What a configuration says."""

    settings: Settings
    topology: Topology
    sas: tuple[Sa, ...]
    policies: tuple[Policy, ...]


def read(path: Path) -> Config:
    """The configuration in the file ``path``. Errors as :func:`parse`."""
    return parse(toml.read(path), file=str(path))


def parse(text: str, *, file: str = "configuration") -> Config:
    """The configuration that ``text`` is.

    Raises
    ------
    ConfigError
        It is not TOML, a key is missing, unknown or wrong; the message names ``file``, key and what was
        expected.
    """
    top = toml.load(text, file)
    interfaces: list[Interface] = []
    hops: list[Neighbour] = []
    gateways: list[NetworkRoute] = []
    ports = top.table("port", {})
    for name, port in SIDES.items():
        if ports.has(name):
            interfaces.append(_interface(ports.table(name), port, name))
    ports.done()
    for item in top.tables("next_hop"):
        _next_hop(item, hops, gateways)
    sources = tuple(_source(item) for item in top.tables("source")) if top.has("source") else None
    settings = _settings(top.table("gateway", {}), sources)
    sas = tuple(_sa(item) for item in top.tables("sa"))
    policies = tuple(_policy(item) for item in top.tables("policy"))
    top.done()
    return Config(settings, Topology(interfaces, hops, gateways), sas, policies)


def _ports(table: Table, key: str) -> frozenset[Port]:
    return frozenset(table.take(key, "a list of network, server, recirculate", list_of(one_of(PORTS))))


def _mac(table: Table) -> bytes:
    return table.take(
        "mac", "an Ethernet address such as 02:00:00:00:00:01", lambda value: parse_mac(string(value))
    )


def _interface(table: Table, port: Port, name: str) -> Interface:
    addresses: list[AddressWithPrefix] = table.take(
        "addresses",
        "a list of addresses such as 192.0.2.2/24",
        list_of(lambda value: ip_interface(string(value))),
        [],
    )
    return table.build(
        Interface,
        name=name,
        port=port,
        mac=_mac(table),
        addresses=tuple(addresses),
        mtu=table.number("mtu", 68, 9000, 1500),
    )


def _next_hop(table: Table, neighbours: list[Neighbour], routes: list[NetworkRoute]) -> None:
    destination = table.take(
        "destination", "a network or an address", lambda value: ip_network(string(value))
    )
    port = table.take("port", "network or server", one_of(SIDES))
    gateway = table.address("gateway", None)
    if gateway is None and destination.num_addresses > 1:
        raise table.error("gateway", f"an address, because destination {destination} is no single neighbour")
    mac = _mac(table)
    table.done()
    neighbours.append(Neighbour(gateway or destination.network_address, port, mac))
    routes.append(NetworkRoute(destination, port, gateway))


def _source(table: Table) -> Source:
    network = table.take("network", "a network", lambda value: ip_network(string(value)))
    return table.build(Source, network=network, ingress=_ports(table, "ports"))


def _settings(table: Table, sources: tuple[Source, ...] | None) -> Settings:
    enable = table.take("enable", "a list of DFEs, 0 to 7", list_of(integer(0, 7)), list(range(8)))
    weights: list[int] = table.take("weights", "a list of at most 8 numbers, 0 to 15", _weights, [])
    unknown = table.take("unknown_spi", "punt or drop", one_of({"punt": False, "drop": True}), False)
    cfe = CfeSettings(
        balance=table.choice("balance", Balance, Balance.ROUND_ROBIN),
        enable=sum(1 << dfe for dfe in set(enable)),
        weights=tuple(weights),
        patience=table.number("patience", 0, 0xFFFF, CfeSettings.patience),
        miss_drop=unknown,
        rule_miss=Action.PUNT,
        depth_limit=table.number("depth_limit", 0, 3, 3),
        miss_interval=table.number("miss_interval", 0, 0xFF_FFFF, None),
        rates=table.take("punt_rates", RATES_ARE, punt_rates, CfeSettings.rates),
    )
    default = table.choice("default", (PolicyAction.BYPASS, PolicyAction.DISCARD), PolicyAction.DISCARD)
    miss = table.choice("miss", Miss, Miss.INJECT)
    return table.build(Settings, default=default, miss=miss, sources=sources, cfe=cfe)


def _weights(value: object) -> list[int]:
    weights = list_of(integer(0, 15))(value)
    if len(weights) > 8:
        raise ValueError
    return weights


def _selectors(table: Table) -> Selectors:
    def network(value: object) -> Network:
        return ip_network(string(value))

    ports = {
        name: table.take(name, "two port numbers, in order", _pair, (0, 0xFFFF))
        for name in ("source_ports", "destination_ports")
    }
    return table.build(
        Selectors,
        source=table.take("source", "a network", network),
        destination=table.take("destination", "a network", network),
        protocol=table.number("protocol", 0, 255, None),
        **ports,
    )


def _pair(value: object) -> tuple[int, int]:
    low, high = list_of(integer(0, 0xFFFF))(value)
    return low, high


def _protocol(table: Table) -> int:
    return table.take("protocol", "esp or ah", one_of({"esp": ESP, "ah": AH}), ESP)


def _lifetime(table: Table) -> Lifetime:
    names = ("bytes", "packets", "seconds")
    return table.build(Lifetime, **{name: table.number(name, 1, LARGEST, None) for name in names})


def _sa(table: Table) -> Sa:
    selectors = _selectors(table.table("selectors")) if table.has("selectors") else None
    encapsulation = None
    if table.has("encapsulation"):
        ports = table.table("encapsulation")
        encapsulation = ports.build(
            Encapsulation,
            source_port=ports.number("source_port", 0, 0xFFFF),
            destination_port=ports.number("destination_port", 0, 0xFFFF),
            zero_checksum=ports.flag("zero_checksum", False),
        )
    return table.build(
        Sa,
        direction=table.choice("direction", Direction),
        spi=table.number("spi", 256, 0xFFFF_FFFF),
        source=table.address("source"),
        destination=table.address("destination"),
        mode=table.choice("mode", Mode),
        protocol=_protocol(table),
        cipher=table.choice("cipher", Cipher, Cipher.NULL),
        key=table.secret("key"),
        salt=table.secret("salt"),
        icv_bytes=table.number("icv_bytes", 0, 16, 0),
        auth=table.choice("auth", Auth, Auth.NONE),
        auth_key=table.secret("auth_key"),
        esn=table.flag("esn", False),
        replay_window=table.number("replay_window", 0, 4096, 64),
        sequence=table.number("sequence", 0, LARGEST, 0),
        selectors=selectors,
        soft=_lifetime(table.table("soft", {})),
        hard=_lifetime(table.table("hard", {})),
        mtu=table.number("mtu", 0, 0xFFFF, 0),
        df=table.choice("df", Df, Df.COPY),
        copy_tos=table.flag("copy_tos", True),
        outer_tos=table.number("outer_tos", 0, 255, 0),
        outer_ttl=table.number("outer_ttl", 1, 255, 64),
        reqid=table.number("reqid", 0, 0xFFFF_FFFF, 0),
        encapsulation=encapsulation,
        tfc=table.number("tfc", 0, 0xFFFF, 0),
        ah_align=table.number("ah_align", 4, 8, 4),
    )


def _policy(table: Table) -> Policy:
    templates: tuple[Template, ...] = ()
    if table.has("template"):
        item = table.table("template")
        templates = (
            item.build(
                Template,
                source=item.address("source"),
                destination=item.address("destination"),
                mode=item.choice("mode", Mode),
                reqid=item.number("reqid", 0, 0xFFFF_FFFF, 0),
                protocol=_protocol(item),
                spi=item.number("spi", 0, 0xFFFF_FFFF, 0),
                optional=item.flag("optional", False),
            ),
        )
    return table.build(
        Policy,
        selectors=_selectors(table.table("selectors")),
        direction=table.choice("direction", PolicyDirection),
        action=table.choice("action", PolicyAction),
        templates=templates,
        priority=table.number("priority", 0, 0xFFFF_FFFF, 0),
    )
