# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Makes ``enums.py`` of the RDL files: ``make registers``."""

import textwrap

from spigate.hdl.contract import rdl

HEAD = '''# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The enumerations of the RDL files, for gateware and host.

Made of them by ``make registers``: change them there.
"""

from enum import IntEnum'''
WIDTH = 100


def source() -> str:
    """The text of ``enums.py``."""
    parts = [HEAD]
    for name, members in rdl.encodings().items():
        parts += ["", "", f"class {rdl.class_name(name)}(IntEnum):", f'    """``{name}``"""', ""]
        for member in members:
            parts.append(f"    {member.name} = {member.value}")
            if member.description:
                parts += textwrap.wrap(
                    f'"""{member.description}"""', WIDTH, initial_indent="    ", subsequent_indent="    "
                )
    parts += [
        "",
        "",
        "TRAITS = {",
        *(f"    Reason.{member.name}: {_tuple(member.traits)}," for member in rdl.encodings()["reason_e"]),
        "}",
        '"""What ``entries.rdl`` says in the names of reasons."""',
    ]
    return "\n".join(parts) + "\n"


def _tuple(words: tuple[str, ...]) -> str:
    """As the formatter writes it."""
    text = ", ".join(f'"{word}"' for word in words)
    return f"({text},)" if len(words) == 1 else f"({text})"


def main() -> None:
    (rdl.FOLDER / "enums.py").write_text(source())


if __name__ == "__main__":
    main()
