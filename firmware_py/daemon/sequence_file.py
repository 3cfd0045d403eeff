# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The sequence numbers of SAs that are keyed by hand, kept over restarts.

A key that somebody typed in is used again after a restart, and a sequence number that is used again under
the same key is an IV that is used again (:mod:`spigate.firmware_py.ipsec.esp` makes IVs of numbers), and a
packet that the peer's anti-replay window refuses. So numbers are taken in leases. A lease is written to disk
before its first number is used, and the software path stops at its last one. The next start takes a new
lease, and leaves what the last one did not use. Hardware has no such last number, and would go on when this
process is dead: such SAs are done in software (:meth:`Capabilities.lacks
<spigate.firmware_py.tables.interface.Capabilities.lacks>`).
"""

import fcntl
import hashlib
import hmac
import json
import os
from pathlib import Path

from spigate.firmware_py import trusted
from spigate.firmware_py.errors import InputError, SpigateError
from spigate.firmware_py.ipsec.sa import Sa

NAME = "sequence-numbers.json"
_NEW = NAME + ".new"
LAST = (1 << 32) - 1
"""The last sequence number (RFC 4303 2.2)."""


class UsedUp(SpigateError):
    """An SA has no sequence number left."""


class SequenceFile:
    """The file :data:`NAME` in ``folder``, which only its owner may enter, and which is made where it is not
    there.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self._folder, self._path = folder, folder / NAME
        self._known: dict[str, int] = {}  # The file never has less than that, unless somebody put it back.

    def lease(self, sa: Sa, size: int) -> tuple[int, int]:
        """Takes at most ``size`` numbers for ``sa`` that nobody has used with its SPI and one of its keys.

        Returns
        -------
        (int, int)
            The number before the first of them, and how many they are.

        Raises
        ------
        UsedUp
            There are none.
        InputError
            Folder or file are not as they must be; the message names them.
        """
        try:
            with trusted.own_folder(self._folder) as folder:
                fcntl.flock(folder, fcntl.LOCK_EX)  # until the folder is closed
                taken = self._read()
                names = _names(sa)
                before = max(taken.get(name, 0) for name in names)
                if any(taken.get(name, 0) < self._known.get(name, 0) for name in names):
                    raise InputError(
                        f"{self._path}: numbers of {sa} that were used are no longer in it; it is gone, or "
                        f"an older one took its place. {sa} needs new keys, and so does its peer"
                    )
                count = min(size, LAST - before)
                if count <= 0:
                    raise UsedUp(
                        f"{sa} has used up its sequence numbers: it needs new keys, and so does its peer"
                    )
                used = dict.fromkeys(names, before + count)
                self._write(folder, {**taken, **used})
                self._known |= used
        except OSError as error:
            raise InputError(f"{self._path}: {error.strerror}") from None
        return before, count

    def _read(self) -> dict[str, int]:
        try:
            text = trusted.read(self._path, secret=True)
        except FileNotFoundError:
            return {}
        try:
            taken = json.loads(text)
        except (ValueError, RecursionError):
            taken = None
        if not isinstance(taken, dict) or not all(
            type(value) is int and 0 <= value <= LAST for value in taken.values()
        ):
            raise InputError(
                f"{self._path}: expected the sequence numbers that SAs keyed by hand have used. Without them "
                f"no such SA may send: give all of them new keys, then delete the file"
            )
        return taken

    def _write(self, folder: int, taken: dict[str, int]) -> None:
        """The file is either the old one or the new one, whenever the power fails."""
        with open(trusted.write(folder, _NEW, self._folder / _NEW), "w") as file:
            json.dump(taken, file, indent=2, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(_NEW, NAME, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def _names(sa: Sa) -> list[str]:
    """One for each key, which it does not show: under the cipher's key and with the SPI a number makes the
    IV, and under the other one it is what a packet is known by.
    """
    return [
        hmac.new(key, sa.spi.to_bytes(4), hashlib.sha256).hexdigest()[:32]
        for key in (sa.key, sa.auth_key)
        if key
    ]
