# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What the reference model, a gateway in software, makes of a capture; and whether a gateway did the same."""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from spigate.firmware_py.captures.capture import Capture
from spigate.firmware_py.control.element import ControlElement
from spigate.firmware_py.control.loop import Loop, SoftPort
from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.errors import Unsound
from spigate.firmware_py.ipsec.identification import SOFTWARE_NUMBERS
from spigate.firmware_py.ipsec.packet import checksum, rewrite
from spigate.firmware_py.ipsec.sa import ESP
from spigate.firmware_py.tables.interface import GATEWARE
from spigate.firmware_py.tables.model import SoftGateway
from spigate.firmware_py.words import counted
from spigate.hdl.contract.enums import Port, Reason


@dataclass(frozen=True)
class Outcome:
    """What left, by port, and what was dropped (by gateway and control element) and consumed."""

    sent: dict[Port, list[bytes]]
    dropped: Counter[Reason]
    consumed: Counter[str]


def expected(given: Capture, settings: Settings, *, dfes: int) -> Outcome:
    """What a gateway with that many DFEs should make of ``given``, one frame after the other."""
    gateway = SoftGateway(capabilities=replace(GATEWARE, dfes=dfes))
    port = SoftPort(gateway)
    control = ControlElement(
        tables=gateway,
        port=port,
        topology=given.topology,
        sas=given.sas,
        policies=given.policies,
        settings=settings,
    )
    loop = Loop(gateway, control, port)

    async def run() -> None:
        await control.start()
        for arrival in given.frames:
            await loop.feed(arrival.port, arrival.frame)

    asyncio.run(run())
    return Outcome(loop.sent, loop.drops, control.consumed)


def compare(sent: dict[Port, list[bytes]], report: dict[str, Any], model: Outcome) -> None:
    """Compares what a gateway sent, and its report, with the model: the same frames, those of a flow in the
    same order, the same drops by reason.

    A DFE's number in the Identification of ESP may be another one, for the model's balancer is not the
    gateway's. Between two addresses none may come twice that does not in the model.

    Raises
    ------
    Unsound
        They differ; the message says in what.
    """
    for port, frames in model.sent.items():
        if identifications(sent[port]) != identifications(frames):
            raise Unsound(
                f"{port.name.lower()} port: an Identification came twice between two addresses, or not "
                f"as often as the model's"
            )
        given, frames = [[unnumbered(frame) for frame in some] for some in (sent[port], frames)]
        missing, extra = Counter(frames) - Counter(given), Counter(given) - Counter(frames)
        if missing or extra:
            raise Unsound(
                f"{port.name.lower()} port: {missing.total()} of the model's {counted(len(frames), 'frame')} "
                f"missing and "
                f"{extra.total()} are not the model's, such as {next(iter(extra or missing)).hex()}"
            )
        if flows(given) != flows(frames):
            raise Unsound(f"{port.name.lower()} port: a flow's frames are in another order than the model's")
    drops = {reason.name.lower(): count for reason, count in model.dropped.items() if count}
    found = {reason: count for reason, count in report["drops"].items() if count}
    if found != drops:
        raise Unsound(f"dropped {found}, the model dropped {drops}")
    if report["consumed"] != dict(model.consumed):
        raise Unsound(f"consumed {report['consumed']}, the model consumed {dict(model.consumed)}")


def numbered(frame: bytes) -> bool:
    """Whether a DFE may have given a frame its Identification: untagged, IPv4, ESP, DF clear, and the
    number is not software's.
    """
    return (
        frame[12:15] == b"\x08\x00\x45"
        and frame[23] == ESP
        and not frame[20] & 0x40
        and int.from_bytes(frame[18:20]) > SOFTWARE_NUMBERS
    )


def unnumbered(frame: bytes) -> bytes:
    """The frame without a DFE's Identification. A wrong header checksum stays as it is."""
    if not numbered(frame) or checksum(frame[14:34]):
        return frame
    return frame[:14] + rewrite(frame[14:], 20, identification=0)


def identifications(frames: list[bytes]) -> Counter[bytes]:
    """How many different ones DFEs gave, by addresses."""
    return Counter(
        addresses for addresses, _ in {(frame[26:34], frame[18:20]) for frame in frames if numbered(frame)}
    )


def flows(frames: list[bytes]) -> dict[bytes, list[bytes]]:
    """Frames of untagged IPv4 by addresses, protocol, and SPI or ports, in their order."""
    found: dict[bytes, list[bytes]] = {}
    for frame in frames:
        at = 14 + 4 * (frame[14] & 15)
        found.setdefault(frame[23:24] + frame[26:34] + frame[at : at + 4], []).append(frame)
    return found
