"""`report` and `front --with-paper` as people use them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from answers import Command
from sample_study import run_sample, sample_spec

from sparsesearch.settings import Settings
from sparsesearch.store.sql import open_store


@pytest.fixture
def studies(home: Path) -> None:
    store = open_store(Settings.from_environment().database_url)
    run_sample(store, sample_spec("one", evaluations=9, finalists=2))
    run_sample(store, sample_spec("half", evaluations=9, finalists=2), stop_after=6)
    run_sample(store, sample_spec("empty"), stop_after=0)
    store.close()


def test_the_page_and_where_it_goes(command: Command, studies: None) -> None:
    answer = command("report", "one")
    assert answer.code == 0, answer.err
    assert answer.out == "report: one/report.html\n"
    assert "More evaluations are" in answer.err
    assert "do not transfer" in answer.err
    page = Path("one/report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert command("report", "one", "-o", "deep/here.html").code == 0
    assert Path("deep/here.html").read_text(encoding="utf-8") == page


def test_of_a_study_that_is_not_over(command: Command, studies: None) -> None:
    answer = command("report", "half")
    assert answer.code == 0, answer.err
    assert "Too early to judge" in answer.err


def test_the_numbers(command: Command, studies: None) -> None:
    answer = command("report", "one", "--json", "--with-paper", "deit-s")
    assert answer.code == 0, answer.err
    assert not Path("one").exists(), "a page is written only where one is named"
    found = answer.document
    assert found["study"] == "one"
    assert found["fidelity"] == "finetune"
    assert found["hypervolume"] == found["hypervolume_curves"][-1]["points"][-1]["value"]
    assert [phase["name"] for phase in found["spending"]] == ["dense", "supernet", "search", "fine-tuning"]
    assert found["convergence"]["verdict"] in ("no gain", "small gain", "improving")
    assert len(found["against_baselines"]) == 5
    assert found["paper"]["name"] == "deit_s"
    assert command("report", "one", "--json", "-o", "too.html").document == {
        key: value for key, value in found.items() if key != "paper"
    }
    assert Path("too.html").is_file()


def test_it_opens_in_a_browser(command: Command, studies: None, monkeypatch: pytest.MonkeyPatch) -> None:
    opener = Path("browser.sh").absolute()
    opener.write_text(f'#!/bin/sh\necho "$1" > {opener.with_name("opened")}\n', encoding="utf-8")
    opener.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{opener} %s")
    assert command("report", "one", "--open").code == 0
    assert opener.with_name("opened").read_text().strip() == Path("one/report.html").absolute().as_uri()


def test_a_paper_over_a_front(command: Command, studies: None) -> None:
    answer = command("front", "one", "--with-paper", "deit_s", "--png", "front.png")
    assert answer.code == 0, answer.err
    assert "DynamicViT on DeiT-S, published schedules (not comparable)" in answer.out
    assert "79.32 %" in answer.out
    assert "3:137 6:96 9:67" in answer.out
    assert "arXiv:2106.02034" in answer.err
    assert "the accuracies are not comparable" in answer.err
    assert Path("front.png").read_bytes().startswith(b"\x89PNG")
    document = command("front", "one", "--with-paper", "swin_t", "--json").document
    points = document["paper"]["points"]
    assert [point["rho"] for point in points] == [0.5, 0.6, 0.7, 0.8, 0.9]
    assert [point["macs"] for point in points] == sorted(point["macs"] for point in points)
    assert points[2]["published_top1"] == 0.8091
    assert points[0]["published_top1"] is None
    assert document["paper"]["comparable"] is False
    assert "paper" not in command("front", "one", "--json").document


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("report", "none"), "no study 'none'"),
        (("report", "empty"), "study 'empty' has no results yet; show its progress with: "),
        (("report", "empty", "--json"), "has no results yet"),
        (("report", "one", "-o", "."), "is a folder"),
        (("report", "one", "--json", "--open"), "name one with -o report.html"),
        (("report", "one", "--with-paper", "vgg"), "no published schedules for 'vgg'; choose one of deit_256, deit_s"),
        (("front", "none", "--with-paper", "deit_s"), "no study 'none'"),
        (("front", "empty", "--with-paper", "deit_s"), "has no results yet"),
        (("front", "one", "--with-paper", "resnet50"), "no published schedules for 'resnet50'; choose one of deit_256"),
    ],
)
def test_bad_input(command: Command, studies: None, arguments: tuple[str, ...], said: str) -> None:
    complaint = command(*arguments).complaint
    assert said in complaint
    assert json.dumps(complaint)
