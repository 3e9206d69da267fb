"""Every format gives the logits and keeps the tokens of torch, in its own runtime, at any batch size."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch

from sparsesearch.deploy.check import check_outputs, clear_images
from sparsesearch.deploy.exported import Exported
from sparsesearch.deploy.format import all_formats, formats_of
from sparsesearch.deploy.formats import aoti, onnx, pt2, safetensors
from sparsesearch.errors import SpecError

ROOT = str(Path(__file__).parents[3])


def images(exported: Exported) -> torch.Tensor:
    return clear_images(exported.model, [exported.example(batch=64)])


@pytest.mark.slow
def test_onnx(exported: Exported, tmp_path: Path) -> None:
    onnx.write(exported, tmp_path / "model.onnx")
    onnx.write(exported, tmp_path / "kept.onnx", with_kept=True)
    run, run_kept = onnx.open(tmp_path / "model.onnx"), onnx.open(tmp_path / "kept.onnx")
    num_steps = len(exported.card.schedule.steps)
    assert len(run_kept(exported.example())) == 1 + num_steps
    check_outputs("onnx", exported.model, images(exported), run=run, run_kept=run_kept)
    found = onnx.read_metadata(tmp_path / "model.onnx")
    assert found == exported.metadata
    assert json.loads(found["input_size"]) == [1, 32, 32]
    assert json.loads(found["class_names"]) == list("abcdefghij")
    assert json.loads(found["schedule"]) == exported.card.schedule.model_dump(mode="json")
    assert int(found["macs"]) < int(found["dense_macs"])
    assert len(found["weights_sha256"]) == 64
    assert set(json.loads(found["versions"])) == {"sparsesearch", "torch", "timm"}
    assert ROOT.encode() not in (tmp_path / "model.onnx").read_bytes()


def test_the_batch_has_a_name_and_no_size(one: Exported, tmp_path: Path) -> None:
    import onnx as library

    onnx.write(one, tmp_path / "model.onnx")
    graph = library.load(str(tmp_path / "model.onnx")).graph
    (given,), (made,) = graph.input, graph.output
    for value, name in ((given, "images"), (made, "logits")):
        assert value.name == name
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not (tmp_path / "model.onnx.data").exists()
    sorts = [node for node in graph.node if node.op_type == "TopK"]
    constants = {each.name for each in graph.initializer}
    assert sorts
    assert all(node.input[1] in constants for node in sorts)  # a size that is computed could not be built elsewhere


@pytest.mark.parametrize("opset", [18, 23])
def test_other_opsets(one: Exported, tmp_path: Path, opset: int) -> None:
    from dataclasses import replace

    import onnx as library

    onnx.write(replace(one, opset=opset), tmp_path / "model.onnx")
    assert library.load(str(tmp_path / "model.onnx")).opset_import[0].version == opset
    check_outputs("onnx", one.model, images(one), run=onnx.open(tmp_path / "model.onnx"), run_kept=None)


def test_pt2(exported: Exported, tmp_path: Path) -> None:
    pt2.write(exported, tmp_path / "model.pt2")
    pt2.write(exported, tmp_path / "kept.pt2", with_kept=True)
    run, run_kept = pt2.open(tmp_path / "model.pt2"), pt2.open(tmp_path / "kept.pt2")
    check_outputs("pt2", exported.model, images(exported), run=run, run_kept=run_kept)
    extra = dict.fromkeys(exported.metadata, "")
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert extra == exported.metadata
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        assert not any(ROOT.encode() in archive.read(name) for name in archive.namelist())


@pytest.mark.long  # tests/e2e/test_deploy.py compiles one; each takes a minute
def test_aoti(exported: Exported, tmp_path: Path) -> None:
    aoti.write(exported, tmp_path / "model.aoti.pt2")
    aoti.write(exported, tmp_path / "kept.pt2", with_kept=True)
    run, run_kept = aoti.open(tmp_path / "model.aoti.pt2"), aoti.open(tmp_path / "kept.pt2")
    check_outputs("aoti", exported.model, images(exported), run=run, run_kept=run_kept)
    found = torch._inductor.aoti_load_package(str(tmp_path / "model.aoti.pt2")).get_metadata()
    assert exported.metadata.items() <= found.items()


def test_safetensors(exported: Exported, tmp_path: Path) -> None:
    safetensors.write(exported, tmp_path / "model.safetensors")
    run = safetensors.open(tmp_path / "model.safetensors")
    assert check_outputs("file", exported.model, images(exported), run=run, run_kept=None) == 0.0


def test_the_hash_is_that_of_the_weights(one: Exported, tmp_path: Path) -> None:
    from sparsesearch.artifacts.checkpoint import read_card

    safetensors.write(one, tmp_path / "model.safetensors")
    assert read_card(tmp_path / "model.safetensors").weights_sha256 == one.metadata["weights_sha256"]


def test_names_of_formats() -> None:
    assert {"onnx", "pt2", "aoti", "safetensors"} <= set(all_formats())
    assert [each.NAME for each in formats_of("pt2, onnx,pt2")] == ["pt2", "onnx"]
    with pytest.raises(SpecError, match="unknown format 'tflite'; choose from aoti, onnx, pt2"):
        formats_of("onnx,tflite")
    with pytest.raises(SpecError, match="no format given; choose from"):
        formats_of(" , ")
    with pytest.raises(SpecError, match="opset 17 is not supported; choose one from 18 to 23"):
        onnx.check_opset(17)
