# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The control socket: JSON, one object a line, at a UNIX socket that only its owner may use.

A request is ``{"command": "sas"}``, with further keys where the command wants them. The answer is
``{"rows": [...]}``, or ``{"error": "..."}``. ``{"command": "events", "follow": true}`` goes on: one
``{"row": {...}}`` an event.
"""

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spigate.firmware_py.errors import InputError, SpigateError

CONTROL = "/run/spigate.sock"
"""Where it is if nobody says otherwise."""
MAX_REQUEST = 4096
MAX_WAITING = 1000
"""Events that a follower may lag behind; then it is cut off."""
Row = dict[str, object]
"""By the names of a table's columns, what JSON can say."""


class Control:
    """Parameters
    ----------
    path : Path
    commands : dict
        By name, a function of the request's further keys that returns rows; it may raise InputError.
    """

    def __init__(self, path: Path, commands: Mapping[str, Callable[..., list[Row]]]):
        self._path, self._commands = path, commands
        self._followers: set[asyncio.Queue[Row | None]] = set()

    async def __aenter__(self) -> "Control":
        """Raises InputError where another gateway has the socket, or something else than a socket stands
        there.
        """
        if os.path.lexists(self._path):
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise InputError(f"{self._path}: expected a socket, or nothing")
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self._path))
            except OSError:
                self._path.unlink()  # of a process that was killed
            else:
                raise InputError(f"{self._path}: a gateway is running there already")
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=MAX_REQUEST)
        finally:
            os.umask(before)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for queue in list(self._followers):
            queue.put_nowait(None)
        self._path.unlink(missing_ok=True)

    def tell(self, row: Row) -> None:
        """An event, for all that follow them."""
        for queue in list(self._followers):
            if queue.qsize() >= MAX_WAITING:
                self._followers.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(row)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[Row | None] = asyncio.Queue()  # None: cut off
        try:
            while line := await reader.readline():
                answer, follow = self._answer(line)
                if follow:
                    self._followers.add(queue)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
                while follow and (row := await queue.get()) is not None:
                    writer.write(json.dumps({"row": row}).encode() + b"\n")
                    await writer.drain()
                if follow:
                    return
        except (ConnectionError, ValueError):  # it hung up, or its line is too long
            pass
        finally:
            self._followers.discard(queue)
            writer.close()

    def _answer(self, line: bytes) -> tuple[dict[str, object], bool]:
        try:
            request = json.loads(line)
            command = self._commands[request.pop("command")]
            follow = bool(request.pop("follow", False)) and "events" in self._commands
            return {"rows": command(**request)}, follow
        except SpigateError as error:
            return {"error": str(error)}, False
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            expected = ", ".join(self._commands)
            return {
                "error": f"expected an object with a command, one of {expected}, and what that wants"
            }, False


def ask(path: Path, **request: object) -> Iterator[dict[str, Any]]:
    """Rows of the answer of the gateway at ``path``; of a request that follows, for ever. Raises
    InputError.
    """
    with socket.socket(socket.AF_UNIX) as made:
        try:
            made.connect(str(path))
        except OSError as error:
            raise InputError(
                f"{path}: {error.strerror or error}; is spigate ce running, and as this user?"
            ) from None
        made.sendall(json.dumps(request).encode() + b"\n")
        with made.makefile("rb") as lines:
            for line in lines:
                answer = json.loads(line)
                if "error" in answer:
                    raise InputError(answer["error"])
                yield from answer["rows"] if "rows" in answer else [answer["row"]]
                if not request.get("follow"):
                    return
