"""Arguments that several of the tools take."""

from argparse import ArgumentParser, ArgumentTypeError


def positive_int(text: str) -> int:
    """A number of things, at least one; for ``type=`` of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f'{text} is not a whole number of 1 or more')
    return int(text)


def add_trust_checkpoint(parser: ArgumentParser) -> None:
    """``--trust-checkpoint``: see :mod:`ape_mmdet.engine.checkpoints`."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that hold more than tensors and plain data: they '
        'can run code of whoever made them',
    )
