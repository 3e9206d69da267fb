import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from timm.utils import ParseKwargs
from torch import nn

import sparsesearch.timm
from sparsesearch.artifacts.checkpoint import ModelCard, save
from sparsesearch.backbones.registry import create_model, sparsifiable_models
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.errors import BackboneError, CheckpointError, ScheduleError, SpecError
from sparsesearch.schedule import Schedule
from sparsesearch.timm.__main__ import main
from sparsesearch.timm.schedule_argument import parse_schedule

SCHEDULE = Schedule.at([3, 6, 9], [0.7, 0.49, 0.343])
STEPS = SCHEDULE.model_dump(mode="json")


def kept(model):
    return [step.num_kept for step in model.sparsity.state.plan.steps]


def test_every_supported_model_has_a_sparse_name():
    names = timm.list_models("sparse_*")
    assert set(names) == {f"sparse_{name}" for name in sparsifiable_models()}
    assert {"sparse_deit_small_patch16_224", "sparse_lvvit_s", "sparse_deit_pico"} <= set(names)
    assert "sparse_deit_small_patch16_224.fb_in1k" in timm.list_models("sparse_deit_small*", pretrained=True)
    assert set(timm.list_models(module="sparse_models")) == set(names)
    assert all(hasattr(sparsesearch.timm.sparse_models, name) for name in sparsesearch.timm.sparse_models.__all__)


def test_what_timm_knows_of_a_model_it_knows_of_the_sparse_one():
    for tagged in ("deit_small_patch16_224", "vit_small_patch16_224.augreg_in1k"):
        dense, sparse = (timm.get_pretrained_cfg(name) for name in (tagged, f"sparse_{tagged}"))
        assert sparse.architecture == f"sparse_{dense.architecture}"
        for field in (
            "hf_hub_id",
            "url",
            "tag",
            "input_size",
            "mean",
            "std",
            "crop_pct",
            "interpolation",
            "classifier",
        ):
            assert getattr(sparse, field) == getattr(dense, field)


def test_registering_is_quick():
    script = (
        "import time, timm, sparsesearch.backbones.registry, sparsesearch.artifacts.schedule_file\n"
        "start = time.perf_counter()\n"
        "import sparsesearch.timm\n"
        "print(time.perf_counter() - start)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deit_tiny_patch16_224", {"num_classes": 5, "drop_path_rate": 0.1}),
        ("vit_tiny_patch16_224", {"num_classes": 5, "global_pool": "avg"}),
        ("vit_tiny_patch16_224.augreg_in21k", {"num_classes": 5}),
        ("lvvit_t", {"num_classes": 5, "drop_path_rate": 0.1, "img_size": 224}),
    ],
)
@torch.no_grad()
def test_a_model_of_each_family(name, options):
    torch.manual_seed(3)
    model = timm.create_model(f"sparse_{name}", schedule=SCHEDULE, **options).eval()
    torch.manual_seed(3)
    dense = create_model(name, num_classes=5, seed=3) if name == "lvvit_t" else timm.create_model(name, **options)
    sparsify_(dense, SCHEDULE)
    assert kept(model) == [137, 96, 67]
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(images), dense.eval()(images))
    assert model.pretrained_cfg["architecture"] in (name.split(".")[0], f"sparse_{name}")


