# SPDX-License-Identifier: Apache-2.0
"""What a user is told of what is not installed."""

import pytest

from ape_mmdet.errors import told_plainly


def test_without_scikit_learn_its_installation_is_told():
    with pytest.raises(SystemExit) as end, told_plainly():
        raise ModuleNotFoundError(name='sklearn')
    assert 'pip install scikit-learn' in end.value.code
