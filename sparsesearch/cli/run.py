"""`run` and `resume`: start and resume studies."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from sparsesearch.app.run_arguments import RunArguments, parse_duration, requested_document
from sparsesearch.app.study_request import read_request
from sparsesearch.app.validate import filled_in
from sparsesearch.artifacts.output_files import check_folder
from sparsesearch.cli import data_options as d
from sparsesearch.cli import place_options as p
from sparsesearch.cli import run_options as o
from sparsesearch.cli.options import StudyArgument, server
from sparsesearch.cli.progress_option import ProgressOption, QuietOption
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.console.streams import say
from sparsesearch.errors import SpecError
from sparsesearch.study.spec import executed_by
from sparsesearch.study.state import StudyState


def run(
    spec_file: o.SpecArgument = None,
    backbone: o.BackboneOption = None,
    budget_gflops: o.GflopsOption = None,
    budget: o.FractionOption = None,
    budget_ms: o.MsOption = None,
    device_profile: o.DeviceProfileOption = None,
    latency_batch_size: o.LatencyBatchSizeOption = None,
    latency_precision: o.LatencyPrecisionOption = None,
    latency_compile: o.LatencyCompileOption = None,
    latency_runtime: o.LatencyRuntimeOption = None,
    latency_threads: o.LatencyThreadsOption = None,
    data: d.DataOption = None,
    image_size: d.ImageSizeOption = None,
    class_order: d.ClassOrderOption = None,
    val: d.ValOption = None,
    on_broken: d.OnBrokenOption = None,
    data_workers: d.DataWorkersOption = None,
    weights: o.WeightsOption = None,
    space: o.SpaceOption = None,
    time_budget: o.TimeBudgetOption = None,
    evaluations: o.EvaluationsOption = None,
    finalists: o.FinalistsOption = None,
    strategy: o.StrategyOption = None,
    sampler: o.SamplerOption = None,
    warm_start: o.WarmStartOption = None,
    baselines: o.BaselinesOption = None,
    pick: o.PickOption = None,
    seed: o.SeedOption = None,
    precision: o.PrecisionOption = None,
    compile_teacher: o.CompileOption = None,
    device: p.DeviceOption = None,
    dispatcher: p.DispatcherOption = None,
    cpus_per_trial: p.CpusOption = None,
    gpus_per_trial: p.GpusOption = None,
    workers_per_training: p.WorkersPerTrainingOption = None,
    max_concurrent: p.MaxConcurrentOption = None,
    max_retries: p.MaxRetriesOption = None,
    patience: p.PatienceOption = None,
    worker_timeout: p.WorkerTimeoutOption = None,
    ray_address: p.RayAddressOption = None,
    storage: p.StorageOption = None,
    study: o.StudyOption = None,
    priority: o.PriorityOption = None,
    database: o.DatabaseOption = None,
    output: o.OutputOption = None,
    mlflow: o.MlflowOption = True,
    progress: ProgressOption = ProgressMode.AUTO,
    quiet: QuietOption = False,
    as_json: o.JsonOption = False,
) -> None:
    """Find the best sparsification schedule of a backbone under a budget.

    Trains the dense model if needed, trains one supernet from it, evaluates schedules that use up the budget, and
    fine-tunes the best ones. Writes STUDY/best.yaml (the recipe for `retrain`), STUDY/report.html and STUDY/front.png,
    and stores every trial in the study database. If the run is interrupted or killed, resume it with `sparsesearch
    resume`; `sparsesearch status` shows its progress from another terminal.

    For example:

    sparsesearch run --backbone deit_pico --budget 20%:45%

    sparsesearch run --backbone deit_s --budget 65% --data folder:/imagenet

    sparsesearch run --backbone deit_s --budget-gflops 3.0 --time-budget 10m

    sparsesearch run --backbone deit_s --budget-ms 2.5 --device-profile h200
    """
    from sparsesearch.cli import STARTED

    document = requested_document(
        read_request(spec_file),
        RunArguments(
            backbone=backbone,
            budget_gflops=budget_gflops,
            budget=budget,
            budget_ms=budget_ms,
            device_profile=device_profile,
            latency_batch_size=latency_batch_size,
            latency_precision=latency_precision,
            latency_compile=latency_compile,
            latency_runtime=latency_runtime,
            latency_threads=latency_threads,
            data=data,
            image_size=image_size,
            class_order=class_order,
            val=val,
            on_broken=on_broken,
            data_workers=data_workers,
            weights=weights,
            space=space,
            time_budget=time_budget,
            evaluations=evaluations,
            finalists=finalists,
            strategy=strategy,
            sampler=sampler,
            warm_start=warm_start,
            baselines=baselines,
            pick=pick,
            seed=seed,
            precision=precision,
            compile=compile_teacher,
            device=device,
            dispatcher=dispatcher,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            workers_per_training=workers_per_training,
            max_concurrent=max_concurrent,
            max_retries=max_retries,
            patience=patience,
            worker_timeout=worker_timeout,
            ray_address=ray_address,
            storage=storage,
            study=study,
        ),
    )
    filled_in(document)  # names and values that are wrong are said before PyTorch is loaded
    address = server(database)
    if address is not None:
        from sparsesearch.cli.remote import run_remotely

        run_remotely(address, document, priority=priority or 0, output=output, quiet=quiet, as_json=as_json)
        return
    if priority is not None:
        raise SpecError("--priority is for studies of a service; give --server URL")
    with open_reporter(progress, quiet=quiet) as reporter:
        with reporter.bar("loading PyTorch", None):
            from sparsesearch.app.start_study import discarded_if_invalid, start_study
            from sparsesearch.app.workspace import Workspace
            from sparsesearch.cli.work import report, work, written
        workspace = Workspace.open(database)
        if output is not None:
            check_folder(output)
        writer = start_study(document, workspace, progress=reporter)
        name = writer.spec.name
        with discarded_if_invalid(workspace.store, name), closing(writer):
            has_results = work(writer, workspace, reporter, mlflow=mlflow, started=STARTED, database=database)
        result = written(name, workspace, output or Path(name), reporter) if has_results else None
    if result is not None:
        report(result, workspace, reporter, mlflow=mlflow, as_json=as_json)


def resume(
    study: StudyArgument,
    data: p.MovedDataOption = None,
    device: p.MovedDeviceOption = None,
    storage: p.MovedStorageOption = None,
    dispatcher: p.DispatcherOption = None,
    cpus_per_trial: p.CpusOption = None,
    gpus_per_trial: p.GpusOption = None,
    workers_per_training: p.WorkersPerTrainingOption = None,
    max_concurrent: p.MaxConcurrentOption = None,
    patience: p.PatienceOption = None,
    worker_timeout: p.WorkerTimeoutOption = None,
    ray_address: p.RayAddressOption = None,
    database: o.DatabaseOption = None,
    output: o.OutputOption = None,
    mlflow: o.MlflowOption = True,
    progress: ProgressOption = ProgressMode.AUTO,
    quiet: QuietOption = False,
    as_json: o.JsonOption = False,
) -> None:
    """Resume a study that was paused, interrupted or killed; at most the epochs that were in progress are repeated.

    Writes the same files as `run`; for a finished study, it only writes them again. The dispatcher and the resources
    may differ from those of `run`; they are not stored. Where data, device and checkpoints are is stored: --data,
    --device and --storage say where they are now.

    For example:

    sparsesearch resume deit_pico-35p

    sparsesearch resume my-study --data folder:/new/place --storage /new/storage

    sparsesearch resume deit_pico-35p --dispatcher ray --max-concurrent 4
    """
    address = server(database)
    if address is not None:
        from sparsesearch.service.client import ServiceClient
        from sparsesearch.service.remote_store import RemoteStore

        found = RemoteStore(ServiceClient(address)).resume(study)
        say(f"study {study} is {found.word}")
        return
    folder = check_folder(output or Path(study))
    resources = {
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        "workers_per_training": workers_per_training,
        "max_concurrent": max_concurrent,
        "patience_s": None if patience is None else parse_duration(patience),
        "worker_timeout_s": None if worker_timeout is None else parse_duration(worker_timeout),
        "ray_address": ray_address,
    }
    with open_reporter(progress, quiet=quiet) as reporter:
        with reporter.bar("loading PyTorch", None):
            from sparsesearch.app.move_study import move_study
            from sparsesearch.app.workspace import Workspace
            from sparsesearch.cli.work import report, work, written
        workspace = Workspace.open(database)
        is_finished = workspace.store.condition(study).state is StudyState.FINISHED
        if data or device or storage:
            with closing(workspace.store.open_study(study)) as writer, reporter.bar("verifying what moved", None):
                move_study(writer, data=data, device=device, storage=storage, progress=reporter)
        if is_finished:
            reporter.line(f"study {study} is finished; writing its files again")
            has_results = True
        else:
            with closing(workspace.store.open_study(study, resume=True)) as writer:
                has_results = work(
                    writer,
                    workspace,
                    reporter,
                    mlflow=mlflow,
                    started=time.monotonic(),
                    database=database,
                    execution=lambda spec: executed_by(spec, dispatcher=dispatcher, resources=resources),
                )
        result = written(study, workspace, folder, reporter) if has_results else None
    if result is not None:
        report(result, workspace, reporter, mlflow=mlflow, as_json=as_json)
