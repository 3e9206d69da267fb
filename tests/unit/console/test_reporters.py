"""What each way of telling tells, of a study that runs from its beginning to its end."""

import io
import json
import logging
import re
import sys
import time
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from sparsesearch.console import choose as progress
from sparsesearch.console import live, plain
from sparsesearch.console import streams as consoles
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.console.heartbeat import Heartbeat
from sparsesearch.console.jsonl import JsonLinesReporter
from sparsesearch.console.live import LiveReporter
from sparsesearch.console.plain import PlainReporter
from sparsesearch.console.reporter import Reporter
from sparsesearch.study.trial import Fidelity

RESULT = {"study": "sample", "best": {"trial": 30}}


def events(out):
    return [json.loads(line) for line in out.splitlines()]


class TestQuiet:
    def test_it_prints_nothing(self, run_reported, capsys):
        with Reporter() as reporter:
            reporter.line("a line")
            with reporter.bar("work", 3) as bar:
                bar.advance(note="on")
            run_reported(reporter)
            logging.getLogger("sparsesearch").warning("a retry")
            reporter.result(RESULT)
        assert capsys.readouterr() == ("", "")

    def test_warnings_are_heard_again_afterwards(self):
        before = logging.getLogger().level
        with Reporter():
            assert logging.getLogger().level == logging.ERROR
        assert logging.getLogger().level == before


class TestJsonLines:
    @pytest.fixture
    def written(self, run_reported, capsys):
        with JsonLinesReporter() as reporter:
            reporter.line("a note")
            reporter.line("plan: dense 3 x 1,024 images")
            self.trials = run_reported(reporter)
            reporter.result(RESULT)
        out, err = capsys.readouterr()
        assert err == ""
        return events(out)

    def test_every_line_has_a_time_in_utc_and_an_event(self, written):
        for event in written:
            assert datetime.fromisoformat(event["time"]).utcoffset() == timedelta(0)
            assert "study" in event
        kinds = [event["event"] for event in written]
        assert set(kinds) == {"note", "plan", "started", "measured", "ended", "result"}
        assert kinds[:2] == ["note", "plan"]
        assert kinds[-1] == "result"
        assert [event["study"] for event in written[:3]] == [None, None, "sample"]
        assert written[1]["text"] == "dense 3 x 1,024 images"

    def test_trials_are_told_in_order_with_the_fields_that_trials_have(self, written):
        told = [event for event in written if "id" in event]
        for trial in self.trials:
            mine = [event for event in told if event["id"] == trial.number]
            num = len(trial.measurements)
            assert [event["event"] for event in mine] == ["started", *["measured"] * num, "ended"]
            assert [event["epochs_done"] for event in mine[1:-1]] == [m.step for m in trial.measurements]
            assert mine[-1].items() >= trial.public().items()
            assert mine[0]["state"] == "RUNNING"
        assert {event["attempt"] for event in told} == {1}

    def test_the_last_line_is_the_result(self, written):
        last = written[-1]
        assert {key: last[key] for key in RESULT} == RESULT

    def test_accuracies_that_mean_nothing_are_marked(self, run_reported, capsys):
        run_reported(JsonLinesReporter(), meaningful=False)
        assert {event["accuracy"] for event in events(capsys.readouterr().out)} == {"not meaningful"}


