from __future__ import annotations

import json

import pytest
from latency_samples import made_up_confirmation

from sparsesearch.errors import StoreVersionError
from sparsesearch.schedule import Schedule
from sparsesearch.store import codec
from sparsesearch.study.numbers import Numbers
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.trial import (
    CheckpointRef,
    Cost,
    Fidelity,
    Measurement,
    Origin,
    Proposal,
    Trial,
    TrialState,
)

SPEC = StudySpec(name="digits", backbone="deit_pico", budget=Budget(low=0.1 + 0.2, high=0.65))
MEASUREMENT = Measurement(
    step=1, attempt=2, fidelity=Fidelity.FINETUNE, metrics={"b": 1 / 3, "a": 1.0}, seconds=0.25, seed=5
)
TRIAL = Trial(
    study="digits",
    number=3,
    fidelity=Fidelity.FINETUNE,
    origin=Origin.SEARCH,
    label="search",
    schedule=Schedule.at([3, 6], [0.7, 0.1 + 0.2]),
    key="ab" * 16,
    cost=Cost(macs=2**40, params=7, latency_ms=0.1, predicted_ms=0.2),
    seed=-5,
    parent=1,
    proposal=Proposal(
        index=3, seed=2**70, seen=Numbers([0, 2]), params={"z": 1, "a": 1.0}, system_attrs={"k": [1, 1.0]}
    ),
    budget_macs=2**41,
    state=TrialState.STOPPED,
    attempt=2,
    reason="worse",
    measurements=(MEASUREMENT,),
    checkpoint=CheckpointRef(uri="s3://b/ü", sha256="c" * 64, step=1),
    confirmed=made_up_confirmation(),
)


def rows() -> tuple[dict[str, object], list[dict[str, object]]]:
    return codec.trial_to_row(TRIAL), [codec.measurement_to_row(MEASUREMENT, number=3)]


def test_round_trips() -> None:
    row, measurements = rows()
    assert codec.trial_from_row(row, measurements, study="digits") == TRIAL
    assert codec.stored(TRIAL) == TRIAL
    assert codec.study_from_row(codec.study_to_row(SPEC)) == SPEC


def test_documents_are_canonical() -> None:
    row, measurements = rows()
    assert measurements[0]["metrics"] == '{"a":1.0,"b":0.3333333333333333}'
    assert row["proposal"] == (
        '{"index":3,"params":{"a":1.0,"z":1},"seed":1180591620717411303424,"seen":[0,2],"system_attrs":{"k":[1,1.0]}}'
    )
    for text in (row["schedule"], row["proposal"], codec.study_to_row(SPEC)["spec"]):
        assert text == json.dumps(json.loads(str(text)), sort_keys=True, separators=(",", ":"))


def test_rows_hold_plain_columns_only() -> None:
    row, measurements = rows()
    assert {type(value) for value in [*row.values(), *measurements[0].values()]} <= {int, float, str}
    assert set(codec.progress_to_row(TRIAL)) < set(row)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", "SLEEPING"),
        ("fidelity", "guess"),
        ("schedule", '{"steps":[],"schema_version":2}'),
        ("schedule", "{"),
        ("proposal", '{"index":0}'),
    ],
)
def test_a_row_of_another_version_is_one_line(column: str, value: str) -> None:
    row, measurements = rows()
    with pytest.raises(StoreVersionError, match=r"^trial 3 of study 'digits' cannot be read by this version") as caught:
        codec.trial_from_row({**row, column: value}, measurements, study="digits")
    assert "\n" not in str(caught.value)


def test_a_study_of_another_version_is_one_line() -> None:
    row = codec.study_to_row(SPEC)
    document = {**json.loads(row["spec"]), "colour": "blue"}
    with pytest.raises(StoreVersionError, match=r"^study 'digits' cannot be read by this version.*colour"):
        codec.study_from_row({**row, "spec": json.dumps(document)})


def test_text_for_people_loses_only_what_no_database_takes() -> None:
    assert codec.storable_text("a\x00b\ud800c é\n") == "a\N{REPLACEMENT CHARACTER}b?c é\n"
