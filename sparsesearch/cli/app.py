"""The command-line application, with all commands."""

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
    stop,
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

_SEARCH, _VIEW, _USE, _MORE = "Search", "Inspect studies", "Use the results", "Costs, spaces, database"

app.command(rich_help_panel=_SEARCH)(run.run)
app.command(rich_help_panel=_SEARCH)(run.resume)
app.command(rich_help_panel=_SEARCH)(stop.stop)
app.command(rich_help_panel=_SEARCH)(stop.pause)
app.command(rich_help_panel=_SEARCH)(stop.cancel)
app.command(rich_help_panel=_SEARCH)(init.init)
app.command(rich_help_panel=_VIEW)(status.status)
app.command(rich_help_panel=_VIEW)(studies.studies)
app.command(rich_help_panel=_VIEW)(studies.show)
app.command(rich_help_panel=_VIEW)(studies.trials)
app.command(rich_help_panel=_VIEW)(studies.front)
app.command(rich_help_panel=_VIEW)(report.report)
app.command(rich_help_panel=_VIEW)(studies.delete)
app.command(rich_help_panel=_VIEW)(tracking.ui)
app.add_typer(tracking.app, name="mlflow", rich_help_panel=_VIEW)
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


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"sparsesearch {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Find the best token-sparsification schedule of a vision backbone under a budget."""
