# SPDX-License-Identifier: Apache-2.0
"""The benchmark of evaluations prints both times, and that the figures are one."""

import re

import pytest
from commands import printed_by


def test_both_times_and_the_difference_are_printed():
    pytest.importorskip('faster_coco_eval')
    command = ['benchmarks/evaluation.py', '--images', '60', '--detections', '40']
    printed = printed_by(*command)
    assert '60 images' in printed and '2,400 detections' in printed
    for name in ('evaluation alone', 'whole metric'):
        assert re.search(rf'\| {name} \| [\d.]+ \| [\d.]+ \| [\d.]+ \|', printed)
    difference = float(re.search(r'recall: (\S+)\. ', printed)[1])
    assert difference <= 1e-6
    assert 'return is the same' in printed
    assert 0.1 < float(re.search(r'mAP (\S+)\.$', printed.strip())[1]) < 1
