# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""docs/api.md: its code, in order, prints what stands there."""

import contextlib
import io
import re
from pathlib import Path

import spigate
from spigate.firmware_py.api.links import SCHEMES

PAGE = (Path(__file__).parents[3] / "docs/api.md").read_text()


def test_every_snippet_prints_what_the_page_says():
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S)
    given, printed = {}, ""
    for kind, text in blocks:
        if kind == "text":
            assert printed == text
            printed = ""
            continue
        assert kind == "python" and not printed
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, "api.md", "exec"), given)
        printed = out.getvalue()
    assert not printed and len(blocks) > 10 and given["gateway"].closed


def test_the_page_names_every_scheme_and_nothing_that_is_not_there():
    assert {f"{name}:" for name in SCHEMES} <= set(re.findall(r"`(\w+:)", PAGE))
    named = set(re.findall(r"\bspigate\.([a-zA-Z]\w*)", PAGE))
    assert named <= set(spigate.__all__), named
