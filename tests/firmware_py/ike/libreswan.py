# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""libreswan's pluto in a user-mode Linux, above that kernel's ESP and AH.

Debian's package conflicts with strongSwan's, so that it is not installed but lies unpacked in
build/libreswan; .ci/run says how, and which libraries it needs.
"""

import os
import subprocess
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, pkcs12

from tests.firmware_py.ike.authority import Chain
from tests.firmware_py.ike.hosts import OURS, THEIRS, Uml

UNPACKED = Path(__file__).parents[3] / "build/libreswan/usr/libexec"
LIBRESWAN = (
    (UNPACKED / "ipsec/pluto", "libreswan, unpacked in build/libreswan"),
    (Path("/usr/bin/certutil"), "libnss3-tools"),
)
PROGRAMS = Path("/usr/libexec/ipsec")
"""Where the package's programs look for each other."""
CONF = f"""config setup
    protostack=xfrm
    uniqueids=yes
conn net
    ikev2=insist
    left={THEIRS}
    right={OURS}
    leftid=@b.example
    rightid=@a.example
    leftupdown=%disabled
    auto=add
    ike=aes_gcm128-sha2_256-dh19
"""


class Pluto:
    """A running pluto with one connection, ``net``. ``folder`` is for its files."""

    def __init__(self, uml: Uml, folder: Path):
        self._uml, self._folder = uml, folder
        self.log = folder / "pluto.log"

    def start(self, connection: str, *, secret: str = "", chain: Chain | None = None) -> None:
        """``connection``: further lines of the connection. With ``chain`` its own certificate is called
        ``own``.
        """
        folder, nss = self._folder, self._folder / "nss"
        nss.mkdir(parents=True)
        self._nss("certutil", "-N", "--empty-password")
        if chain is not None:
            (folder / "own.p12").write_bytes(
                pkcs12.serialize_key_and_certificates(
                    b"own", chain.key, chain.own, [chain.middle], NoEncryption()
                )
            )
            (folder / "root.pem").write_bytes(chain.root.public_bytes(Encoding.PEM))
            self._nss("pk12util", "-i", str(folder / "own.p12"), "-W", "")
            self._nss("certutil", "-A", "-n", "root", "-t", "CT,,", "-a", "-i", str(folder / "root.pem"))
        (folder / "ipsec.conf").write_text(
            CONF + "".join(f"    {line}\n" for line in connection.splitlines())
        )
        (folder / "secrets").write_text(f'@a.example @b.example : PSK "{secret}"\n' * bool(secret))
        (folder / "secrets").chmod(0o600)
        self._uml.run(
            "sh", "-c", f"mountpoint -q {PROGRAMS.parent} || mount --bind {UNPACKED} {PROGRAMS.parent}"
        )
        self._process = self._uml.start(
            folder / "output",
            PROGRAMS / "pluto",
            "--config",
            folder / "ipsec.conf",  # what follows is stronger than it
            "--nofork",
            "--no-dnssec",
            "--rundir",
            "/run/pluto",
            "--nssdir",
            nss,
            "--secretsfile",
            folder / "secrets",
            "--ipsecdir",
            folder,
            "--logfile",
            self.log,
        )
        end = time.monotonic() + 20
        while '"net": ' not in self.whack("--status", check=False):
            log = self.log.read_text() if self.log.exists() else ""
            if time.monotonic() > end or "failed to add" in log or "FATAL" in log:
                raise RuntimeError(f"pluto did not start: {log}{(folder / 'output').read_text()}")

    def _nss(self, program: str, *words: str) -> None:
        subprocess.run(
            [program, "-d", f"sql:{self._folder / 'nss'}", *words],
            check=True,
            capture_output=True,
            env={**os.environ, "NSS_DEFAULT_DB_TYPE": "sql"},
        )

    def whack(self, *words: str, check: bool = True) -> str:
        """Its control program; what it prints."""
        return self._uml.run(PROGRAMS / "whack", *words, check=check)

    def close(self) -> None:
        self._uml.end(self._process)
