# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Frames out of pcapng files, as dumpcap and Wireshark write them.

The format: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/. Frames are in Enhanced, Simple and
(obsolete) Packet Blocks; blocks of other kinds are passed over. A file may have several sections, each with
its own byte order and interfaces.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from spigate.firmware_py.captures.frames import ETHERNET, SNAP_LENGTH, Captured, PcapError
from spigate.firmware_py.words import counted

SECTION = 0x0A0D0D0A
MOST_NAMES = 16
"""Names of interfaces in a message."""
_INTERFACE, _PACKET, _SIMPLE, _ENHANCED = 1, 2, 3, 6
_BYTE_ORDER = 0x1A2B3C4D
_END, _NAME, _RESOLUTION, _OFFSET = 0, 2, 9, 14
"""Options of an Interface Description Block."""
_SMALLEST = 12
"""Bytes of a block: its type, and its length at both ends."""


@dataclass(frozen=True)
class Source:
    """An interface of a section. ``unit``: time stamps in a second; ``offset``: seconds to add to them."""

    name: str
    link: int
    snap: int
    unit: int = 10**6
    offset: int = 0


@dataclass(frozen=True)
class Block:
    """A block's type and body, its byte order, and where in the file it begins."""

    kind: int
    body: bytes
    order: str
    at: int


class Reader:
    """Reads one file.

    Parameters
    ----------
    data : bytes
        All of it.
    file : str
        Its name, for errors.
    """

    def __init__(self, data: bytes, file: str):
        self._data, self._file = data, file

    def sources(self) -> list[Source]:
        """The interfaces that frames are of, each once. Errors as :meth:`frames`."""
        return list(dict.fromkeys(source for source, _ in self.frames()))

    def frames(self) -> Iterator[tuple[Source, Captured]]:
        """The frames in order, and the interface of each. A frame without a time has that of the one before.

        Raises
        ------
        PcapError
            A block is cut off, its two lengths differ, or what is in it does not fit; the message names file
            and offset.
        """
        sources: list[Source] = []
        time = 0
        for block in self._blocks():
            if block.kind == SECTION:
                sources = []
            elif block.kind == _INTERFACE:
                sources.append(self._interface(block))
            elif block.kind in (_ENHANCED, _PACKET, _SIMPLE):
                source, stamp, frame = self._frame(block, sources)
                if stamp is not None:
                    time = source.offset * 10**9 + stamp * 10**9 // source.unit
                yield source, Captured(time, frame)

    def _fail(self, at: int, expected: str, found: object) -> NoReturn:
        raise PcapError(f"{self._file}, offset {at}: expected {expected}, not {found}")

    def _blocks(self) -> Iterator[Block]:
        at, order = 0, "<"
        while at < len(self._data):
            left = len(self._data) - at
            if left < _SMALLEST:
                self._fail(at, f"a block of at least {_SMALLEST} bytes", f"{left} bytes")
            if self._data[at : at + 4] == SECTION.to_bytes(4):  # the same in both byte orders
                order = self._order(at)
            kind, length = struct.unpack_from(order + "II", self._data, at)
            if length % 4 or not _SMALLEST <= length <= left:
                self._fail(at + 4, f"a block's length, a multiple of 4 from {_SMALLEST} to {left}", length)
            (again,) = struct.unpack_from(order + "I", self._data, at + length - 4)
            if again != length:
                self._fail(at + length - 4, f"the block's length again, {length}", again)
            body = self._data[at + 8 : at + length - 4]
            if kind == SECTION and len(body) < 16:
                self._fail(at + 8, "a section header of 16 bytes", counted(len(body), "byte"))
            if kind == SECTION and (major := struct.unpack_from(order + "H", body, 4)[0]) != 1:
                self._fail(at + 12, "version 1 of pcapng", major)
            yield Block(kind, body, order, at)
            at += length

    def _order(self, at: int) -> str:
        for order in "<>":
            if self._data[at + 8 : at + 12] == struct.pack(order + "I", _BYTE_ORDER):
                return order
        self._fail(at + 8, f"the byte-order magic {_BYTE_ORDER:#x}", self._data[at + 8 : at + 12].hex())

    def _interface(self, block: Block) -> Source:
        if len(block.body) < 8:
            self._fail(block.at + 8, "an interface description of 8 bytes", counted(len(block.body), "byte"))
        link, _, snap = struct.unpack_from(block.order + "HHI", block.body)
        name, unit, offset = "", 10**6, 0
        for at, code, value in self._options(block, 8):
            if code == _NAME:
                name = value.rstrip(b"\0").decode(errors="replace")
            elif code == _RESOLUTION:
                if len(value) != 1:
                    self._fail(at, "a resolution of 1 byte", counted(len(value), "byte"))
                base, power = (2, value[0] & 0x7F) if value[0] & 0x80 else (10, value[0])
                unit = base**power
            elif code == _OFFSET:
                if len(value) != 8:
                    self._fail(at, "an offset of 8 bytes", counted(len(value), "byte"))
                (offset,) = struct.unpack(block.order + "q", value)
        return Source(name, link, snap, unit, offset)

    def _options(self, block: Block, at: int) -> Iterator[tuple[int, int, bytes]]:
        """Where each option's value stands in the file, its code and the value."""
        body = block.body
        while at < len(body):
            where = block.at + 8 + at
            if at + 4 > len(body):
                self._fail(where, "an option of 4 bytes or more", f"{len(body) - at} bytes")
            code, length = struct.unpack_from(block.order + "HH", body, at)
            if code == _END:
                return
            if at + 4 + length > len(body):
                self._fail(where + 2, f"an option's length of at most {len(body) - at - 4}", length)
            yield where + 4, code, body[at + 4 : at + 4 + length]
            at += 4 + length + -length % 4

    def _frame(self, block: Block, sources: list[Source]) -> tuple[Source, int | None, bytes]:
        """A frame's interface, its time in the interface's units, and its bytes."""
        head = struct.Struct(block.order + {_ENHANCED: "IIIII", _PACKET: "HHIIII", _SIMPLE: "I"}[block.kind])
        where = block.at + 8
        if len(block.body) < head.size:
            self._fail(where, f"a frame's header of {head.size} bytes", counted(len(block.body), "byte"))
        fields = head.unpack_from(block.body)
        number = 0 if block.kind == _SIMPLE else fields[0]
        if number >= len(sources):
            self._fail(where, f"one of the {len(sources)} interfaces that are described by now", number)
        source, room = sources[number], len(block.body) - head.size
        if block.kind == _SIMPLE:
            stamp, size = None, min(fields[0], source.snap or fields[0])
        else:
            high, low, size = fields[-4:-1]
            stamp = high << 32 | low
        if size > min(room, SNAP_LENGTH):
            at = where + head.size - (4 if block.kind == _SIMPLE else 8)
            self._fail(at, f"a frame of at most {min(room, SNAP_LENGTH)} bytes", size)
        return source, stamp, block.body[head.size : head.size + size]


