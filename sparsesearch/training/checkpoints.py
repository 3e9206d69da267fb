"""Tensors on disk: safetensors only, written atomically, verified by hash when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from sparsesearch.errors import CheckpointError, DamagedFileError, InfrastructureError, one_line
from sparsesearch.files.durable import make_folder, new_file
from sparsesearch.infrastructure import infrastructure_fault
from sparsesearch.study.trial import CheckpointRef
from sparsesearch.training.study_folder import study_folder

_METADATA_KEY = "sparsesearch"
_DIGEST_KEY = "sparsesearch_sha256"
_OLDER_NAMES = {"supernet_training": "elastic"}  # files written by older versions


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, object], is_private: bool = False
) -> str:
    """Write tensors and a JSON document atomically; returns the SHA-256 of the file.

    The header contains a SHA-256 of everything else in the file, so that the file alone tells whether it is damaged.
    Equal tensors and documents give equal bytes.

    Args:
        path: Target file; its folder is created.
        tensors: Name to tensor, on any device.
        metadata: JSON-serializable document stored in the file's header.
        is_private: Whether only the user may read it.

    Raises:
        OSError: It cannot be written, as when the disk is full; an earlier file is then as it was.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    entries, data = _split(dump_safetensors(plain))
    text = json.dumps(metadata, sort_keys=True)
    entries["__metadata__"] = {_METADATA_KEY: text, _DIGEST_KEY: _digest(entries, text, data)}
    header = json.dumps(entries, sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    head = len(header).to_bytes(8, "little") + header
    with new_file(path, is_private=is_private) as file:
        file.write(head)
        file.write(data)
    whole = hashlib.sha256(head)
    whole.update(data)
    return whole.hexdigest()


def read_tensors(path: Path, *, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read a file of `write_tensors`, or any safetensors file (with an empty document), and check that it is whole.

    Args:
        path: The file.
        sha256: The recorded hash of the file; None to rely on the one in its header, which older files lack.

    Raises:
        DamagedFileError: The file is not what was written.
        CheckpointError: The file is missing or not readable.
        InfrastructureError: Its disk failed.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        fault = infrastructure_fault(error)
        raise fault or CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(blob).hexdigest() != sha256:
        raise DamagedFileError(f"the checkpoint {path} is damaged (its SHA-256 is not the recorded one)")
    try:
        tensors = parse_safetensors(blob)
        entries, data = _split(blob)
        metadata = entries.pop("__metadata__", {})
        text = metadata.get(_METADATA_KEY, "{}")
        document = json.loads(text)
    except (SafetensorError, ValueError) as error:
        raise DamagedFileError(f"{path} is not a readable safetensors file ({one_line(error)})") from error
    is_older = _DIGEST_KEY not in metadata and (set(metadata) == {_METADATA_KEY} or _METADATA_KEY not in metadata)
    if sha256 is None and not is_older and metadata.get(_DIGEST_KEY) != _digest(entries, text, data):
        raise DamagedFileError(f"{path} is damaged (its content does not match the SHA-256 in its header)")
    return tensors, document


def set_aside(path: Path) -> str:
    """Rename a damaged file, so that it is neither read again nor lost; returns what was done, for a message."""
    target = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(target)
    except OSError as error:
        return f"it could not be set aside ({error.strerror})"
    return f"it was set aside as {target.name}"


def _split(blob: bytes) -> tuple[dict[str, Any], memoryview]:
    """The parsed header and the data of a safetensors file."""
    end = 8 + int.from_bytes(blob[:8], "little")
    entries: dict[str, Any] = json.loads(blob[8:end])
    return entries, memoryview(blob)[end:]


def _digest(entries: Mapping[str, Any], document: str, data: memoryview) -> str:
    """SHA-256 of names, types and shapes of the tensors, the document, and all data."""
    digest = hashlib.sha256(json.dumps([entries, document], sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()


class CheckpointFolder:
    """Checkpoints of one study under a storage root. References are relative to the root, so that it can be moved.

    What is read by reference is checked against its hash; a damaged file is set aside. Once the study's folder is
    known to exist, it is never created again: if it is missing later, its disk has gone away.

    Args:
        root: Storage root.
        study: Name of the study.
        uid: Its unique id, which distinguishes it from studies of that name in other databases. Files of older
            versions, in a folder named by the study alone, are read as well, if their hash is the recorded one.
        exists: Whether the study's folder is known to exist, since the process that runs the study has created it.
    """

    def __init__(self, root: Path, study: str, uid: str = "", *, exists: bool = False) -> None:
        self._root = root
        self._study = study
        self._exists = exists
        self.uid = uid

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return study_folder(self._root, self._study, self.uid)

    @property
    def work_folder(self) -> Path:
        """Folder of the progress of its trainings under way."""
        return self.folder / "work"

    @property
    def log_folder(self) -> Path:
        """Folder of the tracebacks of its failed trials."""
        return self.folder / "logs"

    def create(self) -> None:
        """Create the study's folder, before a run.

        Raises:
            OSError: It cannot be created.
        """
        make_folder(self.folder, is_private=True)
        self._exists = True

    def check_there(self) -> None:
        """Check that the study's folder is there, if it is known to exist.

        Raises:
            InfrastructureError: It is missing.
        """
        if self._exists and not self.folder.is_dir():
            raise InfrastructureError(f"the folder {self.folder} has gone away; mount it again")

    def check_recorded(self, refs: Sequence[CheckpointRef]) -> None:
        """Check that the folder of recorded checkpoints is there; single files may be missing.

        Raises:
            InfrastructureError: It is not.
        """
        if refs and not any(self.path_of(ref).parent.is_dir() for ref in refs):
            raise InfrastructureError(
                f"the folder {self.folder} with the checkpoints of study {self._study!r} is missing; mount its disk "
                f"again, or, to repeat the trainings, create it: mkdir -p {self.folder}"
            )

    def save(
        self, name: str, tensors: Mapping[str, Tensor], *, step: int, metadata: Mapping[str, object]
    ) -> CheckpointRef:
        """Write `NAME.safetensors` into the study's folder.

        Raises:
            InfrastructureError: The study's folder has gone away.
            OSError: It cannot be written, as when the disk is full.
        """
        self.check_there()
        sha256 = write_tensors(self.folder / f"{name}.safetensors", tensors, metadata=metadata, is_private=True)
        self._exists = True
        return CheckpointRef(uri=f"{self._study}/{name}.safetensors", sha256=sha256, step=step)

    def holds(self, ref: CheckpointRef) -> bool:
        """Whether the file of a reference exists."""
        return self.path_of(ref).is_file()

    def load(self, ref: CheckpointRef) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Read the file of a reference and verify its hash.

        Raises:
            DamagedFileError: It is not what was written; it is set aside.
            CheckpointError: It is missing or not readable.
            InfrastructureError: Its disk failed, or has gone away.
        """
        self.check_there()
        path = self.path_of(ref)
        try:
            return read_tensors(path, sha256=ref.sha256)
        except DamagedFileError as error:
            raise DamagedFileError(f"{error}; {self._set_aside(path)}") from error

    def verify(self, ref: CheckpointRef, *, sets_aside: bool = False) -> str | None:
        """Why the file of a reference cannot be used, None if its hash is the recorded one.

        No tensors are built, so this takes as long as reading the file.

        Args:
            ref: The reference.
            sets_aside: Whether a damaged file is set aside.

        Raises:
            InfrastructureError: Its disk failed.
        """
        path = self.path_of(ref)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            fault = infrastructure_fault(error)
            if fault is not None:
                raise fault from error
            return f"the checkpoint {path} cannot be read ({error.strerror})"
        if found == ref.sha256:
            return None
        problem = f"the checkpoint {path} is damaged (its SHA-256 is not the recorded one)"
        return f"{problem}; {self._set_aside(path)}" if sets_aside else problem

    def latest(self, prefix: str, *, before: int) -> tuple[dict[str, Tensor], dict[str, object]] | None:
        """The newest readable checkpoint `PREFIX-epoch-N` with N below `before`; None if there is none.

        Raises:
            InfrastructureError: There may be one, but the disk failed.
        """
        fault = None
        for step in range(before - 1, 0, -1):
            path = self.folder / f"{epoch_name(prefix, step)}.safetensors"
            try:
                tensors, document = read_tensors(path)
            except InfrastructureError as error:
                fault = error
            except CheckpointError:
                continue
            else:
                if document.get("step") == step:
                    return tensors, document
        if fault is not None:
            raise fault
        return None

    def read(self, name: str) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Tensors and document of `NAME.safetensors`, verified by the hash in its header."""
        return read_tensors(self._path(name))

    def path_of(self, ref: CheckpointRef) -> Path:
        """The file of a reference."""
        own, older = self.folder / ref.uri.rpartition("/")[2], self._root / ref.uri
        return older if older.is_file() and not own.is_file() else own

    def _set_aside(self, path: Path) -> str:
        """Set a file of this study aside; one in a folder that studies may share is left."""
        return set_aside(path) if path.parent == self.folder else "it was left there"

    def _path(self, name: str) -> Path:
        path = self.folder / f"{name}.safetensors"
        older = self.folder / f"{_OLDER_NAMES.get(name, name)}.safetensors"
        return older if older.is_file() and not path.is_file() else path

    def remove_others(self, *, prefix: str, keep: Collection[str]) -> None:
        """Delete the study's files whose names start with `prefix`, except those kept (by name) and damaged ones."""
        kept = {f"{name}.safetensors" for name in keep}
        for path in self.folder.glob(f"{prefix}*"):
            if path.name not in kept and path.suffix != ".damaged":
                path.unlink(missing_ok=True)


def epoch_name(prefix: str, step: int) -> str:
    """Name of the checkpoint of a training under way."""
    return f"{prefix}-epoch-{step:03d}"
