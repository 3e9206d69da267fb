"""`spaces`: list search spaces, show their feasible budgets, and count their schedules."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import typer
import yaml
from typer.core import TyperGroup

from sparsesearch.app.run_arguments import parse_budget
from sparsesearch.backbones.lookup import backbone_geometry, resolve_name
from sparsesearch.budget.count import share_of_budget
from sparsesearch.budget.solve import check_budget, feasible_intervals
from sparsesearch.cli.options import JsonOption, image_size_option
from sparsesearch.cost.analytic import dense_macs
from sparsesearch.errors import SpaceError, SpecError, UserInputError
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.space.counting import size as size_of
from sparsesearch.space.definition import (
    SearchSpace,
    bundled_spaces,
    describe_space,
    load_space,
    space_name_for,
    space_path,
)
from sparsesearch.space.encoding import parameters
from sparsesearch.space.fitting import dropped_methods
from sparsesearch.space.problems import problems_of
from sparsesearch.text import macs_text


class _Group(TyperGroup):
    """`spaces NAME` and `spaces --backbone NAME` are short for `spaces show`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after inserting an implied `show`."""
        if args and args[0] not in (*self.commands, "-h", "--help") and args != ["--json"]:
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Group, invoke_without_command=True)


@app.callback()
def spaces(context: typer.Context, as_json: JsonOption = False) -> None:
    """List search spaces, or show, validate or count one.

    Without a subcommand, lists the bundled spaces; with the name of a space, shows it.

    For example:

    sparsesearch spaces

    sparsesearch spaces deit_small --backbone deit_s
    """
    if context.invoked_subcommand is not None:
        return
    found = {name: describe_space(name) for name in bundled_spaces()}
    if as_json:
        typer.echo(json.dumps([{"name": name, "describes": text} for name, text in found.items()]))
        return
    for name, text in found.items():
        typer.echo(f"{name:<16}  {text}")


NameArgument = Annotated[str, typer.Argument(metavar="SPACE", help="A bundled space or the path of a .yaml file.")]
BackboneOption = Annotated[
    str | None, typer.Option(help="Backbone to apply the space to: deit_s, convnext_tiny, deit_pico, ...")
]
ImageSizeOption = Annotated[ImageSize | None, image_size_option()]


@app.command()
def show(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[SPACE]", help="A bundled space or a .yaml file. [default: that of the backbone]"),
    ] = None,
    backbone: BackboneOption = None,
    image_size: ImageSizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a space; with a backbone, show it in full with its feasible budgets.

    For example:

    sparsesearch spaces show deit_small --backbone deit_s

    sparsesearch spaces show my_space.yaml
    """
    if name is None and backbone is None:
        raise SpecError("no space given; name one, such as deit_small, or use --backbone deit_s for its default space")
    if backbone is None:
        assert name is not None
        requested = load_space(name)
        if as_json:
            typer.echo(json.dumps({"name": name, "space": _document(requested)}))
        else:
            typer.echo(space_path(name).read_text(encoding="utf-8").rstrip())
        return
    geometry, name = _geometry(backbone, name, image_size)
    space = load_space(name).resolve(geometry)
    listed = _document(SearchSpace.of(space, geometry))
    dense = dense_macs(geometry)
    intervals = feasible_intervals(geometry, space)
    if as_json:
        document = {
            "name": name,
            "space": listed,
            "backbone": geometry.name,
            "dense_macs": dense,
            "reachable_macs": intervals,
            "parameters": [parameter.name for parameter in parameters(space)],
        }
        typer.echo(json.dumps(document))
        return
    for low, high in intervals:
        typer.echo(
            f"{geometry.name}: budgets from {macs_text(low)} to {macs_text(high)}, "
            f"{low / dense:.1%} to {high / dense:.1%} of dense"
        )
    typer.echo(yaml.safe_dump(listed, sort_keys=False, default_flow_style=None, width=110).rstrip())


