# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Files of Ethernet frames: classic pcap in both byte orders and both resolutions, and pcapng
(:mod:`spigate.firmware_py.captures.pcapng`); written is pcap with microseconds.

The format: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/.
"""

import struct
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

from spigate.firmware_py.captures import pcapng
from spigate.firmware_py.captures.frames import ETHERNET, SNAP_LENGTH, Captured, PcapError
from spigate.firmware_py.words import counted

_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D


def parse(data: bytes, file: str = "pcap") -> Iterator[Captured]:
    """The frames of a pcap file's bytes, in order.

    Raises
    ------
    PcapError
        Bad magic, another link type than Ethernet, or a record that is cut off; the message names ``file``
        and the offset.
    """

    def error(offset: int, expected: str, found: object) -> PcapError:
        return PcapError(f"{file}, offset {offset}: expected {expected}, not {found}")

    if len(data) < 24:
        raise error(0, "a file header of 24 bytes", counted(len(data), "byte"))
    for order in "<>":
        magic, major, minor, _, _, _, link = struct.unpack_from(order + "IHHiIII", data)
        if magic in (_MICROSECONDS, _NANOSECONDS):
            break
    else:
        raise error(
            0, f"the magic of pcap, {_MICROSECONDS:#x} or {_NANOSECONDS:#x}, or of pcapng", data[:4].hex()
        )
    if (major, minor) != (2, 4):
        raise error(4, "version 2.4", f"{major}.{minor}")
    if link & 0xFFFF != ETHERNET:
        raise error(20, f"link type {ETHERNET} (Ethernet)", link & 0xFFFF)
    unit = 1 if magic == _NANOSECONDS else 1000
    record = struct.Struct(order + "IIII")
    at = 24
    while at < len(data):
        if at + record.size > len(data):
            raise error(at, f"a record header of {record.size} bytes", f"{len(data) - at} bytes")
        seconds, fraction, captured, _ = record.unpack_from(data, at)
        end = at + record.size + captured
        if captured > SNAP_LENGTH or end > len(data):
            raise error(
                at + 8,
                f"a frame of at most {min(SNAP_LENGTH, len(data) - at - record.size)} bytes",
                captured,
            )
        yield Captured(seconds * 10**9 + fraction * unit, data[at + record.size : end])
        at = end


def read(path: str | PathLike[str], interface: str | None = None) -> list[Captured]:
    """The frames of the file ``path``, pcap or pcapng.

    Parameters
    ----------
    interface : str or None
        Of a pcapng file with several interfaces: the name of the one that is meant.

    Raises
    ------
    PcapError
        As :func:`parse` and :func:`.pcapng.parse`.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PcapError(f"{path}: expected a file that can be read: {error.strerror}") from None
    if data[:4] == pcapng.SECTION.to_bytes(4):
        return list(pcapng.parse(data, str(path), interface))
    return list(parse(data, str(path)))


def write(path: str | PathLike[str], frames: Iterable[Captured]) -> None:
    """Writes ``frames`` to a pcap file of microseconds, little-endian."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", _MICROSECONDS, 2, 4, 0, 0, SNAP_LENGTH, ETHERNET))
        for item in frames:
            seconds, fraction = divmod(item.time, 10**9)
            file.write(
                struct.pack("<IIII", seconds, fraction // 1000, len(item.frame), len(item.frame)) + item.frame
            )