@pytest.mark.parametrize(
    "written",
    ["schedule=rho=0.7", "schedule=0.7", f"schedule={STEPS}", "schedule=best.yaml", "schedule=steps.json"],
    ids=["rate", "number", "dict", "recipe", "json"],
)
def test_schedules_as_they_are_typed(tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    Path("best.yaml").write_text(json.dumps({"backbone": "deit_t", "schedule": STEPS}), encoding="utf-8")
    Path("steps.json").write_text(json.dumps(STEPS), encoding="utf-8")
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-kwargs", nargs="*", default={}, action=ParseKwargs)
    options = parser.parse_args(["--model-kwargs", written, "img_size=224"]).model_kwargs
    with torch.device("meta"):
        model = timm.create_model("sparse_deit_tiny_patch16_224", **options)
    assert kept(model) == [137, 96, 67]


def test_schedules_in_python(tmp_path):
    (tmp_path / "a.yaml").write_text(str(STEPS).replace("None", "null"), encoding="utf-8")
    for wish in (SCHEDULE, STEPS, {"schedule": SCHEDULE}, tmp_path / "a.yaml", str(tmp_path / "a.yaml")):
        assert parse_schedule(wish).schedule == SCHEDULE
    assert [parse_schedule(wish).schedule for wish in (0.7, 1, "rho=.7", "0.7")] == [0.7, 1.0, 0.7, 0.7]


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        (None,                  ScheduleError, 'sparse_deit_pico needs a schedule; give schedule="best.yaml"'),
        (True,                  ScheduleError, "invalid schedule True; give"),
        ([3, 6],                ScheduleError, "invalid schedule .*; give"),
        ({},                    ScheduleError, "no key 'steps', got no keys"),
        ({"rho": 0.7},          ScheduleError, "no key 'steps', got rho"),
        ({"steps": [{"b": 1}]}, ScheduleError, "invalid schedule: "),
        ("none.yaml",           SpecError,     "no such file: none.yaml"),
        ("rho=1.5",             ScheduleError, "invalid rate 1.5"),
        (Schedule.at([99], [0.5]), ScheduleError, "block 99 does not exist"),
    ],
)  # fmt: skip
def test_what_is_no_schedule(wish, error, words):
    with pytest.raises(error, match=words) as raised:
        timm.create_model("sparse_deit_pico", schedule=wish)
    assert "\n" not in str(raised.value)


def test_own_backbones_say_what_they_have():
    with pytest.raises(BackboneError, match="lvvit_pico has no option patch_size; choose from num_classes, in_chans"):
        timm.create_model("sparse_lvvit_pico", schedule=0.7, patch_size=8)
    with pytest.raises(CheckpointError, match="give a file as checkpoint_path"):
        timm.create_model("sparse_lvvit_pico", schedule=0.7, pretrained=True)


@torch.no_grad()
def test_a_checkpoint_is_loaded_behind_the_schedule(tmp_path):
    trained = create_model("lvvit_pico", seed=5)
    sparsify_(trained, Schedule.at([2, 4], [0.5, 0.25]), seed=5)
    nn.init.normal_(trained.aux_head.weight, generator=torch.Generator().manual_seed(1))
    card = ModelCard(
        backbone="lvvit_pico",
        schedule=trained.sparsity.schedule,
        num_classes=10,
        in_chans=1,
        image_size=32,
        macs=1,
    )
    save(trained, tmp_path / "model.safetensors", card=card)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "model.pth")
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = trained.eval()(images)
    for file in ("model.safetensors", "model.pth"):
        model = timm.create_model(
            "sparse_lvvit_pico", schedule=trained.sparsity.schedule, checkpoint_path=str(tmp_path / file)
        )
        assert torch.equal(model.eval()(images), expected)


VALIDATE = """
import argparse, json
import torch
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.models import create_model, load_checkpoint
from timm.utils import AverageMeter, ParseKwargs, accuracy

parser = argparse.ArgumentParser()
parser.add_argument("data")
parser.add_argument("--model", "-m")
parser.add_argument("--checkpoint", default="")
parser.add_argument("--num-classes", type=int, default=None)
parser.add_argument("--img-size", type=int, default=None)
parser.add_argument("--gp", default=None)
parser.add_argument("--model-kwargs", nargs="*", default={}, action=ParseKwargs)
args = parser.parse_args()
model = create_model(args.model, pretrained=False, num_classes=args.num_classes, in_chans=3, global_pool=args.gp,
                     scriptable=False, **args.model_kwargs)
if args.checkpoint:
    load_checkpoint(model, args.checkpoint)
config = resolve_data_config(vars(args), model=model, use_test_size=True)
dataset = create_dataset("", root=args.data)
loader = create_loader(dataset, input_size=config["input_size"], batch_size=2, use_prefetcher=False,
                       interpolation=config["interpolation"], mean=config["mean"], std=config["std"],
                       crop_pct=config["crop_pct"], num_workers=0, device=torch.device("cpu"))
top1, logits = AverageMeter(), []
model.eval()
with torch.no_grad():
    for images, target in loader:
        output = model(images)
        logits += output.tolist()
        top1.update(accuracy(output, target)[0].item(), images.size(0))
print("--result")
print(json.dumps({"model": args.model, "top1": top1.avg, "params": sum(p.numel() for p in model.parameters()),
                  "input": config["input_size"], "logits": logits}))
"""

