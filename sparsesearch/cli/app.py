"""The command-line application, with all commands."""

from __future__ import annotations

import os

import typer

from sparsesearch.cli.lazy import LazyGroup, Listed

_SEARCH, _VIEW, _USE, _MORE = "Search", "Inspect studies", "Use the results", "Costs, spaces, database"
_SERVICE = "Service for a team"


def _listed(name: str, module: str, panel: str, text: str, *, attribute: str | None = None) -> Listed:
    return Listed(name, f"sparsesearch.cli.{module}", attribute or name.replace("-", "_"), panel, text)


COMMANDS = (
    _listed("run", "run", _SEARCH, "Find the best sparsification schedule of a backbone under a budget."),
    _listed(
        "resume",
        "run",
        _SEARCH,
        "Resume a study that was paused, interrupted or killed; at most the epochs that were in progress are repeated.",
    ),
    _listed(
        "stop",
        "stop",
        _SEARCH,
        "Stop a study after the step under way, and let its process write the results so far.",
    ),
    _listed("pause", "stop", _SEARCH, "Stop a study after the step under way; `sparsesearch resume` continues it."),
    _listed(
        "cancel",
        "stop",
        _SEARCH,
        "Stop a study after the step under way, for good: it cannot be resumed. Its results are kept.",
    ),
    _listed(
        "retry",
        "stop",
        _SEARCH,
        "Let failed trials run again from their last checkpoints, when the study is resumed.",
    ),
    _listed(
        "init",
        "init",
        _SEARCH,
        "Write a study document with every key explained, to edit and pass to `sparsesearch run`.",
    ),
    _listed(
        "status",
        "status",
        _VIEW,
        "Show the progress of a study, from any terminal: phases, running trials, best result, and next commands.",
    ),
    _listed("studies", "studies", _VIEW, "List studies, oldest first. Read-only."),
    _listed("show", "studies", _VIEW, "Show the document of a study and the number of trials in each state."),
    _listed(
        "trials",
        "studies",
        _VIEW,
        "List the trials of a study: schedule, cost, accuracy, and the reason if one failed or was stopped.",
    ),
    _listed(
        "front",
        "studies",
        _VIEW,
        "Show the Pareto front of a study: validation accuracy against multiply-adds or milliseconds.",
    ),
    _listed(
        "report",
        "report",
        _VIEW,
        "Write a report of a study: results, parameter importances, cost of the search, and convergence.",
    ),
    _listed(
        "delete",
        "studies",
        _VIEW,
        "Delete a study with its trials and checkpoints. Shared dense and supernet trainings remain in the cache.",
    ),
    _listed(
        "serve", "service", _SERVICE, "Serve the REST API and the pages: submit studies, watch fronts, get recipes."
    ),
    _listed(
        "controller",
        "service",
        _SERVICE,
        "Run the studies that are submitted to the service, by priority, then fair between owners, then by age.",
    ),
    _listed("token", "token", _SERVICE, "Create, list and revoke access tokens of the service.", attribute="app"),
    _listed("ui", "tracking", _VIEW, "Serve the MLflow pages of all studies on this machine until Ctrl-C is pressed."),
    _listed("mlflow", "tracking", _VIEW, "Show studies in MLflow.", attribute="app"),
    _listed(
        "export",
        "export",
        _USE,
        "Write the best schedule of a study as a recipe for `retrain`, or a trained model in formats for deployment.",
    ),
    _listed(
        "retrain",
        "retrain",
        _USE,
        "Train a recipe in full, evaluate it on the test split, and save it as one safetensors file.",
    ),
    _listed(
        "compare",
        "compare",
        _USE,
        "Compare models on the whole test split: accuracy, differences by pairs, classes, and speed.",
    ),
    _listed(
        "bench", "bench", _USE, "Time a sparse model and its dense model side by side: latency, throughput, speed-up."
    ),
    _listed(
        "measure",
        "measure",
        _USE,
        "Measure the latency of a recipe on its target, interleaved with the dense model, and check its budget.",
    ),
    _listed("visualize", "visualize", _USE, "Plot which tokens of an image a sparse model keeps, step by step."),
    _listed(
        "import-checkpoint",
        "import_checkpoint",
        _USE,
        "Import a dense or sparse checkpoint that was trained elsewhere.",
    ),
    _listed("weights", "weights", _USE, "Check files with weights.", attribute="app"),
    _listed(
        "cost",
        "cost",
        _MORE,
        "Compute the cost of a schedule in multiply-adds (what papers call FLOPs), block by block.",
    ),
    _listed("data", "data", _MORE, "Check what a study would use of data, what not, and why.", attribute="app"),
    _listed("spaces", "spaces", _MORE, "List search spaces, or show, validate or count one.", attribute="app"),
    _listed(
        "profile",
        "profile",
        _MORE,
        "Measure the latency of a backbone's schedules on this device, for budgets in milliseconds.",
        attribute="app",
    ),
    _listed(
        "doctor", "doctor", _MORE, "Check everything that a study would use, and say how to fix what does not work."
    ),
    _listed("db", "db", _MORE, "Show or upgrade the schema of the study database.", attribute="app"),
)
"""Every command: its module is imported when it is used, so its help is repeated here."""


class _Commands(LazyGroup):
    LISTED = COMMANDS


app = typer.Typer(
    name="sparsesearch",
    cls=_Commands,
    help="Find the best token-sparsification schedule of a vision backbone under a budget.\n\n"
    "Start with:  sparsesearch run --backbone deit_pico --budget 35%",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version as installed_version

        typer.echo(f"sparsesearch {installed_version('sparsesearch')}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
    server: str | None = typer.Option(
        None,
        "--server",
        metavar="URL",
        help="Work on the studies of a service: run, resume, pause, cancel, status, studies, show, trials, front, "
        "report, export, delete. Needs $SPARSESEARCH_TOKEN. [default: $SPARSESEARCH_SERVER]",
    ),
) -> None:
    """Find the best token-sparsification schedule of a vision backbone under a budget."""
    if server is not None:
        os.environ["SPARSESEARCH_SERVER"] = server
