"""Write the result files of a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.findings import Findings
from sparsesearch.analysis.study_front import StudyFront
from sparsesearch.analysis.view import StudyView
from sparsesearch.app.best_model import MODEL, needs_no_training, write_best_model
from sparsesearch.app.storage import storage_of
from sparsesearch.app.workspace import Workspace
from sparsesearch.artifacts.from_study import best_trial, make_recipe
from sparsesearch.artifacts.recipe import write_recipe
from sparsesearch.errors import StudyFailedError
from sparsesearch.files.durable import write_file
from sparsesearch.report.page import REPORT, findings_page
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Trial
from sparsesearch.visualize.best import best_picture
from sparsesearch.visualize.front_plot import save_front

RECIPE, PICTURE = "best.yaml", "front.png"


@dataclass(frozen=True)
class StudyResult:
    """The results of a finished study.

    Attributes:
        spec: The study as it ran.
        front: Its front.
        best: The best trial within the budget.
        recipe: Path of `best.yaml`.
        front_png: Path of the plot of the front.
        report: Path of the report.
        model: Path of the model, if it is ready to use without training; None otherwise.
    """

    spec: StudySpec
    front: StudyFront
    best: Trial
    recipe: Path
    front_png: Path
    report: Path
    model: Path | None = None

    def document(self) -> dict[str, object]:
        """The object that `run --json` prints."""
        best = self.best
        return {
            "study": self.spec.name,
            "best": {
                "trial": best.number,
                "macs": best.cost.macs,
                "metrics": best.metrics,
                "schedule": best.schedule.model_dump(mode="json"),
                "label": best.label,
                "accuracy": "ok" if self.spec.meaningful else "not meaningful",
            },
            "recipe": str(self.recipe),
            "front_png": str(self.front_png),
            "report": str(self.report),
            "model": None if self.model is None else str(self.model),
        }


def write_front_files(view: StudyView, folder: Path) -> None:
    """Write `front.png`, and `best.yaml` if a schedule is within the budget; write nothing without a front."""
    if view.front.reference is None or not view.front.points:
        return
    if view.best is not None:
        write_recipe(make_recipe(view.spec, view.front, view.best), folder / RECIPE)
    save_front(describe_front(view), folder / PICTURE)


def write_results(workspace: Workspace, study: str, folder: Path) -> StudyResult:
    """Write `front.png`, `best.yaml` and `report.html` of a study into a folder; without training, also the model.

    Args:
        workspace: Where the study and its checkpoints are.
        study: Name of the study.
        folder: Output folder.

    Raises:
        StudyNotFoundError: There is no study of that name.
        StudyFailedError: It has no finished candidate.
    """
    view = StudyView.of(workspace.store, study)
    spec = view.spec
    best = best_trial(view)
    write_front_files(view, folder)
    write_report(workspace, Findings.of(view), folder / REPORT)
    model = folder / MODEL
    has_model = needs_no_training(view) and write_best_model(view, model, storage=storage_of(spec, workspace.settings))
    files = (folder / RECIPE, folder / PICTURE, folder / REPORT, model if has_model else None)
    return StudyResult(spec, view.front, best, *files)


def write_report(workspace: Workspace, found: Findings, path: Path) -> Path:
    """Write the report of a study and return its path.

    It has a picture of the kept tokens if the checkpoints and the data can be opened here.

    Raises:
        StudyFailedError: The study has no results yet.
    """
    view = found.view
    if not view.has_results:
        name = view.spec.name
        raise StudyFailedError(f"study {name!r} has no results yet; show its progress with: sparsesearch status {name}")
    picture = best_picture(view, storage=storage_of(view.spec, workspace.settings))
    page = findings_page(found, picture=picture)
    write_file(path, page)
    return path
