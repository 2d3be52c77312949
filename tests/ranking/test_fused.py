# SPDX-License-Identifier: Apache-2.0
"""The fused kernels: chosen where they should be, right, and compiled for GPUs.

Those that run kernels need a GPU or Triton's interpreter, which must be asked
for before Triton is imported: without a GPU, `test_in_the_interpreter` runs
them in a process of its own.
"""

import math
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from cases import ADVERSARIAL, Batch, errors_against_pairs, random_batch, random_case

from ape_mmdet.ranking import ap_loss, ape_loss, fused
from ape_mmdet.ranking.smooth import SigmoidSums
from ape_mmdet.ranking.steps import StepSums, count_above

TOLERANCE = 1e-6
LOSSES = pytest.mark.parametrize('loss', [ap_loss, ape_loss])
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
NEEDS_TRITON = pytest.mark.skipif(
    find_spec('triton') is None, reason='Triton is not installed'
)
NEEDS_COMPILER = pytest.mark.skipif(
    INTERPRETED, reason='nothing is compiled for the interpreter'
)


@pytest.fixture
def device(monkeypatch):
    """Where kernels run; the test must have run some of them."""
    if INTERPRETED:
        monkeypatch.setattr(fused, 'is_chosen', lambda candidates: True)
    elif not torch.cuda.is_available():
        pytest.skip('there is no GPU; test_in_the_interpreter runs this')
    launched = []
    launch = fused._launch

    def count_and_launch(name, *args, **constants):
        launched.append(name)
        launch(name, *args, **constants)

    monkeypatch.setattr(fused, '_launch', count_and_launch)
    yield 'cpu' if INTERPRETED else 'cuda'
    assert launched


def on(device: str, batch: Batch) -> Batch:
    return Batch(*(tensor.to(device) for tensor in batch))


class TestKernels:
    """Run on a GPU, or in the interpreter."""

    @LOSSES
    def test_random_batches(self, loss, device):
        worst = (0.0, None)
        for seed in range(25):
            batch, options = random_case(seed, loss, [0, 1, 300, 1019, 5000])
            found = errors_against_pairs(loss, on(device, batch), **options)
            worst = max(worst, (max(found), seed))
        print(f'{loss.__name__}: worst relative error {worst[0]:.1e} (seed {worst[1]})')
        assert worst[0] <= TOLERANCE

    @pytest.mark.parametrize(
        'loss, options',
        [
            (ap_loss, dict()),
            (ap_loss, dict(lamb=64.0)),
            (ap_loss, dict(distance='step')),
            (ap_loss, dict(distance='step', delta=4.0, hard_pairs=True)),
            (ap_loss, dict(balance='num_neg', hard_pairs=True)),
            (ape_loss, dict()),
            (ape_loss, dict(cutoff=None)),
            (ape_loss, dict(balance='num_neg', threshold=0.0)),
            (ape_loss, dict(max_pairs=100)),
        ],
        ids=lambda each: getattr(each, '__name__', str(each)),
    )
    def test_adversarial_batches(self, loss, options, device):
        found = {
            name: max(errors_against_pairs(loss, on(device, batch), **options))
            for name, batch in ADVERSARIAL.items()
        }
        assert max(found.values()) <= TOLERANCE, found

    @LOSSES
    def test_float64_is_ranked_in_float64(self, loss, device):
        batch = random_batch(
            3, num_positives=50, num_negatives=3000, dtype=torch.float64
        )
        assert max(errors_against_pairs(loss, on(device, batch))) <= 1e-10

    @LOSSES
    def test_many_programs_with_tables_of_their_own(self, loss, device, monkeypatch):
        monkeypatch.setattr(fused, 'BLOCK', 64)
        monkeypatch.setattr(fused, 'MOST_REPLICAS', 3)
        batch = random_batch(5, num_positives=20, num_negatives=3000)
        assert max(errors_against_pairs(loss, on(device, batch))) <= TOLERANCE

    @LOSSES
    @pytest.mark.parametrize('role', [0, 1], ids=['negative', 'positive'])
    def test_nan_makes_the_loss_nan(self, loss, role, device):
        batch = random_batch(1)
        batch.logits[(batch.targets == role).nonzero()[0]] = math.nan
        logits, targets, ious = on(device, batch)
        args = [ious] if loss is ape_loss else []
        assert loss(logits, targets, *args).isnan()

    @pytest.mark.parametrize('positives', [[0.5], [-3.0, 0.5, 0.5, 2.0], [0.0, 1e6]])
    def test_every_score_has_a_place(self, positives, device):
        """A place outside of the tables would be read and written there."""
        positives = torch.tensor(positives, device=device)
        largest = torch.finfo(torch.float32).max
        extreme = [math.nan, math.inf, -math.inf, largest, -largest, 0.0, -0.0, 1e-45]
        scores = torch.tensor(extreme, device=device).repeat(200)
        for sums in (
            SigmoidSums(positives, 8.0, -math.inf),
            SigmoidSums(positives, 1e-3, -0.5),
            StepSums(positives, 0.5, -math.inf),
        ):
            placed = sums.add(scores.clone())
            assert placed.groups.min() == 0
            assert placed.groups.max() < placed.moments.shape[1]
            counted = (placed.groups > 0).sum()
            assert placed.moments[0].sum() == counted > 0

    def test_counts_above_thresholds(self, device):
        scores = random_batch(7, num_negatives=3000, ties=True).logits.to(device)
        thresholds = torch.tensor([0.5, -9.0, 0.5, 9.0, 0.499], device=device).double()
        expected = (scores > thresholds[:, None]).sum(dim=1)
        assert count_above(scores, thresholds).equal(expected.double())


