#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Draw the figures of the paper's appendix from the code that trains."""

import argparse
import sys
from pathlib import Path

# So that a clone works where ape_mmdet is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ape_mmdet.visualization import figures  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', type=Path, default=Path('docs/images'), help='output folder'
    )
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    figures.draw_step(out / 'fig1_step.png')
    figures.draw_sigmoid(out / 'fig2_sigmoid.png')
    figures.draw_threshold(out / 'fig3_threshold.png')
    print(f'fig1_step.png, fig2_sigmoid.png and fig3_threshold.png are in {out}')


if __name__ == '__main__':
    main()
