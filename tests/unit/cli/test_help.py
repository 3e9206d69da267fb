"""Help that teaches: every command has an example, and all of it fits a terminal of 80 columns."""

import pytest
import typer
from typer.testing import CliRunner

from sparsesearch.cli.app import COMMANDS as LISTED
from sparsesearch.cli.app import app


def commands(group, path):
    for command in group.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        yield (*path, name), command.callback


def all_commands():
    for listed in LISTED:
        found = listed.load()
        if isinstance(found, typer.Typer):
            yield from commands(found, (listed.name,))
        else:
            yield (listed.name,), found


COMMANDS = dict(all_commands())


@pytest.fixture
def help_of(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")

    def run(path):
        done = CliRunner().invoke(app, [*path, "--help"])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_all_commands_are_there():
    assert {
        ("run",),
        ("resume",),
        ("status",),
        ("retrain",),
        ("import-checkpoint",),
        ("mlflow", "sync"),
        ("db", "upgrade"),
    } <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_that_fits(path, help_of):
    shown = help_of(path)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80
    assert f"sparsesearch {' '.join(path)}" in COMMANDS[path].__doc__
    examples = [line.strip() for line in COMMANDS[path].__doc__.splitlines() if f"sparsesearch {path[0]} " in line]
    for example in examples:
        if example.startswith("sparsesearch"):
            assert len(example) <= 78, f"{example!r} is broken over two lines and cannot be copied"


def test_the_flags_of_run_are_in_panels(help_of):
    shown = help_of(("run",))
    for panel in ("What to search", "How to search", "Where to run", "Output"):
        assert f"─ {panel} ─" in shown
    options = shown.split("─ Options ─")[1].split("╰")[0]
    assert options.count("--") == 1, "only --help is in no panel"
