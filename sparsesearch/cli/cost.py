"""`cost`: compute the cost of a schedule."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sparsesearch.artifacts.model_reference import find_model
from sparsesearch.cli.model_argument import (
    AtOption,
    BackboneOption,
    ImageSizeOption,
    KeepOption,
    RhoOption,
    ScheduleOption,
    say_which_is_meant,
)
from sparsesearch.cli.options import JsonOption
from sparsesearch.console.streams import out
from sparsesearch.cost.analytic import AnalyticCost, block_table
from sparsesearch.cost.rows import BlockCost
from sparsesearch.schedule import Schedule
from sparsesearch.text import macs_text, percent_text

if TYPE_CHECKING:
    from sparsesearch.app.verify_cost import Count


def cost(
    backbone: BackboneOption = None,
    schedule: ScheduleOption = None,
    rho: RhoOption = None,
    at: AtOption = "",
    keep: KeepOption = "",
    image_size: ImageSizeOption = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Also count the actual model with torch's FlopCounterMode and with fvcore."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compute the cost of a schedule in multiply-adds (what papers call FLOPs), block by block.

    Counts linear layers, convolutions and matrix products, including attention and predictors; normalization and
    element-wise operations are not counted. Trains nothing and writes nothing.

    For example:

    sparsesearch cost --backbone deit_s --at 3,6,9 --keep 0.7,0.49,0.343

    sparsesearch cost --schedule best.yaml

    sparsesearch cost --backbone deit_s --rho 0.7 --verify
    """
    found = find_model(backbone=backbone, schedule=schedule, rho=rho, at=at, keep=keep, image_size=image_size)
    geometry, steps = found.geometry, found.schedule
    say_which_is_meant(backbone)
    model = AnalyticCost()
    sparse, dense = model.estimate(geometry, steps), model.estimate(geometry, Schedule())
    counts: tuple[Count, ...] = ()
    if verify:
        from sparsesearch.app.verify_cost import verify_cost

        counts = verify_cost(found)
    if as_json:
        document: dict[str, object] = {
            "backbone": geometry.name,
            "macs": sparse.macs,
            "dense_macs": dense.macs,
            "params": sparse.params,
            "dense_params": geometry.params,
            "schedule": steps.canonical(geometry).model_dump(mode="json"),
        }
        if counts:
            document["counts"] = [asdict(count) for count in counts]
        typer.echo(json.dumps(document))
        return
    table = Table(title=f"{geometry.name}: {steps.describe(geometry)}")
    rows = block_table(geometry, steps)
    parts = {
        "attention" if geometry.stages[0].mixer == "attention" else "mixing": [row.attention_macs for row in rows],
        "mlp": [row.mlp_macs for row in rows],
        "fast path": [row.fast_path_macs for row in rows],
        "predictor": [row.predictor_macs for row in rows],
        "matching": [row.matching_macs for row in rows],
        "other": [row.other_macs for row in rows],
    }
    shown = {name: macs for name, macs in parts.items() if any(macs)}
    for column in ("part", "tokens", *shown, "MMACs"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for number, row in enumerate(rows):
        table.add_row(
            row.name,
            _tokens(row),
            *(f"{macs[number] / 1e6:,.2f}" if macs[number] else "" for macs in shown.values()),
            f"{row.macs / 1e6:,.2f}",
        )
    out.print(table)
    typer.echo(
        f"{macs_text(sparse.macs)} ({sparse.macs:,} multiply-adds), "
        f"{percent_text(sparse.macs / dense.macs, digits=1)} of the dense model's {macs_text(dense.macs)}; "
        f"{sparse.params / 1e6:.2f} M parameters"
    )
    for count in counts:
        result = f"{count.macs:,} multiply-adds" if count.macs is not None else f"no count: {count.note}"
        is_equal = count.macs is None or count.macs == sparse.macs
        difference = "" if count.macs is None or is_equal else f" ({count.macs - sparse.macs:+,})"
        typer.echo(f"{count.name:22}{result}{difference}")


def _tokens(row: BlockCost) -> str:
    """Format the tokens that enter a block, those that leave if fewer, and those on the slow path if there is one."""
    if row.tokens_in != row.tokens_out:
        return f"{row.tokens_in} > {row.tokens_out}"
    if row.block is not None and row.tokens_slow != row.tokens_out:
        return f"{row.tokens_slow} of {row.tokens_in} slow"
    return f"{row.tokens_in}"
