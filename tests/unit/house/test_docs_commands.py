"""The commands of the pages exist, with the options that they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer._click.exceptions import UsageError  # typer carries its own click

from sparsesearch.cli.app import app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "spaces").glob("*.md")]
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
LANGUAGES = {"", "sh", "bash", "console", "yaml"}
INLINE = re.compile(r"`(sparsesearch [^`]+)`")
COMMAND = re.compile(r"(?:^|[\s\"(])sparsesearch (?![&|])([^#|&;)>\"]*)")
OPTIONAL = re.compile(r"\[(--[^\]]*)\]")


def commands_of(text: str) -> Iterator[str]:
    """What follows `sparsesearch` in blocks of code and in code within text."""
    for language, block in BLOCK.findall(text):
        if language not in LANGUAGES:
            continue
        lines = re.sub(r"\\\n\s*", " ", block)
        lines = re.sub(r"^\s*#.*$", "", lines, flags=re.MULTILINE)
        lines = re.sub(r"\n {4}(?=--)", " ", lines)  # folded text of YAML
        for line in lines.splitlines():
            yield from (found.strip() for found in COMMAND.findall(line))
    for inline in INLINE.findall(text):
        yield " ".join(inline.split()).removeprefix("sparsesearch ")


def pages_with_commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for command in commands_of(page.read_text(encoding="utf-8")):
            if re.match(r"[a-z]", command):
                found.append((page.name, OPTIONAL.sub(r"\1", command)))
    return sorted(set(found))


def test_commands_are_found_in_pages() -> None:
    found = pages_with_commands()
    assert len(found) > 100
    assert len({page for page, _ in found}) > 15


@pytest.mark.parametrize(("page", "command"), pages_with_commands())
def test_command_of_a_page_has_its_options(page: str, command: str) -> None:
    group = typer.main.get_command(app)
    words = shlex.split(command)
    context = group.make_context("sparsesearch", list(words), resilient_parsing=True)
    try:
        while words and hasattr(group, "resolve_command"):
            group.parse_args(context, words)
            words = [*context._protected_args, *context.args]
            if not words:
                return
            name, group, words = group.resolve_command(context, words)
            context = type(context)(group, parent=context, info_name=name)
        group.make_parser(context).parse_args(args=list(words))
    except UsageError as error:
        pytest.fail(f"{page}: sparsesearch {command}: {error.format_message()}")
