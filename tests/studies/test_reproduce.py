"""tools/reproduce.py trains what is not done, and reports all of it."""

import json
import sys

import pytest

from ape_mmdet.engine.errors import UserError
from ape_mmdet.studies import STUDIES, Run, plan
from ape_mmdet.studies.command import reproduce

# Stands for a training: logs a validation, an earlier one and a lower.
TRAINING = """
import json, os, sys
from pathlib import Path
work_dir, config, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if config == os.environ.get('BROKEN'):
    sys.exit(3)
with open(work_dir / 'starts.txt', 'a') as starts:
    starts.write(os.environ['APE_DATASET'])
folder = work_dir / '20260101_000000' / 'vis_data'
folder.mkdir(parents=True)
ap = 0.3 + seed / 100 + len(config) / 1000
lines = [
    dict({'coco/bbox_mAP': value, 'coco/bbox_mAP_50': 0.6, 'coco/bbox_mAP_75': 0.2},
         step=epoch)
    for epoch, value in ((1, 0.1), (2, ap))
]
(folder / 'scalars.json').write_text('\\n'.join(map(json.dumps, lines)))
"""


@pytest.fixture
def trainings(monkeypatch, tmp_path):
    """Makes trainings instant; the folder where they leave their traces."""

    def command(run: Run, gpus: int) -> list[str]:
        script = [sys.executable, '-c', TRAINING]
        return [*script, str(run.work_dir), run.config, str(run.seed)]

    monkeypatch.setattr(Run, 'command', command)
    return tmp_path


def arguments(folder, *more) -> list[str]:
    return ['table2', '--dataset', 'bccd', '--work-dir', str(folder), *more]


def test_every_row_is_trained_once_and_reported(trainings, capsys):
    for _ in range(2):
        reproduce(arguments(trainings, '--seeds', '2'))
    starts = sorted(trainings.glob('bccd/*/seed*/starts.txt'))
    assert len(starts) == 2 * len(STUDIES['table2'].rows)
    assert {file.read_text() for file in starts} == {'bccd'}

    report = (trainings / 'bccd' / 'table2.md').read_text()
    assert report in capsys.readouterr().out
    # retinanet_ap_rank has 17 letters: 30 + 1.7, and one more with seed 1.
    rank = '| rank⁺ + rank⁻ | 2 | 32.2 ± 0.7 | 60.0 ± 0.0 | 20.0 ± 0.0 | default |'
    assert f'{rank} 37.3 (57.4 / 38.9) |' in report
    assert (
        '| N_neg, T = 0 | 2 | 32.5 ± 0.7 | 60.0 ± 0.0 | 20.0 ± 0.0 | +0.3 |' in report
    )
    assert (trainings / 'bccd' / 'table2.png').stat().st_size
    csv = (trainings / 'bccd' / 'table2.csv').read_text().splitlines()
    assert csv[1] == 'retinanet_ap_rank,rank⁺ + rank⁻,0,31.700,60.000,20.000,37.3'


def test_a_row_that_fails_is_named_and_stops_no_other(trainings, monkeypatch):
    monkeypatch.setenv('BROKEN', 'retinanet_ap_nneg_t0')
    with pytest.raises(UserError, match='(?s)1 of 6 trainings failed:.*nneg_t0/seed0'):
        reproduce(arguments(trainings, '--seeds', '1'))
    assert len(list(trainings.glob('bccd/*/seed0/result.json'))) == 5
    assert '| N_neg, T = 0 | 0 |  |' in (trainings / 'bccd/table2.md').read_text()
    monkeypatch.delenv('BROKEN')
    reproduce(arguments(trainings, '--seeds', '1'))
    assert len(list(trainings.glob('bccd/*/seed0/result.json'))) == 6


def test_a_dry_run_prints_commands_and_trains_nothing(tmp_path, capsys):
    done = tmp_path / 'bccd' / 'retinanet_ap_rank' / 'seed0'
    done.mkdir(parents=True)
    (done / 'result.json').write_text(json.dumps(dict(ap=1, ap50=1, ap75=1)))
    reproduce(arguments(tmp_path, '--seeds', '1', '--gpus', '2', '--dry-run'))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[0].startswith('done ')
    assert 'tools/dist_train.sh configs/retinanet_ap_nneg_t0.py 2' in lines[1]
    assert 'APE_DATASET=bccd' in lines[1] and 'randomness.seed=0' in lines[1]
    assert len(list(tmp_path.glob('bccd/*'))) == 1


def test_rows_are_configs_and_defaults_are_rows(repository, tmp_path):
    runs = plan(list(STUDIES.values()), 'coco', 1, tmp_path)
    assert len(runs) == len({run.work_dir for run in runs})
    for run in runs:
        assert (repository / 'configs' / f'{run.config}.py').exists()
    for study in STUDIES.values():
        assert study.default in {row.config for row in study.rows}
