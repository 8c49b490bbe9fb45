"""Training inputs varied anew at each step: pure functions of a batch and of the random numbers they are given.

What is drawn depends on the run's seed and the step alone, so that a resumed run sees the same inputs; each sample has
its own row of random numbers, so that micro-batches see what the whole batch would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orca.errors import InputError
from orca.registry import Registry
from orca.runtime import generator
from orca.types import DENSE, Splits

# (x (B, C, *S), valid lengths (B,) or None, random numbers) -> x, of the same shape
Transform = Callable[[Tensor, Tensor | None, torch.Generator], Tensor]
Varied = Callable[[Tensor, Tensor | None], Tensor]

MASKING, BANDS, FRAMES = 0.5, 0.15, 0.2  # probability; widest mask, as shares of the bands and of the frames
MIXING, LOUDEST = 0.75, 0.5  # probability; greatest share of the background
SPECTROGRAMS = ("waveform", "spectrogram")
SYMMETRIES = 8  # of the square


@dataclass(frozen=True)
class View:
    """An input seen otherwise.

    Attributes:
        of: inputs (B, C, *S) and valid lengths (B,) or None -> the inputs seen so.
        back: dense answers (B, C, *S) to these -> answers to the inputs; others are the same for both.
    """

    of: Varied
    back: Callable[[Tensor], Tensor] = lambda answers: answers


@dataclass(frozen=True)
class Augmentation:
    """One way to vary training inputs.

    Attributes:
        name: name in configs.
        title: what it does, in words.
        encodings: kinds of the encodings whose inputs it is for.
        prepare: a task's data -> the transform; raises InputError where it lacks something.
        views: what a model that was trained with it is asked too; its answer is the mean of all.
        alike: whether dense targets can be varied, which they must be as their inputs are.
    """

    name: str
    title: str
    encodings: tuple[str, ...]
    prepare: Callable[[Splits], Transform]
    views: tuple[View, ...] = ()
    alike: bool = False


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation")


def prepare(names: Sequence[str], *, task: str, encoding: str, data: Splits) -> dict[str, Transform]:
    """The transforms of these names for a task's training data.

    Args:
        names: of augmentations.
        task: the task's name, for messages.
        encoding: kind of its encoding.
        data: its data.

    Raises:
        InputError: there is no such augmentation, or the inputs are not of its kind.
    """
    found = {}
    for name in names:
        augmentation = AUGMENTATIONS.get(name)
        dense = data.layout.target in DENSE and not augmentation.alike
        if encoding not in augmentation.encodings or dense:
            wanted = " or ".join(augmentation.encodings)
            target = f" with a {data.layout.target} as target" if dense else ""
            raise InputError(
                f"finetune.augment: {name} is for {wanted} inputs ({augmentation.title}); those of {task} are "
                f"{encoding}{target}; leave it out"
            )
        found[name] = augmentation.prepare(data)
    return found


def drawn(transforms: Mapping[str, Transform], seed: int, step: int) -> Varied:
    """The transforms one after the other, with the random numbers of one step; dense targets need one of their own."""
    numbers = {name: generator("augment", name, seed, step) for name in transforms}

    def vary(x: Tensor, length: Tensor | None) -> Tensor:
        for name, transform in transforms.items():
            x = transform(x, length, numbers[name])
        return x

    return vary


def spec_augment(x: Tensor, length: Tensor | None, numbers: torch.Generator) -> Tensor:
    """Masks one or two times some bands and some frames of every second spectrogram, (B, M, F) or (B, 1, M, F).

    A mask covers up to 15 % of the bands and up to 20 % of the frames, in widths of equal probability, and is filled
    with the sample's minimum (Park et al. 2019, arXiv 1904.08779, without the warp; constants of FSD50K's baseline).
    """
    u = torch.rand((len(x), 10), generator=numbers).to(x.device)  # (B, 10)
    flat = x.reshape(len(x), *x.shape[-2:])  # (B, M, F)
    bands, frames = flat.shape[1:]
    here = _inside(flat, length)  # (B, F)
    valid = here.sum(1)
    masked = torch.zeros_like(flat, dtype=torch.bool)
    for k in range(2):
        width_b, start_b, width_f, start_f = u[:, 2 + 4 * k : 6 + 4 * k].T
        apply = (u[:, 0] < MASKING) & ((u[:, 1] < 0.5) | (k == 0))
        size = torch.full_like(valid, bands)
        rows = (
            _span(width_b, start_b, size, BANDS, bands)[:, :, None]
            | _span(width_f, start_f, valid, FRAMES, frames)[:, None]
        )
        masked |= rows & apply[:, None, None]
    least = flat.masked_fill(~here[:, None], torch.inf).amin((1, 2), keepdim=True)
    return torch.where(masked & here[:, None], least, flat).reshape(x.shape)


def _span(width: Tensor, start: Tensor, size: Tensor, share: float, positions: int) -> Tensor:
    """A run of up to ``share * size`` positions somewhere in the first ``size``: (B,) numbers in [0, 1) -> (B, P)."""
    wide = (width * ((share * size).floor() + 1)).floor()
    first = (start * (size - wide + 1)).floor()
    at = torch.arange(positions, device=width.device)
    return (at >= first[:, None]) & (at < (first + wide)[:, None])


def _inside(x: Tensor, length: Tensor | None) -> Tensor:
    """Which positions of the last axis are valid, (B, L)."""
    at = torch.arange(x.shape[-1], device=x.device)
    whole = torch.full((len(x),), x.shape[-1], device=x.device)
    return at < (whole if length is None else length.to(x.device))[:, None]


def background(noise: np.ndarray) -> Transform:
    """Mixes a random one of the noises (m, ...) into three of four inputs: ``(1 - a) x + a noise``, a ~ U(0, 0.5).

    On decibels this is a geometric mean of powers, as in FSD50K's baseline.
    """

    def mix(x: Tensor, length: Tensor | None, numbers: torch.Generator) -> Tensor:
        u = torch.rand((len(x), 3), generator=numbers)  # (B, 3)
        chosen = (u[:, 1].double() * len(noise)).long().numpy()
        other = torch.from_numpy(np.ascontiguousarray(noise[chosen][..., : x.shape[-1]])).to(x)
        share = torch.where(u[:, 0] < MIXING, LOUDEST * u[:, 2], 0.0).to(x).reshape(-1, *(1,) * (x.ndim - 1))
        mixed = (1 - share) * x + share * other
        here = _inside(x, length).reshape(len(x), *(1,) * (x.ndim - 2), -1)
        return torch.where(here, mixed, x)

    return mix


def _background(data: Splits) -> Transform:
    noise = None if data.background is None else data.background()
    if noise is None or not len(noise):
        raise InputError(
            "finetune.augment: background mixes recordings of noise into the inputs, and the task's data has none; put "
            "some where its page says, or leave background out"
        )
    return background(noise)


def reverse_complement(x: Tensor, length: Tensor | None) -> Tensor:
    """The other strand of one-hot DNA (B, 4, L), read in its own direction.

    Bases in the order A, C, G, T, or A, G, C, T: each stands opposite its complement.
    """
    at = torch.arange(x.shape[-1], device=x.device)
    end = torch.full((len(x), 1), x.shape[-1], device=x.device) if length is None else length.to(x.device)[:, None]
    index = torch.where(at < end, end - 1 - at, at)  # (B, L)
    return x.flip(1).gather(2, index[:, None].expand_as(x))


def either_strand(x: Tensor, length: Tensor | None, numbers: torch.Generator) -> Tensor:
    """Each sequence or its reverse complement, with equal probability."""
    other = torch.rand(len(x), generator=numbers).to(x.device) < 0.5
    return torch.where(other[:, None, None], reverse_complement(x, length), x)


def symmetry(x: Tensor, number: int, *, nodes: bool = False) -> Tensor:
    """One of the eight symmetries of the square, of grids (B, C, H, H); 0 is the identity.

    Args:
        x: the grids.
        number: 0 to 7; its bits say whether to reflect the rows, then the columns, then to transpose.
        nodes: whether row i lies at i / H, so that the first one is an edge and stays, else at (i + 1/2) / H.
    """
    for bit, axis in ((1, -2), (2, -1)):
        if number & bit:
            x = x.flip(axis).roll(1, axis) if nodes else x.flip(axis)
    return x.transpose(-2, -1) if number & 4 else x


def _undone(x: Tensor, number: int, *, nodes: bool) -> Tensor:
    """The inverse of ``symmetry``."""
    return symmetry(symmetry(x, number & 4), number & 3, nodes=nodes)


def any_symmetry(*, nodes: bool) -> Transform:
    """Each grid in one of the eight symmetries, with equal probability."""

    def vary(x: Tensor, length: Tensor | None, numbers: torch.Generator) -> Tensor:
        chosen = (torch.rand(len(x), generator=numbers) * SYMMETRIES).long().tolist()
        return torch.stack([symmetry(one, number, nodes=nodes) for one, number in zip(x, chosen, strict=True)])

    return vary


def _of_squares(name: str, title: str, *, nodes: bool) -> Augmentation:
    """The symmetries of the square as an augmentation."""

    def prepared(data: Splits) -> Transform:
        layout = data.layout
        shapes = [layout.input_shape, *([layout.target_shape] if layout.target in DENSE else [])]
        if any(len(shape) != 3 or shape[1] != shape[2] for shape in shapes):
            found = " and ".join(map(str, shapes))
            raise InputError(f"finetune.augment: {name} turns square grids; those here are {found}; leave it out")
        return any_symmetry(nodes=nodes)

    views = tuple(
        View(
            lambda x, length, number=number: symmetry(x, number, nodes=nodes),
            lambda answers, number=number: _undone(answers, number, nodes=nodes),
        )
        for number in range(1, SYMMETRIES)
    )
    return Augmentation(name, title, ("grid",), prepared, views, alike=True)


AUGMENTATIONS.add(Augmentation("spec_augment", "masks bands and frames", SPECTROGRAMS, lambda data: spec_augment))
AUGMENTATIONS.add(Augmentation("background", "mixes noise in", SPECTROGRAMS, _background))
AUGMENTATIONS.add(
    Augmentation(
        "reverse_complement",
        "either strand; answers are the mean over both",
        ("dna",),
        lambda data: either_strand,
        (View(reverse_complement),),
    )  # fmt: skip
)
AUGMENTATIONS.add(
    _of_squares("symmetries", "one of the eight symmetries of a square grid, the answer's too", nodes=False)
)
AUGMENTATIONS.add(
    _of_squares(
        "node_symmetries", "the same where row i of n lies at i / n, as in grids that begin on an edge", nodes=True
    )
)
