# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The SAs that the control element has (RFC 4301 4.4.2), at work or not."""

from collections.abc import Iterable, Iterator

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ipsec.packet import Refused
from spigate.firmware_py.ipsec.policy import Policy
from spigate.firmware_py.ipsec.sa import Identity, Sa
from spigate.hdl.contract.enums import Direction, Reason


class SaDatabase:
    """SAs by their names, in the order in which they came."""

    def __init__(self) -> None:
        self._sas: dict[Identity, Sa] = {}
        self._born: dict[Identity, float] = {}
        self._chains: dict[Policy, list[Sa]] = {}

    def __iter__(self) -> Iterator[Sa]:
        return iter(self._sas.values())

    def add(self, sa: Sa, now: float) -> None:
        """Takes up ``sa``, whose life begins ``now``.

        Raises
        ------
        InputError
            There is one with the same {destination, protocol, SPI}.
        """
        if sa.identity in self._sas:
            raise InputError(f"There is already an SA with the name of {sa}")
        self._sas[sa.identity], self._born[sa.identity] = sa, now
        self._chains.clear()

    def remove(self, sa: Sa) -> None:
        """Gives up ``sa``; nothing happens where it is not there, or another one has its name."""
        if self._sas.get(sa.identity) == sa:
            del self._sas[sa.identity], self._born[sa.identity]
            self._chains.clear()

    def replace(self, old: Sa, new: Sa) -> None:
        """Puts ``new`` in the place of ``old``, at its age.

        Raises
        ------
        InputError
            ``old`` is not there, or there is another SA with the name of ``new``.
        """
        if self._sas.get(old.identity) != old:
            raise InputError(f"There is no {old}")
        if new.identity != old.identity and new.identity in self._sas:
            raise InputError(f"There is already an SA with the name of {new}")
        self._sas = {
            sa.identity: sa
            for sa in (new if sa is self._sas[old.identity] else sa for sa in self._sas.values())
        }
        self._born[new.identity] = self._born.pop(old.identity)
        self._chains.clear()

    def inbound(self, identity: Identity) -> Sa | None:
        """The inbound SA of that name."""
        sa = self._sas.get(identity)
        return sa if sa and sa.direction == Direction.INBOUND else None

    def outbound(self, policies: Iterable[Policy]) -> list[Sa]:
        """The newest SA that each template of one of ``policies`` accepts, innermost first. Of several
        policies it is the one whose outermost SA is the newest: a peer that has come back without a word
        answers on that one alone.

        Raises
        ------
        Refused
            NO_SA: there is none for a template that is not optional, or for none of them.
        """
        chains = [chain for policy in policies if (chain := self._chain(policy))]
        if not chains:
            raise Refused(Reason.NO_SA)
        if len(chains) == 1:
            return chains[0]
        ages = {identity: age for age, identity in enumerate(self._sas)}
        return max(chains, key=lambda chain: ages[chain[-1].identity])

    def _chain(self, policy: Policy) -> list[Sa]:
        if policy not in self._chains:
            chain: list[Sa] = []
            for template in policy.templates:
                sa = next(
                    (
                        sa
                        for sa in reversed(self._sas.values())
                        if sa.direction == Direction.OUTBOUND and template.accepts(sa)
                    ),
                    None,
                )
                if sa is None and not template.optional:
                    chain = []
                    break
                chain += [sa] if sa else []
            self._chains[policy] = chain
        return self._chains[policy]

    def over(self, now: float) -> list[Sa]:
        """Those whose hard lifetime in seconds is over."""
        return [
            sa
            for identity, sa in self._sas.items()
            if sa.hard.seconds is not None and now - self._born[identity] >= sa.hard.seconds
        ]
