# SPDX-License-Identifier: Apache-2.0
"""Drawing one scene of handwritten digits on a textured background.

Everything is drawn from a ``numpy.random.Generator`` that the caller passes:
the same state gives the same picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

MIN_DIGIT_SIZE, MAX_DIGIT_SIZE = 32, 80  # larger side of the box, pixels
# P(1 digit), ..., P(5 digits); the mean is 2.85.
COUNT_WEIGHTS = (0.15, 0.25, 0.30, 0.20, 0.10)
PLACEMENT_TRIES = 30
# Share of a digit's ink that the image border and later digits must leave.
MIN_VISIBLE = 0.6
MAX_BOX_OVERLAP = 0.35  # intersection of two boxes over the smaller one
MAX_OVERHANG = 0.12  # share of a digit's side that may leave the image

INK_LEVEL = 0.4  # opacity from which a pixel counts as ink
# Enlarging 8x8 cells: room around them to bend in, samples per cell, and the
# sharpening that reopens the loops of 6, 8 and 9 (radii in cells).
GLYPH_BORDER, GLYPH_SCALE = 3, 8
SHARPNESS, SHARPENING_RADIUS, SMOOTHING_RADIUS = 2.0, 1.5, 0.3
STROKE_THRESHOLDS = (0.32, 0.42)  # low is a thick pen, high a thin one
STROKE_SOFTNESS = (0.15, 0.40)
STROKE_MARGIN = 0.1  # of the digit's size, room for its soft edge
MAX_ROTATION, MAX_SHEAR = math.radians(15), 0.15

# Luminance difference, of 255, that 90 % of a digit's surroundings keep from
# its ink.
MIN_CONTRAST, CONTRAST_PERCENTILE = 60.0, 10
COLOUR_TRIES = 25
GROUND_STEP = 4  # one in so many pixels is looked at, for speed
LUMINANCE_BGR = np.array([0.114, 0.587, 0.299], np.float32)
# Between the two colours of the ground, per channel; with more, no ink might
# stand out from all of it.
MAX_TEXTURE_CONTRAST = 70
MAX_BLUR, MAX_NOISE = 0.8, 8.0  # standard deviations: pixels, grey levels

MAX_CLUTTER, BLOB_SHARE, MAX_CLUTTER_ROTATION = 1, 0.25, 0.8
# Pen paths in a unit box, y down; only letters that no hand writes like a
# digit. Not cv2.putText, whose fonts differ between OpenCV 4 and 5.
LETTERS = (
    (((1, 0), (0, 0), (0, 1), (1, 1)), ((0, 0.5), (0.8, 0.5))),  # E
    (((0, 0), (0, 1)), ((1, 0), (1, 1)), ((0, 0.5), (1, 0.5))),  # H
    (((0, 0), (0, 1)), ((1, 0), (0, 0.5), (1, 1))),  # K
    (((0, 1), (0.1, 0), (0.5, 0.7), (0.9, 0), (1, 1)),),  # M
    (((0, 0), (0.25, 1), (0.5, 0.3), (0.75, 1), (1, 0)),),  # W
    (((0, 0), (1, 1)), ((1, 0), (0, 1))),  # X
)

Box = tuple[int, int, int, int]
Rng = np.random.Generator


@dataclass
class PlacedDigit:
    """One digit in a scene of side ``S``.

    Attributes:
        digit_index: Row of the digit in ``sklearn.datasets.load_digits()``.
        label: Its class, 0 to 9.
        box: ``(x, y, w, h)`` in pixels, tight around the ink that lies in the
            image, whether or not a later digit covers it.
        ink: ``(S, S)`` bool, the pixels that still show its ink.
        ink_area: Pixels of ink before the border and later digits took any.
    """

    digit_index: int
    label: int
    box: Box
    ink: np.ndarray
    ink_area: int

    @property
    def visible(self) -> float:
        """Share of the ink that is seen, in [0, 1]."""
        return np.count_nonzero(self.ink) / self.ink_area


def render_digit(grid: np.ndarray, size: int, rng: Rng) -> np.ndarray:
    """Enlarges an 8x8 digit into a smooth, slightly bent pen stroke.

    Args:
        grid: Ink densities, ``(8, 8)`` float32 in [0, 1].
        size: Larger side of the ink's tight box, pixels, met to about 2.
        rng: Draws the rotation, shear, thickness and softness.

    Returns:
        Opacity, ``(h, w)`` float32 in [0, 1]. Pixels of at least
        ``INK_LEVEL`` are ink; around them is a margin for the soft edge.
    """
    field = _bend(_enlarge(grid), rng)
    threshold = rng.uniform(*STROKE_THRESHOLDS)
    softness = rng.uniform(*STROKE_SOFTNESS)
    x, y, w, h = tight_box(field >= threshold + softness * (INK_LEVEL - 0.5))
    scale = size / max(w, h)
    margin = 2 + round(STROKE_MARGIN * size)
    # Pixel centres lie at half units, hence half a pixel of either scale.
    # Resampling the field, not the finished stroke, keeps the edge equally
    # crisp at every size.
    shift = margin - 0.5 + 0.5 * scale
    affine = np.array([[scale, 0, shift - scale * x], [0, scale, shift - scale * y]])
    shape = (round(w * scale) + 2 * margin, round(h * scale) + 2 * margin)
    field = cv2.warpAffine(field, affine, shape)
    return np.clip((field - threshold) / softness + 0.5, 0, 1)


def _enlarge(grid: np.ndarray) -> np.ndarray:
    """``(8, 8)`` ink densities to a smooth ``(F, F)`` field of maximum 1."""
    side = GLYPH_SCALE * (len(grid) + 2 * GLYPH_BORDER)
    cells = np.pad(grid, GLYPH_BORDER)
    size = (side, side)
    field: np.ndarray = cv2.resize(cells, size, interpolation=cv2.INTER_CUBIC)
    coarse = cv2.GaussianBlur(field, (0, 0), SHARPENING_RADIUS * GLYPH_SCALE)
    field = field + SHARPNESS * (field - coarse)
    field = cv2.GaussianBlur(field, (0, 0), SMOOTHING_RADIUS * GLYPH_SCALE)
    return field / field.max()


def _bend(field: np.ndarray, rng: Rng) -> np.ndarray:
    """Rotates and shears an ``(F, F)`` field about its centre."""
    shear = rng.uniform(-MAX_SHEAR, MAX_SHEAR)
    linear = _rotation(MAX_ROTATION, rng) @ [[1, shear], [0, 1]]
    centre = np.full(2, (len(field) - 1) / 2)
    affine = np.column_stack([linear, centre - linear @ centre])
    return cv2.warpAffine(field, affine, field.shape)


def _rotation(max_angle: float, rng: Rng) -> np.ndarray:
    """A ``(2, 2)`` rotation by up to ``max_angle`` radians either way."""
    angle = rng.uniform(-max_angle, max_angle)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def tight_box(mask: np.ndarray) -> Box:
    """``(x, y, w, h)`` around the true pixels of a 2-d bool mask, of which
    there must be some."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def compose_scene(
    grids: np.ndarray,
    labels: np.ndarray,
    pool: np.ndarray,
    image_size: int,
    rng: Rng,
) -> tuple[np.ndarray, list[PlacedDigit]]:
    """Composes one scene.

    Args:
        grids: Ink densities of all digits, ``(N, 8, 8)`` float32 in [0, 1].
        labels: Their classes, ``(N,)`` int.
        pool: Indexes of the digits that may be used, ``(P,)`` int.
        image_size: Side ``S`` of the image, pixels.
        rng: Draws everything.

    Returns:
        The image, ``(S, S, 3)`` uint8 BGR, and its one to five digits, the
        later lying over the earlier.
    """
    image = make_background(image_size, rng)
    # Clutter stays under the digits: over one, it could turn a 1 into a 7.
    draw_clutter(image, rng)
    placed: list[PlacedDigit] = []
    count = 1 + rng.choice(len(COUNT_WEIGHTS), p=COUNT_WEIGHTS)
    for index in rng.choice(pool, size=count):
        stroke = render_digit(grids[index], _draw_size(image_size, rng), rng)
        opacity = _find_spot(stroke, placed, image_size, rng)
        if opacity is None:
            continue
        ink = opacity >= INK_LEVEL
        for earlier in placed:
            earlier.ink &= ~ink
        ink_area = np.count_nonzero(stroke >= INK_LEVEL)
        placed.append(
            PlacedDigit(int(index), int(labels[index]), tight_box(ink), ink, ink_area)
        )
        _blend(image, opacity, _contrasting_colour(image, ink, rng))
    return finish_image(image, rng), placed


