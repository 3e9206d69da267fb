"""Selection is honest: whatever searches has no way to the test images."""

import ast
from pathlib import Path

from sparsesearch.backbones.registry import PICO
from sparsesearch.data.digits_task import DigitsTask, DigitsTest
from sparsesearch.data.images_task import ImagesTask, ImagesTest, Preprocessing, Splits
from sparsesearch.data.inputs import open_task
from sparsesearch.data.test_split import open_test
from sparsesearch.study.spec import DataSpec

ROOT = Path(__file__).parents[3]
DOOR = "sparsesearch.data.test_split"
BEHIND = {"DigitsTest", "ImagesTest"}


def sources():
    return [*sorted((ROOT / "sparsesearch").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]


def imported(tree):
    """Full names of everything that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def users(wanted):
    found = set()
    for path in sources():
        if wanted(ast.parse(path.read_text(encoding="utf-8"))):
            found.add(str(path.relative_to(ROOT)))
    return {name for name in found if not name.startswith("benchmarks/")}


def test_only_what_judges_trained_models_goes_through_the_door():
    assert users(lambda tree: DOOR in set(imported(tree))) == {
        "sparsesearch/app/compare_models.py", "sparsesearch/app/deploy_model.py", "sparsesearch/app/deploy_speed.py",
        "sparsesearch/app/retrain.py",
    }  # fmt: skip


def test_only_the_door_makes_a_task_with_a_test_split():
    def names_one(tree):
        return any(isinstance(node, ast.Name) and node.id in BEHIND for node in ast.walk(tree)) or any(
            name.rpartition(".")[2] in BEHIND for name in imported(tree)
        )

    assert users(names_one) == {"sparsesearch/data/test_split.py"}


def test_nothing_that_searches_imports_retraining():
    parts = {"search", "evaluate", "dispatch", "store", "space", "cost", "backbones", "sparsify"}
    judges = {f"sparsesearch.app.{name}" for name in ("compare_models", "deploy_model", "deploy_speed", "retrain")}
    users_of_it = users(lambda tree: judges & set(imported(tree)))
    assert not {name for name in users_of_it if name.split("/")[1] in parts or name.endswith("/study.py")}


def test_the_test_digits_are_drawn_in_one_class_only():
    path = ROOT / "sparsesearch/data/digits_task.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    places = [
        (getattr(node, "name", None), inner.value)
        for node in tree.body
        for inner in ast.walk(node)
        if isinstance(inner, ast.Constant) and inner.value == "test"
    ]
    assert places
    assert {name for name, _ in places} == {"DigitsTest"}

    def draws_it(tree):
        return any(
            isinstance(node, ast.Call)
            and any(isinstance(arg, ast.Constant) and arg.value == "test" for arg in node.args)
            and ast.unparse(node.func).rpartition(".")[2] in ("draw_canvases", "_source_digits", "_evaluation")
            for node in ast.walk(tree)
        )

    assert users(draws_it) == {"sparsesearch/data/digits_task.py"}


def test_tasks_of_a_search_have_no_test_split(task):
    opened = open_task(DataSpec(), backbone=PICO)
    assert type(opened) is DigitsTask
    for each in (task, opened):
        assert not [name for name in dir(each) if "test" in name.lower()]


def test_an_images_task_lets_go_of_the_test_part():
    class Samples(list):
        pass

    train, val, test = Samples([1, 2]), Samples([3, 4]), Samples([5, 6])
    splits = Splits(2, "hash", (train, [0, 1]), (val, [0, 1]), (test, [0, 1]))
    opened = ImagesTask(splits, Preprocessing(image_size=32), DataSpec(source="folder:x"))

    def reaches(value, depth=4):
        if value is test or value is splits:
            return True
        inner = value if isinstance(value, list | tuple) else getattr(value, "__dict__", value)
        inner = inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list | tuple) else ()
        return depth > 0 and any(reaches(each, depth - 1) for each in inner)

    assert not reaches(opened)
    assert not [name for name in dir(opened) if "test" in name.lower()]
    assert reaches(ImagesTest(splits, Preprocessing(image_size=32), DataSpec(source="folder:x")))


def test_the_door_opens_the_test_split():
    opened = open_test(DataSpec(), backbone=PICO)
    assert type(opened) is DigitsTest
    assert opened.fingerprint == open_task(DataSpec(), backbone=PICO).fingerprint
    assert sum(len(batch.labels) for batch in opened.test(batch_size=500)) == len(opened.test_sources()) == 4764
