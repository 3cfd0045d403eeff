# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Key log for Wireshark: ``esp_sa`` and ``ikev2_decryption_table`` in a folder. Whoever reads it reads all
traffic.
"""

from pathlib import Path

from spigate.firmware_py import trusted
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.sa import ESP, Auth, Cipher, Sa

_CIPHERS = {
    Cipher.NULL: "NULL",
    Cipher.AES_CBC: "AES-CBC [RFC3602]",
    Cipher.AES_CTR: "AES-CTR [RFC3686]",
    Cipher.AES_GCM: "AES-GCM with {} octet ICV [RFC4106]",
}
_AUTHS = {
    Auth.NONE: "NULL",
    Auth.HMAC_SHA1_96: "HMAC-SHA-1-96 [RFC2404]",
    Auth.HMAC_SHA256_128: "HMAC-SHA-256-128 [RFC4868]",
    Auth.HMAC_SHA384_192: "HMAC-SHA-384-192 [RFC4868]",
    Auth.HMAC_SHA512_256: "HMAC-SHA-512-256 [RFC4868]",
}
ESP_SA, IKE_TABLE = "esp_sa", "ikev2_decryption_table"


def esp_line(sa: Sa) -> str | None:
    """The line of ``esp_sa`` that opens packets of ``sa``; None: it is AH, or Wireshark does not know the
    cipher.
    """
    if sa.protocol != ESP or sa.cipher not in _CIPHERS:
        return None
    key, auth_key = ("0x" + each.hex() if each else "" for each in (sa.key + sa.salt, sa.auth_key))
    cipher = _CIPHERS[sa.cipher].format(sa.icv_bytes)
    numbers = ',"64-bit"' * sa.esn  # a field that only later Wiresharks know
    return (
        f'"IPv{sa.source.version}","{sa.source}","{sa.destination}","0x{sa.spi:08x}","{cipher}","{key}",'
        f'"{_AUTHS[sa.auth]}","{auth_key}"{numbers}'
    )


def check(folder: Path) -> None:
    """Whether ``folder``, which is there, is one for keys. Raises InputError."""
    try:
        with trusted.own_folder(folder):
            pass
    except OSError as error:
        raise InputError(f"key log {folder}: {error.strerror}") from None


class Folder:
    """Writes both files in ``folder``, which only its owner may enter; they begin anew.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    InputError
        Others may enter the folder, or put another in its place, or a file there is not this user's own.
    """

    def __init__(self, folder: Path):
        self._files = {}
        try:
            with trusted.own_folder(folder) as descriptor:
                for name in (ESP_SA, IKE_TABLE):
                    self._files[name] = open(trusted.write(descriptor, name, folder / name), "w")
        except OSError as error:
            raise InputError(f"key log {folder}: {error.strerror}") from None

    def sa(self, sa: Sa) -> None:
        self._write(ESP_SA, esp_line(sa))

    def ike(self, line: str) -> None:
        self._write(IKE_TABLE, line)

    def _write(self, name: str, line: str | None) -> None:
        if line is not None:
            self._files[name].write(line + "\n")
            self._files[name].flush()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
