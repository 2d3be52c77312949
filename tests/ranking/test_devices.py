# SPDX-License-Identifier: Apache-2.0
"""How the engine works on devices other than a CPU, shown on a CPU.

There nothing may wait for the device inside a loop, and where deterministic
algorithms are asked for, no operation may be used that refuses to be one.
"""

from collections import Counter

import pytest
import torch
from cases import random_batch, value_and_gradient
from torch.utils._python_dispatch import TorchDispatchMode

from ape_mmdet.ranking import among, ap_loss, ape_loss, devices, placed, search

# Operations whose result's size or value has to come back from the device.
WAITING = {
    '_local_scalar_dense',
    '_unique2',
    'equal',
    'is_nonzero',
    'masked_select',
    'nonzero',
    'repeat_interleave',
    'unique_consecutive',
    'unique_dim',
}
# From the list that torch.use_deterministic_algorithms documents as refused on
# CUDA: what could be tempting here.
REFUSED = {
    'bincount',
    'histc',
    'kthvalue',
    'put',
    'put_',
    'scatter_reduce',
    'scatter_reduce_',
}
OPTIONS = [
    (ap_loss, dict()),
    (ap_loss, dict(balance='num_neg')),
    (ap_loss, dict(hard_pairs=True)),
    (ap_loss, dict(interpolate=False)),
    (ap_loss, dict(distance='step')),
    (ap_loss, dict(distance='step', hard_pairs=True, balance='num_neg')),
    (ape_loss, dict()),
    (ape_loss, dict(cutoff=None)),
    (ape_loss, dict(cutoff=0.1)),
    (ape_loss, dict(balance='num_neg')),
    (ape_loss, dict(max_pairs=500)),
]


class Watch(TorchDispatchMode):
    """Counts operations that wait, and notes those that CUDA would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.num_waits = Counter()
        self.refused = set()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.calls[name] += 1
        by_mask = name in ('index', 'index_put', 'index_put_') and any(
            index is not None and index.dtype in (torch.bool, torch.uint8)
            for index in args[1]
        )
        if name in WAITING or by_mask:
            self.num_waits[name] += 1
        sums_floats = name == 'cumsum' and args[0].is_floating_point()
        if name in REFUSED or sums_floats:
            self.refused.add(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def elsewhere(monkeypatch):
    """Take every tensor for one on another device; count what is fetched."""
    for module in (among, devices, placed, search):
        monkeypatch.setattr(module, 'on_cpu', lambda tensor: False)
    fetched = Counter()
    tolist = torch.Tensor.tolist

    # Tensors on a CPU are read without an operation that could be seen.
    def counting(tensor):
        fetched['tolist'] += 1
        return tolist(tensor)

    monkeypatch.setattr(torch.Tensor, 'tolist', counting)
    return fetched


@pytest.fixture(params=[False, True], ids=['', 'deterministic'])
def deterministic(request):
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


def run(loss, batch, options) -> tuple:
    args = [batch.ious] if loss is ape_loss else []
    return value_and_gradient(loss, batch, *args, **options)


@pytest.mark.parametrize('loss, options', OPTIONS)
def test_more_chunks_do_not_mean_more_waiting(
    loss, options, deterministic, elsewhere, monkeypatch
):
    batch = random_batch(1, num_positives=60, num_negatives=3000)
    waits, calls = [], []
    for chunk, rows in ((100, 8), (1000, 32), (10**6, 10**3)):
        monkeypatch.setattr(devices, 'CHUNK_ELSEWHERE', chunk)
        monkeypatch.setattr(among, 'ROWS_ELSEWHERE', rows)
        elsewhere.clear()
        with Watch() as watch:
            run(loss, batch, options)
        waits.append(watch.num_waits + elsewhere)
        calls.append(watch.calls.total())
        assert not (deterministic and watch.refused)
    assert waits[0] == waits[1] == waits[2]
    # There were more rounds, and the waits were seen.
    assert calls[0] > calls[1] > calls[2] and waits[0].total() > 0


@pytest.mark.parametrize('loss, options', OPTIONS)
def test_the_result_is_that_of_a_cpu(
    loss, options, deterministic, request, monkeypatch
):
    batch = random_batch(2, num_positives=60, num_negatives=3000, ties=True)
    expected = run(loss, batch, options)
    request.getfixturevalue('elsewhere')
    monkeypatch.setattr(devices, 'CHUNK_ELSEWHERE', 700)
    monkeypatch.setattr(among, 'ROWS_ELSEWHERE', 16)
    found = run(loss, batch, options)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('length', [0, 1, 2, 3, 8, 1000])
def test_running_sum_is_cumsum_without_the_operation(length, elsewhere, deterministic):
    values = torch.randn(3, length, dtype=torch.float64)
    with Watch() as watch:
        found = devices.running_sum(values)
    torch.testing.assert_close(found, values.cumsum(dim=-1))
    assert not (deterministic and watch.refused)


def test_sums_and_counts_by_group(request):
    groups = torch.tensor([2, 0, 2, 5, 0])
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    for dtype in (torch.int32, torch.int64):
        for _ in range(2):
            sums = devices.sum_by(groups.to(dtype), values, 7)
            counts = devices.count_by(groups.to(dtype), 7)
            assert sums.tolist() == [7, 0, 4, 0, 0, 4, 0]
            assert sums.dtype == torch.float64
            assert counts.tolist() == [2, 0, 2, 0, 0, 1, 0]
            assert counts.dtype == torch.int64
            request.getfixturevalue('elsewhere')  # The second time.


@pytest.mark.parametrize('there', [True, False])
def test_without_float64_the_cpu_computes_and_the_device_gets_its_dtype(
    there, monkeypatch
):
    monkeypatch.setattr(devices, 'has_float64', lambda device: there)

    @devices.where_float64_is
    def doubled(scores, targets, *, factor):
        """Its name and documentation stay."""
        assert scores.device.type == targets.device.type == 'cpu'
        return scores.double() * factor, targets

    scores, targets = torch.ones(3), torch.zeros(3, dtype=torch.int8)
    found, _ = doubled(scores, targets, factor=2)
    assert found.tolist() == [2, 2, 2]
    assert found.dtype == (torch.float64 if there else torch.float32)
    assert doubled.__doc__ == 'Its name and documentation stay.'


def test_apple_s_gpu_is_found_to_lack_float64_and_a_cpu_is_not(monkeypatch):
    assert devices.has_float64(torch.device('cpu'))

    def refuses(*args, **kwargs):
        raise TypeError('Cannot convert a MPS Tensor to float64 dtype')

    monkeypatch.setattr(torch, 'zeros', refuses)
    # Not its cache: it would remember what is only pretended here.
    assert not devices.has_float64.__wrapped__(torch.device('cpu'))


@pytest.mark.parametrize('loss', [ap_loss, ape_loss])
def test_losses_are_the_same_where_float64_is_not(loss, monkeypatch):
    batch = random_batch(3)
    expected = run(loss, batch, {})
    monkeypatch.setattr(devices, 'has_float64', lambda device: False)
    torch.testing.assert_close(run(loss, batch, {}), expected)
