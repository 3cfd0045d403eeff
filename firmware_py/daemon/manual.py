# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""SAs that are keyed by hand (RFC 4301 4.5.1), and the policies that they are for, in TOML.

Only ciphers that an IV used twice does not ruin may be keyed by hand: RFC 8221 3 forbids AES-CTR, AES-CCM,
AES-GCM and ChaCha20-Poly1305 there, and AES-GMAC has the same counter. There are no extended sequence numbers
(RFC 4303 2.2.1: they are negotiated), and no anti-replay unless it is asked for (RFC 4303 5: an
implementation should not provide it for such SAs).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spigate.firmware_py import toml
from spigate.firmware_py.daemon import peer_keys
from spigate.firmware_py.daemon import peers as ike
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, Template, exceptions
from spigate.firmware_py.ipsec.sa import Auth, Cipher, Sa
from spigate.firmware_py.toml import Key, Schema, Table, one_of, string
from spigate.hdl.contract.enums import Df, Direction, Mode
from spigate.hdl.contract.protocols import AH, ESP, FIRST_SPI

CIPHERS = (Cipher.AES_CBC, Cipher.NULL)
LAST_REQID = 0xFFFF_FFFF
"""SAs that are keyed by hand have this ``reqid`` and those before it, the negotiated ones those from 1 on."""


def _name(value: object) -> str:
    name = string(value)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", name):
        raise ValueError
    return name


def _choice(name: str, options: Mapping[str, object], text: str) -> Key:
    """A word that must be given."""
    return Key(name, " or ".join(options), one_of(options), text)


def _file(name: str, text: str) -> Key:
    return Key(name, "the name of a file", string, text, None)


SA = Schema(
    "sa",
    "An SA that is keyed by hand, for one direction: `[[sa]]`. It is there as long as the gateway is, and "
    "IKE knows nothing of it. [operating.md](operating.md#keys-by-hand) says what such SAs cannot do.",
    (
        Key(
            "name",
            "a name of at most 32 letters, digits, dots, hyphens and underscores",
            _name,
            "What policies call it. The inbound and the outbound SA of a peer have one name.",
        ),
        _choice(
            "direction",
            {each.name.lower(): each for each in Direction},
            "`outbound`: this side sends on it. `inbound`: the peer does.",
        ),
        toml.number("spi", FIRST_SPI, 0xFFFF_FFFF, "Its number, such as 0x1001; the peer has the same."),
        Key("source", "a host's IP address", peer_keys.address, "Of the IP header outside."),
        Key("destination", "a host's IP address", peer_keys.address, "Likewise."),
        toml.choice(
            "mode",
            {"tunnel": Mode.TUNNEL, "transport": Mode.TRANSPORT},
            "Transport is for traffic between source and destination themselves.",
            "tunnel",
        ),
        toml.choice(
            "protocol",
            {"esp": ESP, "ah": AH},
            "ESP encrypts; AH only authenticates.",
            "esp",
        ),
        toml.choice(
            "cipher",
            {each.value: each for each in Cipher},
            "Of ESP: `aes-cbc`, or `null` for none. The others, which count, are refused: under a key that "
            "is used again they would give away text and key (RFC 8221 3).",
            "null",
        ),
        _file(
            "key_file",
            "File with the cipher's key in hexadecimal digits: 16, 24 or 32 bytes. Nobody but its owner may "
            "read it.",
        ),
        _choice(
            "auth",
            {each.value: each for each in Auth if each != Auth.NONE},
            "What authenticates.",
        ),
        Key(
            "auth_key_file",
            "the name of a file",
            string,
            "File with its key, likewise: 20, 32, 48 or 64 bytes, as many as `auth` has.",
        ),
        toml.number(
            "replay_window",
            0,
            4096,
            "Inbound: sequence numbers that the anti-replay window covers; 0: no protection from replay. "
            "For peers that never use a number twice, also over restarts.",
            0,
        ),
        Key(
            "hard",
            "a table",
            toml.dictionary,
            "When it ends, see [lifetime](#lifetime); seconds count from the start of the gateway.",
            {},
            "never",
        ),
        Key("soft", "a table", toml.dictionary, "When that is told of, likewise.", {}, "never"),
        toml.number("mtu", 0, 0xFFFF, "Outbound: the longest packet that it takes; 0: any.", 0),
        toml.choice(
            "df",
            {each.name.lower(): each for each in Df},
            "Outbound tunnels: DF of the IP header outside (RFC 4301 5.1.2).",
            "copy",
        ),
        toml.flag("copy_tos", "Outbound tunnels: DSCP outside is that inside.", True),
        toml.number("outer_tos", 0, 255, "Outbound tunnels: otherwise it is this.", 0),
        toml.number("outer_ttl", 1, 255, "Outbound tunnels: TTL outside.", 64),
        toml.number(
            "tfc", 0, 0xFFFF, "Outbound ESP tunnels: packets are padded to so many bytes (RFC 4303 2.7).", 0
        ),
        Key(
            "ah_align",
            "4 or 8",
            lambda value: {4: 4, 8: 8}[toml.integer(4, 8)(value)],
            "AH over IPv4 is padded to so many bytes; Linux has 8 without its flag `align4`.",
            4,
        ),
    ),
)
POLICY = Schema(
    "policy",
    "Traffic that peers have no say in: `[[policy]]`, with the keys of [traffic](#traffic) besides. The "
    "first that matches decides, before all peers. What nothing matches and comes to the device, or to "
    "the gateway's ports, is discarded.",
    (
        toml.choice(
            "action",
            {each.value: each for each in (PolicyAction.DISCARD, PolicyAction.BYPASS, PolicyAction.PROTECT)},
            "`bypass` lets it pass in the clear; with hardware in both directions. `protect` sends it on the "
            "outbound `sa`, and takes what comes back from the inbound one alone.",
            "discard",
        ),
        Key("sa", "the name of an [[sa]]", string, "With `protect`: which SAs.", None),
    ),
)


