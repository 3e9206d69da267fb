"""What the OpenAPI document says is true: Schemathesis asks every route for what it says, and for what it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from queued_studies import finished
from served import Api, bearer, serving

from sparsesearch.service.strangers import Strangers

PROGRAM = Path(sys.executable).with_name("schemathesis")
KNOWN = """
[parameters]
"path.name" = "sample"
"""
"""All paths lead to a study with results. Its events end, which those of a study in the queue do not."""


@pytest.mark.parametrize("who", [None, "rita", "root"])
def test_every_answer_is_documented(tmp_path: Path, who: str | None) -> None:
    """No answer is one that the document does not have, none a failure of the server, and none is without a token."""
    api = Api(tmp_path)
    finished(api.store)
    api.app.state.strangers = Strangers(1e9)
    command = [PROGRAM]
    if who == "rita":
        (tmp_path / "known.toml").write_text(KNOWN, encoding="utf-8")
        command += ["--config-file", tmp_path / "known.toml"]
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(api.app.openapi()), encoding="utf-8")
    with serving(api.app) as address:
        command += ["run", document, "--url", address, "--max-examples", "15", "--seed", "1", "--no-color"]
        if who != "rita":
            command += ["--exclude-path-regex", "events$"]
        if who is not None:
            command += ["-H", f"Authorization: {bearer(api.secrets[who])['Authorization']}"]
        # What is valid by its types may be refused: a budget that no schedule meets, a backbone that does not exist.
        command += ["--exclude-checks", "positive_data_acceptance"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout
    assert "Tested: 2" in done.stdout, done.stdout
