"""The house: what lies where, how long files are, and words that are not used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "sparsesearch"
FILES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = ("ledger", "warehouse", "roster", "mending", "wishes", "strays", "unrest", "dearest", "sight")
MAX_LINES = 300
MAX_LOOSE_FILES = 7


@pytest.mark.parametrize("word", FORBIDDEN)
def test_words_that_have_better_ones_do_not_occur(word: str) -> None:
    pattern = re.compile(rf"(?<![a-z]){word}s?(?![a-z])", re.IGNORECASE)
    found = [
        str(path) for path in FILES if pattern.search(path.read_text(encoding="utf-8")) or pattern.search(path.stem)
    ]
    assert found == []


def test_files_are_short() -> None:
    counted = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: count for path, count in counted.items() if count > MAX_LINES} == {}


def test_few_files_are_outside_packages() -> None:
    loose = {path.name for path in PACKAGE.iterdir() if path.is_file()} - {"__init__.py", "__main__.py", "py.typed"}
    assert len(loose) <= MAX_LOOSE_FILES, sorted(loose)


def test_every_package_says_what_it_is_for() -> None:
    for init in PACKAGE.rglob("__init__.py"):
        assert init.read_text(encoding="utf-8").startswith('"""'), init