def parse(data: bytes, file: str, interface: str | None = None) -> Iterator[Captured]:
    """The Ethernet frames of one interface of a pcapng file's bytes, in order.

    Parameters
    ----------
    interface : str or None
        Its name. None: frames are of one interface only.

    Raises
    ------
    PcapError
        As :meth:`Reader.frames`; or the interface is not there, not clear, or no Ethernet.
    """
    reader = Reader(data, file)
    sources = reader.sources()
    names = [source.name for source in sources]
    if len(sources) > 1 and (interface is None or interface not in names):
        different = list(dict.fromkeys(name or "one without a name" for name in names))
        more = f" and {len(different) - MOST_NAMES} more" if len(different) > MOST_NAMES else ""
        shown = ", ".join(different[:MOST_NAMES]) + more
        found = "none named" if interface is None else repr(interface)
        raise PcapError(f"{file}: expected the name of one of its interfaces, {shown}, not {found}")
    if len(sources) == 1 and interface is not None and names[0] not in ("", interface):
        raise PcapError(f"{file}: expected frames of the interface {interface}, not of {names[0]}")
    wanted = {source for source in sources if len(sources) == 1 or source.name == interface}
    for source in wanted:
        if source.link != ETHERNET:
            raise PcapError(
                f"{file}: expected link type {ETHERNET} (Ethernet) of {source.name or 'its interface'}, not "
                f"{source.link}; capture at one Ethernet interface, not at any"
            )
    return (frame for source, frame in reader.frames() if source in wanted)


def interfaces(path: Path) -> list[str]:
    """Names of the interfaces that frames of the file ``path`` are of; none where it is no pcapng file.
    Raises PcapError as :class:`Reader`, and where the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PcapError(f"{path}: expected a file that can be read: {error.strerror}") from None
    if data[:4] != SECTION.to_bytes(4):
        return []
    return [source.name for source in Reader(data, str(path)).sources()]
