"""All that an MLflow shows of studies, as plain values that can be compared."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class ShownRun:
    """One run; equal for runs that look equal to people."""

    name: str
    status: str
    times: tuple[int, int | None]
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, list[tuple[int, int, float]]]
    files: dict[str, str]
    run_id: str = field(compare=False)
    parent: str | None = field(compare=False)


def shown_runs(client: MlflowClient) -> dict[tuple[str, str], ShownRun]:
    """Study and trial number (`""` for the study itself) to its run. Doubles are an error."""
    experiment = client.get_experiment_by_name("sparsesearch")
    found: dict[tuple[str, str], ShownRun] = {}
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        key = (run.data.tags["sparsesearch.study"], run.data.tags.get("sparsesearch.trial", ""))
        key = (f"{key[0]} {run.data.tags['sparsesearch.created']}", key[1])
        assert key not in found, f"{key} is shown twice"
        found[key] = _shown(client, run)
    return found


def _shown(client: MlflowClient, run: Run) -> ShownRun:
    info, data = run.info, run.data
    histories: dict[str, Any] = {key: client.get_metric_history(info.run_id, key) for key in data.metrics}
    tags = {key: value.replace(info.run_id, "RUN") for key, value in data.tags.items()}
    parent = tags.pop("mlflow.parentRunId", None)
    return ShownRun(
        name=info.run_name,
        status=info.status,
        times=(info.start_time, info.end_time),
        tags=tags,
        params=dict(data.params),
        metrics={key: sorted((p.step, p.timestamp, p.value) for p in points) for key, points in histories.items()},
        files=_files(client, info.run_id),
        run_id=info.run_id,
        parent=parent,
    )


def _files(client: MlflowClient, run_id: str) -> dict[str, str]:
    names = [item.path for item in client.list_artifacts(run_id)]
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(client.download_artifacts(run_id, name, folder)) for name in names}
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
