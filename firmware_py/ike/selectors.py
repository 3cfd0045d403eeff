"""Traffic selectors (RFC 7296 2.9, 3.13) and the project's :class:`Selectors`: ranges to prefixes, and narrowing."""
from collections.abc import Sequence

from spigate.firmware_py.ike.payloads import TrafficSelector, TrafficSelectors, TsI, TsR
from spigate.firmware_py.sa import Selectors


def payloads(selectors: Sequence[Selectors]) -> tuple[TsI, TsR]:
    """TSi and TSr that say traffic from source (initiator's side) to destination (responder's side)."""
    raise NotImplementedError


def to_selectors(tsi: TrafficSelectors, tsr: TrafficSelectors, *, limit: int = 64) -> tuple[Selectors, ...]:
    """The traffic of TSi and TSr, source on the initiator's side, ranges as prefixes. Raises TsUnacceptable where more
    than ``limit`` would be needed, or there is none."""
    raise NotImplementedError


def narrow(tsi: TrafficSelectors, tsr: TrafficSelectors, ours: Sequence[Selectors]) -> tuple[TsI, TsR]:
    """The responder's answer: the largest subset of the offer that ``ours`` allows (source: the initiator's side).

    A first selector of the offer that is one packet's (2.9) decides which of ours is used. Raises TsUnacceptable.
    """
    raise NotImplementedError


def check(tsi: TrafficSelectors, tsr: TrafficSelectors, offered: tuple[TsI, TsR]) -> None:
    """Whether an answer is within what was offered. Raises TsUnacceptable."""
    raise NotImplementedError


def reverse(selectors: Sequence[Selectors]) -> tuple[Selectors, ...]:
    """The same traffic, seen from the other side."""
    raise NotImplementedError


__all__ = ["TrafficSelector", "check", "narrow", "payloads", "reverse", "to_selectors"]
