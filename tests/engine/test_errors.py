"""What a user is told of what is not installed."""

import pytest

from ape_mmdet.engine.errors import told_plainly


def test_without_scikit_learn_the_extra_is_named():
    with pytest.raises(SystemExit) as end, told_plainly():
        raise ModuleNotFoundError(name='sklearn')
    assert 'pip install "ape_mmdet[calibrate]"' in end.value.code
