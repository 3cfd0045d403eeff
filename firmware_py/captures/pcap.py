"""Classic pcap files of Ethernet frames: reading both byte orders and both resolutions, writing microseconds.

The format: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike

from spigate.firmware_py.errors import InputError

_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
_ETHERNET = 1
_SNAP_LENGTH = 262144


class PcapError(InputError):
    """A pcap file that is none; the message names file and offset."""


@dataclass(frozen=True)
class Captured:
    """A captured frame. ``time`` is in nanoseconds since 1970."""

    time: int
    frame: bytes


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
        raise error(0, "a file header of 24 bytes", f"{len(data)} bytes")
    for order in "<>":
        magic, major, minor, _, _, _, link = struct.unpack_from(order + "IHHiIII", data)
        if magic in (_MICROSECONDS, _NANOSECONDS):
            break
    else:
        raise error(0, f"the magic of pcap, {_MICROSECONDS:#x} or {_NANOSECONDS:#x}", data[:4].hex())
    if (major, minor) != (2, 4):
        raise error(4, "version 2.4", f"{major}.{minor}")
    if link & 0xFFFF != _ETHERNET:
        raise error(20, f"link type {_ETHERNET} (Ethernet)", link & 0xFFFF)
    unit = 1 if magic == _NANOSECONDS else 1000
    record = struct.Struct(order + "IIII")
    at = 24
    while at < len(data):
        if at + record.size > len(data):
            raise error(at, f"a record header of {record.size} bytes", f"{len(data) - at} bytes")
        seconds, fraction, captured, _ = record.unpack_from(data, at)
        end = at + record.size + captured
        if captured > _SNAP_LENGTH or end > len(data):
            raise error(
                at + 8,
                f"a frame of at most {min(_SNAP_LENGTH, len(data) - at - record.size)} bytes",
                captured,
            )
        yield Captured(seconds * 10**9 + fraction * unit, data[at + record.size : end])
        at = end


def read(path: str | PathLike[str]) -> list[Captured]:
    """The frames of the file ``path``. Errors as :func:`parse`."""
    with open(path, "rb") as file:
        return list(parse(file.read(), str(path)))


def write(path: str | PathLike[str], frames: Iterable[Captured]) -> None:
    """Writes ``frames`` to a pcap file of microseconds, little-endian."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", _MICROSECONDS, 2, 4, 0, 0, _SNAP_LENGTH, _ETHERNET))
        for item in frames:
            seconds, fraction = divmod(item.time, 10**9)
            file.write(
                struct.pack("<IIII", seconds, fraction // 1000, len(item.frame), len(item.frame)) + item.frame
            )
