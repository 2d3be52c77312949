# SPDX-License-Identifier: Apache-2.0
"""Makes the demo's data set of handwritten digit scenes, in COCO format."""

import argparse
import sys
from pathlib import Path

# So that a clone works where ape_mmdet is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ape_mmdet.datasets import generate_digit_scenes  # noqa: E402

PROGRESS_STEP = 50  # scenes


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        '--root', type=Path, default='data/digit_scenes', help='output folder'
    )
    parser.add_argument('--num-train', type=int, default=800, help='training scenes')
    parser.add_argument('--num-val', type=int, default=200, help='validation scenes')
    parser.add_argument(
        '--image-size',
        type=int,
        default=128,
        help='side of the images, pixels',
    )
    parser.add_argument('--seed', type=int, default=0, help='of the scenes')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    total = args.num_train + args.num_val

    def show_progress(done: int) -> None:
        if done % PROGRESS_STEP == 0 or done == total:
            end = '\n' if done == total else ''
            print(
                f'\r{done}/{total} scenes',
                end=end,
                file=sys.stderr,
                flush=True,
            )

    try:
        generate_digit_scenes(**vars(args), on_scene=show_progress)
    except (FileExistsError, ImportError, ValueError) as error:
        sys.exit(f'Error: {error}')
    print(f'digit scenes are in {args.root}')


if __name__ == '__main__':
    main()
