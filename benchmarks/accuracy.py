#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""How far the near-linear losses are from pairs in float64.

    python benchmarks/accuracy.py [--cases 60] [--seed 0]

Draws batches of 1 to 5,000 positives and up to 10^6 negatives with random
options, then the adversarial batches of the tests; prints the worst relative
errors of value and gradient as a Markdown table.
"""

import argparse
import math
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'ranking')]

from cases import (  # noqa: E402
    ADVERSARIAL,
    Batch,
    errors_against_pairs,
    random_batch,
    random_options,
)

from ape_mmdet.ranking import ap_loss, ape_loss  # noqa: E402

LOSSES = {'AP': ap_loss, 'APE': ape_loss}
MOST_POSITIVES = 5_000
MOST_NEGATIVES = 1_000_000


def log_uniform(rng: random.Random, highest: int) -> int:
    """From 1 to ``highest``; small and large numbers are as likely."""
    return round(math.exp(rng.uniform(0, math.log(highest))))


def random_case(seed: int, largest: bool) -> tuple[Batch, tuple]:
    """A batch and the options of both losses."""
    rng = random.Random(seed)
    num_positives, num_negatives = MOST_POSITIVES, MOST_NEGATIVES
    if not largest:
        num_positives = log_uniform(rng, num_positives)
        num_negatives = log_uniform(rng, num_negatives)
    batch = random_batch(
        seed,
        num_positives=num_positives,
        num_negatives=num_negatives,
        ties=rng.random() < 0.2,
    )
    return batch, random_options(rng)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--cases', type=int, default=60)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()

    print('| batches | loss | cases | worst error of value | of gradient |')
    print('|---|---|---:|---:|---:|')
    found: dict[tuple, list] = {}
    for number in range(args.cases):
        # The first of all is as large as they come.
        batch, options = random_case(args.seed + number, largest=number == 0)
        for (name, loss), chosen in zip(LOSSES.items(), options):
            errors = errors_against_pairs(loss, batch, **chosen)
            found.setdefault(('random', name), []).append(errors)
    for batch in ADVERSARIAL.values():
        for name, loss in LOSSES.items():
            for lamb in (0.5, 8.0, 64.0):
                errors = errors_against_pairs(loss, batch, lamb=lamb)
                found.setdefault(('adversarial', name), []).append(errors)
    for (batches, name), cases in found.items():
        value, gradient = (max(of_one) for of_one in zip(*cases))
        print(f'| {batches} | {name} | {len(cases)} | {value:.1e} | {gradient:.1e} |')


if __name__ == '__main__':
    main()