class TestPlain:
    @pytest.fixture
    def lines(self, monkeypatch):
        said = []
        monkeypatch.setattr(plain, "say", said.append)
        return said

    def test_trainings_are_told_when_they_begin_and_end(self, run_reported, lines):
        trials = run_reported(PlainReporter(clock=lambda: 0.0))
        trained = [trial for trial in trials if trial.fidelity is not Fidelity.SUPERNET]
        assert lines[:4] == [
            "trial 0: dense training started",
            "trial 0: dense, 79.70 %",
            "trial 1: supernet training started",
            "trial 1: supernet, 79.70 %",
        ]
        assert sum("started" in line for line in lines) == len(trained)
        assert sum("fine-tuned, " in line for line in lines) == len(trained) - 2

    def test_the_search_is_summed_up_now_and_then_and_at_its_end(self, run_reported, lines):
        seconds = iter(range(0, 10_000, 5))
        run_reported(PlainReporter(clock=lambda: float(next(seconds))))
        summaries = [line for line in lines if "schedules" in line]
        assert 2 <= len(summaries) < 22
        assert summaries[-1].startswith("22 of 22 schedules, best ")
        assert summaries[-1].split(", ")[1].endswith("GMACs")

    def test_long_work_says_now_and_then_how_far_it_is(self, lines):
        reporter = PlainReporter()
        reporter.heartbeat = Heartbeat(reporter._beat, every_seconds=0.2)
        with reporter, reporter.bar("profiling", 100, batch_size=8) as bar:
            for _ in range(20):
                bar.advance(4, note="busy")
                time.sleep(0.05)
        assert 2 <= len(lines) <= 8
        pattern = r"\d\d:\d\d:\d\d  profiling: step \d+ of 100, [\d,]+ images/s, busy, about .* left"
        assert all(re.fullmatch(pattern, line) for line in lines[1:]), lines

    def test_another_attempt_says_why(self, make_view, lines):
        from sparsesearch.console.watch import StudyWatch

        view = make_view(0)
        reporter = PlainReporter()
        reporter.follow(StudyWatch(view))
        again = view.trials[0].model_copy(update={"attempt": 2, "reason": "attempt 1 failed: lost"})
        reporter.changed(again)
        assert lines == ["trial 0: dense training started again, attempt 2 (attempt 1 failed: lost)"]


class TestLive:
    @pytest.fixture
    def terminal(self, monkeypatch):
        screen = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, markup=False)
        monkeypatch.setattr(live, "err", screen)
        return screen

    def test_the_view_stands_below_the_lines_and_leaves_nothing_behind(self, terminal, run_reported):
        with LiveReporter() as reporter:
            reporter.line("a note")
            run_reported(reporter)
            with reporter.bar("steps [of one]", 10) as bar:
                bar.advance(3, note="loss 1.0")
                reporter._live.refresh()
                assert "steps [of one]" in terminal.file.getvalue()
                assert "hypervolume" in terminal.file.getvalue()
            terminal.file.seek(0)
            terminal.file.truncate()
        rest = terminal.file.getvalue()
        assert "\x1b[?25h" in rest, "the cursor is shown again"
        assert rest.rstrip("\n").endswith("\x1b[2K"), "the last lines are erased"

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_whatever_happens_the_terminal_is_given_back(self, terminal, error):
        with pytest.raises(error), LiveReporter():
            raise error
        assert terminal.file.getvalue().count("\x1b[?25l") == terminal.file.getvalue().count("\x1b[?25h") == 1

    def test_results_in_a_file_get_there(self, terminal, capsys):
        with LiveReporter():
            sys.stdout.write("a result\n")
        assert capsys.readouterr().out == "a result\n"


class TestMode:
    @pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
    def is_terminal(self, request, monkeypatch):
        screen = Console(file=io.StringIO(), force_terminal=request.param, _environ={"TERM": "xterm"})
        monkeypatch.setattr(progress, "err", screen)
        monkeypatch.setattr(consoles, "err", screen)
        return request.param

    def test_auto_looks_at_the_terminal(self, is_terminal):
        assert type(open_reporter(ProgressMode.AUTO)) is (LiveReporter if is_terminal else PlainReporter)

    def test_a_wish_for_live_without_a_terminal_is_answered(self, is_terminal):
        reporter = open_reporter(ProgressMode.LIVE)
        assert type(reporter) is (LiveReporter if is_terminal else PlainReporter)
        assert ("using --progress plain" in progress.err.file.getvalue()) is not is_terminal

    def test_all_others_are_as_wished(self, is_terminal):
        assert type(open_reporter(ProgressMode.PLAIN)) is PlainReporter
        assert type(open_reporter(ProgressMode.JSONL)) is JsonLinesReporter
        assert type(open_reporter(ProgressMode.QUIET)) is Reporter
        assert type(open_reporter(ProgressMode.LIVE, quiet=True)) is Reporter
