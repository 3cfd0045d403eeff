# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Builds the documentation site: ``python docs/site/build.py FOLDER``.

The sources are those that GitHub shows: the Markdown files at the top of the repository and those of
``docs/``. They are put together in ``FOLDER/source`` in the same places relative to each other, so a link
that works there works here. Beside them come a page for each module, made from its docstrings, and the
register reference. Ends with 1 at a warning of Sphinx and at a link that leads nowhere.
"""

import argparse
import os
import pkgutil
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.cmd.build import build_main

from spigate.hdl.csr import reference

SITE = Path(__file__).resolve().parent
TOP = SITE.parents[1]
HALVES = {
    "spigate.hdl": "The gateware, and what both halves share",
    "spigate.firmware_py": "The control element",
    "spigate.sim": "The simulated board",
    "spigate.boards": "Synthesis",
}
"""Packages that have pages of their own, with a sentence each."""


def packages(half: str) -> dict[str, list[str]]:
    """The modules of each package of a half, by package; none that runs when it is imported."""
    root = pkgutil.resolve_name(half)
    found: dict[str, list[str]] = {half: []}
    for module in pkgutil.walk_packages(root.__path__, f"{half}."):
        if module.ispkg:
            found.setdefault(module.name, [])
        elif not module.name.endswith("__main__"):
            found.setdefault(module.name.rpartition(".")[0], []).append(module.name)
    return {package: sorted(names) for package, names in sorted(found.items())}


def write_api(folder: Path) -> None:
    """A page for each package, with its modules one after the other, and an index of them."""
    folder.mkdir(parents=True)
    index = ["# Modules\n\nMade from the docstrings, a page for each package.\n"]
    for half, words in HALVES.items():
        tree = []
        for package, names in packages(half).items():
            parts = [f"{package}\n{'=' * len(package)}\n\n.. automodule:: {package}\n   :members:\n"]
            for name in names:
                parts.append(f"{name}\n{'-' * len(name)}\n\n.. automodule:: {name}\n   :members:\n")
            (folder / f"{package}.rst").write_text("\n".join(parts))
            tree.append(package)
        lines = "\n".join(tree)
        index.append(f"## {words}\n\n```{{toctree}}\n:maxdepth: 2\n\n{lines}\n```\n")
    (folder / "index.md").write_text("\n".join(index))


def copy_linked(page: Path, folder: Path) -> None:
    """Copies the files of the repository that a page links to and that are no pages: they can be loaded."""
    for link in re.findall(r"\]\(([^)#:\s]+)", page.read_text(encoding="utf-8")):
        target = Path(os.path.normpath(page.parent / link))
        if not target.is_relative_to(folder) or target.exists():
            continue
        original = TOP / target.relative_to(folder)
        if original.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(original, target)


def assemble(folder: Path) -> None:
    """Sphinx's sources: what the repository has, and what is made."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(TOP / "docs", folder / "docs", ignore=shutil.ignore_patterns("site", "__pycache__"))
    for page in TOP.glob("*.md"):
        shutil.copy(page, folder)
    for page in (TOP / "examples").rglob("*.md"):
        (folder / page.relative_to(TOP)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(page, folder / page.relative_to(TOP))
    for page in list(folder.rglob("*.md")):
        copy_linked(page, folder)
    for page in SITE.glob("*.md"):
        shutil.copy(page, folder)
    write_api(folder / "modules")
    index = folder / "index.md"
    index.write_text(navigation(index.read_text(), folder))


def navigation(index: str, folder: Path) -> str:
    """The front page with a toctree of the pages that are there: those that it names and that are not are
    left out, and those that it does not name stand in the place of the word ``REST``.
    """
    lines = index.splitlines()
    named = {line for line in lines if re.fullmatch(r"[\w./-]+\.md", line)}
    there = {str(page.relative_to(folder)) for page in folder.rglob("*.md")} - {"index.md"}
    rest = "\n".join(sorted(there - named))
    return "\n".join(rest if line == "REST" else line for line in lines if line not in named or line in there)


class Page(HTMLParser):
    """The links of a page, and the places in it that links can lead to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.places.add(value)
            elif value and ((tag in ("a", "link") and name == "href") or (tag == "img" and name == "src")):
                self.links.append(value)


def dead_links(html: Path) -> Iterator[str]:
    """Sentences about links within ``html`` that lead to no file, or to no place in it. The register
    reference is another program's, and only asked for the files that lead there.
    """
    pages = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(html.rglob("*.html"))
        if html / "registers" not in path.parents
    }
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = Path(os.path.normpath(path.parent / unquote(parts.path)))
            if target.is_dir():
                target /= "index.html"
            where = f"{path.relative_to(html)}: {link}"
            if not target.is_file():
                yield f"{where} leads to no file"
            elif (place := unquote(parts.fragment)) and target in pages and place not in pages[target].places:
                yield f"{where} leads to no heading of that name"


def build(folder: Path) -> int:
    """The site, in ``folder/html``; 1 where something in it is wrong, else 0."""
    source, html = folder / "source", folder / "html"
    assemble(source)
    shutil.rmtree(html, ignore_errors=True)
    options = ["--fail-on-warning", "--keep-going", "--fresh-env", "--quiet"]
    where = ["--conf-dir", str(SITE), "--doctree-dir", str(folder / "doctrees")]
    failed = build_main([*options, *where, "--builder", "html", str(source), str(html)])
    reference.build(html / "registers")
    dead = list(dead_links(html))
    for sentence in dead:
        print(sentence, file=sys.stderr)
    return int(bool(failed or dead))


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to build; the site is in html/")
    folder = parser.parse_args(argv).folder
    failed = build(folder)
    if not failed:
        print(folder / "html" / "index.html")
    return failed


if __name__ == "__main__":
    sys.exit(main())