@NEEDS_TRITON
@NEEDS_COMPILER
@pytest.mark.skipif(torch.cuda.is_available(), reason='the GPU runs them')
def test_in_the_interpreter(repository):
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider']
    command.append(f'{__file__}::TestKernels')
    # Its tensors are too small for threads, which wait for each other.
    environment = dict(os.environ, TRITON_INTERPRET='1', OMP_NUM_THREADS='1')
    done = subprocess.run(
        command,
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'passed' in done.stdout and 'skipped' not in done.stdout, done.stdout


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """From a GPU that need not be there to what is compiled for it, by kernel.

    Kernels are launched up to where they would run.
    """
    triton = pytest.importorskip('triton')
    from triton.backends.compiler import GPUTarget

    from ape_mmdet.ranking import fused_kernels

    found = {}

    def compile_only(name, *args, **constants):
        kernel = getattr(fused_kernels, name)
        done = kernel.warmup(*args, grid=(1,), BLOCK=fused.BLOCK, **constants)
        found.setdefault(name, []).append(done.asm)

    def use(*target) -> dict:
        driver = SimpleNamespace(
            get_current_target=lambda: GPUTarget(*target),
            get_current_device=lambda: str(target),
            get_current_stream=lambda device: 0,
        )
        monkeypatch.setattr(triton.runtime.driver, '_active', driver)
        return found

    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    monkeypatch.setattr(fused, 'is_chosen', lambda candidates: True)
    monkeypatch.setattr(fused, '_launch', compile_only)
    return use


@NEEDS_COMPILER
@pytest.mark.parametrize(
    'target, assembly',
    [
        (('cuda', 75, 32), 'ptx'),
        (('cuda', 80, 32), 'ptx'),
        (('cuda', 90, 32), 'ptx'),
        (('hip', 'gfx942', 64), 'amdgcn'),
    ],
    ids=str,
)
def test_kernels_compile(target, assembly, compiled):
    """The interpreter does not see what types do not fit."""
    found = compiled(*target)
    for dtype in (torch.float32, torch.float64):
        for num_positives in (1, 8):
            batch = random_batch(0, num_positives=num_positives, dtype=dtype)
            logits, targets, ious = batch
            ap_loss(logits, targets, distance='step', balance='num_neg')
            ap_loss(logits, targets, distance='sigmoid')
            ape_loss(logits, targets, ious)
    assert set(found) == {'place', 'evaluate'}
    for name, kinds in found.items():
        assert all(name in kind[assembly] for kind in kinds)


class TestChoice:
    """Of the kernels or of operations of PyTorch."""

    @pytest.fixture(autouse=True)
    def _forget_devices(self):
        works_on = fused.works_on
        works_on.cache_clear()
        yield
        works_on.cache_clear()

    @pytest.fixture
    def on_a_gpu(self, monkeypatch):
        """Stands for candidates on a GPU on which kernels work."""
        monkeypatch.setattr(fused, 'works_on', lambda device: True)
        return SimpleNamespace(device=torch.device('cuda'))

    def test_kernels_on_a_gpu_and_operations_on_a_cpu(self, on_a_gpu):
        assert fused.is_chosen(on_a_gpu)
        assert not fused.is_chosen(torch.zeros(1))
        assert not fused.is_chosen(torch.zeros(1, device='meta'))

    def test_no_kernels_where_results_must_repeat(self, on_a_gpu):
        torch.use_deterministic_algorithms(True)
        try:
            assert not fused.is_chosen(on_a_gpu)
        finally:
            torch.use_deterministic_algorithms(False)

    def test_no_kernels_and_no_warning_without_triton(self, monkeypatch, recwarn):
        monkeypatch.setitem(sys.modules, 'triton', None)
        assert not fused.works_on(torch.device('cpu'))
        assert not recwarn

    @NEEDS_TRITON
    @NEEDS_COMPILER
    def test_one_warning_where_triton_fails(self, recwarn):
        """As it does for a CPU."""
        for _ in range(2):
            assert not fused.works_on(torch.device('cpu'))
        (warning,) = recwarn
        assert 'Triton fails on cpu' in str(warning.message)

    @NEEDS_TRITON
    @pytest.mark.parametrize(
        'error',
        [
            torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
            RuntimeError('Triton Error [CUDA]: out of memory'),
            RuntimeError('CUDA error: device-side assert triggered'),
        ],
        ids=str,
    )
    def test_what_fails_but_triton_is_raised(self, error, monkeypatch):
        def fail(*args):
            raise error

        monkeypatch.setattr(fused, 'place', fail)
        with pytest.raises(type(error), match=str(error)[:10]):
            fused.works_on(torch.device('cpu'))

    def test_importing_the_losses_leaves_triton_alone(self):
        code = (
            'import sys; import ape_mmdet.ranking; '
            "assert 'ape_mmdet.ranking.fused_kernels' not in sys.modules"
        )
        subprocess.run([sys.executable, '-c', code], check=True)
