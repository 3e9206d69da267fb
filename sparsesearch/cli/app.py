"""All commands."""

from __future__ import annotations

import typer

from sparsesearch import __version__
from sparsesearch.cli import (
    bench,
    cost,
    db,
    export,
    import_checkpoint,
    init,
    measure,
    profile,
    report,
    run,
    spaces,
    status,
    studies,
    tracking,
    visualize,
)

app = typer.Typer(
    name="sparsesearch",
    help="Find the best token-sparsification schedule of a vision backbone under a budget.\n\n"
    "Start with:  sparsesearch run --backbone deit_pico --budget 35%",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SEARCH, _LOOK, _USE, _MORE = "Search", "Look at studies", "Use what was found", "Costs, spaces, database"

app.command(rich_help_panel=_SEARCH)(run.run)
app.command(rich_help_panel=_SEARCH)(run.resume)
app.command(rich_help_panel=_SEARCH)(init.init)
app.command(rich_help_panel=_LOOK)(status.status)
app.command(rich_help_panel=_LOOK)(studies.studies)
app.command(rich_help_panel=_LOOK)(studies.show)
app.command(rich_help_panel=_LOOK)(studies.trials)
app.command(rich_help_panel=_LOOK)(studies.front)
app.command(rich_help_panel=_LOOK)(report.report)
app.command(rich_help_panel=_LOOK)(studies.delete)
app.command(rich_help_panel=_LOOK)(tracking.ui)
app.add_typer(tracking.app, name="mlflow", rich_help_panel=_LOOK)
app.command(rich_help_panel=_USE)(export.export)
app.command(rich_help_panel=_USE)(export.retrain)
app.command(rich_help_panel=_USE)(bench.bench)
app.command(rich_help_panel=_USE)(measure.measure)
app.command(rich_help_panel=_USE)(visualize.visualize)
app.command(rich_help_panel=_USE)(import_checkpoint.import_checkpoint)
app.command(rich_help_panel=_MORE)(cost.cost)
app.add_typer(spaces.app, name="spaces", rich_help_panel=_MORE)
app.add_typer(profile.app, name="profile", rich_help_panel=_MORE)
app.add_typer(db.app, name="db", rich_help_panel=_MORE)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sparsesearch {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Find the best token-sparsification schedule of a vision backbone under a budget."""
