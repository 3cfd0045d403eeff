# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The ways to a gateway, by the scheme of its URL: one module each, imported when it is used.

A link's module has ``prepare(url) -> Connect``. It checks the URL and makes what takes long, in the caller's
thread, where Ctrl-C ends it; the :data:`Connect` that it returns connects, in the link's event loop.
"""

import importlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

from spigate.firmware_py.api.inbox import Inbox
from spigate.firmware_py.errors import InputError, SpigateError, ToolMissing, not_installed
from spigate.firmware_py.tables import urls
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.interface import Tables
from spigate.firmware_py.tables.punt import InjectMode, Place
from spigate.firmware_py.words import nearest
from spigate.hdl.contract.enums import Port


class Link(Protocol):
    """A gateway that is connected.

    Members
    -------
    tables : Tables
    inbox : Inbox
        Where the frames that leave it come.
    """

    tables: Tables
    inbox: Inbox

    async def send(self, port: Port, frame: bytes) -> None:
        """Lets ``frame`` come in at NETWORK or SERVER. UnsupportedError where those are not here."""

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None
    ) -> None:
        """Sends ``frame`` down as the control element does."""

    async def check(self) -> None:
        """BusError where the gateway has refused a write since the last time."""

    async def explain(self, error: BusError) -> SpigateError:
        """What is to be told instead of ``error``, which a call has met: where the link knows more."""

    async def close(self) -> None:
        """Leaves no SA of the script's behind, and hangs up."""


Connect = Callable[[], Coroutine[Any, Any, Link]]


@dataclass(frozen=True)
class Scheme:
    """A kind of link. ``form``: its URLs, in words; ``extra``: of the package, that brings what it needs."""

    module: str
    extra: str
    form: str


SCHEMES = {
    "model": Scheme("spigate.firmware_py.api.in_software", "", "model:"),
    "sim": Scheme("spigate.sim.scripted", "sim", "sim:?OPTIONS"),
    **{name: Scheme("spigate.firmware_py.api.at_socket", "", form) for name, form in urls.FORMS.items()},
}


@dataclass(frozen=True)
class Url:
    """Where a gateway is: ``scheme:address?name=value&name=value``."""

    text: str

    @property
    def scheme(self) -> str:
        return self.text.partition(":")[0]

    def options(self, kinds: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
        """The options of a URL without an address, each converted by its kind, by name.

        Raises
        ------
        InputError
            There is an address, or an option that is unknown, or is not what it must be; the message says
            so.
        """
        address, _, query = self.text.partition(":")[2].partition("?")
        if address:
            raise InputError(f"{self.text}: expected {SCHEMES[self.scheme].form}, without {address!r}")
        found: dict[str, Any] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in kinds:
                known = f"one of {', '.join(sorted(kinds))}" if kinds else "none"
                meant = f"; do you mean {near}?" if (near := nearest(name, kinds)) else ""
                raise InputError(f"{self.text}: an option must be {known}, not {name!r}{meant}")
            try:
                found[name] = kinds[name](value)
            except ValueError:
                raise InputError(f"{self.text}: {name} must be a number, not {value!r}") from None
        return found


def prepare(text: str) -> Connect:
    """What connects to the gateway at a URL.

    Raises
    ------
    InputError
        It is none.
    ToolMissing
        The extra of the package is not installed.
    """
    url = Url(text)
    scheme = SCHEMES.get(url.scheme) if ":" in text else None
    if scheme is None:
        forms = ", ".join(scheme.form for scheme in SCHEMES.values())
        raise InputError(f"a gateway is named by {forms}, not {text!r}")
    try:
        made: Connect = importlib.import_module(scheme.module).prepare(url)
    except ModuleNotFoundError as error:
        raise ToolMissing(f"{url.scheme}: {not_installed(error, scheme.extra)}") from None
    return made
