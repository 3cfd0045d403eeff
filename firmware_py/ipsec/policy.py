# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The Security Policy Database (RFC 4301 4.4.1): ordered policies, and what they say about a packet."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, repeat

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.sa import Address, Sa, Selectors
from spigate.hdl.contract.enums import Mode
from spigate.hdl.contract.protocols import AH, ESP


class PolicyDirection(StrEnum):
    """Which packets a policy is about: what is sent, what is received for the gateway's own addresses, what
    is received and forwarded."""

    OUT = "out"
    IN = "in"
    FORWARD = "fwd"


class PolicyAction(StrEnum):
    """What becomes of them."""

    PROTECT = "protect"
    BYPASS = "bypass"
    DISCARD = "discard"


@dataclass(frozen=True, kw_only=True)
class Template:
    """Which SA protects, innermost first where there are several. Unspecified addresses (0.0.0.0) and
    ``reqid`` 0 match every SA."""

    source: Address
    destination: Address
    mode: Mode
    protocol: int = ESP
    reqid: int = 0
    spi: int = 0
    optional: bool = False

    def __post_init__(self) -> None:
        if self.protocol not in (ESP, AH):
            raise InputError(f"template protocol must be 50 (ESP) or 51 (AH), not {self.protocol!r}")

    def accepts(self, sa: Sa) -> bool:
        """Whether ``sa`` is the protection meant."""
        return (
            sa.protocol == self.protocol
            and sa.mode == self.mode
            and self.reqid in (0, sa.reqid)
            and self.spi in (0, sa.spi)
            and (self.source.is_unspecified or sa.source == self.source)
            and (self.destination.is_unspecified or sa.destination == self.destination)
        )


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One entry of the SPD.

    Members
    -------
    selectors : Selectors
    direction : PolicyDirection
    action : PolicyAction
    templates : tuple of Template
        For PROTECT, at least one.
    priority : int
        The lowest decides; among equal ones, the first added. Of PROTECT policies that have their selectors
        in common too, the one whose SA is the newest sends, and each may receive.
    """

    selectors: Selectors
    direction: PolicyDirection
    action: PolicyAction
    templates: tuple[Template, ...] = ()
    priority: int = 0

    def __post_init__(self) -> None:
        if (self.action == PolicyAction.PROTECT) != bool(self.templates):
            raise InputError(
                f"templates must be {'given' if self.action == PolicyAction.PROTECT else 'empty'} "
                f"for action {self.action.value}, not {self.templates!r}"
            )


def exceptions(action: PolicyAction, traffic: Selectors) -> tuple[Policy, Policy]:
    """Policies that bypass or discard ``traffic``, which is sent, and what comes back."""
    back = Selectors(
        traffic.destination, traffic.source, traffic.protocol, traffic.destination_ports, traffic.source_ports
    )
    return (
        Policy(selectors=traffic, direction=PolicyDirection.OUT, action=action),
        Policy(selectors=back, direction=PolicyDirection.IN, action=action),
    )


class PolicyDatabase:
    """Policies in the order in which they decide."""

    def __init__(self, policies: Iterable[Policy] = ()):
        self._ranks: dict[int, dict[Policy, int]] = {}
        for policy in policies:
            self.add(policy)

    def add(self, policy: Policy) -> None:
        """Adds ``policy`` behind all with the same priority or a lower one. One that is there already is
        there once more, at its place: it decides there until it was taken away as often.
        """
        rank = self._ranks.setdefault(policy.priority, {})
        rank[policy] = rank.get(policy, 0) + 1

    def remove(self, policy: Policy) -> None:
        """Takes ``policy`` away, once.

        Raises
        ------
        InputError
            It is not there.
        """
        rank = self._ranks.get(policy.priority, {})
        if policy not in rank:
            raise InputError(f"No such policy: {policy!r}")
        rank[policy] -= 1
        if not rank[policy]:
            del rank[policy]
        if not rank:
            del self._ranks[policy.priority]

    def __iter__(self) -> Iterator[Policy]:
        return chain.from_iterable(
            repeat(policy, times)
            for priority in sorted(self._ranks)
            for policy, times in list(self._ranks[priority].items())
        )

    def __len__(self) -> int:
        return sum(sum(rank.values()) for rank in self._ranks.values())

    def outbound(self) -> list[Policy]:
        """Policies for what is sent, in order."""
        return [policy for policy in self if policy.direction == PolicyDirection.OUT]

    def inbound(self) -> list[Policy]:
        """Policies for what is received, in order, for own addresses and forwarded alike."""
        return [policy for policy in self if policy.direction != PolicyDirection.OUT]
