"""How suggested commands invoke the program."""

from __future__ import annotations

import sys

import pytest

from sparsesearch.console.streams import program


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["status", "digits"], ""),
        (["--server", "http://host:8000", "status"], " --server http://host:8000"),
        (["--server=http://host:8000/a b", "status"], " '--server=http://host:8000/a b'"),
        (["run", "--server"], ""),
        (["--server"], " --server"),
    ],
)
def test_with_the_server_that_it_was_called_with(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["sparsesearch", *arguments])
    assert program().removeprefix("sparsesearch") == expected
