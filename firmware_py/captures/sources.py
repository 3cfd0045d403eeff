# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The files that a capture is made of: a folder's, or those that somebody names one by one."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from spigate.firmware_py.control.topology import IpFiles
from spigate.firmware_py.errors import InputError


@dataclass(frozen=True)
class File:
    """One of the files. ``names``: in a folder, the first that is there; ``needed``: it must be there."""

    option: str
    names: tuple[str, ...]
    text: str
    needed: bool = False


FILES = {
    "xfrm_state": File("--xfrm-state", ("xfrm-state.txt",), "what `ip xfrm state` printed", True),
    "xfrm_policy": File("--xfrm-policy", ("xfrm-policy.txt",), "what `ip xfrm policy` printed", True),
    "network_pcap": File(
        "--network-pcap",
        ("network-in.pcap", "network-in.pcapng"),
        "frames captured where the peers are, pcap or pcapng",
        True,
    ),
    "server_pcap": File(
        "--server-pcap",
        ("server-in.pcap", "server-in.pcapng"),
        "the same where the protected servers are",
    ),
    "addresses": File("--ip-address", ("addr.json",), "what `ip -j address` printed"),
    "neighbours": File("--ip-neighbour", ("neigh.json",), "what `ip -j neighbour` printed"),
    "routes": File("--ip-route", ("route.json",), "what `ip -j route` printed"),
    "routes6": File("--ip-route6", ("route6.json",), "what `ip -j -6 route` printed"),
    "links": File("--ip-link", ("link.json",), "what `ip -j link` printed"),
}
"""By the names of :class:`Sources`."""
TOGETHER = ("addresses", "neighbours", "routes")
"""All of them, or none."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where a capture stands; see :data:`FILES`. ``network``, ``server``: names of the two interfaces."""

    xfrm_state: Path
    xfrm_policy: Path
    network_pcap: Path
    server_pcap: Path | None = None
    addresses: Path | None = None
    neighbours: Path | None = None
    routes: Path | None = None
    routes6: Path | None = None
    links: Path | None = None
    network: str | None = None
    server: str | None = None

    @property
    def ip(self) -> IpFiles | None:
        """Files about interfaces; None: there are none."""
        if self.addresses is None or self.neighbours is None or self.routes is None:
            return None
        return IpFiles(self.addresses, self.neighbours, self.routes, self.links, self.routes6)

    def texts(self) -> dict[str, str]:
        """As :meth:`of_texts` takes them, with whole paths."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: str(value.resolve()) if isinstance(value, Path) else value
            for name, value in values.items()
            if value is not None
        }

    @classmethod
    def of_texts(cls, texts: Mapping[str, str]) -> "Sources":
        """What :meth:`texts` gave."""
        paths = {name: Path(text) for name, text in texts.items() if name in FILES}
        return cls(**paths, network=texts.get("network"), server=texts.get("server"))


def find(
    folder: Path | None = None,
    named: Mapping[str, Path | None] | None = None,
    *,
    network: str | None = None,
    server: str | None = None,
) -> Sources:
    """Those of ``named``, by :data:`FILES`, and otherwise those of ``folder``.

    Raises
    ------
    InputError
        There is no such folder, or files are missing: the message names all of them.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder")
    found: dict[str, Path] = {}
    missing: list[str] = []
    for key, file in FILES.items():
        given = (named or {}).get(key)
        if given is not None:
            if given.is_file():
                found[key] = given
            else:
                missing.append(f"{given}, {file.text} ({file.option})")
            continue
        there = [] if folder is None else [folder / name for name in file.names if (folder / name).is_file()]
        if there:
            found[key] = there[0]
        elif file.needed:
            missing.append(_shown(folder, file))
    if any(key in found for key in TOGETHER):
        missing += [_shown(folder, FILES[key]) for key in TOGETHER if key not in found]
    if missing:
        raise InputError("a capture lacks " + "; ".join(missing))
    return Sources(**found, network=network, server=server)


def _shown(folder: Path | None, file: File) -> str:
    """A file that is not there: how to give it."""
    if folder is None:
        return f"{file.text} ({file.option} FILE)"
    return f"{folder / file.names[0]}, {file.text} (or {file.option} FILE)"
