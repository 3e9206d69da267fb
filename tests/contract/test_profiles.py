"""Profiles in the study database, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from latency_samples import CONDITIONS, made_up_fit, made_up_profile
from sample_study import DEIT_SMALL

from sparsesearch.errors import ProfileError
from sparsesearch.latency.profile.document import Profile
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.latency_fit import shape_of_stages


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    url = f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    times = iter(range(1000))
    store = open_store(url, clock=lambda: float(next(times)))
    yield store
    store.close()


@pytest.fixture(scope="module")
def profile() -> Profile:
    return made_up_profile(DEIT_SMALL, made_up_fit(DEIT_SMALL), noise=0.01)


def test_a_profile_is_kept_as_it_is(store: SqlStore, profile: Profile) -> None:
    assert list(store.profiles.names()) == []
    store.profiles.save("h200", profile)
    store.profiles.save("h200", profile)
    assert store.profiles.get("h200") == profile
    assert list(store.profiles.names()) == ["h200"]


def test_a_name_is_not_taken_from_another(store: SqlStore, profile: Profile) -> None:
    other = profile.model_copy(update={"seconds": 2.0})
    store.profiles.save("h200", profile)
    with pytest.raises(ProfileError, match=r"'h200' already.*--replace"):
        store.profiles.save("h200", other)
    store.profiles.save("h200", other, replace=True)
    assert store.profiles.get("h200") == other
    with pytest.raises(ProfileError, match="invalid profile name"):
        store.profiles.save("a b", profile)


def test_profiles_are_found_by_their_conditions(store: SqlStore, profile: Profile) -> None:
    shape = shape_of_stages(DEIT_SMALL)
    elsewhere = CONDITIONS.model_copy(update={"driver": "other"})
    store.profiles.save("old", profile)
    store.profiles.save("new", profile.model_copy(update={"seconds": 2.0}))
    store.profiles.save("other", profile.model_copy(update={"conditions": elsewhere}))
    assert [name for name, _ in store.profiles.find(shape=shape, conditions=CONDITIONS)] == ["new", "old"]
    assert [name for name, _ in store.profiles.find(shape=shape, conditions=elsewhere)] == ["other"]
    assert store.profiles.find(shape="0", conditions=CONDITIONS) == []


def test_what_is_not_there_is_said(store: SqlStore, profile: Profile) -> None:
    with pytest.raises(
        ProfileError, match=r"no profile 'x' in .*no profiles exist yet; create one with: sparsesearch profile"
    ):
        store.profiles.get("x")
    store.profiles.save("h200", profile)
    with pytest.raises(ProfileError, match="existing profiles: h200"):
        store.profiles.delete("x")
    store.profiles.delete("h200")
    assert list(store.profiles.names()) == []
