# SPDX-License-Identifier: Apache-2.0
"""A step of a config on real data prints what it ranked."""

import pytest
from commands import printed_by, run


@pytest.mark.long('a benchmark, with a whole detector')
def test_numbers_to_rank_time_and_memory_are_printed(bccd):
    command = ['benchmarks/step.py', 'configs/bccd_retinanet_ape.py', '--steps', '1']
    row = printed_by(*command).splitlines()[-1].strip('| ').split(' | ')
    images, pixels, positives, negatives, ignored, seconds, memory = row
    assert images == '8'
    numbers = [int(n.replace(',', '')) for n in (positives, negatives, ignored)]
    # Two anchors at each place of levels with strides 8 to 128, three classes.
    width, height = map(int, pixels.split(' x '))
    places = sum(-(-width // s) * -(-height // s) for s in (8, 16, 32, 64, 128))
    assert sum(numbers) == 8 * places * 2 * 3
    assert 0 < numbers[0] < numbers[1] and float(seconds) > 0
    assert float(memory.replace(',', '')) > 100


def test_the_root_of_the_data_is_all_that_changes(tmp_path):
    command = ['benchmarks/step.py', 'configs/fcos_ape_q100k.py']
    done = run(*command, '--data-root', f'{tmp_path}/')
    assert done.returncode and str(tmp_path) in done.stdout
