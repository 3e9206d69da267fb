"""What evaluations may keep in memory, and what follows where it is too little."""

import pytest
import torch

from sparsesearch.backbones.registry import backbone_geometry
from sparsesearch.backbones.segments import PrefixState, embed
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import task_geometry
from sparsesearch.data.validation_size import num_val_images, standard_error
from sparsesearch.evaluate.evaluation_memory import EvaluationMemory, state_bytes
from sparsesearch.evaluate.free_memory import free_bytes, free_main_memory
from sparsesearch.study.spec import Budget, DataSpec, FidelitySpec, ResourceSpec, StudySpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.scoring import CACHE_BYTES

CPU = torch.device("cpu")
GB = 1_000_000_000


def study(**changes):
    return StudySpec.model_validate({"name": "s", "backbone": "deit_s", "budget": Budget(high=0.5), **changes})


def memory(*, limit, num_images=1000, needed=5 * GB, processes=1):
    return EvaluationMemory(num_images, needed, limit, processes)


@pytest.mark.parametrize("backbone", ["deit_pico", "lvvit_pico", "convnext_pico", "swin_pico"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_size_of_a_prefix_state_is_that_of_the_model(backbone, dtype):
    task = DigitsTask(image_size=32, in_chans=1, num_val_images=6)
    arithmetic = Arithmetic(CPU, dtype)
    context = TrainingContext(backbone, task_geometry(backbone, task), task, arithmetic, seed=0)
    (batch,) = task.val("screen", batch_size=6)
    with torch.no_grad(), arithmetic.autocast():
        state = PrefixState(embed(context.fresh_model().eval(), batch.images))
    assert state.num_bytes <= 6 * state_bytes(context.geometry) <= 2 * state.num_bytes
    assert dtype != torch.float32 or state.num_bytes == 6 * state_bytes(context.geometry)


def test_deit_s_on_imagenet():
    """The numbers of docs/benchmarks.md."""
    geometry = backbone_geometry("deit_small_patch16_224")
    assert state_bytes(geometry) == 197 * 384 * 4
    assert round(50_000 * state_bytes(geometry) / GB, 1) == 15.1
    assert round(17_778 * state_bytes(geometry) / GB, 1) == 5.4


class TestLimit:
    def test_what_fits_stays_and_each_proposal_follows_from_all_before_it(self):
        found = memory(limit=6 * GB)
        assert found.fits
        assert found.proposal_batch(FidelitySpec()) == 1
        assert found.cache_bytes == GB
        assert memory(limit=60 * GB).cache_bytes == CACHE_BYTES

    def test_what_does_not_fit_is_evaluated_for_several_proposals_at_a_time(self):
        found = memory(limit=GB)
        assert not found.fits
        assert found.cache_bytes == GB
        assert [found.proposal_batch(FidelitySpec(evaluations=n)) for n in (1, 8, 60, 1000)] == [1, 2, 15, 16]
        assert found.proposal_batch(FidelitySpec(strategy="finetune")) == 1

    def test_where_free_memory_is_unknown_nothing_changes(self):
        found = memory(limit=None)
        assert found.fits
        assert found.cache_bytes == CACHE_BYTES

    @pytest.mark.parametrize(
        ("changes", "device", "processes"),
        [
            ({"dispatcher": "inline"}, "cpu", 1),
            ({"dispatcher": "inline", "resources": ResourceSpec(gpus_per_trial=0.25)}, "cuda", 1),
            ({}, "cpu", 8),
            ({"resources": ResourceSpec(cpus_per_trial=3)}, "cpu", 2),
            ({"resources": ResourceSpec(cpus_per_trial=16)}, "cpu", 1),
            ({"resources": ResourceSpec(max_concurrent=3)}, "cpu", 3),
            ({}, "cuda", 1),
            ({"resources": ResourceSpec(gpus_per_trial=2)}, "cuda", 1),
            ({"resources": ResourceSpec(gpus_per_trial=0.25)}, "cuda", 4),
            ({"resources": ResourceSpec(gpus_per_trial=0.3, max_concurrent=2)}, "cuda", 2),
        ],
    )
    def test_the_limit_is_shared_by_the_processes_on_a_device(self, monkeypatch, changes, device, processes):
        monkeypatch.setattr("os.cpu_count", lambda: 8)
        monkeypatch.setattr("sparsesearch.evaluate.evaluation_memory.free_bytes", lambda device: 48 * GB)
        geometry = backbone_geometry("deit_small_patch16_224")
        found = EvaluationMemory.here(study(**changes), geometry, num_images=17_778, device=torch.device(device))
        assert found.processes == processes
        assert found.limit_bytes == 24 * GB // processes
        assert found.fits == (processes <= 4)

    def test_it_reads_well(self):
        fidelity = FidelitySpec(evaluations=60)
        assert memory(limit=6 * GB, num_images=17_778).describe(fidelity) == (
            "evaluation: 17,778 validation images (standard error 0.30 points at 80 % accuracy), "
            "prefix states of 5.0 GB within the limit of 6.0 GB"
        )
        assert memory(limit=GB, processes=2).describe(fidelity) == (
            "evaluation: 1,000 validation images (standard error 1.26 points at 80 % accuracy), prefix states of "
            "5.0 GB above the limit of 1.0 GB for each of 2 processes: computed anew, batch by batch of images, "
            "for 15 schedules at a time"
        )
        assert memory(limit=None).describe(fidelity).endswith("prefix states of 5.0 GB in each process")
        assert memory(limit=GB).describe(FidelitySpec(strategy="finetune")).endswith("80 % accuracy)")


class TestFreeMemory:
    @pytest.fixture
    def free(self, tmp_path):
        """What is free on a machine with 32 GB available, of which the own control groups allow only a part."""

        def write(name, text):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

        def of(own_cgroups, files):
            write("meminfo", "MemTotal:  64000000 kB\nMemAvailable:  32000000 kB\nSwapFree: 0 kB\n")
            write("own", own_cgroups)
            for name, text in files.items():
                write(f"cgroups/{name}", text)
            return free_main_memory(
                meminfo=tmp_path / "meminfo", own_cgroups=tmp_path / "own", cgroups=tmp_path / "cgroups"
            )

        return of

    def test_without_limits_it_is_what_linux_says(self, free):
        assert free("0::/\n", {}) == 32_000_000 * 1024
        assert free("0::/user\n", {"user/memory.max": "max\n", "user/memory.current": "5\n"}) == 32_000_000 * 1024

    def test_a_container_sees_its_limit_at_the_root(self, free):
        files = {
            "memory.max": "8000\n",
            "memory.current": "5000\n",
            "memory.stat": "anon 4000\ninactive_file 700\nactive_file 300\n",
        }
        assert free("0::/\n", files) == 3700

    def test_the_tightest_group_above_counts(self, free):
        files = {
            "slurm/job/memory.max": "900\n",
            "slurm/job/memory.current": "500\n",
            "slurm/job/step/memory.max": "max\n",
            "slurm/job/step/memory.current": "500\n",
            "slurm/memory.max": "2000\n",
            "slurm/memory.current": "1900\n",
        }
        assert free("0::/slurm/job/step\n", files) == 100

    def test_version_1_and_a_path_that_is_not_mounted_here(self, free):
        files = {"memory/memory.limit_in_bytes": "1000\n", "memory/memory.usage_in_bytes": "1200\n"}
        assert free("4:cpu,memory:/docker/abc\n5:cpu:/x\n0::/\n", files) == 0

    def test_where_nothing_is_known(self, tmp_path):
        assert free_main_memory(meminfo=tmp_path / "no", own_cgroups=tmp_path / "no", cgroups=tmp_path) is None

    def test_this_machine(self):
        assert free_bytes(CPU) > 1_000_000

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_a_gpu(self):
        device = torch.device("cuda:0")
        before = free_bytes(device)
        held = torch.zeros(64 * 2**20, dtype=torch.uint8, device=device)
        with_it = free_bytes(device)
        del held
        assert before - 128 * 2**20 < with_it < before
        assert free_bytes(device) == pytest.approx(with_it + 64 * 2**20, abs=2**20), "reserved, but not used"


def test_the_number_of_validation_images_follows_the_standard_error_wanted():
    assert num_val_images(DataSpec(), available=25_000) == 17_778
    assert num_val_images(DataSpec(), available=500) == 500
    assert num_val_images(DataSpec(num_val_images=100), available=500) == 100
    assert num_val_images(DataSpec(num_val_images=20_000), available=25_000) == 20_000
    assert standard_error(17_778) <= 0.003 < standard_error(17_777)
