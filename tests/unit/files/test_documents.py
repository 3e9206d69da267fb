"""Documents that people write: what is read, and the one line for what is refused."""

import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from sparsesearch.app.validate import validate
from sparsesearch.artifacts.recipe import read_recipe
from sparsesearch.artifacts.schedule_file import read_schedule
from sparsesearch.errors import SpaceError, SpecError, UserInputError, one_line
from sparsesearch.files.documents import MAX_BYTES, read_yaml
from sparsesearch.space.definition import load_space
from sparsesearch.space.problems import problems_of
from sparsesearch.study.spec import StudySpec

NINE = ",".join
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{this}: &{this} [{NINE([f'*{before}'] * 9)}]\n" for before, this in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))

REFUSED = {
    "a bomb of aliases": (BOMB, "more than 100,000 values, counting what its aliases stand for"),
    "a chain of aliases": (CHAIN, "more than 50 levels, counting what its aliases stand for"),
    "an alias of itself": ("a: &a [*a]", "line 1, column 4: an alias stands for itself"),
    "deep lists": ("[" * 400_000, "nested more than 50 levels deep"),
    "deep mappings": ("{a: " * 200_000, "nested more than 50 levels deep"),
    "many values": (b"[" + b"x," * 300_000 + b"]", "more than 100,000 values"),
    "too many bytes": (b"a: " + b"x" * MAX_BYTES, "is larger than 1,000,000 bytes"),
    "a key twice": ("seed: 1\nname: x\nseed: 2\n", "line 3, column 1: the key 'seed' is there twice (first in line 1)"),
    "an inner key twice": ("data: {source: a, source: b}", "the key 'source' is there twice"),
    "a tab": ("a:\n\tb: 1", "line 2, column 1: found character that cannot start any token (a tab"),
    "NaN": ("lr: .nan", "line 1, column 5: '.nan' is not a finite number"),
    "infinity": ("a: [1, -.inf]", "'-.inf' is not a finite number"),
    "a number beyond floats": ("a: 1.0e+400", "'1.0e+400' is not a finite number"),
    "a big integer": ("seed: 1" + "0" * 30, "the integer '1000000000000000000000000000000' has more than 63 bits"),
    "an integer of a megabyte": ("seed: " + "9" * 900_000, "has more than 63 bits"),
    "code": ("!!python/object/apply:os.system [x]", "could not determine a constructor for the tag"),
    "a list as a key": ("{[1]: 2}", "found unhashable key"),
    "two documents": ("a: 1\n---\nb: 2", "line 2, column 1: another document begins here"),
    "a control character": ("a: \x00", "control characters are not allowed"),
    "an open bracket": ("a: [1, 2", "did not find expected"),
    "no such day": ("a: 2001-99-99", "month must be in 1..12"),
    "bad base64": ("a: !!binary x", "failed to decode base64"),
    "UTF-16": ("a: 1".encode("utf-16"), "line 1 is not UTF-8 text; save the file as UTF-8"),
    "Latin-1": (b"a: 1\nb: \xff", "line 2 is not UTF-8 text"),
}

READ = {
    "aliases": ("a: &a {lr: 1.0}\nb: *a\nc: {<<: *a, lr: 2.0}", {"a": {"lr": 1.0}, "b": {"lr": 1.0}, "c": {"lr": 2.0}}),
    "JSON": ('{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
    "a byte order mark": ("\ufeffa: ä".encode(), {"a": "ä"}),
    "an empty file": ("", None),
    "a comment": ("# nothing", None),
    "a list": ("- 1\n- 2", [1, 2]),
    "63 bits": ("a: -9223372036854775807", {"a": -(2**63) + 1}),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.yaml"


def write(path: Path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(path, case):
    text, reason = REFUSED[case]
    write(path, text)
    started = time.monotonic()
    with pytest.raises(SpecError) as caught:
        read_yaml(path, error=SpecError)
    assert time.monotonic() - started < 20
    message = str(caught.value)
    assert message.startswith(str(path))
    assert reason in message
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))


@pytest.mark.parametrize("case", READ)
def test_what_is_read(path, case):
    text, expected = READ[case]
    write(path, text)
    assert read_yaml(path, error=SpecError) == expected


def test_numbers_that_are_not_finite_are_read_where_they_were_measured(path):
    write(path, "a: [.nan, .inf]")
    nan, inf = read_yaml(path, error=SpecError, allow_nan=True)["a"]
    assert nan != nan
    assert inf == float("inf")


@pytest.mark.parametrize(
    ("path", "reason"), [("/dev/zero", "larger than"), ("/", "Is a directory"), ("x.yaml", "no such")]
)
def test_what_is_no_file(path, reason):
    with pytest.raises(SpaceError, match=reason):
        read_yaml(Path(path), error=SpaceError)


@pytest.mark.parametrize("read", [read_recipe, read_schedule, lambda path: load_space(str(path))])
@pytest.mark.parametrize("text", [BOMB, "a: 1\na: 2", "- 1", "\t", "null\n---\n", "1: 2", "'" + "k" * 5000 + "': 1"])
def test_every_reader_refuses_in_one_line(path, read, text):
    write(path, text)
    with pytest.raises(UserInputError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert len(problems_of(str(path))) == 1


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("document", "keys"),
        [
            ({"bakcbone": "deit_s"}, ["bakcbone: unknown key; did you mean backbone?"]),
            ({"budget": "35%", "dat": "digits"}, ["dat: unknown key; did you mean data?"]),
            ({"backbone": "deit_pico", "data": {"sorce": "x"}}, ["data.sorce: unknown key; did you mean source?"]),
            (
                {"fidelity": {"dense": {"epoch": 3}}, "sed": 1},
                ["fidelity.dense.epoch: unknown key", "sed: unknown key"],
            ),
        ],
    )
    def test_they_are_named_whatever_else_is_missing(self, document, keys):
        with pytest.raises(SpecError) as caught:
            validate(document)
        assert all(key in str(caught.value) for key in keys)

    def test_former_names_are_known(self):
        with pytest.raises(SpecError, match="no backbone given"):
            validate({"fidelity": {"elastic_training": {"epochs": 1}}, "data": {"val_share": 0.1}})


def test_many_errors_are_one_short_line():
    with pytest.raises(ValidationError) as caught:
        StudySpec.model_validate({f"key{i}": "x" * 100_000 for i in range(1000)})
    text = one_line(caught.value)
    assert len(text) <= 600
    assert "\n" not in text
    assert "and 995 more" in text
