"""What the reference model, a gateway in software, makes of a capture; and whether a gateway did the same."""
import asyncio
from collections import Counter
from dataclasses import dataclass, replace

from spigate.firmware_py.capture import Capture
from spigate.firmware_py.ce import ControlElement
from spigate.firmware_py.errors import Unsound
from spigate.firmware_py.punt import Port, Reason
from spigate.firmware_py.settings import Settings
from spigate.firmware_py.soft.gateway import SoftGateway
from spigate.firmware_py.soft.loop import Loop, SoftPort
from spigate.firmware_py.tables import GATEWARE


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
    control = ControlElement(tables=gateway, port=port, topology=given.topology, sas=given.sas, policies=given.policies,
                             settings=settings)
    loop = Loop(gateway, control, port)

    async def run():
        await control.start()
        for arrival in given.frames:
            await loop.feed(arrival.port, arrival.frame)

    asyncio.run(run())
    return Outcome(loop.sent, loop.drops, control.consumed)


def compare(sent: dict[Port, list[bytes]], report: dict, model: Outcome) -> None:
    """Compares what a gateway sent, and its report, with the model: the same frames, those of a flow in the
    same order, the same drops by reason.

    Raises
    ------
    Unsound
        They differ; the message says in what.
    """
    for port, frames in model.sent.items():
        missing, extra = Counter(frames) - Counter(sent[port]), Counter(sent[port]) - Counter(frames)
        if missing or extra:
            raise Unsound(f"{port.name.lower()} port: {missing.total()} of the model's {len(frames)} frames are missing and "
                          f"{extra.total()} are not the model's, such as {next(iter(extra or missing)).hex()}")
        if flows(sent[port]) != flows(frames):
            raise Unsound(f"{port.name.lower()} port: a flow's frames are in another order than the model's")
    drops = {reason.name.lower(): count for reason, count in model.dropped.items() if count}
    found = {reason: count for reason, count in report["drops"].items() if count}
    if found != drops:
        raise Unsound(f"dropped {found}, the model dropped {drops}")
    if report["consumed"] != dict(model.consumed):
        raise Unsound(f"consumed {report['consumed']}, the model consumed {dict(model.consumed)}")


def flows(frames: list[bytes]) -> dict[bytes, list[bytes]]:
    """Frames of untagged IPv4 by addresses, protocol, and SPI or ports, in their order."""
    found: dict[bytes, list[bytes]] = {}
    for frame in frames:
        at = 14 + 4 * (frame[14] & 15)
        found.setdefault(frame[23:24] + frame[26:34] + frame[at:at + 4], []).append(frame)
    return found
