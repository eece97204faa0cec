"""Seeds per image: the noise of an image depends neither on its batch nor on earlier attempts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch

from steerclear.errors import InputError

_LARGEST = 2**64


def generators(seeds: Iterable[int], device: torch.device | str = "cpu") -> list[torch.Generator]:
    """One torch generator per seed, as diffusers pipelines take them in `generator=`.

    Args:
        seeds: integers in [0, 2⁶⁴).
        device: where the noise is drawn. A pipeline on any device takes CPU generators, and then makes the
            same images on every machine.

    Raises:
        InputError: for a seed out of range.
    """
    return [torch.Generator(device).manual_seed(_checked(seed)) for seed in seeds]


def derive(seed: int, *tags: str | int) -> int:
    """A seed for a purpose, e.g. `derive(seed, "retry", 2)`; the same on every machine and in every run.

    Args:
        seed: integer in [0, 2⁶⁴).
        *tags: name the purpose. Type, order and division count: ("a", "b") is not ("ab",), and 1 is not "1".

    Returns:
        An integer in [0, 2⁶³).

    Raises:
        InputError: for a seed out of range.
    """
    text = repr((_checked(seed), *tags))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seeds_of(generator: torch.Generator | list[torch.Generator], count: int) -> list[int]:
    """One seed per image for what an attempt draws.

    Args:
        generator: of the request; one per image, or one for all. Images that share one get seeds by their
            place.
        count: number of images.
    """
    if isinstance(generator, list):
        return [g.initial_seed() for g in generator]
    first = generator.initial_seed()
    return [first if count == 1 else derive(first, "image", i) for i in range(count)]


def drawn(count: int) -> list[torch.Generator]:
    """Make a generator for each of several images. Their seeds come from torch's global generator, so
    `torch.manual_seed` repeats them.

    Args:
        count: number of images.
    """
    return generators(torch.randint(2**63 - 1, (count,)).tolist())


def telling_seeds(generator: torch.Generator | list[torch.Generator], count: int) -> list[int | None]:
    """Find for each image the seed that makes it again, with a new generator.

    There is none for images that share a generator, nor for a generator that was used before.

    Args:
        generator: of the request, before anything is drawn; one per image, or one for all.
        count: number of images.

    Returns:
        One seed per image; None where there is none.
    """
    if not isinstance(generator, list):
        generator = [generator] * count
    return [
        g.initial_seed() if sum(g is other for other in generator) == 1 and _is_new(g) else None
        for g in generator
    ]


def _is_new(generator: torch.Generator) -> bool:
    """Whether nothing was drawn from a generator since its seed was set."""
    new = torch.Generator(generator.device).manual_seed(generator.initial_seed())
    return torch.equal(generator.get_state(), new.get_state())


def _checked(seed: int) -> int:
    """The seed itself, if it is in range."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < _LARGEST:
        raise InputError(f"seed {seed!r} is not an integer between 0 and 2**64 - 1")
    return seed
