"""Paths as people type them."""

import pytest

from sparsesearch.errors import DataError, UserInputError
from sparsesearch.files.user_path import user_path

LONG = "x" * 300


def test_home_directories_and_relative_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert user_path("~/a") == user_path("a") == tmp_path / "a"
    assert user_path(f"{'x' * 255}/a") == tmp_path / ("x" * 255) / "a"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("~nobody-of-this-name/a", "home directory that is not known"),
        (LONG, "too long for the name of a file"),
        (f"/tmp/{LONG}/a.yaml", "too long for the name of a file"),
        ("é" * 128, "too long for the name of a file"),
    ],
)
def test_what_cannot_be_a_path_is_one_short_line(path, words):
    with pytest.raises(UserInputError, match=words) as found:
        user_path(path)
    assert len(str(found.value)) < 150
    with pytest.raises(DataError):
        user_path(path, error=DataError)
