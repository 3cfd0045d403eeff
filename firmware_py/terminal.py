# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What is shown to a person, or read by another program, at standard output.

A value in a table is never cut in two: whoever looks for a word with ``grep`` finds it. Where nobody sees
it (a pipe, a file) a row is one line, however long. On a terminal that is narrower than a row, the row goes
on in further lines, and so does the head of the table.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console

GAP = "  "
"""Between two columns, and in front of what goes on in a further line."""
_UNBOUNDED = 1 << 16


def width() -> int | None:
    """Columns of the terminal; None where there is none."""
    return shutil.get_terminal_size().columns if _terminal() else None


def console() -> Console:
    """For progress and framed tables: as wide as the terminal, and folded nowhere where there is none."""
    return Console() if _terminal() else Console(width=_UNBOUNDED)


def _terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def tell(text: str) -> None:
    """Says what is being done, at standard error: standard output is for what comes of it."""
    print(text, file=sys.stderr, flush=True)


def table(rows: Sequence[Mapping[str, object]], width: int | None) -> list[str]:
    """Lines of a table: its head, then the rows.

    Parameters
    ----------
    rows
        With the same keys, the names of the columns. Numbers stand to the right.
    width
        So long a line may be, if no value is longer; None: any length.
    """
    if not rows:
        return []
    cells = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    numbers = [any(type(row[name]) is int for row in rows) for name in rows[0]]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    parts = _parts(widths, width)
    return [
        _line(row, widths, numbers, part, indented=at > 0) for row in cells for at, part in enumerate(parts)
    ]


def _parts(widths: list[int], limit: int | None) -> list[range]:
    """The columns of each line of a row."""
    begins, used = [0], widths[0]
    for at, each in enumerate(widths[1:], 1):
        used += len(GAP) + each
        if limit is not None and used > limit:
            begins.append(at)
            used = len(GAP) + each
    return [range(*ends) for ends in zip(begins, [*begins[1:], len(widths)], strict=True)]


def _line(row: list[str], widths: list[int], numbers: list[bool], part: range, *, indented: bool) -> str:
    padded = []
    for at in part:
        blanks = " " * (widths[at] - cell_len(row[at]))
        padded.append(blanks + row[at] if numbers[at] else row[at] + blanks)
    return (GAP * indented + GAP.join(padded)).rstrip()


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)
