# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What Linux prints of its SAs and policies: ``ip xfrm state`` and ``ip xfrm policy``, with and without
``-s``.

Linux's SAs have no direction of their own (newer kernels may print one): it follows from which end is an
address of this machine.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import TypedDict

from spigate.firmware_py.captures.xfrm_text import Line, XfrmError, entries, hide, read
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.policy import Policy, PolicyAction, PolicyDirection, Template
from spigate.firmware_py.ipsec.sa import (
    AH,
    ANY_IPV4,
    ANY_IPV6,
    ANY_PORTS,
    ESP,
    Address,
    Auth,
    Cipher,
    Encapsulation,
    Lifetime,
    Sa,
    Selectors,
)
from spigate.firmware_py.words import counted
from spigate.hdl.contract.enums import Df, Direction, Mode

PROTOCOLS = {
    "icmp": 1,
    "ipv4": 4,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "ipv6": 41,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmp6": 58,
    "ipv6-icmp": 58,
    "ospf": 89,
    "sctp": 132,
    "udplite": 136,
}
_HMACS = {
    ("sha1", 96): Auth.HMAC_SHA1_96,
    ("sha256", 128): Auth.HMAC_SHA256_128,
    ("sha384", 192): Auth.HMAC_SHA384_192,
    ("sha512", 256): Auth.HMAC_SHA512_256,
}
_CIPHERS = {
    "cbc(aes)": (Cipher.AES_CBC, 0),
    "ecb(cipher_null)": (Cipher.NULL, 0),
    "cipher_null": (Cipher.NULL, 0),
    "rfc3686(ctr(aes))": (Cipher.AES_CTR, 4),
}
_AEADS = {
    "rfc4106(gcm(aes))": (Cipher.AES_GCM, 4),
    "rfc4543(gcm(aes))": (Cipher.AES_GMAC, 4),
    "rfc4309(ccm(aes))": (Cipher.AES_CCM, 3),
    "rfc7539esp(chacha20,poly1305)": (Cipher.CHACHA20_POLY1305, 4),
}
# Lines that say nothing about what the SA is: counters, times, and where it is offloaded to.
_IGNORED = (
    "lifetime",
    "add",
    "use",
    "crypto",
    "coaddr",
    "lastused",
    "output-mark",
    "if_id",
    "security",
    "mark",
)


# SAs


class _Fields(TypedDict, total=False):
    """What the lines of an SA have said so far, by the names of :class:`Sa`."""

    direction: Direction
    spi: int
    source: Address
    destination: Address
    mode: Mode
    protocol: int
    cipher: Cipher
    key: bytes
    salt: bytes
    icv_bytes: int
    auth: Auth
    auth_key: bytes
    esn: bool
    replay_window: int
    sequence: int
    window: int
    selectors: Selectors | None
    df: Df
    copy_tos: bool
    reqid: int
    encapsulation: Encapsulation
    tfc: int
    ah_align: int


def read_states(path: Path, local: Collection[Address]) -> list[Sa]:
    """The SAs in the file ``path``; see :func:`parse_states`."""
    return parse_states(read(path), local, file=str(path))


def endpoints(path: Path) -> set[Address]:
    """Sources and destinations of the SAs in the file ``path``."""
    found: set[Address] = set()
    for lines in entries(read(path), str(path)):
        found.update(_ends(lines[0]))
    return found


def parse_states(text: str, local: Collection[Address], *, file: str = "ip xfrm state") -> list[Sa]:
    """The SAs that ``ip xfrm state`` printed, in its order.

    Parameters
    ----------
    local : collection of Address
        This machine's own addresses: an SA to one of them is inbound, one from one of them outbound.

    Raises
    ------
    XfrmError
        Something is not as ``ip xfrm`` prints it, unknown, or impossible; the message names ``file``, line
        and what was expected.
    """
    return [_state(lines, local) for lines in entries(text, file)]


def _ends(line: Line) -> tuple[Address, Address]:
    line.word("src")
    source = line.address("src")
    line.word("dst")
    return source, line.address("dst")


