"""The configuration of a gateway on a host: peers (:mod:`spigate.firmware_py.ike.config`), policies, device, operation."""
import re
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path

from spigate.firmware_py import toml
from spigate.firmware_py.host.control import CONTROL
from spigate.firmware_py.ike import config as ike
from spigate.firmware_py.ike.context import Settings
from spigate.firmware_py.ike.pad import Pad
from spigate.firmware_py.policy import Policy, PolicyAction, PolicyDirection
from spigate.firmware_py.sa import Selectors
from spigate.firmware_py.toml import Key, Schema, Table, list_of, string


def _device(value: object) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", string(value)):
        raise ValueError
    return value


HOST = Schema("host", "The device that protected packets go through, and how the gateway is operated.", (
    Key("device", "a name of at most 15 letters, digits, dots, hyphens and underscores", _device,
        "Name of the TUN device.", "spigate0"),
    Key("addresses", "a list of addresses such as 10.1.0.1/24", list_of(lambda value: ip_interface(string(value))),
        "Addresses of the TUN device, if this host has none of its own on the protected side.", [], "none"),
    toml.number("device_mtu", 576, 0xFF00, "Largest packet into the TUN device.", 1380),
    toml.number("mtu", 576, 0xFFFF, "Largest packet to the peers; what is longer outside goes in fragments.", 1500),
    Key("control", "the name of a socket", string, "Control socket, for `spigate sas` and the others.", CONTROL),
    toml.number("metrics_port", 0, 0xFFFF, "TCP port at 127.0.0.1 for Prometheus; 0: none.", 0),
    toml.choice("log_format", {"text": "text", "json": "json"}, "Form of the log at standard error: key=value, or JSON.", "text"),
    toml.choice("log_level", {each: each.upper() for each in ("debug", "info", "warning", "error")}, "The least that is logged.",
                "info"),
))
POLICY = Schema("policy", "Traffic that is not protected although a peer's would include it: `[[policy]]`, with the keys of "
                          "[traffic](#traffic) besides. The first that matches decides, before all peers. What nothing matches "
                          "and comes to the device is discarded.", (
    toml.choice("action", {"discard": PolicyAction.DISCARD, "bypass": PolicyAction.BYPASS},
                "`bypass` lets it out in the clear.", "discard"),
))


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a configuration says.

    Members
    -------
    pad, settings
        Who may take part, and how IKE goes about it.
    starts : dict of (str, str) to str
        By names of peer and child: ``now``, ``traffic`` or ``never``.
    policies : tuple of Policy
        What comes before what is negotiated.
    device, addresses, device_mtu, mtu, control, metrics_port, log_format, log_level
        As in :data:`HOST`.
    """

    pad: Pad
    settings: Settings
    starts: dict[tuple[str, str], str]
    policies: tuple[Policy, ...]
    device: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    device_mtu: int
    mtu: int
    control: Path
    metrics_port: int
    log_format: str
    log_level: str


def read(path: Path, *, key_log: bool = False) -> Config:
    """The configuration in the file ``path``; files that it names are relative to its folder.

    Raises
    ------
    ConfigError
        A key is missing, unknown or wrong, or a file is; the message names file, key and what was expected, and
        nothing of what is secret.
    """
    path = Path(path)
    top = toml.load(toml.read(path), str(path))
    table = top.table("host", {})
    host = HOST.read(table)
    table.done()
    settings = ike.read_settings(top.table("ike", {}), key_log=key_log)
    policies = tuple(policy for item in top.tables("policy") for policy in _policies(item))
    pad, starts = ike.read_pad(top, path.parent)
    top.done()
    host["addresses"], host["control"] = tuple(host["addresses"]), Path(host["control"])
    return Config(pad=pad, settings=settings, starts=starts, policies=policies, **host)


def _policies(table: Table) -> tuple[Policy, Policy]:
    """For what is sent; and what an SA carries may not be it."""
    action = POLICY.read(table)["action"]
    traffic = ike.selectors(table)
    back = Selectors(traffic.destination, traffic.source, traffic.protocol, traffic.destination_ports, traffic.source_ports)
    return (Policy(selectors=traffic, direction=PolicyDirection.OUT, action=action),
            Policy(selectors=back, direction=PolicyDirection.IN, action=PolicyAction.DISCARD))
