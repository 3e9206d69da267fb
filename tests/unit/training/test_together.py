"""Several processes, and steps in parts, train what one process trains, up to the order of additions."""

import subprocess
import sys

import pytest
import torch

from sparsesearch.training.checkpoints import read_tensors

KINDS = ["dense", "supernet", "gathered", "masked"]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Losses and logits of a training, by kind, number of processes and further options."""
    folder = tmp_path_factory.mktemp("together")
    found = {}

    def trained(kind, processes, *options):
        key = (kind, processes, *options)
        if key not in found:
            out = folder / f"{len(found)}.safetensors"
            launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
            module = ["-m", "tests.train_together", kind, str(out), *options]
            command = [sys.executable, *(launcher if processes > 1 else []), *module]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, done.stderr
            found[key] = read_tensors(out)[0]
        return found[key]

    return trained


def check(found, expected):
    torch.testing.assert_close(found["losses"], expected["losses"], rtol=1e-4, atol=0.0)
    clear = found["clear"].bool() & expected["clear"].bool()
    assert clear.float().mean() > 0.8
    logits = [one["logits"].view(-1, len(clear), one["logits"].shape[1])[:, clear] for one in (found, expected)]
    torch.testing.assert_close(*logits, rtol=0.0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes(train, kind):
    check(train(kind, 2), train(kind, 1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_four_processes_that_compute_their_share_in_parts(train, kind):
    check(train(kind, 4, "--micro-batch", "4"), train(kind, 1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gathered", "masked"])
@pytest.mark.parametrize(("processes", "micro_batch"), [(2, 16), (4, 3)], ids=["two", "four in parts"])
def test_what_the_papers_recipes_draw(train, kind, processes, micro_batch):
    check(train(kind, processes, "--presets", "--micro-batch", str(micro_batch)), train(kind, 1, "--presets"))
