# SPDX-License-Identifier: Apache-2.0
"""A step of a config on real data prints what it ranked."""

import subprocess
import sys


def test_numbers_to_rank_time_and_memory_are_printed(bccd):
    command = [sys.executable, 'benchmarks/step.py', 'configs/bccd_retinanet_ape.py']
    done = subprocess.run(
        [*command, '--steps', '1'], capture_output=True, text=True, check=True
    )
    row = done.stdout.splitlines()[-1].strip('| ').split(' | ')
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
    command = [sys.executable, 'benchmarks/step.py', 'configs/fcos_ape_q100k.py']
    done = subprocess.run(
        [*command, '--data-root', f'{tmp_path}/'], capture_output=True, text=True
    )
    assert done.returncode and str(tmp_path) in done.stderr
