# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate sas``, ``ike``, ``policies``, ``events``, ``initiate``, ``terminate``, ``rekey``: what an
operator asks a running gateway over its control socket."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spigate.firmware_py import terminal
from spigate.firmware_py.daemon.control_socket import CONTROL, ask

Arguments = Callable[[argparse.ArgumentParser], None]


class Command:
    """One subcommand.

    Parameters
    ----------
    name : str
        Of the request.
    arguments : callable or None
        Adds the subcommand's own arguments.
    empty : str
        What a person is told where there are no rows.
    columns : tuple of str
        Those of the table that fit 80 characters; ``--wide`` is for all of them.
    """

    def __init__(
        self,
        name: str,
        arguments: Arguments | None = None,
        *,
        empty: str = "",
        columns: tuple[str, ...] = (),
    ):
        self._name, self._arguments, self._empty, self._columns = name, arguments, empty, columns

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        if self._arguments is not None:
            self._arguments(parser)
        parser.add_argument(
            "--socket", type=Path, default=Path(CONTROL), help=f"control socket of the gateway ({CONTROL})"
        )
        parser.add_argument("--json", action="store_true", help="JSON, one object a line, instead of a table")
        if self._columns:
            parser.add_argument("--wide", action="store_true", help="all columns")

    def run(self, args: argparse.Namespace) -> int:
        request: dict[str, object] = {"command": self._name}
        if "name" in args:
            peer, _, child = args.name.partition("/")
            request |= {"peer": peer, **({"child": child} if child else {})}
        if getattr(args, "follow", False):
            request["follow"] = True
        rows = ask(args.socket, **request)
        if args.json:
            for row in rows:
                print(json.dumps(row), flush=True)
        elif self._name == "events":
            _lines(rows)
        else:
            shown = list(rows) if not self._columns or args.wide else [self._narrow(row) for row in rows]
            lines = terminal.table(shown, terminal.width())
            for line in lines:
                print(line)
            if self._empty and not lines:
                print(self._empty, file=sys.stderr)
        return 0

    def _narrow(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that fit; of ``where`` without the reason."""
        found = {name: row[name] for name in self._columns if name in row} or dict(row)
        if "where" in found:
            found["where"] = found["where"].partition(":")[0]
        return found


def _lines(rows: Iterator[dict[str, Any]]) -> None:
    for row in rows:
        who = "/".join(filter(None, (row["peer"], row["child"])))
        print(f"{row['time']} {row['kind']:13} {who}: {row['text']}", flush=True)


def _follow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on with what happens from now on")


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", type=_name, metavar="NAME", help="a peer, or PEER/CHILD for its child SAs of that name"
    )


def _name(text: str) -> str:
    if not text or text.startswith("/"):
        raise argparse.ArgumentTypeError(f"expected a peer, or PEER/CHILD, not {text!r}")
    return text


sas = Command(
    "sas",
    empty="no SAs",
    columns=("peer", "child", "direction", "protocol", "spi", "packets", "where"),
)
ike = Command("ike", empty="no IKE SAs", columns=("peer", "state", "remote", "children", "seconds"))
policies = Command(
    "policies",
    empty="no policies",
    columns=("direction", "action", "source", "destination", "protocol", "ports"),
)
events = Command("events", _follow)
initiate, terminate, rekey = (Command(name, _named) for name in ("initiate", "terminate", "rekey"))
