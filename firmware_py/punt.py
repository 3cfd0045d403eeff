"""The 16 bytes in front of every frame on the control element's port.

They restate ``PuntHeader`` and ``InjectHeader`` of :mod:`spigate.hdl.net.descriptor` for a host without
gateware tools; a test compares the two. Behind the header come two alignment bytes, then the frame.
"""
import struct
from dataclasses import astuple, dataclass
from enum import IntEnum

from spigate.firmware_py.errors import InputError
from spigate.hdl.csr import rdl

Reason = rdl.enum("reason_e")
Port = rdl.enum("port_e")

VERSION = 1
HEADER_BYTES = 16
ALIGN = 2
_PUNT = struct.Struct("<BBBBHBBI4x")
_INJECT = struct.Struct("<BBBB12x")


class InjectMode(IntEnum):
    """What the gateway does with an injected frame."""

    CLASSIFY = 0
    """As if it had come in at the port named."""
    DIRECT = 1
    """Out at the port named, as it is."""


@dataclass(frozen=True)
class PuntHeader:
    """Why and from where a frame comes up. ``dfe`` is the DFE that punts; for a miss the balancer's choice
    for the SA to come."""

    reason: Reason
    ingress: Port
    dfe: int = 0
    sa: int = 0
    depth: int = 0
    tagged: bool = False
    time: int = 0


@dataclass(frozen=True)
class InjectHeader:
    """What is to become of a frame that goes down."""

    mode: InjectMode
    port: Port
    depth: int = 0


def pack_punt(header: PuntHeader, frame: bytes) -> bytes:
    """A punted frame as it leaves the gateway."""
    return _PUNT.pack(VERSION, *astuple(header)) + bytes(ALIGN) + frame


def unpack_punt(data: bytes) -> tuple[PuntHeader, bytes]:
    """Header and frame of what came up.

    Raises
    ------
    InputError
        Too short, another version, or a reason or port that does not exist.
    """
    version, reason, ingress, dfe, sa, depth, tagged, time = _PUNT.unpack(_head(data))
    _check_version(version)
    header = PuntHeader(_member(Reason, "reason", reason), _member(Port, "ingress", ingress), dfe, sa, depth,
                        bool(tagged), time)
    return header, bytes(data[HEADER_BYTES + ALIGN:])


def pack_inject(header: InjectHeader, frame: bytes) -> bytes:
    """A frame as it goes down to the gateway."""
    return _INJECT.pack(VERSION, header.mode, header.port, header.depth) + bytes(ALIGN) + frame


def unpack_inject(data: bytes) -> tuple[InjectHeader, bytes]:
    """Header and frame of what goes down; errors as :func:`unpack_punt`."""
    version, mode, port, depth = _INJECT.unpack(_head(data))
    _check_version(version)
    return (InjectHeader(_member(InjectMode, "mode", mode), _member(Port, "port", port), depth),
            bytes(data[HEADER_BYTES + ALIGN:]))


def _head(data: bytes) -> bytes:
    if len(data) <= HEADER_BYTES + ALIGN:
        raise InputError(f"A frame at the control element's port must be longer than {HEADER_BYTES + ALIGN} bytes, "
                         f"not {len(data)}")
    return data[:HEADER_BYTES]


def _check_version(version: int) -> None:
    if version != VERSION:
        raise InputError(f"version must be {VERSION}, not {version}")


def _member(kind: type[IntEnum], name: str, value: int) -> IntEnum:
    try:
        return kind(value)
    except ValueError:
        raise InputError(f"{name} must be one of {', '.join(f'{m.value} ({m.name})' for m in kind)}, "
                         f"not {value}") from None
