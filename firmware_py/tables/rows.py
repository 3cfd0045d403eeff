# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Entries of the gateway's tables as the words that the table window takes: rows by their names in
``hdl/contract/entries.rdl``."""

from cryptography.hazmat.primitives.ciphers import Cipher as Crypt
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from spigate.firmware_py.ipsec.sa import AUTHS, Auth, Cipher, Lifetime, Sa, Selectors
from spigate.firmware_py.tables.interface import CamEntry, Route, Rule, Source
from spigate.firmware_py.tables.midstate import hmac_midstates
from spigate.hdl.contract import enums, rdl
from spigate.hdl.contract.enums import Direction, Mode, Port

_CIPHERS = {
    Cipher.NULL: enums.Cipher.NULL,
    Cipher.AES_CBC: enums.Cipher.AES_CBC,
    Cipher.AES_GCM: enums.Cipher.AES_GCM,
}
_AUTHS = {
    Auth.NONE: enums.Auth.NONE,
    Auth.HMAC_SHA1_96: enums.Auth.HMAC_SHA1_96,
    Auth.HMAC_SHA256_128: enums.Auth.HMAC_SHA256_128,
}
_KEY_SIZES = {
    0: enums.KeySize.AES128,
    16: enums.KeySize.AES128,
    24: enums.KeySize.AES192,
    32: enums.KeySize.AES256,
}
_NEVER = (1 << 64) - 1


def _words(table: str, **rows: dict[str, int]) -> list[int]:
    """The words of an entry, row by row; rows and fields not named are 0."""
    return [word for name, row in rdl.entry(table).items() for word in row.pack(rows.get(name, {}))]


def _text(data: bytes) -> int:
    """A byte string as a field: byte 0 in the low bits."""
    return int.from_bytes(data, "little")


def _mac(address: bytes | None) -> int:
    return int.from_bytes(address or b"")


def _addresses(selectors: Selectors) -> dict[str, int]:
    return {
        "source": int(selectors.source.network_address),
        "source_mask": int(selectors.source.netmask),
        "destination": int(selectors.destination.network_address),
        "destination_mask": int(selectors.destination.netmask),
    }


def _ports(selectors: Selectors) -> dict[str, int]:
    return {
        "source_port_low": selectors.source_ports[0],
        "source_port_high": selectors.source_ports[1],
        "destination_port_low": selectors.destination_ports[0],
        "destination_port_high": selectors.destination_ports[1],
        "protocol": selectors.protocol or 0,
        "any_protocol": selectors.protocol is None,
    }


def _ingress(ports: frozenset[Port]) -> int:
    return sum(1 << port for port in ports)


def _lifetime(soft: Lifetime, hard: Lifetime, unit: str) -> dict[str, int]:
    return {
        name: _NEVER if getattr(limit, unit) is None else getattr(limit, unit)
        for name, limit in (("soft", soft), ("hard", hard))
    }


def sa(entry: Sa, selectors: Selectors | None, generation: int = 0) -> list[int]:
    """An SA: 52 words. What it decrypts must match ``selectors``.

    Keys become what the engines use: GCM's hash subkey H (NIST SP 800-38D 6.3), and HMAC's midstates.
    """
    inbound = entry.direction == Direction.INBOUND
    control = {
        "valid": 1,
        "direction": entry.direction,
        "mode": entry.mode,
        "esn": entry.esn,
        "anti_replay": inbound and entry.replay_window > 0,
        "window_size": entry.replay_window if inbound else 0,
        "check_selectors": inbound and selectors is not None,
        "copy_tos": entry.copy_tos,
        "df": entry.df,
        "cipher": _CIPHERS[entry.cipher],
        "key_size": _KEY_SIZES[len(entry.key)],
        "auth": _AUTHS[entry.auth],
        "outer_ttl": entry.outer_ttl,
        "outer_tos": entry.outer_tos,
        "spi": entry.spi,
        "salt": _text(entry.salt),
        "mtu": entry.mtu,
        "generation": generation,
    }
    authentication = _authentication(entry)
    tunnel = (
        {"source": int(entry.source), "destination": int(entry.destination)}
        if entry.mode == Mode.TUNNEL
        else {}
    )
    return _words(
        "sa",
        control=control,
        tunnel=tunnel,
        selector_addresses=_addresses(selectors) if selectors else {},
        selector_ports=_ports(selectors) if selectors else {},
        key_low={"value": _text(entry.key[:16])},
        key_high={"value": _text(entry.key[16:])},
        **{f"auth_{at}": {"value": _text(authentication[16 * at : 16 * at + 16])} for at in range(4)},
        byte_lifetime=_lifetime(entry.soft, entry.hard, "bytes"),
        packet_lifetime=_lifetime(entry.soft, entry.hard, "packets"),
        replay={"sequence": entry.sequence, "window": entry.window},
    )


def _authentication(entry: Sa) -> bytes:
    """The rows ``auth_0`` to ``auth_3`` as 64 bytes."""
    if entry.auth != Auth.NONE:
        inner, outer = hmac_midstates(AUTHS[entry.auth].hash, entry.auth_key)
        return inner.ljust(32, b"\0") + outer.ljust(32, b"\0")
    encryptor = Crypt(algorithms.AES(entry.key), modes.ECB()).encryptor()
    return (encryptor.update(bytes(16)) + encryptor.finalize()).ljust(64, b"\0")


def cam(entry: CamEntry) -> list[int]:
    """A CAM entry: 8 words."""
    key = entry.key
    return _words(
        "cam",
        key={"destination": key.number},
        value={
            "spi": key.spi,
            "protocol": key.protocol,
            "ipv6": key.destination.version == 6,
            "valid": 1,
            "dfe": entry.dfe,
            "sa": entry.sa,
            "route": entry.route,
            "generation": entry.generation,
        },
    )


def rule(entry: Rule) -> list[int]:
    """A rule: 8 words."""
    return _words(
        "rule",
        addresses=_addresses(entry.selectors),
        value={
            **_ports(entry.selectors),
            "ingress": _ingress(entry.ingress),
            "valid": 1,
            "action": entry.action,
            "dfe": entry.dfe,
            "sa": entry.sa,
            "route": entry.route,
            "generation": entry.generation,
            "clear": entry.clear,
        },
    )


def route(entry: Route) -> list[int]:
    """A route: 4 words."""
    return _words(
        "route",
        hop={
            "destination_mac": _mac(entry.destination_mac),
            "source_mac": _mac(entry.source_mac),
            "vlan_tci": entry.vlan or 0,
            "tagged": entry.vlan is not None,
            "rewrite": entry.destination_mac is not None,
            "decrement_ttl": entry.decrement_ttl,
            "egress": entry.egress,
            "valid": 1,
        },
    )


def source(entry: Source) -> list[int]:
    """A clear source: 4 words."""
    return _words(
        "source",
        source={
            "address": int(entry.network.network_address),
            "mask": int(entry.network.netmask),
            "ingress": _ingress(entry.ingress),
            "valid": 1,
        },
    )
