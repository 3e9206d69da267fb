"""What the Python API writes: nothing that took work is overwritten unasked."""

import pytest
from sample_study import run_sample, sample_spec

import sparsesearch
from sparsesearch.api.study import Study
from sparsesearch.app.workspace import Workspace
from sparsesearch.artifacts.recipe import read_recipe
from sparsesearch.errors import SpecError
from sparsesearch.settings import Settings
from sparsesearch.store.memory import MemoryStore


@pytest.fixture
def study(tmp_path):
    store = MemoryStore()
    run_sample(store, sample_spec())
    return Study("sample", Workspace(Settings(home=tmp_path, database_url="sqlite:///unused.db"), store))


def test_recipes_are_overwritten_only_with_force(study, tmp_path):
    path = study.export(tmp_path / "best.yaml", budget="60%")
    cheap = path.read_text(encoding="utf-8")
    with pytest.raises(SpecError, match=r"best.yaml already exists; choose another file, or .* force=True"):
        study.export(path)
    assert path.read_text(encoding="utf-8") == cheap
    assert study.export(path, force=True) == path
    assert read_recipe(path).provenance.trial == study.best.number
    assert path.read_text(encoding="utf-8") != cheap


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (-1, "is not a sparsesearch recipe: seed: Input should be greater than or equal to 0"),
        (2**63, "the integer '9223372036854775808' has more than 63 bits"),
        (10**30, "has more than 63 bits"),
    ],
)
def test_seeds_of_recipes_are_those_that_everything_takes(study, tmp_path, seed, words):
    path = study.export(tmp_path / "best.yaml")
    path.write_text(path.read_text(encoding="utf-8").replace("\nseed: 0\n", f"\nseed: {seed}\n"), encoding="utf-8")
    with pytest.raises(SpecError, match=words) as caught:
        sparsesearch.retrain(path, tmp_path / "model.safetensors", progress="quiet", mlflow=False)
    assert "\n" not in str(caught.value)


def test_models_are_overwritten_only_with_force(study, tmp_path):
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"the only copy")
    recipe = study.export(tmp_path / "best.yaml")
    with pytest.raises(SpecError, match=r"model.safetensors already exists; choose another file"):
        sparsesearch.retrain(recipe, model, progress="quiet", mlflow=False)
    assert model.read_bytes() == b"the only copy"


def test_places_that_cannot_be_written_are_named(study, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="is a folder; give the name of a file in it"):
        study.export(tmp_path)
    with pytest.raises(SpecError, match="is a folder; give the name of a file in it"):
        study.report(tmp_path)
    with pytest.raises(SpecError, match="file is a file, not a folder; choose another path"):
        study.report(tmp_path / "file" / "report.html")
