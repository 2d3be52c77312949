# SPDX-License-Identifier: Apache-2.0
"""Several processes that know each other, for tests of distributed training."""

import gc
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from commands import START_METHOD, start_server


def in_processes(
    work: Callable[[int, int], None],
    num_processes: int,
    tmp_path: Path,
    backend: str = 'gloo',
    start_method: str = START_METHOD,
) -> None:
    """Run ``work(rank, num_processes)`` in processes that know each other.

    Args:
        work: A function of a module.
        num_processes: How many there are.
        tmp_path: Where they meet; an empty folder.
        backend: By what they talk; a CPU can by ``'gloo'`` alone.
        start_method: How they start: Python ends as usual in those of ``'spawn'``.
    """
    arguments = (work, num_processes, f'file://{tmp_path}/rendezvous', backend)
    start_server()
    mp.start_processes(
        _join_and_work, arguments, nprocs=num_processes, start_method=start_method
    )


def _join_and_work(rank, work, num_processes, rendezvous, backend):
    torch.set_num_threads(1)
    dist.init_process_group(
        backend, init_method=rendezvous, rank=rank, world_size=num_processes
    )
    work(rank, num_processes)
    if not dist.is_initialized():
        return
    # DistributedDataParallel is part of a cycle and holds gloo's threads: those
    # that outlive Python may abort.
    gc.collect()
    if backend == 'gloo':  # Else nothing was sent that others may wait for.
        dist.barrier()
    dist.destroy_process_group()
