# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Packets for engine tests: what goes in, and what `cryptography` says must come out."""

import hmac
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher as SoftCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spigate.firmware_py.tables.midstate import hmac_midstates
from spigate.hdl.contract.enums import Auth, Cipher, KeySize
from spigate.hdl.crypto.engine import CompactEngine
from spigate.hdl.crypto.interface import Algorithms, Engine, Job, Kind, Word
from spigate.sim.build import simulate_cocotb, verilog

SIZES = {16: KeySize.AES128, 24: KeySize.AES192, 32: KeySize.AES256}
HASHES = {Auth.HMAC_SHA1_96: ("sha1", 12), Auth.HMAC_SHA256_128: ("sha256", 16)}


@dataclass
class Packet:
    """A packet for an engine. ``text`` is what goes in; ``icv`` the one that comes with it (decrypting)."""

    cipher: Cipher
    key: bytes = bytes(16)
    auth: Auth = Auth.NONE
    auth_key: bytes = b""
    encrypt: bool = True
    derive_iv: bool = False
    salt: bytes = bytes(4)
    associated: bytes = b""
    iv: bytes = b""
    text: bytes = b""
    behind: bytes = b""
    icv: bytes | None = None

    def job(self) -> int:
        return (
            Job()
            .const(
                {
                    "cipher": self.cipher,
                    "key_size": SIZES[len(self.key)],
                    "auth": self.auth,
                    "encrypt": self.encrypt,
                    "derive_iv": self.derive_iv,
                    "salt": int.from_bytes(self.salt, "little"),
                }
            )
            .as_bits()
        )

    def material(self) -> list[int]:
        key = self.key.ljust(32, b"\xa5")
        rows = [key[:16], key[16:]]
        if self.cipher == Cipher.AES_GCM:
            rows.append(_block(self.key, bytes(16)))
        elif self.auth in HASHES:
            inner, outer = hmac_midstates(HASHES[self.auth][0], self.auth_key)
            rows += [
                row
                for state in (inner, outer)
                for row in (state.ljust(32, b"\0")[:16], state.ljust(32, b"\0")[16:])
            ]
        rows += [b"\xa5" * 16] * (6 - len(rows))
        return [int.from_bytes(row, "little") for row in rows]

    def words(self) -> list[int]:
        runs = [
            (Kind.ASSOCIATED, self.associated),
            (Kind.IV, self.iv),
            (Kind.TEXT, self.text),
            (Kind.ASSOCIATED, self.behind),
            (Kind.ICV, self.icv or b""),
        ]
        words = []
        for kind, run in runs:
            for at in range(0, len(run), 4):
                part = run[at : at + 4]
                words.append(
                    {
                        "data": int.from_bytes(part.ljust(4, b"\xa5"), "little"),
                        "kind": kind,
                        "count": len(part),
                        "last": 0,
                    }
                )
        words[-1]["last"] = 1
        return [Word(4).const(word).as_bits() for word in words]

    def expected(self) -> tuple[list[tuple[Kind, bytes]], bool]:
        """What is handed back (runs in order), and whether the packet is right."""
        iv = _block(self.key, self.iv) if self.derive_iv and self.encrypt else self.iv
        if self.cipher == Cipher.AES_GCM:
            text, icv = _gcm(self)
        else:
            text = self.text
            if self.cipher == Cipher.AES_CBC:
                if len(text) % 16:
                    raise ValueError("There is no expectation for CBC with parts of blocks")
                soft = SoftCipher(algorithms.AES(self.key), modes.CBC(iv))
                worker = soft.encryptor() if self.encrypt else soft.decryptor()
                text = worker.update(text) + worker.finalize()
            icv = None
            if self.auth in HASHES:
                name, size = HASHES[self.auth]
                covered = self.associated + iv + (text if self.encrypt else self.text) + self.behind
                icv = hmac.new(self.auth_key, covered, name).digest()[:size]
        runs = [
            (Kind.IV, iv if self.encrypt else b""),
            (Kind.TEXT, text),
            (Kind.ICV, (icv or b"") if self.encrypt else b""),
        ]
        return [(kind, run) for kind, run in runs if run], self.encrypt or icv is None or icv == self.icv


def _block(key: bytes, block: bytes) -> bytes:
    return SoftCipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)


def _gcm(packet: Packet) -> tuple[bytes, bytes]:
    nonce = packet.salt + packet.iv
    if packet.encrypt:
        sealed = AESGCM(packet.key).encrypt(nonce, packet.text, packet.associated)
        return sealed[:-16], sealed[-16:]
    # Counter mode is its own inverse, so encrypting the cipher text gives the plain text, and that gives
    # the ICV.
    plain = AESGCM(packet.key).encrypt(nonce, packet.text, b"")[:-16]
    return plain, AESGCM(packet.key).encrypt(nonce, plain, packet.associated)[-16:]


