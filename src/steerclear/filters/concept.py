"""Protecting a concept that is given in words, against counter-concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from steerclear.encoders.base import Encoder, check_embedding
from steerclear.errors import ConfigError
from steerclear.filters.base import detection
from steerclear.pixels import fit
from steerclear.types import Detection

LOGIT_SCALE = 100.0  # CLIP's own, at the end of its training (Radford et al. 2021)


class TextImageEncoder(Encoder, Protocol):
    """An encoder that puts texts in the same space as images, as CLIP does."""

    def texts(self, texts: list[str]) -> Tensor:
        """Returns unit-length embeddings (B, dim) of texts."""
        ...


@dataclass(frozen=True)
class ConceptFilter:
    """Flags images that show a concept, by zero-shot classification (Radford et al. 2021).

    It takes the softmax over the cosines of an image with concepts and counter-concepts. The score is the
    probability, in [0, 1], of the likeliest concept, which is named as matched.

    Attributes:
        encoder: puts texts and images in one space.
        concepts: K texts that must not be shown.
        vectors: (K + number of counter-concepts, dim), the embeddings of the texts.
        threshold: flagged from this probability on.
        scale: multiplies the cosines before the softmax.
        name: the filter's name.
    """

    encoder: TextImageEncoder
    concepts: tuple[str, ...]
    vectors: Tensor
    threshold: float = 0.5
    scale: float = LOGIT_SCALE
    name: str = "concept"

    @classmethod
    def of(
        cls,
        encoder: TextImageEncoder,
        concepts: Sequence[str],
        counters: Sequence[str],
        threshold: float = 0.5,
        scale: float = LOGIT_SCALE,
    ) -> ConceptFilter:
        """Makes a filter for concepts in words.

        Args:
            encoder: puts texts and images in one space.
            concepts: texts that must not be shown.
            counters: what else an image might show; at least one, since without it every image shows the
                concept.
            threshold: flagged from this probability on.
            scale: multiplies the cosines before the softmax.

        Raises:
            ConfigError: if a list is empty, or a text is in both.
        """
        if not concepts or not counters:
            raise ConfigError("a concept filter needs at least one concept and one counter-concept")
        in_both = set(concepts) & set(counters)
        if in_both:
            raise ConfigError(
                f"{min(in_both)!r} is both a concept and a counter-concept; drop it from one of them"
            )
        with torch.no_grad():
            vectors = encoder.texts([*concepts, *counters])
        return cls(
            encoder=encoder, concepts=tuple(concepts), vectors=vectors, threshold=threshold, scale=scale
        )

    def check(self, images: Tensor) -> list[Detection]:
        """Returns one detection per image (B, 3, H, W) in [0, 1]."""
        embedding = check_embedding(self.encoder(fit(images, self.encoder.size)), self.encoder, len(images))
        probabilities = (self.scale * embedding @ self.vectors.to(embedding).T).softmax(dim=1)
        scores, best = probabilities[:, : len(self.concepts)].max(dim=1)
        return [
            detection(self, score, self.concepts[i])
            for score, i in zip(scores.tolist(), best.tolist(), strict=True)
        ]
