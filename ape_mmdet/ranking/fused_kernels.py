# SPDX-License-Identifier: Apache-2.0
"""What ``fused`` runs on a device, in Triton; importing it needs triton.

Table sizes differ from batch to batch: were kernels specialised on them, as
Triton does with integers, each of their kinds would be compiled anew.
"""

import triton
import triton.language as tl


@triton.jit
def num_passed(scores, knots, num_knots):
    """Number of knots below each score, int32; the knots are ascending.

    What is left to search is halved for all scores alike, whichever half they
    are in: no reading goes beyond the last knot.
    """
    passed = tl.zeros(scores.shape, tl.int32)
    left = num_knots
    while left > 0:
        half = (left + 1) // 2
        is_below = tl.load(knots + passed + (half - 1)) < scores
        passed = tl.where(is_below, passed + half, passed)
        left -= half
    return passed


@triton.jit
def bins_of(
    scores, starts, first_cells, last_cells, per_unit, cells_per_bin, num_clusters
):
    """Bin of each score from the first start up; finite or +inf.

    Rounded as ``SigmoidSums`` does it to find the bins of cut-offs: cells are
    counted, and bins by their cells.
    """
    # The first cluster begins below all: what is passed are the others.
    cluster = num_passed(scores, starts + 1, num_clusters - 1)
    within = (scores - tl.load(starts + cluster)) * tl.load(per_unit)
    first = tl.load(first_cells + cluster).to(tl.int32)
    last = tl.load(last_cells + cluster).to(tl.int32)
    # Before it becomes an integer, which +inf cannot.
    within = tl.minimum(within, (last - first).to(scores.dtype))
    return tl.minimum(first + within.to(tl.int32), last) // cells_per_bin


@triton.jit(
    do_not_specialize=[
        'num_scores',
        'cells_per_bin',
        'num_knots',
        'num_clusters',
        'num_groups',
        'num_replicas',
    ]
)
def place(
    scores,
    groups,
    moments,
    knots,
    origins,
    starts,
    first_cells,
    last_cells,
    per_unit,
    cells_per_bin,
    num_scores,
    num_knots,
    num_clusters,
    num_groups,
    num_replicas,
    NUM_TERMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Groups of scores, what they exceed their origins by, and moments of that.

    Offsets take the place of the scores. With NUM_TERMS = 1 scores are only
    counted: nothing is read of ``origins`` nor written but ``moments``.
    ``starts`` and what follows is None for groups between knots alone.
    """
    program = tl.program_id(0)
    index = program.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < num_scores
    lowest = tl.load(knots)
    score = tl.load(scores + index, mask=inside, other=-float('inf'))
    # What is not above the first knot, NaN too, counts nothing, in group 0.
    counted = score > lowest
    score = tl.where(counted, score, lowest)
    group = num_passed(score, knots, num_knots)
    if starts is not None:
        group += bins_of(
            score,
            starts,
            first_cells,
            last_cells,
            per_unit,
            cells_per_bin,
            num_clusters,
        )

    replica = (program % num_replicas).to(tl.int64)
    sums = moments + replica * (NUM_TERMS * num_groups) + group
    power = tl.full(score.shape, 1.0, tl.float64)
    tl.atomic_add(sums, power, mask=counted, sem='relaxed')
    if NUM_TERMS > 1:
        offset = score - tl.load(origins + group)
        tl.store(groups + index, group, mask=inside)
        tl.store(scores + index, offset, mask=inside)
        for _ in tl.static_range(NUM_TERMS - 1):
            sums += num_groups
            power *= offset.to(tl.float64)
            tl.atomic_add(sums, power, mask=counted, sem='relaxed')


@triton.jit(do_not_specialize=['num_offsets', 'num_groups'])
def evaluate(
    offsets,
    groups,
    coefficients,
    num_offsets,
    num_groups,
    NUM_TERMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The polynomial of its group at each offset, in place of the offset."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < num_offsets
    offset = tl.load(offsets + index, mask=inside, other=0.0)
    row = coefficients + tl.load(groups + index, mask=inside, other=0)
    # From the highest power down.
    row += (NUM_TERMS - 1) * num_groups
    value = tl.load(row)
    for _ in tl.static_range(NUM_TERMS - 1):
        row -= num_groups
        value = value * offset + tl.load(row)
    tl.store(offsets + index, value, mask=inside)
