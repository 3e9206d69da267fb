"""The options of `run`, `resume` and `retrain` about where trials run, and about what fails there."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sparsesearch.cli.options import device_option
from sparsesearch.study.spec import DEFAULT_DISPATCHER

_WHERE = "Where to run"

DeviceOption = Annotated[str | None, device_option(_WHERE)]
DispatcherOption = Annotated[
    Literal["inline", "ray"] | None,
    typer.Option(
        metavar="inline|ray",
        help=f"Run trials one by one in this process, or in parallel on Ray. [default: {DEFAULT_DISPATCHER}]",
        rich_help_panel=_WHERE,
    ),
]
CpusOption = Annotated[
    float | None, typer.Option(metavar="X", help="CPU cores per trial, on Ray. [default: 1]", rich_help_panel=_WHERE)
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="GPUs per trial, on Ray; may be a fraction such as 0.25. [default: 1 on a GPU device, else 0]",
        rich_help_panel=_WHERE,
    ),
]
WorkersPerTrainingOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Processes that train one model together, on Ray. [default: one for each GPU]",
        rich_help_panel=_WHERE,
    ),
]
MaxConcurrentOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Maximum number of concurrent trials, on Ray. [default: as many as fit]",
        rich_help_panel=_WHERE,
    ),
]
MaxRetriesOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Retries of a trial that failed or was lost, on Ray. [default: 2]",
        rich_help_panel=_WHERE,
    ),
]
PatienceOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="How long to wait for a disk, database or machine that fails, such as 30s or 1h, before the run ends; it "
        "can then be resumed. [default: 10m]",
        rich_help_panel=_WHERE,
    ),
]
WorkerTimeoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Replace a worker without a sign of life for so long, on Ray. [default: 10m, or 20 steps if longer]",
        rich_help_panel=_WHERE,
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="Ray cluster to connect to, from one of its machines. [default: start Ray on this machine]",
        rich_help_panel=_WHERE,
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Folder for checkpoints, shared by all machines. [default: storage in $SPARSESEARCH_HOME]",
        rich_help_panel=_WHERE,
    ),
]
MovedDataOption = Annotated[
    str | None,
    typer.Option("--data", metavar="SOURCE", help="Where the study's data is now.", rich_help_panel=_WHERE),
]
MovedDeviceOption = Annotated[str | None, device_option(_WHERE, help="Device to go on on: auto, cpu or cuda[:N].")]
MovedStorageOption = Annotated[
    str | None,
    typer.Option("--storage", metavar="PATH", help="Where the checkpoints are now.", rich_help_panel=_WHERE),
]
