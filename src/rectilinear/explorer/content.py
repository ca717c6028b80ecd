"""The images that come with the page: what it shows before its weights are read, and the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rectilinear.datasets import Images
from rectilinear.flow import LinearFlow, invert
from rectilinear.flow.conditional import log_prob_by_class
from rectilinear.operators import Operator, svd

STRIP_IMAGES = 9  # along a slider, an odd number
REACH, STEP = 3.0, 0.05  # standard deviations at the ends of a slider, and between two places
START_SAMPLES = 12
PLAIN = 0.99  # probability of the class of an image that is one of it
MAX_SLIDERS, FIRST_SLIDERS = 32, 8
COLUMNS = 7  # samples in a row
LINE_IMAGES = 9  # from one image to another
GALLERY_IMAGES = 20
MAX_CLASS_ROWS = 20
NEAR_IMAGES = 8  # nearest training images that are shown
NEIGHBOUR_NUMBERS = 1_600_000  # pixels of training images in the file, at most
CHOSEN_FROM = 1000  # held-out images from which the gallery is chosen
DISTANCE_IMAGES = 400  # held out, from which the usual distance is found
LEAST_LIKELY = 0.01  # share of held-out images that are too unlikely for a class
USUAL_IMAGES = 200  # held out, whose noise says what is usual
RANK_SEED, CLASS_SEED = 1000, 51000  # of the rows that the page draws with its first seeds
HELD_OUT = "held-out images, which the model was not trained on"
SAMPLED = "samples of the generator itself"
_WORD = 0xFFFFFFFF  # of the noise that the page and Python draw alike


@dataclass(frozen=True, eq=False)
class Content:
    """Images ``(n, c, h, w)`` in the order of the page, and the facts that its scripts read."""

    tiles: Tensor
    neighbours: Tensor | None
    page: dict[str, Any]


def content(
    flow: LinearFlow, operator: Operator, train: Images | None, test: Images | None
) -> Content:
    """All that the page shows before it computes: strips, ranks, classes, gallery, neighbours."""
    directions = _Directions(flow, operator)
    start = directions.start()
    tiles = [directions.first_rows(start), *directions.of_classes()]
    gallery, labels = _held_out(test) if test is not None else directions.gallery(tiles[1:])
    known = len(flow.classes) > 1
    neighbours = None if train is None else _some(train.images)
    facts = {
        "n": directions.n,
        "rank": directions.rank,
        "sigma": directions.s[: directions.sliders].tolist(),
        "sliders": directions.sliders,
        "first": directions.first,
        "start": [round(v, 2) for v in start[: directions.sliders].tolist()],
        "strip": STRIP_IMAGES,
        "reach": REACH,
        "step": STEP,
        "ranks": directions.ranks,
        "columns": COLUMNS,
        "classes": flow.classes,
        "classRows": len(tiles) - 1,
        "line": LINE_IMAGES,
        "gallery": len(gallery),
        "galleryClasses": labels if known else [],
        "ends": [12, 17] if len(gallery) > 17 else [0, len(gallery) - 1],
        "terms": _terms(gallery, labels if known else []),
        "gallerySource": SAMPLED if test is None else HELD_OUT,
        "noise": flow.noise_level,
        **_usual(flow, None if test is None else test.images[:USUAL_IMAGES]),
        "near": NEAR_IMAGES,
        "neighboursText": "" if train is None else _neighbours_text(neighbours, train, test),
        "neighbourCount": 0 if neighbours is None else len(neighbours),
    }
    return Content(torch.cat([*tiles, gallery]).clamp(0, 1), neighbours, facts)


class _Directions:
    """A generator by its singular directions: images from coordinates in standard deviations."""

    def __init__(self, flow: LinearFlow, operator: Operator) -> None:
        self.flow = flow
        self.u, self.s, _ = svd(operator)
        self.n = len(self.s)
        self.rank = flow.rank or self.n
        self.sliders = min(MAX_SLIDERS, self.rank)
        self.first = min(FIRST_SLIDERS, self.sliders)
        self.ranks = _ranks(self.n)

    @torch.no_grad()
    def decode(self, c: Tensor, given: int | None = None) -> Tensor:
        """Images of coordinates ``(b, n)``."""
        network = self.flow.g_data if given is None else self.flow.given(given).g_data
        latents = self.u(c.to(self.s) * self.s)
        return network.inverse(latents.unflatten(1, network.latent_shape)).clamp(0, 1)

    def drawn(self, seed: int, count: int, rank: int) -> Tensor:
        """Coordinates of samples with seeds from ``seed`` on, cut to a rank."""
        c = torch.stack([noise(seed + k, self.n) for k in range(count)])
        c[:, rank:] = 0
        return c

    def start(self) -> Tensor:
        """The first position of the sliders, ``(n,)``.

        Of a few samples, and those of a plain class, the one that its sliders change the most.
        """
        drawn = self.drawn(0, START_SAMPLES, self.sliders).clamp(-REACH, REACH)
        drawn = (drawn / STEP).round() * STEP
        images = self.decode(drawn)
        moved = drawn.expand(2, self.first, *drawn.shape).clone()
        for i in range(self.first):
            moved[0, i, :, i], moved[1, i, :, i] = -REACH / 2, REACH / 2
        changed = self.decode(moved.flatten(0, 2)).unflatten(0, moved.shape[:3])
        score = (changed - images).square().flatten(3).mean((0, 1, 3))
        if self.flow.classes:
            plain = self.flow.class_probabilities(images).amax(1)
            score[plain < min(PLAIN, float(plain.max()))] = -1
        return drawn[score.argmax()]

    def first_rows(self, start: Tensor) -> Tensor:
        """The image of the sliders, a strip for each of the first, and samples at every rank."""
        walk = start.expand(self.first, STRIP_IMAGES, self.n).clone()
        walk[range(self.first), :, range(self.first)] = torch.linspace(-REACH, REACH, STRIP_IMAGES)
        ranked = [self.drawn(RANK_SEED, COLUMNS, k) for k in self.ranks]
        return self.decode(torch.cat([start[None], walk.flatten(0, 1), *ranked]))

    def of_classes(self) -> list[Tensor]:
        """A row of samples of each class, one noise a column."""
        same = self.drawn(CLASS_SEED, COLUMNS, self.rank)
        return [self.decode(same, k) for k in range(min(len(self.flow.classes), MAX_CLASS_ROWS))]

    def gallery(self, of_classes: list[Tensor]) -> tuple[Tensor, list[int]]:
        """Samples to choose from, of the classes in turn, in 8 bits; and their classes."""
        count = len(of_classes)
        if count:
            labels = [i % count for i in range(GALLERY_IMAGES)]
            images = torch.stack([of_classes[k][i % COLUMNS] for i, k in enumerate(labels)])
        else:
            labels = [0] * GALLERY_IMAGES
            images = self.decode(self.drawn(0, GALLERY_IMAGES, self.rank))
        return (images * 255).round() / 255, labels


def _ranks(n: int) -> list[int]:
    """Powers of two below ``n``, and ``n``.

    Example:
        >>> _ranks(10)
        [1, 2, 4, 8, 10]
    """
    return [2**i for i in range(n.bit_length()) if 2**i < n] + [n]


def _held_out(test: Images) -> tuple[Tensor, list[int]]:
    """Images to choose from, and their classes: a dark one of every class, then a bright one.

    With so many classes, or one, that this is too many or too few, the first images.
    """
    labels = test.labels[:CHOSEN_FROM]
    classes = labels.unique().tolist()
    if not 2 <= len(classes) <= GALLERY_IMAGES // 2:
        chosen = torch.arange(min(len(test), GALLERY_IMAGES))
    else:
        light, rows = test.images[: len(labels)].flatten(1).mean(1), []
        for label in classes:
            members = (labels == label).nonzero()[:, 0]
            order = members[light[members].argsort()]
            rows.append(order[[len(order) // 10, -1 - len(order) // 10]])
        chosen = torch.stack(rows, 1).flatten()
    return test.images[chosen], test.labels[chosen].tolist()


def _terms(gallery: Tensor, labels: list[int]) -> list[int]:
    """The first terms of ``a - b + c``: a bright and a dark image of a class, another as dark.

    Example:
        >>> _terms(torch.tensor([0.5, 0.1, 0.2, 0.3]).view(4, 1, 1, 1), [0, 1, 0, 1])
        [0, 2, 1]
    """
    light = gallery.flatten(1).mean(1).tolist()
    pairs = [(i, j) for i, p in enumerate(labels) for j, q in enumerate(labels) if p == q]
    if not pairs or len(set(labels)) < 2:
        return [0, 1 % len(light), 2 % len(light)]
    a, b = max(pairs, key=lambda pair: light[pair[0]] - light[pair[1]])
    others = [i for i, label in enumerate(labels) if label != labels[a]]
    return [a, b, min(others, key=lambda i: abs(light[i] - light[b]))]


@torch.no_grad()
def _usual(flow: LinearFlow, images: Tensor | None) -> dict[str, Any]:
    """Usual deviations of the noise of held-out images, as trained, and their usual densities.

    ``usual`` is the range of the standard deviation of the noise; ``leastLog`` the first percentile
    of the log-density of the leading latents, where these have classes.
    """
    if images is None:
        return {"usual": None, "leastLog": None}
    draws = torch.stack([noise(k, images[0].numel()) for k in range(len(images))])
    seen = images + flow.noise_level * draws.view_as(images)
    deviations = invert(flow, seen).flatten(1).std(1)
    usual = [round(float(deviations.min()), 3), round(float(deviations.max()), 3)]
    if not flow.classes:
        return {"usual": usual, "leastLog": None}
    logs = log_prob_by_class(flow.g_data, seen).logsumexp(1)
    return {"usual": usual, "leastLog": round(float(logs.quantile(LEAST_LIKELY)), 3)}


def _some(images: Tensor) -> Tensor:
    """As many images as the file has place for, evenly from all."""
    count = max(1, min(len(images), NEIGHBOUR_NUMBERS // images[0].numel()))
    return images[torch.arange(count) * len(images) // count]


def _neighbours_text(some: Tensor | None, train: Images, test: Images | None) -> str:
    assert some is not None
    words = f"The nearest in pixels of {len(some):,} training images that this file holds"
    words += f", of {len(train):,} in all." if len(some) < len(train) else ", which are all."
    if test is not None:
        distance = torch.cdist(test.images[:DISTANCE_IMAGES].flatten(1), some.flatten(1)).amin(1)
        usual = float(distance.median()) / some[0].numel() ** 0.5
        words += f" For a held-out image the nearest differs by {usual:.2f} (root mean square)."
    return words


def noise(seed: int, count: int) -> Tensor:
    """``count`` draws of ``N(0, 1)``, as ``noise`` of ``web/numbers.js`` draws them from this seed.

    Box and Muller's method on the generator mulberry32.

    Example:
        >>> noise(1, 20000).std().round(decimals=1), noise(1, 2).equal(noise(1, 20000)[:2])
        (tensor(1.), True)
    """
    state, values = seed & _WORD, list[float]()
    for _ in range(0, count, 2):
        state, first = _uniform(state)
        state, second = _uniform(state)
        radius, angle = math.sqrt(-2 * math.log(first)), 2 * math.pi * second
        values += [radius * math.cos(angle), radius * math.sin(angle)]
    return torch.tensor(values[:count])


def _uniform(state: int) -> tuple[int, float]:
    """The next state, and a number between 0 and 1."""
    state = (state + 0x6D2B79F5) & _WORD
    t = _times(state ^ (state >> 15), state | 1)
    t = ((t + _times(t ^ (t >> 7), t | 61)) & _WORD) ^ t
    return state, ((t ^ (t >> 14)) + 0.5) / 2**32


def _times(a: int, b: int) -> int:
    return (a * b) & _WORD
