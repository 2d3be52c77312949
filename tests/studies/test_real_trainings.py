# SPDX-License-Identifier: Apache-2.0
"""A study's runs train the real thing, go on where they were killed, and end."""

import signal
import time

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.utils import import_modules_from_strings

from ape_mmdet.studies import Row, Run, Study, plan
from ape_mmdet.studies.gradients import compare_forms
from ape_mmdet.studies.runs import resolve

# Two epochs of three iterations.
ROW = Row(
    'retinanet_ap_lambda8',
    'two short epochs',
    options=(
        ('train_cfg.max_epochs', 2),
        ('train_dataloader.dataset.indices', 24),
        ('val_dataloader.dataset.indices', 8),
    ),
)


def planned(root) -> Run:
    study = Study('x', (ROW,), default=ROW.name)
    (run,) = plan([study], 'bccd', 1, root).values()
    return run


@pytest.mark.long('trainings of a study, to their end')
def test_a_killed_training_goes_on_and_leaves_its_figures(bccd, tmp_path):
    run = planned(tmp_path)
    with run.locked() as lock:
        process = run.start({}, lock)
        give_up = time.monotonic() + 300
        while not (run.work_dir / 'last_checkpoint').exists():
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run.result() is None

    # Its workers notice soon, and until then hold the lock.
    with run.locked() as lock:
        run.finish(run.start({}, lock).wait())
    assert 'resumed epoch: 1' in (run.work_dir / 'train.log').read_text()
    result = run.result()
    assert set(result) == {'ap', 'ap50', 'ap75'}
    assert all(-100 <= value <= 100 for value in result.values())
    assert [file.name for file in run.work_dir.glob('*.pth')] == ['epoch_2.pth']


def test_forms_of_ap_loss_have_one_gradient_on_real_logits(bccd, tmp_path):
    config = resolve(Row('retinanet_ap_lambda8', 'x'), 'bccd')
    config.train_dataloader.batch_size = 2
    # Logits as far apart as after a long training.
    import_modules_from_strings(**config.custom_imports)
    torch.manual_seed(1)
    model = MODELS.build(config.model)
    model.init_weights()
    model.bbox_head.retina_cls.weight.data *= 100
    torch.save(model.state_dict(), tmp_path / 'model.pth')

    compared = compare_forms(config, tmp_path / 'model.pth')
    assert compared == compare_forms(config, tmp_path / 'model.pth')
    lines = compared.splitlines()
    table = [line.strip('| ').split(' | ') for line in lines if line.startswith('|')]
    assert len(table) == 2 + 2 * 3
    for state, form, *errors in table[2:]:
        largest = max(map(float, errors))
        if state == 'trained' and 'stored sigmoid' in form:
            assert largest > 1e-3
        else:
            assert largest < 1e-6
    assert 'a batch of 2 training images' in lines[-1]
