# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The 16 bytes in front of every frame on the control element's port.

Where their fields lie says :mod:`spigate.hdl.contract.ce_header`; here they have their meaning.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from spigate.firmware_py.errors import InputError
from spigate.hdl.contract.ce_header import CE_HEADER_BYTES, CE_VERSION, INJECT, PUNT, Fields
from spigate.hdl.contract.constants import ALIGN
from spigate.hdl.contract.enums import Port, PuntClass, Reason
from spigate.hdl.contract.reasons import class_of

Member = TypeVar("Member", bound=IntEnum)


class InjectMode(IntEnum):
    """What the gateway does with an injected frame."""

    CLASSIFY = 0
    """As if it had come in at the port named."""
    DIRECT = 1
    """Out at the port named, as it is."""


@dataclass(frozen=True)
class Place:
    """Where an SA is: a DFE, an index in its SAD, and the generation that tells it from those that had the
    place before.
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
    values = {
        "reason": header.reason,
        "ingress": header.ingress,
        "dfe": header.dfe,
        "sa": header.sa,
        "depth": header.depth,
        "tagged": header.tagged,
        "rule": header.rule or 0,
        "ruled": header.rule is not None,
        "time": header.time,
    }
    return _pack(PUNT, values, header.out_of, frame)


def unpack_punt(data: bytes) -> tuple[PuntHeader, bytes]:
    """Header and frame of what came up.

    Raises
    ------
    InputError
        Too short, another version, or a reason or port that does not exist.
    """
    values, frame = _unpack(PUNT, data)
    header = PuntHeader(
        _member(Reason, "reason", values["reason"]),
        _member(Port, "ingress", values["ingress"]),
        values["dfe"],
        values["sa"],
        values["depth"],
        bool(values["tagged"]),
        values["time"],
        _place(values),
        values["rule"] if values["ruled"] else None,
    )
    return header, frame


def punt_class(data: bytes) -> PuntClass:
    """The class of a punted frame as it leaves the gateway; of one that is none, the last."""
    return class_of(data[1]) if len(data) > 1 else PuntClass.REST


def pack_inject(header: InjectHeader, frame: bytes) -> bytes:
    """A frame as it goes down to the gateway."""
    values = {"mode": header.mode, "port": header.port, "depth": header.depth}
    return _pack(INJECT, values, header.out_of, frame)


def unpack_inject(data: bytes) -> tuple[InjectHeader, bytes]:
    """Header and frame of what goes down; errors as :func:`unpack_punt`."""
    values, frame = _unpack(INJECT, data)
    mode, port = _member(InjectMode, "mode", values["mode"]), _member(Port, "port", values["port"])
    return InjectHeader(mode, port, values["depth"], _place(values)), frame


def _pack(fields: Fields, values: dict[str, int], out_of: Place | None, frame: bytes) -> bytes:
    values["version"] = CE_VERSION
    if out_of is not None:
        values |= {
            "from_sa": out_of.sa,
            "from_dfe": out_of.dfe,
            "from_valid": 1,
            "from_generation": out_of.generation,
        }
    return fields.pack(values) + bytes(ALIGN) + frame


def _unpack(fields: Fields, data: bytes) -> tuple[dict[str, int], bytes]:
    if len(data) <= CE_HEADER_BYTES + ALIGN:
        raise InputError(
            f"A frame at the control element's port must be longer than {CE_HEADER_BYTES + ALIGN} bytes, "
            f"not {len(data)}"
        )
    values = fields.unpack(data[:CE_HEADER_BYTES])
    if values["version"] != CE_VERSION:
        raise InputError(f"version must be {CE_VERSION}, not {values['version']}")
    return values, bytes(data[CE_HEADER_BYTES + ALIGN :])


def _place(values: dict[str, int]) -> Place | None:
    if not values["from_valid"]:
        return None
    return Place(values["from_dfe"], values["from_sa"], values["from_generation"])


def _member(kind: type[Member], name: str, value: int) -> Member:
    try:
        return kind(value)
    except ValueError:
        raise InputError(
            f"{name} must be one of {', '.join(f'{m.value} ({m.name})' for m in kind)}, not {value}"
        ) from None
