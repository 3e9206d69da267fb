"""The API on a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from queued_studies import finished
from served import Api, serving


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """An API without studies."""
    return Api(tmp_path)


@pytest.fixture(scope="module")
def module_api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """An API with a study `sample` that has results; for tests that only read."""
    found = Api(tmp_path_factory.mktemp("api"))
    finished(found.store)
    return found


@pytest.fixture
def address(api: Api) -> Iterator[str]:
    """A real server of `api`."""
    with serving(api.app) as found:
        yield found
