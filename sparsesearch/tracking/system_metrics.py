"""The load of this machine on the page of a study's run: MLflow's own system metrics, where they are wanted."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

logger = logging.getLogger(__name__)

SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
_THREAD = "SystemMetricsMonitor"


class SystemMetrics:
    """Logs processor, memory, disk, network and GPU of this machine to a run, if MLflow's switch says so."""

    def __init__(self) -> None:
        self._monitor: SystemMetricsMonitor | None = None
        self._is_refused = False

    def keep(self, run_id: str, tracking_uri: str) -> str | None:
        """Log to a run from now on; start again if MLflow's monitor has ended, as it does when MLflow is away.

        Args:
            run_id: The run.
            tracking_uri: Address of MLflow.

        Returns:
            A message for the user, once: why there are none.
        """
        from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

        if self._is_refused or not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():  # type: ignore[no-untyped-call]
            return None
        if self._monitor is not None and any(thread.name == _THREAD for thread in threading.enumerate()):
            return None
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
        except ImportError:
            self._is_refused = True
            return f"{SWITCH} is set, but psutil is not installed; run: pip install 'sparsesearch[system-metrics]'"
        self._monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            run_id, resume_logging=True, tracking_uri=tracking_uri
        )
        self._monitor.start()  # type: ignore[no-untyped-call]
        return None

    def end(self) -> None:
        """Stop logging."""
        if self._monitor is not None:
            self._monitor.finish()  # type: ignore[no-untyped-call]
            self._monitor = None