BENCHMARK = """
import argparse, json, sys, time
import torch
from timm.data import resolve_data_config
from timm.models import create_model, is_model, list_models
from timm.utils import ParseKwargs

parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--batch-size", type=int, default=2)
parser.add_argument("--num-bench-iter", type=int, default=2)
parser.add_argument("--model-kwargs", nargs="*", default={}, action=ParseKwargs)
args = parser.parse_args()
names = list_models(args.model) if "*" in args.model else [args.model]
if not names:
    sys.exit(3)
for name in names:
    model = create_model(name, num_classes=None, in_chans=None, global_pool=None, scriptable=False, drop_rate=0.0,
                         drop_path_rate=None, **args.model_kwargs)
    size = resolve_data_config(vars(args), model=model)["input_size"]
    model.eval()
    with torch.inference_mode():
        start = time.perf_counter()
        for _ in range(args.num_bench_iter):
            model(torch.randn(args.batch_size, *size))
        seconds = time.perf_counter() - start
    rate = args.batch_size * args.num_bench_iter / seconds
    print(json.dumps({"model": name, "input": size, "samples_per_sec": rate}))
"""


@pytest.fixture
def run_script(tmp_path):
    (tmp_path / "scripts").mkdir()
    for name, text in (("validate", VALIDATE), ("benchmark", BENCHMARK)):
        (tmp_path / "scripts" / f"{name}.py").write_text(text, encoding="utf-8")

    def run(*arguments):
        command = [sys.executable, "-m", "sparsesearch.timm", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


def test_a_script_like_validate(run_script, tmp_path):
    generator = torch.Generator().manual_seed(0)
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(2):
            pixels = torch.randint(0, 255, (40, 40, 3), generator=generator, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    trained = create_model("deit_t", num_classes=2, image_size=64, seed=5)
    sparsify_(trained, Schedule.at([3, 6], [0.5, 0.25]), seed=5)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "trained.pth")
    steps = Schedule.at([3, 6], [0.5, 0.25]).model_dump(mode="json")
    (tmp_path / "best.yaml").write_text(json.dumps({"schedule": steps}), encoding="utf-8")
    done = run_script(
        "scripts/validate.py", "data", "--model", "sparse_deit_tiny_patch16_224", "--num-classes", "2",
        "--img-size", "64", "--checkpoint", "trained.pth", "--model-kwargs", "schedule=best.yaml", "img_size=64",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.split("--result")[1])
    assert result["params"] == sum(parameter.numel() for parameter in trained.parameters())
    assert result["input"] == [3, 64, 64]
    assert len(result["logits"]) == 4
    logits = torch.tensor(result["logits"])
    assert result["top1"] == pytest.approx(100 * (logits.argmax(1) == torch.tensor([0, 0, 1, 1])).float().mean().item())


def test_a_script_like_benchmark(run_script):
    done = run_script("scripts/benchmark.py", "--model", "sparse_*_pico", "--model-kwargs", "schedule=rho=0.7")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["model"], row["input"]) for row in rows] == [
        ("sparse_convnext_pico", [1, 32, 32]),
        ("sparse_deit_pico", [1, 32, 32]),
        ("sparse_lvvit_pico", [1, 32, 32]),
        ("sparse_swin_pico", [1, 32, 32]),
    ]


def test_the_exit_code_is_the_scripts_own(run_script):
    assert run_script("scripts/benchmark.py", "--model", "sparse_nothing*").returncode == 3


def test_errors_of_the_models_are_one_line(run_script):
    done = run_script("scripts/benchmark.py", "--model", "sparse_deit_pico")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "sparsesearch: sparse_deit_pico needs a schedule" in done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sparse_resnet50", "no model sparse_resnet50: the backbone resnet50 belongs to a family that cannot"),
        ("sparse_deit_smal", "no model sparse_deit_smal: unknown backbone 'deit_smal'; did you mean deit_small"),
        ("sparse_deit_s", "no model sparse_deit_s; use sparse_deit_small_patch16_224"),
    ],
)
def test_sparse_models_that_are_not_there(run_script, tmp_path, name, words):
    (tmp_path / "one.py").write_text("import sys, timm; timm.create_model(sys.argv[1])", encoding="utf-8")
    done = run_script("one.py", name)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"sparsesearch: {words}")


@pytest.mark.parametrize("path", ["none.py", "/"])
def test_a_script_that_is_not_there(path, capsys):
    assert main([path, "--model", "x"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        f"sparsesearch: no such script: {path}; give the path of a script, such as timm's validate.py\n",
    )


def test_usage(capsys):
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m sparsesearch.timm SCRIPT")
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: python -m sparsesearch.timm SCRIPT")
