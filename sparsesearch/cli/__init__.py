"""The command line."""

from __future__ import annotations

import logging
import os
import sys
import time

import click

from sparsesearch.errors import SparseSearchError, one_line

logger = logging.getLogger(__name__)

STARTED = time.monotonic()
"""When the program began: a time budget includes the seconds that imports take."""


def main() -> None:
    """Run the command line: exit code 0, 1 (failure), 2 (bad input) or 130 (interrupted, resumable).

    A known error is one line. Anything else is a fault of this program: its traceback goes into a log file, or to
    the terminal with `SPARSESEARCH_DEBUG=1`.
    """
    from sparsesearch.cli.app import app

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        code = app(standalone_mode=False)
    except SparseSearchError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted; nothing recorded is lost")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if os.environ.get("SPARSESEARCH_DEBUG"):
            raise
        _complain(f"internal error: {type(error).__name__}: {one_line(error)} (see {_write_crash_log()})")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(text: str) -> None:
    sys.stderr.write(f"sparsesearch: {text}\n")


def _write_crash_log() -> str:
    import traceback

    from sparsesearch.settings import Settings

    path = Settings.from_environment().home / "crash.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(traceback.format_exc(), encoding="utf-8")
    return str(path)
