# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Congestion marks, as RFC 6040 prints them: what a tunnel does to the ECN field."""

NAMES = {"Not-ECT": 0, "ECT(1)": 1, "ECT(0)": 2, "CE": 3, "<drop>": None}
"""The field's values (RFC 3168 5)."""
_ENCAPSULATION = """
| Not-ECT |            Not-ECT            |
|  ECT(0) |            ECT(0)             |
|  ECT(1) |            ECT(1)             |
|   CE    |              CE               |
"""
_DECAPSULATION = """
|  Header | Not-ECT | ECT(0)     | ECT(1)     |     CE     |
| Not-ECT | Not-ECT |Not-ECT(!!!)|Not-ECT(!!!)| <drop>(!!!)|
|  ECT(0) |  ECT(0) | ECT(0)     | ECT(1)     |     CE     |
|  ECT(1) |  ECT(1) | ECT(1) (!) | ECT(1)     |     CE     |
|    CE   |      CE |     CE     |     CE(!!!)|     CE     |
"""


def _rows(text: str) -> list[list[str]]:
    return [
        [cell.split("(!")[0].strip() for cell in line.strip("|").split("|")]
        for line in text.strip().splitlines()
    ]


ENCAPSULATION = {NAMES[inner]: NAMES[outer] for inner, outer in _rows(_ENCAPSULATION)}
"""Figure 3, normal mode: the outer field by the inner one."""
_HEAD, *_BODY = _rows(_DECAPSULATION)
DECAPSULATION = {
    (NAMES[inner], NAMES[outer]): NAMES[after]
    for inner, *marks in _BODY
    for outer, after in zip(_HEAD[1:], marks, strict=True)
}
"""Figure 4: the forwarded field by (inner, outer); None: the packet is dropped."""
