# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What the control element says when something it was given is wrong. All of them are
:class:`SpigateError`.
"""


class SpigateError(Exception):
    """Anything that the user of spigate can put right."""


class InputError(SpigateError, ValueError):
    """A file, text or value that is not what it must be; the message says where, what was expected, and what
    was found."""


class UnsupportedError(SpigateError):
    """Sound, but beyond what this gateware, or this version of the software path, can do; the message names
    it.
    """


class TableFull(SpigateError):
    """A table of the gateway has no room; the message names the table and its size."""


class ToolMissing(SpigateError):
    """A program that is needed is not installed; the message says what to install."""


class Unsound(SpigateError):
    """What a gateway did does not add up, or it does nothing any more."""


def not_installed(error: ModuleNotFoundError, extra: str) -> str:
    """What to install, where a module is missing that an ``extra`` of the package brings (``""``: that it
    needs itself).
    """
    if error.name is None:
        return str(error)
    wanted = f"spigate[{extra}]" if extra else "spigate"
    return f"{error.name.partition('.')[0]} is not installed: pip install '{wanted}'"
