"""`init`: write a commented study document."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.app.commented_yaml import commented_yaml
from sparsesearch.app.study_request import as_name
from sparsesearch.app.validate import filled_in
from sparsesearch.artifacts.output_files import check_new_file
from sparsesearch.cli.options import ForceOption
from sparsesearch.console.streams import program, say
from sparsesearch.files.durable import write_file


def init(
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file.")] = Path("study.yaml"),
    backbone: Annotated[str, typer.Option(help="Backbone to write the document for.")] = "deit_pico",
    force: ForceOption = False,
) -> None:
    """Write a study document with every key explained, to edit and pass to `sparsesearch run`.

    Example: sparsesearch init --backbone deit_s -o study.yaml
    """
    check_new_file(output, force=force)
    document = {"name": as_name(output.stem), "backbone": backbone, "budget": {"unit": "fraction", "high": 0.35}}
    spec = filled_in(document).model_copy(update={"backbone": backbone})
    header = f"# A study of sparsesearch. Start it with:  sparsesearch run {output.name}\n"
    write_file(output, header + commented_yaml(spec, skip=frozenset({"resolved", "meaningful"})))
    say(f"wrote {output}; edit it, then run: {program()} run {output}")
