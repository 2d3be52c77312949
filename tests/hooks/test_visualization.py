# SPDX-License-Identifier: Apache-2.0
"""The hook draws by rank, so that low scores are seen too."""

from pathlib import Path

import cv2
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from torch.utils.data import DataLoader

from ape_mmdet.calibration import Calibration
from ape_mmdet.hooks import RankedVisualizationHook


class DataSet(list):
    """What the hook asks of a data set."""

    get_data_info = list.__getitem__


class Runner:
    """What the hook asks of a runner."""

    timestamp = 'now'
    iter = 0

    def __init__(self, work_dir, model=None, samples=()):
        self.work_dir = str(work_dir)
        self.model = model or torch.nn.Identity()
        infos = [dict(img_path=sample.img_path) for sample in samples]
        self.test_dataloader = DataLoader(DataSet(infos))


@pytest.fixture
def drawn(monkeypatch, names, files):
    """Samples that reached the visualizer."""
    samples = []
    visualizer = DetLocalVisualizer.get_instance('ranked')
    monkeypatch.setattr(
        visualizer,
        'add_datasample',
        lambda name, image, data_sample, **kwargs: (
            samples.append(data_sample),
            names.append((name, kwargs['step'])),
            files.append(kwargs.get('out_file')),
        ),
    )
    return samples


@pytest.fixture
def names():
    """Name and step of each picture that reached the visualizer."""
    return []


@pytest.fixture
def files():
    """Where each picture is to be written."""
    return []


def sample(tmp_path, scores, num_objects):
    file = tmp_path / 'image.png'
    cv2.imwrite(str(file), torch.zeros(8, 8, 3).numpy())
    predictions = InstanceData(
        scores=torch.tensor(scores),
        bboxes=torch.zeros(len(scores), 4),
        labels=torch.arange(len(scores)),
    )
    result = DetDataSample(metainfo=dict(img_path=str(file)))
    result.pred_instances = predictions
    result.gt_instances = InstanceData()  # As without LoadAnnotations.
    if num_objects is not None:
        result.gt_instances.bboxes = torch.zeros(num_objects, 4)
    return result


@pytest.mark.parametrize('num_objects, shown', [(2, [2, 0]), (0, []), (9, [2, 0, 1])])
def test_as_many_as_there_are_objects(drawn, tmp_path, num_objects, shown):
    output = sample(tmp_path, [0.02, 0.01, 0.03], num_objects)
    hook = RankedVisualizationHook(draw=True)
    hook.after_test_iter(Runner(tmp_path), 0, {}, [output])
    assert drawn[0].pred_instances.labels.tolist() == shown
    assert len(output.pred_instances) == 3  # What is evaluated stays whole.


def test_ten_where_no_number_of_objects_is_known(drawn, tmp_path):
    output = sample(tmp_path, [0.01 * i for i in range(15)], None)
    hook = RankedVisualizationHook(draw=True)
    hook.after_val_iter(Runner(tmp_path), 0, {}, [output])
    assert drawn[0].pred_instances.labels.tolist() == list(range(14, 4, -1))


def test_each_validation_draws_the_same_few_images(drawn, names, tmp_path):
    outputs = [sample(tmp_path, [0.5], 1), sample(tmp_path, [0.5], 1)]
    hook = RankedVisualizationHook(draw=True, interval=3, num_val_images=2)
    runner = Runner(tmp_path)
    for runner.iter in (10, 20):  # Of which the interval is no divisor.
        for batch in range(9):
            hook.after_val_iter(runner, batch, {}, outputs)
    once = ['val_0_image', 'val_1_image']
    assert names == [(name, step) for step in (10, 20) for name in once]


def test_of_a_calibrated_detector_what_is_probable(drawn, tmp_path):
    output = sample(tmp_path, [0.2, 0.3, 0.9], 1)
    knots = torch.tensor([0.5]), torch.tensor([0.5])
    model = torch.nn.Sequential(Calibration.of_knots([knots]))
    hook = RankedVisualizationHook(draw=True)
    hook.after_test_iter(Runner(tmp_path, model), 0, {}, [output])
    assert drawn[0].pred_instances.labels.tolist() == [1, 2]
    assert len(output.pred_instances) == 3


@pytest.mark.parametrize('relative', [True, False])
def test_pictures_of_images_of_one_name_are_in_folders_of_their_own(
    drawn, files, tmp_path, relative, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    root = Path() if relative else tmp_path
    outputs = []
    for folder in ('site0', 'site1/day'):
        (root / 'data' / folder).mkdir(parents=True)
        outputs.append(sample(root / 'data' / folder, [0.5], 1))
    runner = Runner(root / 'work', samples=outputs)
    hook = RankedVisualizationHook(draw=True, test_out_dir='pictures')
    hook.before_test(runner)
    for batch, output in enumerate(outputs):
        hook.after_test_iter(runner, batch, {}, [output])
    pictures = tmp_path / 'work' / 'now' / 'pictures'
    assert files == [
        str(pictures / 'site0' / 'image.png'),
        str(pictures / 'site1' / 'day' / 'image.png'),
    ]
    assert all(Path(file).parent.is_dir() for file in files)


def test_nothing_is_drawn_unless_asked(drawn, tmp_path):
    output = sample(tmp_path, [0.5], 1)
    RankedVisualizationHook().after_test_iter(Runner(tmp_path), 0, {}, [output])
    assert not drawn
