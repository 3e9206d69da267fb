"""`doctor`: check everything that a study would use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sparsesearch.app.doctor.checks import CHECKS
from sparsesearch.app.doctor.examine import examine
from sparsesearch.app.doctor.finding import Finding, Surroundings
from sparsesearch.cli.options import DatabaseOption, DeviceOption, JsonOption
from sparsesearch.cli.progress_option import ProgressOption, QuietOption
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.console.streams import out
from sparsesearch.files.user_path import user_path
from sparsesearch.settings import Settings


def doctor(
    database: DatabaseOption = None,
    storage: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Folder of the checkpoints. [default: storage in $SPARSESEARCH_HOME]"),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Ray cluster. [default: Ray on this machine]")
    ] = None,
    device: DeviceOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.1, help="Time of each check. [default: 20 to 90, by check]"),
    ] = None,
    progress: ProgressOption = ProgressMode.AUTO,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check everything that a study would use, and say how to fix what does not work.

    These are: installation, versions, device, database, Ray, MLflow, disks, clock, permissions and processes. Nothing
    is changed. A check that hangs has failed, and does not delay the others. The exit code is 1 if any check fails.

    For example:

    sparsesearch doctor

    sparsesearch doctor --ray-address head:6379 --storage /shared --json
    """
    settings = Settings.from_environment(database_url=database)
    surroundings = Surroundings(
        settings=settings,
        storage=user_path(settings.storage if storage is None else storage),
        ray_address=ray_address,
        device=device or "auto",
    )
    with open_reporter(progress, quiet=quiet) as reporter, reporter.bar("checking", len(CHECKS)) as bar:
        found = examine(surroundings, timeout_s=timeout, advance=bar.advance)
    failed = sum(not finding.ok for finding in found)
    if as_json:
        typer.echo(json.dumps([finding.model_dump() for finding in found]))
    else:
        out.print(_table(found))
        typer.echo(f"{failed} of {len(found)} checks failed" if failed else f"all {len(found)} checks passed")
    if failed:
        raise typer.Exit(1)


def _table(found: list[Finding]) -> Table:
    table = Table(title="Surroundings of studies", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in found:
        text = finding.detail if finding.ok or not finding.fix else f"{finding.detail}\nTo fix: {finding.fix}"
        style = None if finding.ok else "bold red"
        table.add_row(finding.check, "ok" if finding.ok else "FAILED", text, style=style)
    return table
