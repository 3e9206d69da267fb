"""A path that cannot exist is one line, wherever it is given."""

from __future__ import annotations

import pytest
from answers import Command

LONG, NOWHERE = "x" * 400, "~nobody-of-this-name/x"
RUN = "run --backbone deit_pico --budget 35%"


@pytest.mark.parametrize(
    "line",
    [
        f"{RUN} --data {LONG}",
        f"{RUN} --data folder:{LONG}",
        f"{RUN} --data {NOWHERE}",
        f"{RUN} --data folder:{NOWHERE}",
        f"{RUN} --weights {LONG}",
        f"{RUN} --weights {NOWHERE}",
        f"{RUN} --space {LONG}",
        f"{RUN} --storage {LONG}",
        f"{RUN} --storage {NOWHERE}",
        f"{RUN} --database sqlite:///{LONG}",
        f"{RUN} --database sqlite:///{NOWHERE}",
        f"{RUN} --device-profile {LONG}.json",
        f"{RUN} --output {LONG}",
        f"run {LONG}.yaml",
        f"init -o {LONG}",
        f"front x --png {LONG}",
        f"export x -o {LONG}/best.yaml",
        f"profile --backbone deit_pico -o {LONG}",
        f"import-checkpoint {LONG} --backbone deit_pico",
        f"spaces {LONG}",
        f"cost --backbone deit_pico --schedule {LONG}",
        f"doctor --storage {NOWHERE}",
    ],
)
def test_one_line(command: Command, line: str) -> None:
    answer = command(*line.split())
    assert answer.code == 2, answer.err
    *before, last = answer.err.splitlines()
    assert last.startswith("sparsesearch: ")
    assert "internal error" not in last
    assert "Traceback" not in "".join(before)
    assert len(last) < 600


def test_of_the_environment(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESEARCH_HOME", NOWHERE)
    answer = command("studies")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "home directory" in answer.err
