import re
from dataclasses import replace

import pytest
from rich.console import Console

from sparsesearch.analysis.status import StudyStatus
from sparsesearch.analysis.view import StudyView
from sparsesearch.console.status_view import status_view
from sparsesearch.study.state import StudyCondition, StudyState
from sparsesearch.study.trial import TrialState

NOW = 1_780_000_120.0


def drawn(status, *, width=80, **options):
    console = Console(record=True, width=width, height=40, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(status_view(status, **options))
    lines = console.export_text().splitlines()
    assert max(len(line) for line in lines) <= width
    return lines


def at(view, *, state=StudyState.RUNNING, is_leased=True):
    return StudyStatus.of(replace(view, condition=StudyCondition(state=state, is_leased=is_leased)), now=NOW)


@pytest.mark.parametrize("num_trials", [0, 1, 2, 3, 20, 26, None])
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_it_fits_at_every_moment(make_view, num_trials, width):
    drawn(at(make_view(num_trials)), width=width)
    drawn(at(make_view(num_trials), is_leased=False), width=width)


def test_it_says_what_is_known(make_view):
    lines = drawn(at(make_view(20)))
    text = "\n".join(lines)
    assert lines[0].startswith("sample")
    assert "2:00, about" in lines[0]
    assert lines[0].rstrip().endswith("left")
    assert "deit_small_patch16_224, budget 45%:80% of dense, dispatcher ray" in lines[1]
    assert [line.split()[0] for line in lines[2:6]] == ["dense", "supernet", "search", "fine-tuning"]
    assert "18 of 22  schedules" in lines[4]
    assert "12 of 12 epochs" in lines[2]
    assert "(search)" in text
    assert "% of dense), on the shared supernet weights" in text
    assert re.search(r"hypervolume \d\d\.\d\d %", text)
    assert "failed" not in text
    assert "not meaningful" not in text


def test_accuracies_that_mean_nothing_are_marked_everywhere(make_view):
    text = "\n".join(drawn(at(make_view(26, meaningful=False))))
    assert text.count("not meaningful") >= 2
    assert text.count("not meaningful") == text.count("% not meaningful)")


def test_a_name_as_long_as_names_may_be_is_cut(make_view):
    assert "…" in drawn(at(make_view(3, name="n" * 80)))[0]


def test_at_most_so_many_running_trials_are_shown(make_view):
    view = make_view(3)
    (running,) = (trial for trial in view.trials if trial.state is TrialState.RUNNING)
    many = tuple(running.model_copy(update={"number": number}) for number in range(100, 112))
    view = StudyView(spec=view.spec, trials=(*view.trials[:-1], *many), times=view.times)
    text = "\n".join(drawn(at(view)))
    assert text.count("rho at") == 8
    assert "and 4 more" in text
    assert "and 9 more" in "\n".join(drawn(at(view), max_running=3))


def test_failures_are_shown_with_their_reason(make_view):
    view = make_view(20)
    failed = view.trials[5].model_copy(update={"state": TrialState.FAILED, "reason": "loss is not finite " * 8})
    retried = view.trials[-1].model_copy(update={"attempt": 2, "reason": "attempt 1 failed: the process died"})
    view = StudyView(spec=view.spec, trials=(*view.trials[:5], failed, *view.trials[6:-1], retried), times=view.times)
    text = "\n".join(drawn(at(view)))
    assert "1, last trial 5: loss is not finite" in text
    assert "1, last trial 20: attempt 1 failed: the process died" in text
    assert "attempt 2:" in text


@pytest.mark.parametrize(("num_trials", "word"), [(7, "interrupted after"), (None, "finished after")])
def test_a_study_at_rest_says_so(make_view, num_trials, word):
    state = StudyState.RUNNING if num_trials else StudyState.FINISHED
    lines = drawn(at(make_view(num_trials), state=state, is_leased=False))
    assert word in lines[0]
    assert "left" not in lines[0]
