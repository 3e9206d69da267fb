"""A study as a Python object."""

from __future__ import annotations

import html
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.findings import Findings
from sparsesearch.analysis.status import StudyStatus
from sparsesearch.analysis.study_front import study_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.api.frames import front_frame, trials_frame
from sparsesearch.api.work import Progress, work
from sparsesearch.app.export_recipe import export_recipe
from sparsesearch.app.read_status import read_status
from sparsesearch.app.run_arguments import parse_budget
from sparsesearch.app.workspace import Workspace
from sparsesearch.artifacts.from_study import best_trial
from sparsesearch.artifacts.output_files import check_output_file
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.errors import SpecError
from sparsesearch.service.remote_store import RemoteStore
from sparsesearch.study.protocols import Studies
from sparsesearch.study.spec import PickName, StudySpec, executed_by
from sparsesearch.study.state import StopRequest, StudyState
from sparsesearch.study.trial import Trial

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Study:
    """A stored study: its state, results and files. Use `Study.open`, `sparsesearch.run`, or `sparsesearch.Client`.

    Everything is read from the database when it is asked for, so a study that runs elsewhere can be followed.

    Attributes:
        name: Its name.
    """

    def __init__(self, name: str, workspace: Workspace | RemoteStore) -> None:
        self.name = name
        self._opened = workspace
        self._records: Studies = workspace.store if isinstance(workspace, Workspace) else workspace

    @property
    def _workspace(self) -> Workspace:
        if not isinstance(self._opened, Workspace):
            raise SpecError(f"study {self.name!r} is one of a service, which runs it where it is")
        return self._opened

    @classmethod
    def open(cls, name: str, *, database: str | None = None) -> Study:
        """Open a stored study.

        Args:
            name: Its name.
            database: Address or file of the study database; None for the default one.

        Raises:
            StudyNotFoundError: There is no study of that name.
        """
        workspace = Workspace.open(database)
        workspace.store.spec(name)
        return cls(name, workspace)

    @property
    def spec(self) -> StudySpec:
        """Its document: everything that was requested, and, once it is resolved, what was found."""
        return self._records.spec(self.name)

    @property
    def state(self) -> StudyState:
        """Its stored state; see `status` for whether its process still lives."""
        return self._records.condition(self.name).state

    def status(self) -> StudyStatus:
        """Its phases, running trials, results so far and remaining time."""
        return read_status(self._records, self.name)

    def trials(self) -> pd.DataFrame:
        """All trials, one row each, indexed by number; a column for each metric."""
        return trials_frame(StudyView.of(self._records, self.name, most=None))

    def front(self, *, x: Literal["macs", "ms"] | None = None) -> pd.DataFrame:
        """The Pareto front, cheapest schedule first, in the columns of `trials`.

        Args:
            x: Unit of the cost: multiply-adds, or milliseconds; None for that of the budget.
        """
        view = self._view
        return front_frame(view, study_front(view.trials, axis=x or view.spec.budget.axis, metric=view.spec.metric))

    @property
    def best(self) -> Trial:
        """The best trial within the budget, by the rule of the study (`pick`).

        Raises:
            StudyFailedError: No candidate is complete yet.
            BudgetError: No schedule is within the budget.
        """
        return best_trial(self._view)

    def plot(self) -> Figure:
        """The Pareto front as a figure of matplotlib, which notebooks display."""
        from sparsesearch.visualize.front_plot import front_figure

        return front_figure(describe_front(self._view))

    def export(
        self,
        path: str | Path = "best.yaml",
        *,
        budget: str | None = None,
        budget_gflops: float | None = None,
        budget_ms: float | None = None,
        pick: PickName | None = None,
        force: bool = False,
    ) -> Path:
        """Write the best schedule within a budget as a recipe for `sparsesearch.retrain`, and return its path.

        Args:
            path: Output file.
            budget: Budget as a fraction of the dense cost: `"30%"`; by default that of the study.
            budget_gflops: Budget in 10^9 multiply-adds.
            budget_ms: Budget in milliseconds on the target.
            pick: Which schedule: `one-se`, `accuracy` or `knee`; by default as the study's document says.
            force: Whether an existing file is overwritten.

        Raises:
            StudyFailedError: No candidate is complete yet.
            BudgetError: No schedule is within the budget.
            SpecError: The file exists, or cannot be written.
        """
        limit = parse_budget(budget_gflops, budget, budget_ms)
        return export_recipe(self._records, self.name, Path(path), budget=limit, rule=pick, force=force).path

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the report, one HTML file, and return its path; an existing file is overwritten.

        Raises:
            SpecError: The file cannot be written.
            StudyFailedError: The study has no results yet.
        """
        from sparsesearch.app.write_results import write_report
        from sparsesearch.files.durable import write_file
        from sparsesearch.report.page import findings_page

        found, file = Findings.of(self._view), check_output_file(Path(path))
        if isinstance(self._opened, Workspace):
            return write_report(self._opened, found, file)
        write_file(file, findings_page(found))
        return file

    def wait(self, *, timeout_s: float | None = None) -> StudyState:
        """Wait until no process runs the study and none is to take it from a queue, and return its state.

        Args:
            timeout_s: Longest time to wait; None waits as long as it takes.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            found = self._records.condition(self.name)
            goes_on = found.state is StudyState.QUEUED or (found.is_leased and found.state.is_active)
            if not goes_on or (end is not None and time.monotonic() >= end):
                return found.state
            time.sleep(0.5)

    def stop(self, *, timeout_s: float | None = None) -> StudyState:
        """Stop the study, in whichever process it runs, after the step under way; `resume` continues it.

        Args:
            timeout_s: Longest time to wait until it has stopped; None waits as long as it takes.

        Returns:
            Its state: PAUSED, or STOPPING if the time was not enough.

        Raises:
            StudyStateError: The study is over.
        """
        store = self._records
        found = store.request(self.name, StopRequest.STOP)
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while found.is_leased and found.state.is_active and (end is None or time.monotonic() < end):
            time.sleep(0.2)
            found = store.condition(self.name)
        return found.state

    def resume(
        self,
        *,
        data: str | None = None,
        device: str | None = None,
        storage: str | Path | None = None,
        dispatcher: str | None = None,
        cpus_per_trial: float | None = None,
        gpus_per_trial: float | None = None,
        workers_per_training: int | None = None,
        max_concurrent: int | None = None,
        ray_address: str | None = None,
        output: str | Path | None = None,
        mlflow: bool = True,
        progress: Progress = "auto",
    ) -> Study:
        """Continue the study where it stopped; a finished one stays as it is.

        Args:
            data: Where the same data is now, if it moved; stored.
            device: The device to go on on, if it is another one; stored.
            storage: Folder where the checkpoints are now, if they moved; stored.
            dispatcher: `inline` or `ray`; None for that of the study. Not stored.
            cpus_per_trial: CPU cores per trial, on Ray; likewise.
            gpus_per_trial: GPUs per trial, on Ray; likewise.
            workers_per_training: Processes of a dense or supernet training, on Ray; likewise.
            max_concurrent: Maximum number of concurrent trials, on Ray; likewise.
            ray_address: Address of a Ray cluster; likewise.
            output: As in `run`.
            mlflow: As in `run`.
            progress: As in `run`.

        Returns:
            This study.

        Raises:
            StudyBusyError: A process runs it.
            StudyStateError: It was cancelled.
            KeyboardInterrupt: Ctrl-C; the study is PAUSED.
            SpecError: It is one of a service, which decides how it is run.
        """
        if not isinstance(self._opened, Workspace):
            if any((data, device, storage, dispatcher, cpus_per_trial, gpus_per_trial, workers_per_training)):
                raise SpecError("the service decides how its studies are run; resume it without options")
            self._opened.resume(self.name)
            return self
        if data or device or storage:
            from sparsesearch.app.move_study import move_study

            moved_to = None if storage is None else str(storage)
            opened = closing(self._workspace.store.open_study(self.name))
            with opened as writer, open_reporter(ProgressMode(progress)) as reporter:
                move_study(writer, data=data, device=device, storage=moved_to, progress=reporter)
        if self.state is not StudyState.FINISHED:
            resources = {
                "cpus_per_trial": cpus_per_trial,
                "gpus_per_trial": gpus_per_trial,
                "workers_per_training": workers_per_training,
                "max_concurrent": max_concurrent,
                "ray_address": ray_address,
            }
            with closing(self._workspace.store.open_study(self.name, resume=True)) as writer:
                work(
                    self._workspace,
                    writer,
                    output=output,
                    mlflow=mlflow,
                    progress=progress,
                    execution=lambda spec: executed_by(spec, dispatcher=dispatcher, resources=resources),
                )
        return self

    @property
    def _view(self) -> StudyView:
        return StudyView.of(self._records, self.name)

    def __repr__(self) -> str:
        condition = self._records.condition(self.name)
        return f"<Study {self.name}: {condition.word}>"

    def _repr_html_(self) -> str:
        view = self._view
        spec = view.spec
        about = html.escape(f"{spec.backbone}, budget {spec.budget}, {len(view.trials)} trials")
        head = f"<p><b>{html.escape(self.name)}</b>: {view.condition.word}; {about}</p>"
        table = front_frame(view, view.front)
        return head + ("" if table.empty else table.to_html(float_format=lambda value: f"{value:.4g}"))
