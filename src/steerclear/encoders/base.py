"""The encoder interface: images in, unit-length embeddings out; and the check of every embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from steerclear._moved import moved
from steerclear.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Encoder(Protocol):
    """Maps images to points on the unit sphere, where the cosine says how similar two pictures are.

    Attributes:
        name: short and stable; it names the library's vector column.
        dim: width of the embedding.
        size: side in pixels of the square images that it expects.
        fingerprint: changes whenever the weights or the preprocessing do.
        differentiable: whether gradients reach the images.
    """

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def differentiable(self) -> bool: ...

    def __call__(self, images: Tensor) -> Tensor:
        """Embeds images.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            (B, dim), each row of unit length.
        """
        ...


def check_embedding(embedding: Tensor, encoder: Encoder, batch: int, *, tolerance: float = 1e-2) -> Tensor:
    """Returns an embedding unchanged if it can be trusted.

    A NaN compares as "not similar", so that without this check a copy could pass as clear.

    Args:
        embedding: what `encoder` returned; it must be (batch, encoder.dim) and finite, with rows of unit
            length.
        encoder: the encoder.
        batch: the number of images.
        tolerance: how far a length may be from 1; wide enough for half precision.

    Raises:
        EncoderError: if it cannot be trusted; the message names encoder and fault.
    """
    import torch

    expected = (batch, encoder.dim)
    if not isinstance(embedding, torch.Tensor) or tuple(embedding.shape) != expected:
        actual = tuple(embedding.shape) if isinstance(embedding, torch.Tensor) else type(embedding).__name__
        raise EncoderError(
            f"encoder {encoder.name!r} returned {actual}, not {expected}; its dim must be what it returns"
        )
    values = embedding.detach().float()
    if not bool(torch.isfinite(values).all()):
        rows = (~torch.isfinite(values).all(dim=1)).nonzero().flatten().tolist()
        raise EncoderError(
            f"encoder {encoder.name!r} returned NaN or infinity for image(s) {_first_few(rows)} of {batch}; "
            "check its weights and precision"
        )
    off = (values.norm(dim=1) - 1).abs() > tolerance
    if bool(off.any()):
        rows = off.nonzero().flatten().tolist()
        length = float(values[rows[0]].norm())
        raise EncoderError(
            f"encoder {encoder.name!r} returned length {length:.4g}, not 1, for image(s) {_first_few(rows)} "
            f"of {batch}; normalise its output"
        )
    return embedding


def _first_few(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")


__getattr__ = moved(  # old names, for one release
    __name__,
    {
        "fit": "steerclear.pixels:fit",
    },
)
