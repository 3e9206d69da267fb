"""Push a model's folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.errors import SpecError, one_line


def check_repository(name: str) -> None:
    """Check the name of a repository before the work.

    Raises:
        SpecError: It is none.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise SpecError(f"--push-to-hub {name}: {one_line(error)}") from error


def push_to_hub(folder: Path, name: str) -> str:
    """Push a folder as a model, with the token of `hf auth login` or `HF_TOKEN`; returns its address.

    A repository that does not exist is created, as a private one.

    Args:
        folder: A folder of the format `timm`.
        name: `OWNER/NAME`.

    Raises:
        SpecError: The hub cannot be reached, or refuses it.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = str(api.create_repo(name, exist_ok=True, private=True))
        api.upload_folder(folder_path=folder, repo_id=name, commit_message="Add model")
    except Exception as error:  # of the hub, its HTTP library and the network
        raise SpecError(
            f"{folder} is written, but was not pushed to {name} ({one_line(error)}); log in with: hf auth login, then "
            f"run: hf upload {name} {folder}"
        ) from error
    return address