@dataclass
class Outcome:
    """What an engine made of a packet: runs handed back, the verdict, the clocks of job, words and result."""

    runs: list[tuple[Kind, bytes]]
    ok: bool
    clocks: dict[str, int] = field(default_factory=dict)


def run(
    folder: Path,
    packets: list[list[Packet]],
    *,
    pause: float = 0,
    seed: int = 0,
    simulator: str = "verilator",
    engine: type[Engine] = CompactEngine,
) -> list[list[Outcome]]:
    """Sends each context its packets, with pauses in a share ``pause`` of the clocks on every stream."""
    plan = {
        "contexts": [
            [{"job": packet.job(), "material": packet.material(), "i": packet.words()} for packet in own]
            for own in packets
        ],
        "pause": pause,
        "seed": seed,
    }
    given, made = folder / "plan.json", folder / "outcome.json"
    given.write_text(json.dumps(plan))
    simulate_cocotb(
        _verilog(engine),
        "tests.hdl.crypto.bench_engine",
        simulator=simulator,
        parameters={"plan": str(given), "outcome": str(made)},
    )
    return [[_outcome(each) for each in own] for own in json.loads(made.read_text())]


@cache
def _verilog(engine: type[Engine]) -> Path:
    return verilog(engine(), engine.__name__)


def _outcome(made: dict) -> Outcome:
    runs: list[tuple[Kind, bytes]] = []
    for bits in made["words"]:
        word = Word(4).from_bits(bits)
        part = word.data.to_bytes(4, "little")[: word.count]
        if runs and runs[-1][0] == word.kind:
            part = runs.pop()[1] + part
        runs.append((Kind(word.kind), part))
    return Outcome(runs, bool(made["ok"]), made["clocks"])


def suites(knows: Algorithms) -> list[tuple[Cipher, Auth]]:
    """The pairs of cipher and authentication that ``knows`` has; AES-CBC and NULL also without."""
    return [
        (cipher, auth)
        for cipher in sorted(knows.ciphers)
        for auth in (Auth.NONE, *(sorted(knows.auths) if cipher != Cipher.AES_GCM else ()))
    ]


def key_bytes(knows: Algorithms) -> list[int]:
    """The lengths of the keys that ``knows`` has."""
    return [size for size, kind in SIZES.items() if kind in knows.key_sizes]


def random_packet(
    source: random.Random,
    *,
    suites: list[tuple[Cipher, Auth]],
    longest: int = 200,
    keys: Sequence[int] = tuple(SIZES),
) -> Packet:
    """A packet shaped as ESP makes them, encrypting or decrypting, sometimes with a wrong ICV."""
    cipher, auth = source.choice(suites)
    packet = Packet(
        cipher,
        key=source.randbytes(source.choice(keys)),
        auth=auth,
        encrypt=bool(source.randrange(2)),
        associated=source.randbytes(8),
    )
    if cipher == Cipher.AES_GCM:
        packet.salt, packet.iv = source.randbytes(4), source.randbytes(8)
        packet.associated = source.randbytes(source.choice([8, 12]))
    elif cipher == Cipher.AES_CBC:
        packet.iv, packet.derive_iv = source.randbytes(16), bool(packet.encrypt and source.randrange(2))
    if auth in HASHES:
        packet.auth_key, packet.behind = (
            source.randbytes(HASHES[auth][1]),
            source.randbytes(source.choice([0, 4])),
        )
    grain = 16 if cipher == Cipher.AES_CBC else 4
    packet.text = source.randbytes(grain * source.randrange(1, longest // grain + 1))
    if not packet.encrypt and (cipher == Cipher.AES_GCM or auth in HASHES):
        seal(packet)
        if not source.randrange(4):
            at = source.randrange(len(packet.icv))
            packet.icv = (
                packet.icv[:at] + bytes([packet.icv[at] ^ 1 << source.randrange(8)]) + packet.icv[at + 1 :]
            )
    return packet


def seal(packet: Packet) -> None:
    """Gives a packet to decrypt the ICV that is right."""
    if packet.cipher == Cipher.AES_GCM:
        packet.icv = _gcm(packet)[1]
    else:
        name, size = HASHES[packet.auth]
        packet.icv = hmac.new(
            packet.auth_key, packet.associated + packet.iv + packet.text + packet.behind, name
        ).digest()[:size]


def check(packets: list[list[Packet]], outcomes: list[list[Outcome]]) -> None:
    """Compares what was made with what `cryptography` says."""
    for context, (own, made) in enumerate(zip(packets, outcomes, strict=True)):
        for at, (packet, outcome) in enumerate(zip(own, made, strict=True)):
            runs, ok = packet.expected()
            assert (outcome.runs, outcome.ok) == (runs, ok), f"packet {at} of context {context}: {packet}"
