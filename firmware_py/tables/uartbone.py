# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The bytes of LiteX's UARTBone (litex 2024.12, ``litex/tools/remote/comm_uart.py``). Sans-I/O.

A command is a byte, a length in words, the number of the first word (4 bytes), and for writes the words; all
high byte first. A read is answered by its words, a write by nothing.
"""

import struct
from collections.abc import Sequence

WRITE, READ = 1, 2
"""Commands whose addresses go on from word to word."""
MAX_WORDS = 255
"""As many has one command."""
_HEAD = struct.Struct(">BBI")
COMMAND_BYTES, WORD_BYTES = _HEAD.size, 4


def write(address: int, words: Sequence[int]) -> bytes:
    """Commands that write ``words`` from byte address ``address`` on."""
    return b"".join(
        _HEAD.pack(WRITE, len(part), address // WORD_BYTES + at) + struct.pack(f">{len(part)}I", *part)
        for at in range(0, len(words), MAX_WORDS)
        for part in [words[at : at + MAX_WORDS]]
    )


def read(address: int, count: int) -> bytes:
    """Commands that read ``count`` words from byte address ``address`` on."""
    return b"".join(
        _HEAD.pack(READ, min(MAX_WORDS, count - at), address // WORD_BYTES + at)
        for at in range(0, count, MAX_WORDS)
    )


def summed(address: int, words: Sequence[int]) -> bytes:
    """What the register ``link.crc`` is computed over when these words are written."""
    return b"".join(struct.pack(">II", address // WORD_BYTES + at, word) for at, word in enumerate(words))


def unpack(data: bytes) -> list[int]:
    """The words of an answer."""
    return list(struct.unpack(f">{len(data) // WORD_BYTES}I", data))