def _draw_size(image_size: int, rng: Rng) -> int:
    """Log-uniform, so that every octave of sizes is equally frequent."""
    largest = min(MAX_DIGIT_SIZE, image_size // 2)
    return round(math.exp(rng.uniform(math.log(MIN_DIGIT_SIZE), math.log(largest))))


def _find_spot(
    stroke: np.ndarray,
    placed: list[PlacedDigit],
    image_size: int,
    rng: Rng,
) -> np.ndarray | None:
    """Moves a stroke to where it leaves every digit readable: its opacity in
    the image, ``(S, S)`` float32, or None when the tries run out."""
    x, y, w, h = tight_box(stroke >= INK_LEVEL)
    least_ink = MIN_VISIBLE * np.count_nonzero(stroke >= INK_LEVEL)
    extent = np.array([w, h])
    lowest = -MAX_OVERHANG * extent
    highest = image_size - (1 - MAX_OVERHANG) * extent
    for _ in range(PLACEMENT_TRIES):
        left, top = np.rint(rng.uniform(lowest, highest)).astype(int)
        opacity = _shift(stroke, left - x, top - y, image_size)
        ink = opacity >= INK_LEVEL
        if np.count_nonzero(ink) >= least_ink and _leaves_visible(ink, placed):
            return opacity
    return None


def _leaves_visible(ink: np.ndarray, placed: list[PlacedDigit]) -> bool:
    box = tight_box(ink)
    return all(
        _overlap(box, other.box) <= MAX_BOX_OVERLAP
        and np.count_nonzero(other.ink & ~ink) >= MIN_VISIBLE * other.ink_area
        for other in placed
    )


def _shift(patch: np.ndarray, x: int, y: int, image_size: int) -> np.ndarray:
    """An empty ``(S, S)`` image with ``patch`` at column x and row y, which
    may be negative."""
    image = np.zeros((image_size, image_size), np.float32)
    h, w = patch.shape
    inside = patch[max(0, -y) : image_size - y, max(0, -x) : image_size - x]
    image[max(0, y) : y + h, max(0, x) : x + w] = inside
    return image


def _overlap(a: Box, b: Box) -> float:
    """Intersection of two ``(x, y, w, h)`` boxes over the smaller area."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height) / min(a[2] * a[3], b[2] * b[3])


def _random_colours(count: int, rng: Rng) -> np.ndarray:
    """BGR colours, ``(count, 3)``, from nearly grey to saturated."""
    grey = rng.uniform(10, 245, (count, 1))
    saturation = rng.uniform(0.1, 0.9, (count, 1))
    return grey + saturation * (rng.uniform(0, 255, (count, 3)) - grey)


def _contrasting_colour(image: np.ndarray, ink: np.ndarray, rng: Rng) -> np.ndarray:
    """The first of some random colours to stand out enough from what the ink
    will cover and touch, or the one that stands out most."""
    region = cv2.dilate(ink.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    ground = image[region][::GROUND_STEP] @ LUMINANCE_BGR
    colours = _random_colours(COLOUR_TRIES, rng)
    differences = np.abs(ground - (colours @ LUMINANCE_BGR)[:, None])
    contrasts = np.percentile(differences, CONTRAST_PERCENTILE, axis=1)
    # argmax gives the first of equals.
    return colours[np.argmax(np.minimum(contrasts, MIN_CONTRAST))]


def _blend(image: np.ndarray, opacity: np.ndarray, colour: np.ndarray) -> None:
    """Paints ``colour`` over ``image`` in place."""
    rows = opacity.any(axis=1)
    colour = colour.astype(np.float32)
    image[rows] += opacity[rows, :, None] * (colour - image[rows])


def make_background(size: int, rng: Rng) -> np.ndarray:
    """A textured ground between two related colours, ``(S, S, 3)`` float32
    BGR in [0, 255]."""
    texture = TEXTURES[rng.integers(len(TEXTURES))](size, rng)
    field = 0.75 * texture + 0.25 * _noise(size, 4, rng)
    first = _random_colours(1, rng)[0]
    change = rng.uniform(-MAX_TEXTURE_CONTRAST, MAX_TEXTURE_CONTRAST, 3)
    second = np.clip(first + change, 0, 255)
    image = np.tile(first.astype(np.float32), (size, size, 1))
    _blend(image, field.astype(np.float32), second)
    return image


# The textures are (S, S) fields in [0, 1].


def _noise(size: int, cells: int, rng: Rng) -> np.ndarray:
    """Smooth noise of ``cells`` values a side."""
    coarse = rng.random((cells, cells), np.float32)
    noise = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(noise, 0, 1)


def _noise_texture(size: int, rng: Rng) -> np.ndarray:
    octaves = (4, 12, round(math.exp(rng.uniform(math.log(12), math.log(size / 2)))))
    return np.mean([_noise(size, cells, rng) for cells in octaves], axis=0)


def _tile_texture(size: int, rng: Rng) -> np.ndarray:
    tiles = rng.random(rng.integers(3, 12, 2), np.float32)
    return cv2.resize(tiles, (size, size), interpolation=cv2.INTER_NEAREST)


def _gradient_texture(size: int, rng: Rng) -> np.ndarray:
    (cos, sin), _ = _rotation(math.pi, rng)
    axis = np.linspace(-0.5, 0.5, size)
    return np.clip(0.5 + cos * axis + sin * axis[:, None], 0, 1)


def _wave_texture(size: int, rng: Rng) -> np.ndarray:
    """Rings about a point near by or, then nearly stripes, far away."""
    x, y = _rotation(math.pi, rng)[0] * size * rng.choice([0.5, 20.0])
    axis = np.arange(size) - size / 2
    radius = np.hypot(axis - x, axis[:, None] - y)
    phase = 2 * math.pi * radius / rng.uniform(8, 50) + 4 * _noise(size, 4, rng)
    steepness = rng.uniform(0.25, 1.5)  # from a sine to nearly a square wave
    return np.clip(0.5 + steepness * np.sin(phase), 0, 1)


TEXTURES = (_noise_texture, _tile_texture, _gradient_texture, _wave_texture)


def draw_clutter(image: np.ndarray, rng: Rng) -> None:
    """Paints up to ``MAX_CLUTTER`` things that are no digits on a
    ``(S, S, 3)`` float32 image, in place."""
    size = len(image)
    for _ in range(rng.integers(MAX_CLUTTER + 1)):
        mask = np.zeros((size, size), np.uint8)
        centre = rng.uniform(0, size, 2)
        if rng.random() < BLOB_SHARE:
            _draw_blob(mask, centre, rng)
        else:
            _draw_strokes(mask, centre, rng)
        opacity = mask.astype(np.float32) * rng.uniform(0.5, 1) / 255
        _blend(image, opacity, _random_colours(1, rng)[0])


def _draw_blob(mask: np.ndarray, centre: np.ndarray, rng: Rng) -> None:
    """A polygon, sharp or blurred to a blob."""
    corners = rng.uniform(-0.15, 0.15, (rng.integers(3, 10), 2)) * len(mask)
    hull = cv2.convexHull((centre + corners).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 255, cv2.LINE_AA)
    mask[:] = cv2.GaussianBlur(mask, (0, 0), rng.choice([0.3, len(mask) / 40]))


def _draw_strokes(mask: np.ndarray, centre: np.ndarray, rng: Rng) -> None:
    paths = STROKES[rng.integers(len(STROKES))](rng)
    turn = _rotation(MAX_CLUTTER_ROTATION, rng)
    thickness = int(rng.integers(1, max(3, len(mask) // 50)))
    for path in paths:
        points = np.rint(centre + path @ turn * len(mask)).astype(np.int32)
        cv2.polylines(mask, [points], False, 255, thickness, cv2.LINE_AA)


# Strokes are lists of (N, 2) x, y paths about 0, in image sides.


def _line(rng: Rng) -> list[np.ndarray]:
    # Long and far from upright, because a short upright one is a 1.
    reach = rng.uniform(0.2, 0.6)
    return [np.array([[-reach, 0], [reach, 0]])]


def _arc(rng: Rng) -> list[np.ndarray]:
    # Well short of a turn, because a closed one is a 0.
    start = rng.uniform(0, 2 * math.pi)
    angle = np.linspace(start, start + rng.uniform(1, 3.5), 40)
    return [
        np.column_stack([np.cos(angle), np.sin(angle)]) * rng.uniform(0.06, 0.25, 2)
    ]


def _zigzag(rng: Rng) -> list[np.ndarray]:
    # Of more turns than any digit has.
    turns = np.arange(rng.integers(6, 11))
    path = np.column_stack([turns, 3 * (turns % 2)])
    return [(path + rng.normal(0, 0.3, path.shape)) * rng.uniform(0.02, 0.05)]


def _letter(rng: Rng) -> list[np.ndarray]:
    extent = rng.uniform(0.08, 0.3) * np.array([0.7, 1])
    return [
        (path + rng.normal(-0.5, 0.05, (len(path), 2))) * extent
        for path in LETTERS[rng.integers(len(LETTERS))]
    ]


STROKES = (_line, _arc, _zigzag, _letter)


def finish_image(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Blurs a ``(S, S, 3)`` float32 image slightly, adds sensor noise and
    rounds it to uint8."""
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, MAX_BLUR))
    noise = rng.uniform(0, MAX_NOISE) * rng.standard_normal(image.shape, np.float32)
    image = image + noise
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
