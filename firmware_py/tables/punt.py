# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The 16 bytes in front of every frame on the control element's port.

They restate ``PuntHeader`` and ``InjectHeader`` of :mod:`spigate.hdl.net.descriptor` for a host without
gateware tools; a test compares the two. Behind the header come two alignment bytes, then the frame.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from spigate.firmware_py.errors import InputError
from spigate.hdl.contract.enums import Port, PuntClass, Reason
from spigate.hdl.contract.reasons import class_of

Member = TypeVar("Member", bound=IntEnum)

VERSION = 1
HEADER_BYTES = 16
ALIGN = 2
_PUNT = struct.Struct("<BBBBHBBIHBB")
_INJECT = struct.Struct("<BBBBHBB8x")
_VALID = 0x80
"""Says in the byte of a DFE or of a rule that there is one."""


class InjectMode(IntEnum):
    """What the gateway does with an injected frame."""

    CLASSIFY = 0
    """As if it had come in at the port named."""
    DIRECT = 1
    """Out at the port named, as it is."""


@dataclass(frozen=True)
class Place:
    """An SA of a DFE: its index there, and its generation, which tells it from those that had the place
    before.
    """

    dfe: int
    sa: int
    generation: int


@dataclass(frozen=True)
class PuntHeader:
    """Why and from where a frame comes up.

    Members
    -------
    reason : Reason
    ingress : Port
    dfe, sa : int
        The DFE that punts, or has the SA that the entry names, and the SA's index; for a miss the
        balancer's choice for the SA to come.
    depth : int
        Recirculations.
    tagged : bool
    time : int
        Clocks.
    out_of : Place or None
        The SA that the packet was decrypted by, the last one, where it comes from a DFE (ingress
        RECIRCULATE).
    rule : int or None
        Index of the rule that decided.
    """

    reason: Reason
    ingress: Port
    dfe: int = 0
    sa: int = 0
    depth: int = 0
    tagged: bool = False
    time: int = 0
    out_of: Place | None = None
    rule: int | None = None


@dataclass(frozen=True)
class InjectHeader:
    """What is to become of a frame that goes down. ``out_of`` is that of the punt that it answers."""

    mode: InjectMode
    port: Port
    depth: int = 0
    out_of: Place | None = None


def pack_punt(header: PuntHeader, frame: bytes) -> bytes:
    """A punted frame as it leaves the gateway."""
    bits = header.tagged | (0 if header.rule is None else _VALID | header.rule << 1)
    return (
        _PUNT.pack(
            VERSION,
            header.reason,
            header.ingress,
            header.dfe,
            header.sa,
            header.depth,
            bits,
            header.time,
            *_pack_place(header.out_of),
        )
        + bytes(ALIGN)
        + frame
    )


def unpack_punt(data: bytes) -> tuple[PuntHeader, bytes]:
    """Header and frame of what came up.

    Raises
    ------
    InputError
        Too short, another version, or a reason or port that does not exist.
    """
    version, reason, ingress, dfe, sa, depth, bits, time, *place = _PUNT.unpack(_head(data))
    _check_version(version)
    header = PuntHeader(
        _member(Reason, "reason", reason),
        _member(Port, "ingress", ingress),
        dfe,
        sa,
        depth,
        bool(bits & 1),
        time,
        _place(*place),
        (bits & ~_VALID) >> 1 if bits & _VALID else None,
    )
    return header, bytes(data[HEADER_BYTES + ALIGN :])


def punt_class(data: bytes) -> PuntClass:
    """The class of a punted frame as it leaves the gateway; of one that is none, the last."""
    return class_of(data[1]) if len(data) > 1 else PuntClass.REST


def pack_inject(header: InjectHeader, frame: bytes) -> bytes:
    """A frame as it goes down to the gateway."""
    return (
        _INJECT.pack(VERSION, header.mode, header.port, header.depth, *_pack_place(header.out_of))
        + bytes(ALIGN)
        + frame
    )


def unpack_inject(data: bytes) -> tuple[InjectHeader, bytes]:
    """Header and frame of what goes down; errors as :func:`unpack_punt`."""
    version, mode, port, depth, *place = _INJECT.unpack(_head(data))
    _check_version(version)
    return (
        InjectHeader(_member(InjectMode, "mode", mode), _member(Port, "port", port), depth, _place(*place)),
        bytes(data[HEADER_BYTES + ALIGN :]),
    )


def _pack_place(place: Place | None) -> tuple[int, int, int]:
    """SA, DFE with the bit that says that there is one, generation."""
    return (0, 0, 0) if place is None else (place.sa, _VALID | place.dfe, place.generation)


def _place(sa: int, dfe: int, generation: int) -> Place | None:
    return Place(dfe & 0xF, sa, generation) if dfe & _VALID else None


def _head(data: bytes) -> bytes:
    if len(data) <= HEADER_BYTES + ALIGN:
        raise InputError(
            f"A frame at the control element's port must be longer than {HEADER_BYTES + ALIGN} bytes, "
            f"not {len(data)}"
        )
    return data[:HEADER_BYTES]


def _check_version(version: int) -> None:
    if version != VERSION:
        raise InputError(f"version must be {VERSION}, not {version}")


def _member(kind: type[Member], name: str, value: int) -> Member:
    try:
        return kind(value)
    except ValueError:
        raise InputError(
            f"{name} must be one of {', '.join(f'{m.value} ({m.name})' for m in kind)}, not {value}"
        ) from None