@app.command()
def validate(
    name: NameArgument,
    backbone: BackboneOption = None,
    image_size: ImageSizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate a space, optionally for a backbone: prints one line per problem; exit code 2 if there is any.

    Methods that the backbone does not support are dropped and reported; this is a problem only if none remains.

    For example:

    sparsesearch spaces validate my_space.yaml --backbone deit_s
    """
    problems, notes = problems_of(name), []
    if not problems and backbone is not None:
        geometry, _ = _geometry(backbone, name, image_size)
        space = load_space(name)
        try:
            feasible_intervals(geometry, space.resolve(geometry))
            notes = [f"dropped: {method.describe()}: {why}" for method, why in dropped_methods(space, geometry)]
        except UserInputError as error:
            problems = [str(error)]
    if as_json:
        typer.echo(json.dumps({"space": name, "backbone": backbone, "problems": problems, "notes": notes}))
    else:
        for line in (*problems, *notes):
            typer.echo(line)
        if not problems:
            typer.echo(f"{name} is valid" + ("" if backbone is None else f" on {backbone}"))
    if problems:
        raise typer.Exit(SpaceError.exit_code)


@app.command()
def size(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[SPACE]", help="A bundled space or a .yaml file. [default: that of the backbone]"),
    ] = None,
    backbone: BackboneOption = None,
    image_size: ImageSizeOption = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="P%", help="Also count schedules that use up this fraction of the dense cost: 65%."),
    ] = None,
    budget_gflops: Annotated[
        str | None, typer.Option(metavar="G", help="The same budget in 10^9 multiply-adds: 3.0.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count the placements, shapes (with methods) and schedules (with token counts) of a space on a backbone.

    These counts are exact. With a budget, the number of schedules that cost 97 to 100% of it is estimated as well, by
    sampling schedules uniformly.

    For example:

    sparsesearch spaces size isotropic_full --backbone deit_s --budget 65%
    """
    if backbone is None:
        raise SpecError("no backbone given; use: sparsesearch spaces size isotropic_full --backbone deit_s")
    geometry, name = _geometry(backbone, name, image_size)
    space = load_space(name).resolve(geometry)
    found = size_of(space, geometry)
    document: dict[str, Any] = {
        "name": name,
        "backbone": geometry.name,
        "placements": found.placements,
        "shapes": found.shapes,
        "schedules": found.schedules,
        "log10_schedules": math.log10(max(1, found.schedules)),
    }
    lines = [
        f"placements  {_count(found.placements)}",
        f"shapes      {_count(found.shapes)}",
        f"schedules   {_count(found.schedules)}",
    ]
    requested = parse_budget(budget_gflops, budget)
    if requested is not None:
        _, limit = check_budget(geometry, space, budget=requested)
        within = share_of_budget(geometry, space, limit=limit)
        document |= {"budget_macs": limit, "within_budget": within.schedules, "within_budget_error": within.error}
        error = within.error / within.schedules if within.schedules else 0.0
        lines.append(f"of these, about {within.schedules:.2g} (+- {error:.0%}) cost 97 to 100% of {requested}")
    if as_json:
        typer.echo(json.dumps(document))
        return
    typer.echo(f"{name} on {geometry.name}")
    for line in lines:
        typer.echo(line)


def _geometry(backbone: str, name: str | None, image_size: ImageSize | None) -> tuple[BackboneGeometry, str]:
    """Return the geometry of a backbone and the name of the space, by default that of the backbone."""
    return backbone_geometry(backbone, image_size=image_size), name or space_name_for(resolve_name(backbone))


def _document(space: SearchSpace) -> dict[str, Any]:
    """Return a space as plain data, without most keys that have their default value."""
    document = space.model_dump(mode="json")
    usual = SearchSpace().model_dump(mode="json")
    always = ["min_predictors", "max_predictors", "min_keep_ratio"]
    always += [] if space.stages else ["blocks"]
    always += [] if space.methods else ["scorers"]
    return {key: value for key, value in document.items() if key in always or value != usual[key]}


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**15 else f"10^{math.log10(number):.1f}"
