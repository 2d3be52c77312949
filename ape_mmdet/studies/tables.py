"""What the tables of the appendix vary, and what was published for each row.

Xu et al., "Revisiting AP Loss for Dense Object Detection: Adaptive Ranking
Pair Selection" (CVPR 2022), appendix, Tables 1 to 3: COCO val2017.
"""

from typing import NamedTuple


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
    """

    config: str
    label: str
    published: Published | None = None


class Study(NamedTuple):
    """A table.

    Attributes:
        title: One line.
        rows: Its rows.
        default: Config of the row that the paper marks as its choice.
    """

    title: str
    rows: tuple[Row, ...]
    default: str


STUDIES = {
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
            Row('retinanet_ap_rank', 'rank⁺ + rank⁻', Published(37.3, 57.4, 38.9)),
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
        default='retinanet_ap_rank',
    ),
    'table3': Study(
        'Table 3: Q, the negatives that APE loss keeps, FCOS',
        (
            Row('fcos_ape_q10k', 'Q = 10,000', Published(37.6, 54.3, 40.0)),
            Row('fcos_ape_q50k', 'Q = 50,000', Published(39.7, 57.3, 42.3)),
            Row('fcos_ape_q100k', 'Q = 100,000', Published(40.0, 58.1, 42.4)),
            Row('fcos_ape_q200k', 'Q = 200,000', Published(40.0, 58.1, 42.6)),
            Row('fcos_ape', 'every negative'),
        ),
        default='fcos_ape_q100k',
    ),
}
