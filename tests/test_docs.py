# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The documentation: its lines, its pictures and figures are what their sources make, and its site builds
without a warning and without a link that leads nowhere.
"""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from spigate.firmware_py import cli
from tests import test_layout

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for each in ("docs", "examples", "tests/data") for page in (ROOT / each).rglob("*.md")),
    ]
)
WIDTH = 110


def loaded(path: Path):
    """A script of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


draw, site = loaded(ROOT / "docs/pictures/draw.py"), loaded(ROOT / "docs/site/build.py")


def too_long(text: str) -> list[str]:
    """Lines that a diff cannot show. Rows of tables may be as long as they like, and so may a line that is a
    link alone."""
    return [
        line
        for line in text.splitlines()
        if len(line) > WIDTH and not line.lstrip().startswith("|") and " " in line.strip()
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_are_short(path):
    assert too_long(path.read_text()) == []


def test_a_long_line_is_found():
    assert too_long(f"{'word ' * 22}x\n| {'cell ' * 40}|\n") == [f"{'word ' * 22}x"]


@pytest.mark.parametrize("name", draw.PICTURES)
def test_pictures_are_what_the_script_draws(name):
    assert (ROOT / "docs/pictures" / name).read_text() == draw.PICTURES[name]().svg()


def test_no_picture_is_forgotten():
    assert {path.name for path in (ROOT / "docs/pictures").glob("*.svg")} == set(draw.PICTURES)
    shown = "".join(path.read_text() for path in PAGES)
    assert [name for name in draw.PICTURES if f"pictures/{name}" not in shown] == []


def test_the_glossary_has_the_project_s_words_once():
    terms = re.findall(r"^(\S.*)\n: ", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    words = [word.strip() for term in terms for word in term.split(",")]
    assert len(set(words)) == len(words)
    needed = "CFE DFE CE Punt Inject Recirculate SPI SAD SPD CAM Lane Context Beat Generation Guard Rule Route Reason"
    assert set(needed.split()) <= set(words)


def test_each_decision_record_is_listed_and_has_its_parts():
    folder = ROOT / "docs/decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert records and records == re.findall(r"\]\((\d+\S+\.md)\)", (folder / "README.md").read_text())
    for name in records:
        parts = re.findall(r"^\*\*(\w+)\.\*\*", (folder / name).read_text(), re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences", "Rejected"], name


def test_the_rooms_drawn_are_those_that_hold():
    """In the order in which they may import each other."""
    table = (ROOT / "docs/architecture.md").read_text().partition("| room |")[2].partition("\n\n")[0]
    drawn = [
        name.rstrip("/").replace("/", ".")
        for row in table.splitlines()[2:]
        for name in re.findall(r"`([\w/]+)`", row.split("|")[1])
    ]
    assert drawn == [
        room.removeprefix("firmware_py.") for room in test_layout.ROOMS if room.startswith("firmware_py.")
    ]


def test_the_navigation_has_the_pages_that_are_there_once(tmp_path):
    for name in ("README.md", "docs/a.md", "docs/new.md", "index.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# Page\n")
    made = site.navigation("# Site\n\nREADME.md\ndocs/a.md\ndocs/gone.md\n\nREST\n", tmp_path)
    assert made.splitlines() == ["# Site", "", "README.md", "docs/a.md", "", "docs/new.md"]


def test_a_page_with_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="here">a</h1><a href="#here"></a><a href="b.html#there"></a><a href="c.html"></a>'
        '<a href="b.html#here"></a><a href="https://example.org/x"></a><img src="none.svg">'
    )
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    assert list(site.dead_links(tmp_path)) == [
        "a.html: c.html leads to no file",
        "a.html: b.html#here leads to no heading of that name",
        "a.html: none.svg leads to no file",
    ]


def shown_commands() -> list[tuple[str, list[str]]]:
    """Page and arguments of each ``spigate`` that a page shows as a command on a line of its own."""
    found = []
    for path in PAGES:
        text = path.read_text().replace("\\\n", " ")
        lines = re.findall(
            r"^ *(?:ip netns exec \w+ )?(?:\.venv/bin/)?(spigate [a-z].*)$", text, re.MULTILINE
        )
        for line in (line for line in lines if "(" not in line):
            words = shlex.split(re.split(r" +(?:#|>|2>|&|\|)", f"{line} ")[0])
            if words[1] in cli.COMMANDS and "..." not in words:
                found.append((path.name, words[1:]))
    return found


@pytest.mark.parametrize(
    ("page", "words"),
    shown_commands(),
    ids=lambda found: " ".join(found) if isinstance(found, list) else found,
)
def test_each_command_shown_is_understood(page, words):
    """Running them takes devices, peers and minutes (test_guide.py runs those of the guides). A word in
    capitals stands for what the reader puts there.
    """
    words = ["7" if word == "N" else word for word in words]
    if words[1:] in (["--help"], ["-h"]):
        return
    try:
        _, unknown = cli.parser(words[0]).parse_known_args(words)
    except SystemExit:
        pytest.fail(f"{page}: spigate {' '.join(words)}")
    assert unknown == [], page


def test_commands_are_found():
    assert len(shown_commands()) > 15


def test_each_make_target_named_is_there():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        (path.name, name)
        for path in PAGES
        for name in re.findall(r"(?:`|^ {4})make (\w+)", path.read_text(), re.MULTILINE)
    }
    assert {name for _, name in named} >= {"demo", "test", "docs", "figures", "registers"}
    assert {(page, name) for page, name in named if name not in targets} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_file_named_is_there(path):
    """Names with a folder of the repository in front; globs name at least one file. The changelog may speak of
    what is gone.
    """
    if path.name == "CHANGELOG.md":
        return
    names = re.findall(
        r"`((?:hdl|sim|firmware_py|boards|tests|docs|examples)/[\w./*-]+)(?:::\w+)?`", path.read_text()
    )
    assert [name for name in names if not list(ROOT.glob(name.rstrip("/")))] == []


