"""A short name for the folder of temporary files, whatever TMPDIR is."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

LONGEST = 40
"""Bytes that leave room for the names of Ray's and multiprocessing's sockets, whose paths may have 107 bytes."""


def shorten_tmpdir(root: Path = Path("/tmp")) -> None:
    """Let TMPDIR be a short link to the same folder if its name is too long for sockets; files stay where they were.

    Args:
        root: Where the link is made. If that is not possible, nothing changes.
    """
    folder = os.path.realpath(tempfile.gettempdir())
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST:
        return
    link = root / f"sparsesearch-{os.getuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"
    try:
        if not link.is_symlink():
            link.symlink_to(folder)
        is_ours = link.lstat().st_uid == os.getuid() and os.path.realpath(link) == folder
    except OSError:
        return
    if is_ours:
        os.environ["TMPDIR"] = str(link)
        tempfile.tempdir = None
