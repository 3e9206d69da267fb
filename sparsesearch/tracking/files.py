"""The artifacts of a study's run: the report, the front as a page and as tables, and the study's document."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import yaml

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.report.page import REPORT, report_page
from sparsesearch.tracking.artifact_tables import evaluations_table, front_table
from sparsesearch.tracking.connection import Address
from sparsesearch.tracking.note import study_note
from sparsesearch.tracking.pareto_page import pareto_page
from sparsesearch.tracking.records import FORMAT
from sparsesearch.visualize.best import KEPT_TOKENS, with_few_colors

if TYPE_CHECKING:
    from mlflow import MlflowClient

FRONT_TABLE, EVALUATIONS_TABLE = "front.json", "supernet.json"
TABLES = json.dumps([{"path": name, "type": "table"} for name in (FRONT_TABLE, EVALUATIONS_TABLE)])
"""The tag that makes MLflow show these files as tables."""


def files_digest(view: StudyView, *, is_live: bool = False) -> str:
    """Return a digest that is equal for studies with equal files; the files of a live study are not final."""
    parts = [
        FORMAT,
        version("sparsesearch"),
        study_note(view),
        front_table(describe_front(view)),
        evaluations_table(view),
    ]
    if is_live:
        parts.append("live")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def write_all(view: StudyView, folder: Path) -> None:
    """Write the files into a folder; its `kept_tokens.png`, if there is one, becomes part of the report."""
    front = describe_front(view)
    document = view.spec.model_dump(mode="json", exclude={"resolved"})
    contents = {
        REPORT: report_page(view, picture=with_few_colors(folder / KEPT_TOKENS)),
        "front.html": pareto_page(front),
        FRONT_TABLE: front_table(front),
        EVALUATIONS_TABLE: evaluations_table(view),
        "study.yaml": yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120),
    }
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")


def artifact_problem(address: Address, client: MlflowClient, run_id: str) -> str | None:
    """Why files cannot be stored with a run from this machine, None if they can.

    A server that does not store files itself gives clients the path to write to, which is one of its own machine.

    Args:
        address: The address of MLflow.
        client: Its client.
        run_id: The run.
    """
    if not address.is_server:
        return None
    parts = urlsplit(str(client.get_run(run_id).info.artifact_uri))
    if parts.scheme not in ("", "file"):
        return None
    path = Path(unquote(parts.path))
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    is_local = urlsplit(address.uri).hostname in ("localhost", "127.0.0.1", "::1")
    if is_local and nearest != Path(nearest.anchor) and os.access(nearest, os.W_OK | os.X_OK):
        return None
    return (
        f"MLflow at {address.shown} keeps files in {path}, a folder of its own machine, so plots and models are not "
        "logged, only numbers; start the server with --serve-artifacts and --artifacts-destination"
    )
