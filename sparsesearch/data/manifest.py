"""What is known of an image folder, written once, and read by every process instead of a walk through its files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sparsesearch.data.content import combined
from sparsesearch.data.content_cache import is_settled
from sparsesearch.data.image_table import ImageTable, Listing
from sparsesearch.data.samples import Account
from sparsesearch.files.durable import write_file

_ARRAYS = ("names", "lengths", "labels", "splits", "train", "val", "test")


@dataclass(frozen=True, eq=False)
class Manifest:
    """An image folder that was opened.

    Attributes:
        table: All images.
        train: int32, the training images.
        val: int32, the validation images of a search, in their order.
        test: int32, the test images.
        fingerprint: Hash of contents, labels and splits.
        state: What the files were: `state_of` their listing. Their contents are those of the fingerprint as long as
            this is the same.
        account: What was left out, and what may be unexpected.
    """

    table: ImageTable
    train: NDArray[np.int32]
    val: NDArray[np.int32]
    test: NDArray[np.int32]
    fingerprint: str
    state: str
    account: Account

    def write(self, path: Path) -> None:
        """Write it to a file, in place of an earlier one.

        Raises:
            OSError: The file cannot be written.
        """
        arrays = {name: getattr(self if name in ("train", "val", "test") else self.table, name) for name in _ARRAYS}
        about = {
            "folders": dict(self.table.folders),
            "classes": self.table.classes,
            "fingerprint": self.fingerprint,
            "state": self.state,
            "account": asdict(self.account),
        }
        content = save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata={"about": json.dumps(about)}
        )
        write_file(path, content, is_private=True)


def read_manifest(path: Path, *, state: str) -> Manifest | None:
    """The manifest in a file.

    Args:
        path: The file.
        state: What the files are now, or were when another process looked at them.

    Returns:
        None if there is none, or one of another state.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["about"])
            if about["state"] != state:
                return None
            arrays: dict[str, Any] = {name: file.get_tensor(name) for name in _ARRAYS}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):  # there is none, or it is damaged
        return None
    table = ImageTable.of(
        about["folders"],
        tuple(about["classes"]),
        **{name: arrays.pop(name) for name in ("names", "lengths", "labels", "splits")},
    )
    account: Mapping[str, Any] = about["account"]
    return Manifest(
        table,
        **arrays,
        fingerprint=about["fingerprint"],
        state=state,
        account=Account(**{**account, "broken": tuple(account["broken"]), "notes": tuple(account["notes"])}),
    )


def state_of(listing: Listing, *, left_out: Mapping[str, int]) -> str:
    """What files are: a hash of their paths, labels, sizes, times and inodes, and of what is left out.

    Files that changed so recently that they could change again without another time stamp have a state of their own
    each time.
    """
    table = listing.table
    latest = int(listing.keys[:, 1:3].max(initial=0))
    return combined(
        dict(table.folders),
        table.classes,
        *(array.tobytes() for array in (table.names, table.lengths, table.labels, table.splits, listing.keys)),
        sorted(left_out.items()),
        "" if is_settled(latest) else time.time_ns(),
    )
