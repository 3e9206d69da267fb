"""A group of commands whose modules are imported when a command is used, not when commands are listed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


@dataclass(frozen=True)
class Listed:
    """A command, or group of commands, as it is listed.

    Attributes:
        name: Its name.
        module: Module that defines it.
        attribute: Name of the function, or of the `typer.Typer` of a group, in this module.
        panel: Panel of the help in which it is listed.
        help: The first paragraph of its help.
    """

    name: str
    module: str
    attribute: str
    panel: str
    help: str

    def load(self) -> Any:
        """Import the function, or the `typer.Typer`."""
        return getattr(import_module(self.module), self.attribute)


class ListedCommand(TyperCommand):
    """A command that can be listed but not run.

    Args:
        listed: How it is listed.
        markup: Markup of help texts.
    """

    def __init__(self, listed: Listed, *, markup: Any) -> None:
        super().__init__(listed.name, help=listed.help, rich_help_panel=listed.panel, rich_markup_mode=markup)
        self._listed = listed

    def load(self) -> Any:
        """Import the command or group."""
        listed = self._listed
        found = listed.load()
        owner = typer.Typer(rich_markup_mode=self.rich_markup_mode, pretty_exceptions_enable=False)
        owner.callback()(_no_options)  # with a callback, a single command is a command of a group
        if isinstance(found, typer.Typer):
            owner.add_typer(found, name=listed.name, rich_help_panel=listed.panel)
        else:
            owner.command(listed.name, rich_help_panel=listed.panel)(found)
        return get_group(owner).commands[listed.name]


class LazyGroup(TyperGroup):
    """A group that imports a command when the command line names it. Subclasses set `LISTED`."""

    LISTED: ClassVar[tuple[Listed, ...]] = ()

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for listed in self.LISTED:
            self.add_command(ListedCommand(listed, markup=self.rich_markup_mode))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, ListedCommand) else command, rest


def _no_options() -> None:
    """Take no options."""
