# SPDX-License-Identifier: Apache-2.0
"""One ranking over the batches of all processes of a distributed training.

Positives are few: every process gets to know all of them, and lays out the
same bins. Negatives stay where they are: what others know of them are moments
of bins, which are added up. Nothing is sent that grows with their number.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ape_mmdet.ranking.devices import count_by
from ape_mmdet.ranking.pairs import highest
from ape_mmdet.ranking.placed import AnyPlaced

# What is looked at of a score at a time, to find the highest of all processes.
DIGIT_BITS = 8
NUM_DIGITS = 2**DIGIT_BITS


class Alone:
    """This process ranks its own batch.

    Attributes:
        rank: Number of this process.
        size: Number of processes.
    """

    rank = 0
    size = 1

    def gather(self, table: Tensor) -> tuple[Tensor, slice]:
        """What all processes have, in one order everywhere.

        Args:
            table: Shape (k, n), n of this process's own.

        Returns:
            Shape (k, total of n), and where this process's columns are.
        """
        return table, slice(0, table.shape[1])

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes of what has the same shape in each."""
        return values

    def share(self, placed: AnyPlaced) -> AnyPlaced:
        """Make moments those of the candidates of all processes."""
        placed.moments = self.sum(placed.moments)
        return placed

    def highest(self, scores: Tensor, count: int) -> Tensor:
        """Mask of the ``count`` highest scores of all; of equal ones the first."""
        return highest(scores, count)


class Together(Alone):
    """The processes of a group rank the union of their batches.

    Args:
        group: A process group; None for that of all.
    """

    def __init__(self, group: 'dist.ProcessGroup | None' = None) -> None:
        self.group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def gather(self, table: Tensor) -> tuple[Tensor, slice]:
        """See :meth:`Alone.gather`.

        Raises:
            TypeError: Tables differ in dtype.
        """
        own = torch.tensor([table.shape[1], table.element_size()], device=table.device)
        lengths, itemsizes = torch.stack(self._all_gather(own), dim=1).tolist()
        if len(set(itemsizes)) > 1:  # Backends break off without a word.
            raise TypeError(
                'logits must have one dtype in all processes with sync=True, got '
                f'{itemsizes} bytes each, by process'
            )
        # Collectives are of equal sizes.
        padded = table.new_zeros(len(table), max(lengths))
        padded[:, : table.shape[1]] = table
        present = [
            columns[:, :length]
            for columns, length in zip(self._all_gather(padded), lengths)
        ]
        start = sum(lengths[: self.rank])
        return torch.cat(present, dim=1), slice(start, start + table.shape[1])

    def sum(self, values: Tensor) -> Tensor:
        """See :meth:`Alone.sum`."""
        values = values.contiguous().clone()
        dist.all_reduce(values, group=self.group)
        return values

    def highest(self, scores: Tensor, count: int) -> Tensor:
        """See :meth:`Alone.highest`; the first are those of the first process."""
        keys = _ordered_integers(scores)
        lowest_kept = self._lowest_kept(keys, count)
        above = keys > lowest_kept
        tied = keys == lowest_kept
        by_rank = torch.stack(self._all_gather(torch.stack([above.sum(), tied.sum()])))
        left = count - by_rank[:, 0].sum() - by_rank[: self.rank, 1].sum()
        return above | (tied & (tied.cumsum(0) <= left))

    def _lowest_kept(self, keys: Tensor, count: int | Tensor) -> Tensor:
        """The lowest of the ``count`` highest keys of all, digit by digit."""
        num_bits = 8 * keys.element_size()
        found = keys.new_zeros(())
        for shift in range(num_bits - DIGIT_BITS, -1, -DIGIT_BITS):
            # Signed, as the number is, in the first digit alone.
            lowest = -NUM_DIGITS // 2 if shift == num_bits - DIGIT_BITS else 0
            places = (((keys >> shift) - lowest) & (NUM_DIGITS - 1)).long()
            counts = self.sum(count_by(places, NUM_DIGITS))
            # Number of keys with this digit or a higher one, and with none.
            at_least = F.pad(counts.flip(0).cumsum(0).flip(0), (0, 1))
            digit = (at_least[:-1] >= count).sum() - 1
            count = count - at_least[digit + 1]
            keys = keys[places == digit]
            found = found + ((digit + lowest).to(found.dtype) << shift)
        return found

    def _all_gather(self, values: Tensor) -> list[Tensor]:
        values = values.contiguous()
        gathered = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(gathered, values, group=self.group)
        return gathered


def ranks_of(sync: bool, group: 'dist.ProcessGroup | None') -> Alone:
    """The processes that rank together; one alone where there are no others."""
    if not (sync and dist.is_available() and dist.is_initialized()):
        return Alone()
    together = Together(group)
    return together if together.size > 1 else Alone()


def _ordered_integers(scores: Tensor) -> Tensor:
    """Integers in the order of floating-point scores; NaN is highest, as in topk."""
    dtype = {torch.float32: torch.int32, torch.float64: torch.int64}[scores.dtype]
    # One zero and one NaN: their other bit patterns would be elsewhere.
    bits = (scores + 0.0).masked_fill(scores.isnan(), torch.nan).view(dtype)
    return torch.where(bits < 0, bits ^ torch.iinfo(dtype).max, bits)