def _state(lines: list[Line], local: Collection[Address]) -> Sa:
    source, destination = _ends(lines[0])
    fields: _Fields = {
        "source": source,
        "destination": destination,
        "replay_window": 0,
        "df": Df.COPY,
        "ah_align": 8,
    }
    limits: dict[str, dict[str, int]] = {"soft": {}, "hard": {}}
    numbers: dict[str, int] = {}
    stated = None
    rest = iter(lines[1:])
    for line in rest:
        name = line.take("a property of the SA")
        if name == "proto":
            _state_names(line, fields)
        elif name == "stats:":
            next(rest, None)
        elif name == "replay-window":
            _state_replay(line, fields)
        elif name in ("auth", "auth-trunc"):
            _state_auth(line, name, fields)
        elif name == "enc":
            _state_cipher(line, fields, _CIPHERS, "cipher")
        elif name == "aead":
            _state_cipher(line, fields, _AEADS, "AEAD")
            fields["icv_bytes"] = line.number_of("the ICV's bits") // 8
        elif name == "encap":
            fields["encapsulation"] = _encapsulation(line)
        elif name == "anti-replay":
            numbers.update(_anti_replay(line, rest))
        elif name == "tfcpad":
            fields["tfc"] = line.number_of("tfcpad")
        elif name == "sel":
            fields["selectors"] = _selectors(line)
        elif name in ("limit:", "expire"):
            _limits(line, name, limits)
        elif name == "dir":
            stated = line.word("in", "out")
        elif not (name in _IGNORED or name[0].isdigit()):
            raise line.error("a property of an SA that ip xfrm state prints", hide(name))
    if not {"spi", "mode"} <= fields.keys():
        raise lines[0].error("an SA with a line proto ... spi ... mode", "one without")
    direction = _direction(lines[0], source, destination, local, stated)
    fields["direction"] = direction
    outbound = direction == Direction.OUTBOUND
    fields["sequence"] = numbers.get("oseq" if outbound else "seq", 0)
    fields["window"] = 0 if outbound else numbers.get("window", 0)
    fields["replay_window"] = max(fields["replay_window"], numbers.get("size", 0))
    if fields.get("selectors") in (ANY_IPV4, ANY_IPV6):
        fields["selectors"] = None  # it leaves all to the policies
    try:
        return Sa(soft=Lifetime(**limits["soft"]), hard=Lifetime(**limits["hard"]), **fields)
    except InputError as error:
        raise XfrmError(f"{lines[0].file}, line {lines[0].number}: {error}") from None


def _state_names(line: Line, fields: _Fields) -> None:
    fields["protocol"] = {"esp": ESP, "ah": AH}[line.word("esp", "ah")]
    line.word("spi")
    fields["spi"] = line.number_of("spi")
    while line.peek() is not None:
        name = line.word("reqid", "mode", "mark", "flag")
        if name == "mode":
            fields["mode"] = Mode[line.word("tunnel", "transport").upper()]
        elif name == "reqid":
            fields["reqid"] = line.number_of("reqid")
        else:
            line.take(f"the value of {name}")


def _state_replay(line: Line, fields: _Fields) -> None:
    fields["replay_window"] = line.number_of("replay-window")
    while line.peek() is not None:
        name = line.word("seq", "flag")
        if name == "seq":
            line.number_of("seq")
            continue
        while line.peek() is not None:
            flag = line.take("a flag")
            if flag == "esn":
                fields["esn"] = True
            elif flag == "nopmtudisc":
                fields["df"] = Df.CLEAR
            elif flag == "align4":
                fields["ah_align"] = 4
            elif flag == "noecn":
                fields["copy_tos"] = False


def _state_auth(line: Line, name: str, fields: _Fields) -> None:
    algorithm = line.take("the name of an HMAC")
    found = re.fullmatch(r"hmac\((\w+)\)", algorithm)
    key = line.key(algorithm)
    bits = line.number_of("the ICV's bits") if name == "auth-trunc" else 96
    auth = found and _HMACS.get((found[1], bits))
    if not auth:
        raise line.error(
            " or ".join(f"hmac({hash_name}) with {size} bits" for hash_name, size in _HMACS),
            f"{algorithm} with {bits} bits",
        )
    fields["auth"], fields["auth_key"] = auth, key


def _state_cipher(line: Line, fields: _Fields, known: Mapping[str, tuple[Cipher, int]], what: str) -> None:
    algorithm = line.take(f"the name of a {what}")
    if algorithm not in known:
        raise line.error(" or ".join(known), algorithm)
    cipher, salt = known[algorithm]
    key = line.key(algorithm) if line.peek() is not None else b""
    if len(key) < salt:
        raise line.error(f"a key with {salt} bytes of salt for {algorithm}", counted(len(key), "byte"))
    fields["cipher"], fields["key"], fields["salt"] = cipher, key[: len(key) - salt], key[len(key) - salt :]


