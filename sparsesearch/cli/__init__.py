"""The command line.

This module needs nothing but the standard library, so that the program can say which package is missing.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import sys
import tempfile
import time
import traceback
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from sparsesearch.cli.process_title import hide_passwords
from sparsesearch.cli.renamed_flags import new_name
from sparsesearch.dispatch.temporary import shorten_tmpdir
from sparsesearch.errors import (
    MissingExtraError,
    SparseSearchError,
    UserInputError,
    one_line,
    printable,
    without_long_words,
)
from sparsesearch.files.durable import write_file
from sparsesearch.infrastructure import infrastructure_fault
from sparsesearch.redact import without_password

if TYPE_CHECKING:
    from typer.exceptions import TyperException

logger = logging.getLogger(__name__)

STARTED = time.monotonic()
"""When the program began: a time budget includes the seconds that imports take."""

INTERRUPTED = 130

_OBJECTS_BETWEEN_COLLECTIONS = 50_000  # imports make many that stay; to look at them each 700 takes a tenth of a second


def main() -> None:
    """Run the command line.

    Exit code: 0; 1 for a failure; 2 for bad input; 75 if another process took the study over, or a disk or
    network failed, so that the same command can work later; 130 after Ctrl-C and 143 after SIGTERM, which leave a study
    that can be resumed.

    A known error is one line. Anything else is a fault of this program: its traceback goes into a log file, or to
    the terminal with `SPARSESEARCH_DEBUG=1`.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    hide_passwords()
    sys.excepthook = _show_traceback
    sys.exit(_run())


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return without_password(super().format(record))


def _show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(without_password("".join(traceback.format_exception(kind, error, trace))))


def _run() -> int:
    logging.basicConfig(level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s"))
    shorten_tmpdir()
    try:
        return _run_app()
    except ModuleNotFoundError as error:
        if os.environ.get("SPARSESEARCH_DEBUG") or _is_own(error):
            raise
        missing = _missing_package(error)
        return _complain(str(missing), code=missing.exit_code)


def _run_app() -> int:
    from typer.exceptions import Abort, TyperException

    try:
        from sparsesearch.cli.app import app

        code = app(prog_name="sparsesearch", standalone_mode=False)
    except SparseSearchError as error:
        return _complain(str(error), code=error.exit_code)
    except TyperException as error:
        return _complain_of_usage(error)
    except (KeyboardInterrupt, Abort):
        return _complain("interrupted; nothing recorded is lost", code=INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter must not fail at flushing it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        return _complain_of_place(error)
    except Exception as error:
        if os.environ.get("SPARSESEARCH_DEBUG") or (isinstance(error, ModuleNotFoundError) and not _is_own(error)):
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return _complain_of_place(error)
        fault = infrastructure_fault(error)
        if fault is not None:
            return _complain(str(fault), code=fault.exit_code)
        return _complain(
            f"internal error: {type(error).__name__}: {one_line(error)} (see {_write_crash_log()})", code=1
        )
    if code == INTERRUPTED:  # what typer makes of Ctrl-C
        return _complain("interrupted; nothing recorded is lost", code=INTERRUPTED)
    return code if isinstance(code, int) else 0


def _complain(text: str, *, code: int) -> int:
    sys.stderr.write(f"sparsesearch: {printable(without_password(text))}\n")
    return code


def _complain_of_place(error: OSError) -> int:
    name = without_long_words(str(error.filename))
    return _complain(f"cannot use {name}: {error.strerror}; name another place", code=2)


def _is_own(error: ModuleNotFoundError) -> bool:
    """Whether what was not found is a part of this package: a fault of it, not of the installation around it."""
    return error.name is None or error.name.partition(".")[0] == "sparsesearch"


def _missing_package(error: ModuleNotFoundError) -> MissingExtraError:
    """What is not installed, as where the package was installed without its dependencies, and how to have it."""
    name = str(error.name)
    package = name.partition(".")[0]
    if package in sys.stdlib_module_names:
        return MissingExtraError(
            f"the command line needs Python's own {package}, which this Python does not have; "
            "use a complete Python, on Linux"
        )
    if package != name and find_spec(package) is not None:
        return MissingExtraError(
            f"the command line needs {name}, which the installed {package} does not have; "
            "install versions that fit with: pip install sparsesearch"
        )
    return MissingExtraError(
        f"the command line needs {package}, which is not installed; install everything with: pip install sparsesearch"
    )


def _complain_of_usage(error: TyperException) -> int:
    """One line for a command line that cannot be parsed; a command without arguments has printed its help already."""
    code = int(error.exit_code)
    if type(error).__name__ == "NoArgsIsHelpError":
        return code
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sparsesearch"
    flag = str(getattr(error, "option_name", ""))
    renamed = new_name(str(command).rpartition(" ")[2], flag)
    if renamed is not None:
        return _complain(f"{flag} is now called {renamed}; see: {command} --help", code=code)
    text = " ".join(error.format_message().split()).replace("Value error, ", "").removesuffix(".")
    see = " See" if text.endswith("?") else "; see"
    return _complain(f"{text[:1].lower()}{text[1:]}{see}: {command} --help", code=code)


def _write_crash_log() -> Path:
    from sparsesearch.settings import Settings

    text = without_password(traceback.format_exc())
    try:
        path = Settings.from_environment().home / "crash.log"
        write_file(path, text, is_private=True)
    except (OSError, UserInputError):
        handle, name = tempfile.mkstemp(prefix="sparsesearch-crash-", suffix=".log", text=True)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        return Path(name)
    return path
