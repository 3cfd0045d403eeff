# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What is kept is within its bound, and what is in use stays, also with several processes at work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spigate.sim import cache

MEGABYTE = 10**6
WORKER = """
import random, sys
from spigate.sim.cache import cached, digest
order = random.Random(int(sys.argv[1]))
held = []
for _ in range(30):
    name = f"models/thing-{digest(order.randrange(12))}"
    with cached(name) as (folder, scratch):
        if scratch:
            (scratch / "data").write_bytes(name.encode() * 20000)
    held.append((folder, name))
    for folder, name in held:
        assert (folder / "data").read_bytes() == name.encode() * 20000
print("whole")
"""


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.FOLDER, str(tmp_path))
    monkeypatch.setattr(cache, "_in_use", {})
    return tmp_path


def name(what: object) -> str:
    return f"models/thing-{cache.digest(what)}"


def run(*arguments: str) -> subprocess.Popen:
    """Another process with the same cache."""
    return subprocess.Popen(
        [sys.executable, "-c", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def make(what: object, megabytes: float = 1, used: int | None = None) -> Path:
    """What another process made and used at a time in seconds; that process is over."""
    code = f"""
from spigate.sim.cache import cached
with cached({name(what)!r}) as (folder, scratch):
    if scratch:
        (scratch / "data").write_bytes(bytes({int(megabytes * MEGABYTE)}))
print(folder)
"""
    worker = run(code)
    folder = Path(worker.communicate()[0].strip())
    assert worker.returncode == 0
    if used is not None:
        os.utime(f"{folder}.lock", (used, used))
    return folder


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "models").iterdir())


def test_what_fails_leaves_nothing(root):
    with pytest.raises(OSError), cache.cached(name("thing")) as (_, scratch):
        (scratch / "half").write_text("")
        raise OSError
    with cache.cached(name("thing")) as (folder, scratch):
        assert scratch
        (scratch / "whole").write_text("")
    with cache.cached(name("thing")) as (folder, scratch):
        assert not scratch and [path.name for path in folder.iterdir()] == ["whole"]


def test_what_was_not_used_for_longest_goes_first(root, monkeypatch):
    kept = [make(at, used=1000 + (at * 7) % 5) for at in range(5)]  # used in the order 0, 3, 1, 4, 2
    make(3)  # and 3 once more
    monkeypatch.setenv(cache.LIMIT, "3")
    cache.shrink()
    assert [folder.exists() for folder in kept] == [False, False, True, True, False]
    assert names(root) == sorted(f"{kept[at].name}{end}" for at in (2, 3) for end in ("", ".lock"))


def test_nothing_goes_within_the_bound(root, monkeypatch):
    kept = [make(at) for at in range(3)]
    monkeypatch.setenv(cache.LIMIT, "4")
    cache.shrink()
    assert all(folder.exists() for folder in kept)


def test_making_one_more_keeps_the_bound(root, monkeypatch):
    monkeypatch.setenv(cache.LIMIT, "3")
    kept = [make(at) for at in range(6)]
    assert [folder.exists() for folder in kept] == [False] * 4 + [True] * 2


def test_what_this_process_uses_stays(root, monkeypatch):
    oldest, other = make("oldest", used=1000), make("other", used=2000)
    with cache.cached(name("oldest")) as (_, scratch):
        assert scratch is None
    os.utime(f"{oldest}.lock", (1000, 1000))
    monkeypatch.setenv(cache.LIMIT, "0")
    cache.shrink()
    assert oldest.exists() and not other.exists()


def test_what_another_process_uses_stays_until_it_ends(root, monkeypatch):
    code = f"""
from spigate.sim.cache import cached
with cached({name("used")!r}) as (folder, scratch):
    (scratch / "data").write_text("used")
print(folder, flush=True)
input()
"""
    with run(code) as other:
        folder = Path(other.stdout.readline().strip())
        monkeypatch.setenv(cache.LIMIT, "0")
        cache.shrink()
        assert (folder / "data").exists()
        other.communicate("\n")
    cache.shrink()
    assert names(root) == []


def test_what_is_being_made_stays_and_what_a_killed_process_left_goes(root, monkeypatch):
    code = f"""
from spigate.sim.cache import cached
with cached({name("half")!r}) as (folder, scratch):
    (scratch / "data").write_bytes(bytes({MEGABYTE}))
    print(scratch, flush=True)
    input()
"""
    with run(code) as other:
        scratch = Path(other.stdout.readline().strip())
        monkeypatch.setenv(cache.LIMIT, "0")
        cache.shrink()
        assert scratch.exists()
        other.kill()
    cache.shrink()
    assert names(root) == []


def test_what_is_no_entry_is_left_alone(root, monkeypatch):
    (root / "project" / "poetry").mkdir(parents=True)
    (root / "project" / "poetry.lock").write_text("mine")
    (root / "project" / "poetry" / "file").write_bytes(bytes(MEGABYTE))
    monkeypatch.setenv(cache.LIMIT, "0")
    cache.shrink()
    assert (root / "project" / "poetry" / "file").exists() and (root / "project" / "poetry.lock").exists()


def test_users_at_once_never_lose_what_they_were_given(root, monkeypatch):
    """Twelve things of 0.6 MB, room for three, four processes that use them at random."""
    monkeypatch.setenv(cache.LIMIT, "2")
    workers = [run(WORKER, str(seed)) for seed in range(4)]
    assert [worker.communicate()[0] for worker in workers] == ["whole\n"] * 4
    cache.shrink()
    assert sum(map(cache._size, (root / "models").iterdir())) <= 2 * MEGABYTE


@pytest.mark.parametrize("text", ["", "-1", "4 GB"])
def test_a_bound_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv(cache.LIMIT, text)
    with pytest.raises(ValueError, match=f"SPIGATE_CACHE_MB must be a number of megabytes, not {text!r}"):
        cache.shrink()