def _encapsulation(line: Line) -> Encapsulation:
    line.word("type")
    line.word("espinudp")
    line.word("sport")
    source = line.number_of("sport")
    line.word("dport")
    destination = line.number_of("dport")
    line.word("addr")
    line.address("addr")
    return Encapsulation(source, destination)


def _anti_replay(line: Line, rest: Iterator[Line]) -> dict[str, int]:
    """``anti-replay esn context:`` and its lines, or ``anti-replay context: seq 0x0, oseq 0x0, bitmap
    0x00000000``."""
    if line.word("esn", "context:") == "context:":
        values = _pairs(line, ("seq", "oseq", "bitmap"), {"oseq-hi", "seq-hi"})
        return {"seq": values["seq"], "oseq": values["oseq"], "window": values["bitmap"]}
    line.word("context:")
    line = next(rest, line)
    values = _pairs(line, ("seq-hi", "seq", "oseq-hi", "oseq"))
    line = next(rest, line)
    sizes = _pairs(line, ("replay_window", "bitmap-length"))
    if sizes["replay_window"] > 32 * sizes["bitmap-length"]:
        raise line.error(f"a window of at most {32 * sizes['bitmap-length']}", sizes["replay_window"])
    words: list[int] = []
    while len(words) < sizes["bitmap-length"]:
        line = next(rest, line)
        if line.peek() is None:
            raise line.error(f"{sizes['bitmap-length']} words of the window")
        while line.peek() is not None:
            words.append(line.parse("a word of the window, 8 hexadecimal digits", lambda word: int(word, 16)))
    sequence = values["seq-hi"] << 32 | values["seq"]
    return {
        "seq": sequence,
        "oseq": values["oseq-hi"] << 32 | values["oseq"],
        "size": sizes["replay_window"],
        "window": _window(words, sequence, sizes["replay_window"]),
    }


def _pairs(line: Line, names: tuple[str, ...], optional: Collection[str] = ()) -> dict[str, int]:
    """Words such as ``seq 0x0, oseq 0x0`` as numbers by name."""
    values: dict[str, int] = {}
    while line.peek() is not None:
        name = line.word(*names, *optional)
        values[name] = line.number_of(name)
    for name in names:
        if name not in values:
            raise line.error(name)
    return values


def _window(words: list[int], sequence: int, size: int) -> int:
    """Linux keeps the window as a ring, in which number n has bit (n - 1) mod size, and prints its words from
    the last to the first."""
    if not size or not sequence:
        return 0
    ring = sum(word << 32 * at for at, word in enumerate(reversed(words)))
    return sum(
        (ring >> (sequence - behind - 1) % size & 1) << behind for behind in range(min(size, sequence))
    )


def _selectors(line: Line) -> Selectors:
    """``src NET dst NET``, then perhaps ``dev``, ``uid``, ``proto NAME``, ``sport``, ``dport``, ``type``,
    ``code``."""
    line.word("src")
    source = line.parse("a network for src", lambda word: ip_network(word, strict=False))
    line.word("dst")
    destination = line.parse("a network for dst", lambda word: ip_network(word, strict=False))
    protocol, ports = None, {"sport": ANY_PORTS, "dport": ANY_PORTS}
    while line.peek() is not None:
        name = line.word("proto", "sport", "dport", "type", "code", "dev", "uid")
        if name == "proto":
            protocol = line.parse("a protocol's name or number", _protocol)
        elif name in ("dev", "uid"):
            line.take(f"the value of {name}")
        else:
            number = line.number_of(name)
            ports[{"type": "sport", "code": "dport"}.get(name, name)] = (number, number)
    try:
        return Selectors(source, destination, protocol, ports["sport"], ports["dport"])
    except InputError as error:
        raise XfrmError(f"{line.file}, line {line.number}: {error}") from None


def _protocol(word: str) -> int:
    number = PROTOCOLS[word] if word in PROTOCOLS else int(word)
    if not 0 <= number <= 255:
        raise ValueError(word)
    return number


_LIMIT = re.compile(r"(soft|hard) \(?(INF|\d+)\)?\((bytes|packets|sec)\)")


