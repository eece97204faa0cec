"""What is protected in words: a concept described by text, against counter-concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from steerclear.encoders.base import Encoder, check_embedding
from steerclear.errors import ConfigError
from steerclear.pixels import fit
from steerclear.types import Detection

LOGIT_SCALE = 100.0  # CLIP's own, at the end of its training (Radford et al. 2021)


class TextImageEncoder(Encoder, Protocol):
    """An encoder that puts texts in the same space as images, as CLIP does."""

    def texts(self, texts: list[str]) -> Tensor:
        """Unit-length embeddings (B, dim)."""
        ...


@dataclass(frozen=True)
class ConceptFilter:
    """Softmax over protected concepts and counter-concepts (zero-shot classification, Radford et al. 2021).

    concepts: K texts that must not be shown; counters: what else it might be, at least one, since without it every image
    shows the concept; vectors: (K + counters, dim), the texts' embeddings. The score is the probability, in [0, 1], of the
    likeliest concept, which is named as matched.
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
        """A filter for concepts in words. Raises ConfigError where a list is empty or a text is in both."""
        if not concepts or not counters:
            raise ConfigError("a concept filter needs at least one concept and one counter-concept")
        both = set(concepts) & set(counters)
        if both:
            raise ConfigError(f"{min(both)!r} is both a concept and a counter-concept")
        with torch.no_grad():
            vectors = encoder.texts([*concepts, *counters])
        return cls(encoder, tuple(concepts), vectors, threshold, scale)

    def check(self, images: Tensor) -> list[Detection]:
        embedding = check_embedding(self.encoder(fit(images, self.encoder.size)), self.encoder, len(images))
        shares = (self.scale * embedding @ self.vectors.to(embedding).T).softmax(dim=1)
        scores, best = shares[:, : len(self.concepts)].max(dim=1)
        return [
            Detection(self.name, s >= self.threshold, s, self.threshold, self.concepts[i])
            for s, i in zip(scores.tolist(), best.tolist(), strict=True)
        ]
