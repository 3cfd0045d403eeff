# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate bench --soft``: the software path, in packets a second of one core."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from ipaddress import ip_address
from typing import Any

from rich.console import Console

from spigate.firmware_py import terminal
from spigate.firmware_py.ipsec.packet import UDP, ipv4_header
from spigate.firmware_py.ipsec.sa import AH, AUTHS, CIPHERS, Auth, Cipher, Sa
from spigate.firmware_py.ipsec.soft_sa import SoftSa
from spigate.hdl.contract.enums import Direction, Mode

SIZES = (64, 256, 1400)
"""Bytes of the packet inside."""
SECONDS = 0.05
"""So long a round takes; the best of three counts."""
REFERENCE = "aes-gcm-128, 16-byte ICV"
_SUITES = [
    (Cipher.AES_GCM, 16, Auth.NONE),
    (Cipher.AES_GCM, 32, Auth.NONE),
    (Cipher.CHACHA20_POLY1305, 32, Auth.NONE),
    (Cipher.AES_CCM, 16, Auth.NONE),
    (Cipher.AES_GMAC, 16, Auth.NONE),
    (Cipher.AES_CBC, 16, Auth.HMAC_SHA1_96),
    (Cipher.AES_CBC, 16, Auth.HMAC_SHA256_128),
    (Cipher.AES_CBC, 32, Auth.HMAC_SHA384_192),
    (Cipher.AES_CBC, 32, Auth.HMAC_SHA512_256),
    (Cipher.AES_CTR, 16, Auth.HMAC_SHA256_128),
    (Cipher.NULL, 0, Auth.HMAC_SHA256_128),
]


@dataclass(frozen=True)
class Rate:
    """Packets a second of ``suite`` ("AH, ..." for AH), in ``direction``, with ``size`` bytes inside;
    tunnel mode, IPv4.
    """

    suite: str
    direction: str
    size: int
    packets: float


def _sas() -> dict[str, Sa]:
    make = partial(
        Sa,
        direction=Direction.OUTBOUND,
        spi=0x1000,
        source=ip_address("192.0.2.1"),
        destination=ip_address("192.0.2.2"),
        mode=Mode.TUNNEL,
        replay_window=64,
    )
    found = {}
    for cipher, key, auth in _SUITES:
        form = CIPHERS[cipher]
        sa = make(
            cipher=cipher,
            key=bytes(key),
            salt=bytes(form.salt),
            icv_bytes=form.icvs[-1] if form.icvs else 0,
            auth=auth,
            auth_key=bytes(AUTHS[auth].key) if auth != Auth.NONE else b"",
        )
        found[sa.suite] = sa
    for auth, of_auth in AUTHS.items():
        found[f"AH, {auth.value}"] = make(protocol=AH, auth=auth, auth_key=bytes(of_auth.key))
    return found


def _rate(do: Callable[[bytes], object], packets: list[bytes]) -> float:
    begun = time.process_time()
    for packet in packets:
        do(packet)
    return len(packets) / (time.process_time() - begun)


def bench(console: Console) -> list[Rate]:
    """All suites, sizes and directions. Refused where a packet is not taken."""
    found = []
    with console.status("") as status:
        for suite, sa in _sas().items():
            status.update(suite)
            for size in SIZES:
                plain = ipv4_header(ip_address("10.1.0.1"), ip_address("10.2.0.1"), UDP, size - 20) + bytes(
                    size - 20
                )
                out = SoftSa(sa)
                count = max(10, round(SECONDS * _rate(out.encapsulate, [plain] * 50)))
                rounds: tuple[list[float], list[float]] = ([], [])
                for _ in range(3):
                    sealed = [out.encapsulate(plain) for _ in range(count)]
                    rounds[0].append(_rate(out.encapsulate, [plain] * count))
                    into = SoftSa(replace(sa, direction=Direction.INBOUND))
                    rounds[1].append(_rate(into.decapsulate, sealed))
                found += [
                    Rate(suite, direction, size, max(each))
                    for direction, each in zip(("outbound", "inbound"), rounds, strict=True)
                ]
    return found


def _rows(rates: list[Rate], shown: Callable[[Rate], str]) -> list[list[str]]:
    at = {(rate.suite, rate.direction, rate.size): rate for rate in rates}
    kinds = dict.fromkeys((rate.suite, rate.direction) for rate in rates)
    return [[*kind, *(shown(at[*kind, size]) for size in SIZES)] for kind in kinds]


def columns() -> tuple[str, ...]:
    return ("suite", "direction", *(f"{size} bytes" for size in SIZES))


def show(rates: list[Rate]) -> None:
    """Packets a second, as they are on this machine."""
    print("software path, packets a second of one core:")
    rows = _rows(rates, lambda rate: f"{rate.packets:,.0f}")
    for line in terminal.table([dict(zip(columns(), row, strict=True)) for row in rows], terminal.width()):
        print(line)


def markdown(rates: list[Rate]) -> str:
    """Against 64 bytes of :data:`REFERENCE` outbound, which is what does not depend on the machine."""
    one = next(
        rate.packets
        for rate in rates
        if (rate.suite, rate.direction, rate.size) == (REFERENCE, "outbound", SIZES[0])
    )
    lines = [
        columns(),
        ("---", "---", "---:", "---:", "---:"),
        *_rows(rates, lambda rate: f"{rate.packets / one:.2f}"),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plain(rates: list[Rate]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(rate) for rate in rates]