def _limits(line: Line, name: str, limits: dict[str, dict[str, int]]) -> None:
    """``limit: soft (INF)(bytes), hard 4096(bytes)`` or ``expire add: soft 0(sec), hard 0(sec)``."""
    text = " ".join(line.words)
    found = _LIMIT.findall(text)
    if len(found) != 2 or [kind for kind, _, _ in found] != ["soft", "hard"]:
        raise line.error("limits such as soft (INF)(bytes), hard 4096(bytes)", text)
    if name == "expire" and line.take("add: or use:") != "add:":
        return
    for kind, value, unit in found:
        if value not in ("INF", "0"):
            limits[kind]["seconds" if unit == "sec" else unit] = int(value)


def _direction(
    line: Line, source: Address, destination: Address, local: Collection[Address], stated: str | None
) -> Direction:
    if stated:
        return Direction.INBOUND if stated == "in" else Direction.OUTBOUND
    if destination in local:
        return Direction.INBOUND
    if source in local:
        return Direction.OUTBOUND
    raise line.error(
        "an SA that begins or ends at one of this machine's addresses "
        f"({', '.join(sorted(map(str, local)))})",
        f"{source} to {destination}",
    )


# Policies


def read_policies(path: Path) -> list[Policy]:
    """The policies in the file ``path``; see :func:`parse_policies`."""
    return parse_policies(read(path), file=str(path))


def parse_policies(text: str, *, file: str = "ip xfrm policy") -> list[Policy]:
    """The policies that ``ip xfrm policy`` printed, the oldest first: Linux prints the newest first, and
    among policies of equal priority the oldest decides. Policies of sockets are left out.

    Raises
    ------
    XfrmError
        As :func:`parse_states`.
    """
    found = [_policy(lines) for lines in entries(text, file)]
    return [policy for policy in reversed(found) if policy]


def _policy(lines: list[Line]) -> Policy | None:
    selectors = _selectors(lines[0])
    direction, action, priority = None, PolicyAction.BYPASS, 0
    templates: list[Template] = []
    rest = iter(lines[1:])
    for line in rest:
        name = line.take("a property of the policy")
        if name == "socket":
            return None
        if name == "dir":
            direction = PolicyDirection(line.word("in", "out", "fwd"))
            action, priority = _policy_line(line, action, priority)
        elif name in ("action", "priority", "index", "ptype", "share", "flag"):
            line.at = 0
            action, priority = _policy_line(line, action, priority)
        elif name == "tmpl":
            templates.append(_template(line, next(rest, None)))
        elif name == "level" and templates:
            templates[-1] = replace(templates[-1], optional=line.word("required", "use") == "use")
        elif name not in (*_IGNORED, "limit:", "expire", "enc-mask") and not name[0].isdigit():
            raise line.error("a property of a policy that ip xfrm policy prints", hide(name))
    if direction is None:
        raise lines[0].error("a policy with a line dir in, out or fwd", "one without")
    if templates and action == PolicyAction.BYPASS:
        action = PolicyAction.PROTECT
    try:
        return Policy(
            selectors=selectors,
            direction=direction,
            action=action,
            priority=priority,
            templates=tuple(templates) if action == PolicyAction.PROTECT else (),
        )
    except InputError as error:
        raise XfrmError(f"{lines[0].file}, line {lines[0].number}: {error}") from None


def _policy_line(line: Line, action: PolicyAction, priority: int) -> tuple[PolicyAction, int]:
    while line.peek() is not None:
        name = line.word("action", "priority", "index", "ptype", "share", "flag")
        if name == "action":
            action = {"block": PolicyAction.DISCARD, "allow": PolicyAction.BYPASS}[
                line.word("block", "allow")
            ]
        elif name == "priority":
            priority = line.number_of("priority")
        elif name == "flag":
            while line.peek() is not None:
                line.take("a flag")
        else:
            line.take(f"the value of {name}")
    return action, priority


def _template(line: Line, second: Line | None) -> Template:
    source, destination = _ends(line)
    if second is None:
        raise line.error("a second line of the template, with proto and mode")
    second.word("proto")
    protocol = {"esp": ESP, "ah": AH}[second.word("esp", "ah")]
    values = {"spi": 0, "reqid": 0}
    mode = None
    while second.peek() is not None:
        name = second.word("spi", "reqid", "mode")
        if name == "mode":
            mode = Mode[second.word("tunnel", "transport").upper()]
        else:
            values[name] = second.number_of(name)
    if mode is None:
        raise second.error("mode tunnel or mode transport")
    return Template(
        source=source,
        destination=destination,
        mode=mode,
        protocol=protocol,
        spi=values["spi"],
        reqid=values["reqid"],
    )
