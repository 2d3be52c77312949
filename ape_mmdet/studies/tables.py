# SPDX-License-Identifier: Apache-2.0
"""What the tables of the appendix vary, and what was published for each row.

Xu et al., "Revisiting AP Loss for Dense Object Detection: Adaptive Ranking
Pair Selection" (CVPR 2022), appendix, Tables 1 to 3: COCO val2017.
"""

from typing import Any, NamedTuple

# Where the configs keep the loss of the classifier.
LOSS = 'model.bbox_head.loss_cls'
Q = f'{LOSS}.max_pairs'


class Published(NamedTuple):
    """Figures of the paper, in percent."""

    ap: float
    ap50: float
    ap75: float


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        config: Name of a file in ``configs``, without ``.py``.
        label: What the row varies, as the paper writes it.
        published: Figures of the paper; None for rows that it does not have.
        options: Settings that differ from the config's, as (dotted key, value).
        only: The data set for which the row is meant; None for every one.
        gpus: Processes of its training; None leaves them to the user.
    """

    config: str
    label: str
    published: Published | None = None
    options: tuple[tuple[str, Any], ...] = ()
    only: str | None = None
    gpus: int | None = None

    @property
    def name(self) -> str:
        """Names the training: rows of the same name are trained once."""
        options = [f'{key.rsplit(".", 1)[-1]}={value}' for key, value in self.options]
        processes = [f'gpus={self.gpus}'] if self.gpus else []
        return '-'.join([self.config, *options, *processes])


class Study(NamedTuple):
    """A table.

    Attributes:
        title: One line.
        rows: Its rows.
        default: Name of the row that the others are held against: in the
            paper's tables the one that it marks as its choice.
        seeds: The seeds of its trainings, whatever their number elsewhere;
            None leaves them to the user.
    """

    title: str
    rows: tuple[Row, ...]
    default: str
    seeds: tuple[int, ...] | None = None

    def rows_for(self, dataset: str) -> list[Row]:
        """The rows that are trained on a data set."""
        return [row for row in self.rows if row.only in (None, dataset)]


TABLES = {
    'table1': Study(
        'Table 1: distance functions of AP loss, RetinaNet',
        (
            Row('retinanet_ap_delta1', 'H, δ = 1', Published(37.0, 57.6, 39.2)),
            Row('retinanet_ap_delta0_5', 'H, δ = 0.5', Published(37.4, 57.5, 39.2)),
            Row('retinanet_ap_delta0_25', 'H, δ = 0.25', Published(36.8, 56.3, 38.7)),
            Row('retinanet_ap_delta0_125', 'H, δ = 0.125', Published(35.1, 53.8, 36.6)),
            Row('retinanet_ap_lambda2', 'S, λ = 2', Published(36.4, 57.1, 37.9)),
            Row('retinanet_ap_lambda4', 'S, λ = 4', Published(36.9, 57.5, 38.7)),
            Row('retinanet_ap_lambda8', 'S, λ = 8', Published(37.3, 57.4, 38.9)),
            Row('retinanet_ap_lambda16', 'S, λ = 16', Published(36.5, 55.9, 38.3)),
        ),
        default='retinanet_ap_lambda8',
    ),
    'table2': Study(
        'Table 2: balance constants of AP loss, RetinaNet',
        (
            # retinanet_ap_rank is the same config.
            Row('retinanet_ap_lambda8', 'rank⁺ + rank⁻', Published(37.3, 57.4, 38.9)),
            Row('retinanet_ap_nneg_t0', 'N_neg, T = 0', Published(36.8, 57.1, 38.8)),
            Row(
                'retinanet_ap_nneg_t0_2', 'N_neg, T = 0.2', Published(37.2, 57.0, 38.9)
            ),
            Row(
                'retinanet_ap_nneg_t0_25',
                'N_neg, T = 0.25',
                Published(37.3, 56.7, 39.4),
            ),
            Row(
                'retinanet_ap_nneg_t0_3', 'N_neg, T = 0.3', Published(36.9, 56.3, 38.7)
            ),
            Row(
                'retinanet_ap_nneg_t0_5', 'N_neg, T = 0.5', Published(35.2, 53.3, 37.1)
            ),
        ),
        default='retinanet_ap_lambda8',
    ),
    'table3': Study(
        'Table 3: Q, the negatives that APE loss keeps, FCOS',
        (
            # A batch of small photos has 40,944 entries: from 50,000 on, Q keeps
            # all of them.
            Row('fcos_ape', 'Q = 100', options=((Q, 100),), only='bccd'),
            Row('fcos_ape', 'Q = 1,000', options=((Q, 1000),), only='bccd'),
            Row('fcos_ape_q10k', 'Q = 10,000', Published(37.6, 54.3, 40.0)),
            Row(
                'fcos_ape_q50k', 'Q = 50,000', Published(39.7, 57.3, 42.3), only='coco'
            ),
            Row('fcos_ape_q100k', 'Q = 100,000', Published(40.0, 58.1, 42.4)),
            Row(
                'fcos_ape_q200k',
                'Q = 200,000',
                Published(40.0, 58.1, 42.6),
                only='coco',
            ),
            Row('fcos_ape', 'every negative'),
        ),
        default='fcos_ape_q100k',
    ),
}
