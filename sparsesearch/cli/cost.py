"""`cost`: what a schedule costs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sparsesearch.cli.console import out
from sparsesearch.cli.model_argument import (
    AtOption,
    BackboneOption,
    ImageSizeOption,
    KeepOption,
    RhoOption,
    ScheduleOption,
)
from sparsesearch.cli.options import JsonOption
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
        typer.Option("--verify", help="Also count the model itself, with torch's FlopCounterMode and with fvcore."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Price a schedule in multiply-adds (what this literature calls FLOPs), block by block.

    Linear layers, convolutions and matrix products count, attention and predictors included; normalisation and
    element-wise work do not. Trains nothing and writes nothing.

    For example:

    sparsesearch cost --backbone deit_s --at 3,6,9 --keep 0.7,0.49,0.343

    sparsesearch cost --schedule best.yaml

    sparsesearch cost --backbone deit_s --rho 0.7 --verify
    """
    from sparsesearch.artifacts.model_reference import find_model  # takes seconds to load

    found = find_model(backbone=backbone, schedule=schedule, rho=rho, at=at, keep=keep, image_size=image_size)
    geometry, steps = found.geometry, found.schedule
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
        told = f"{count.macs:,} multiply-adds" if count.macs is not None else f"no count: {count.note}"
        agrees = "" if count.macs is None else "" if count.macs == sparse.macs else f" ({count.macs - sparse.macs:+,})"
        typer.echo(f"{count.name:22}{told}{agrees}")


def _tokens(row: BlockCost) -> str:
    """Tokens that enter, those that leave where they are fewer, and those on the slow path where there is another."""
    if row.tokens_in != row.tokens_out:
        return f"{row.tokens_in} > {row.tokens_out}"
    if row.block is not None and row.tokens_slow != row.tokens_out:
        return f"{row.tokens_slow} of {row.tokens_in} slow"
    return f"{row.tokens_in}"
