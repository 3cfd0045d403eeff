# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The header in front of every frame on the control element's port, in both directions.

Its fields stand here once: gateware makes layouts of them (:mod:`spigate.hdl.net.descriptor`), the host
packs and unpacks with them. The first field is in the low bits of byte 0, numbers
are little-endian. Behind the header come :data:`~spigate.hdl.contract.constants.ALIGN` zero bytes, then the
frame.
"""

import struct

_WORDS = {8: "B", 16: "H", 32: "I", 64: "Q"}


class Fields:
    """The fields of a header, from byte 0 on, without gaps.

    Parameters
    ----------
    widths : dict of str to int
        Name and width in bits of each. Those that share bytes fill 8, 16, 32 or 64 bits together.

    Members
    -------
    widths : dict of str to int
    length : int
        Bytes.
    """

    def __init__(self, widths: dict[str, int]):
        self.widths = widths
        code = "<"
        self._words: list[list[tuple[str, int, int]]] = [[]]
        """The fields in each word of the format: name, lowest bit, greatest value."""
        low = 0
        for name, width in widths.items():
            self._words[-1].append((name, low, (1 << width) - 1))
            low += width
            if low in _WORDS:
                code += _WORDS[low]
                self._words.append([])
                low = 0
        if self._words.pop():
            raise ValueError(f"The fields {', '.join(widths)} do not fill whole words")
        self._struct = struct.Struct(code)
        self.length = self._struct.size

    def pack(self, values: dict[str, int]) -> bytes:
        """A header with these values; fields not named are 0.

        Raises
        ------
        ValueError
            A value has no field, or does not fit; the message names the field and its range.
        """
        if not values.keys() <= self.widths.keys():
            unknown = min(values.keys() - self.widths.keys())
            raise ValueError(f"The header has no field {unknown!r}; it has {', '.join(self.widths)}")
        words = []
        for fields in self._words:
            word = 0
            for name, low, greatest in fields:
                value = values.get(name, 0)
                if not 0 <= value <= greatest:
                    raise ValueError(f"{name} must be 0 to {greatest}, not {value!r}")
                word |= value << low
            words.append(word)
        return self._struct.pack(*words)

    def unpack(self, header: bytes) -> dict[str, int]:
        """The values of the fields of ``header``, of just their length."""
        words = self._struct.unpack(header)
        return {
            name: word >> low & greatest
            for word, fields in zip(words, self._words, strict=True)
            for name, low, greatest in fields
        }


CE_VERSION = 1
"""Of both headers; a receiver refuses any other one."""

_OUT_OF = {"from_sa": 16, "from_dfe": 4, "reserved": 3, "from_valid": 1, "from_generation": 8}
PUNT = Fields(
    {
        "version": 8,
        "reason": 8,
        "ingress": 8,
        "dfe": 8,
        "sa": 16,
        "depth": 8,
        "tagged": 1,
        "rule": 6,
        "ruled": 1,
        "time": 32,
        **_OUT_OF,
    }
)
"""In front of a punted frame. ``rule`` is the rule that decided, where ``ruled``. ``from_sa`` to
``from_generation`` say, where ``from_valid``, which SA the frame was decrypted by.
"""
INJECT = Fields({"version": 8, "mode": 8, "port": 8, "depth": 8, **_OUT_OF, "unused": 64})
"""In front of an injected frame. ``mode`` 0: classify it as if it had come in at ``port``; 1: send it out at
``port`` as it is. ``depth`` and ``from_sa`` to ``from_generation`` are those of the punt that it answers.
"""
CE_HEADER_BYTES = PUNT.length
"""Of both."""
