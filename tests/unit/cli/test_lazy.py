"""Commands are listed without their modules, and listed as they are."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest
import typer
from typer.main import get_command, get_group

from sparsesearch.cli.app import COMMANDS, app


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from sparsesearch.cli import main; main()"
    variables = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code, *arguments], env=variables, capture_output=True, text=True)


@pytest.mark.parametrize("listed", COMMANDS, ids=lambda listed: listed.name)
def test_listed_help_is_that_of_the_command(listed) -> None:
    group = get_command(app)
    context = typer.Context(group)
    name, command, rest = group.resolve_command(context, [listed.name, "rest"])
    assert (name, command.name, rest) == (listed.name, listed.name, ["rest"])
    assert command.rich_help_panel == listed.panel
    assert " ".join(inspect.cleandoc(command.help).split("\n\n")[0].split()) == listed.help


def test_help_of_the_program_loads_no_command() -> None:
    code = "import sys; import sparsesearch.cli.app; print(*(m for m in sys.modules if m.startswith('sparsesearch')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    commands = {listed.module for listed in COMMANDS}
    assert set(done.stdout.split()) & commands == set()


@pytest.mark.parametrize(
    ("words", "expected"),
    [("sparsesearch co", "cost"), ("sparsesearch spaces va", "validate"), ("sparsesearch cost --back", "--backbone")],
)
def test_shell_completion(words: str, expected: str) -> None:
    done = run([], _SPARSESEARCH_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=words)
    assert expected in done.stdout, done.stderr


def test_a_command_that_does_not_exist() -> None:
    done = run(["costs"])
    assert done.returncode == 2
    assert "no such command 'costs'. Did you mean 'cost'" in done.stderr


def test_groups_have_their_commands() -> None:
    names = {
        listed.name: set(get_group(found).commands)
        for listed in COMMANDS
        if listed.attribute == "app" and isinstance(found := listed.load(), typer.Typer)
    }
    assert names["spaces"] == {"show", "validate", "size"}
    assert sorted(names) == ["data", "db", "mlflow", "profile", "spaces", "token", "weights"]