@dataclass(frozen=True)
class ManualSa:
    """One SA of a configuration, by the name that policies call it."""

    name: str
    sa: Sa


def read_sas(tables: Iterable[Table], files: ike.Files) -> tuple[ManualSa, ...]:
    """What ``[[sa]]`` says. Raises ConfigError."""
    found: list[ManualSa] = []
    reqids: dict[str, int] = {}
    for table in tables:
        values = SA.read(table)
        name, direction = values.pop("name"), values["direction"]
        if values["cipher"] not in CIPHERS:
            raise table.error(
                "cipher",
                "aes-cbc or null, because a cipher that counts must not be keyed by hand (RFC 8221 3)",
                values["cipher"].value,
            )
        for key in ("key", "auth_key"):
            file = values.pop(f"{key}_file")
            values[key] = _key(table, f"{key}_file", file, files)
        for key in ("soft", "hard"):
            values[key] = ike.lifetime(table.inner(key, values[key]))
        if values["key"] and values["key"] == values["auth_key"]:
            raise table.error("auth_key_file", "a key of its own, because key_file has this one", "the same")
        reqid = reqids.setdefault(name, LAST_REQID - len(reqids))
        sa = table.build(Sa, reqid=reqid, **values)
        for other in found:
            if (other.name, other.sa.direction) == (name, direction):
                raise table.error("name", f"another one than the other {direction.name.lower()} SA's", name)
            if other.sa.identity[:3] == sa.identity[:3]:
                raise table.error("spi", f"another one than that of {other.sa}", sa.spi)
            for key in ("key", "auth_key"):
                if getattr(sa, key) and getattr(sa, key) in (other.sa.key, other.sa.auth_key):
                    raise table.error(
                        f"{key}_file", f"a key of its own, because {other.sa} has this one", "the same"
                    )
        found.append(ManualSa(name, sa))
    return tuple(found)


def _key(table: Table, key: str, file: str | None, files: ike.Files) -> bytes:
    """The bytes whose hexadecimal digits stand in ``file``; none without one."""
    if file is None:
        return b""
    text, path = files.secret(table, key, file)
    try:
        return bytes.fromhex(text.decode())
    except ValueError:
        raise table.error(key, "hexadecimal digits, two a byte, in the file", path) from None


def read_policies(tables: Iterable[Table], sas: Iterable[ManualSa]) -> tuple[Policy, ...]:
    """What ``[[policy]]`` says, both directions of each, in order. Raises ConfigError."""
    known: dict[str, dict[Direction, Sa]] = {}
    for each in sas:
        known.setdefault(each.name, {})[each.sa.direction] = each.sa
    found: list[Policy] = []
    for table in tables:
        values = POLICY.read(table, peer_keys.TRAFFIC)
        action, name = values["action"], values["sa"]
        out, back = exceptions(PolicyAction.DISCARD, ike.selectors(table))
        if action != PolicyAction.PROTECT:
            if name is not None:
                raise table.error("sa", f"nothing, because the action is {action.value}", name)
            found += exceptions(action, out.selectors)
            continue
        if name not in known:
            there = f"one of {', '.join(known)}" if known else "an SA, [[sa]], but there is none"
            raise table.error("sa", f"{there}, because the action is protect", name)
        for policy, direction in ((out, Direction.OUTBOUND), (back, Direction.INBOUND)):
            if direction not in known[name]:
                raise table.error("sa", f"one that has an {direction.name.lower()} [[sa]] too", name)
            found.append(
                table.build(
                    Policy,
                    selectors=policy.selectors,
                    direction=policy.direction,
                    action=action,
                    templates=(_template(known[name][direction]),),
                )
            )
    return tuple(found)


def _template(sa: Sa) -> Template:
    """It accepts ``sa`` and no other one."""
    return Template(
        source=sa.source,
        destination=sa.destination,
        mode=sa.mode,
        protocol=sa.protocol,
        reqid=sa.reqid,
        spi=sa.spi,
    )