@pytest.fixture
def small_site(tmp_path, monkeypatch):
    """A function that builds a site of one page."""
    top = tmp_path / "top"
    (top / "docs").mkdir(parents=True)
    (tmp_path / "site").mkdir()
    (top / "sim").mkdir()
    (top / "sim/a.v").write_text("module a; endmodule\n")
    conf = (ROOT / "docs/site/conf.py").read_text()
    (tmp_path / "site/conf.py").write_text(conf)

    def build(text: str) -> int:
        (tmp_path / "site/index.md").write_text(
            "# Site\n\n```{toctree}\ndocs/page.md\nmodules/index.md\n```\n"
        )
        (top / "docs/page.md").write_text(text)
        monkeypatch.setattr(site, "TOP", top)
        monkeypatch.setattr(site, "SITE", tmp_path / "site")
        monkeypatch.setattr(site, "HALVES", {"spigate.hdl.axi": "A small package"})
        return site.build(tmp_path / "out")

    return build


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("# Page\n\n## Part\n\n[here](#part) [a file](../sim/a.v)\n", 0),
        ("# Page\n\n[nowhere](other.md)\n", 1),
        ("# Page\n\n[nowhere](#part)\n", 1),
        ("# Page\n\n![nothing](none.svg)\n", 1),
        ("# Page\n\n```{nothing}\n```\n", 1),
    ],
    ids=["whole", "no page", "no heading", "no picture", "no directive"],
)
def test_a_site_with_a_fault_fails(small_site, text, failed):
    assert small_site(text) == failed


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    """All of it, with the docstrings of every module, in a process of its own as ``make docs`` does."""
    command = [sys.executable, ROOT / "docs/site/build.py", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "html/registers/index.html").is_file()
    assert "class=" in (tmp_path / "html/modules/spigate.hdl.html").read_text()
    assert json.loads((ROOT / "docs/figures/measured.json").read_text())
