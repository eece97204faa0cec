"""What an encoder is: images in, unit-length embeddings out, and the check that every caller makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from steerclear._moved import moved
from steerclear.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Encoder(Protocol):
    """Maps images to points on the unit sphere, where the cosine says how alike two pictures are.

    name: short and stable, names the library's vector column; dim: width of the embedding; size: side in
    pixels of the square images that it expects; fingerprint: changes whenever the weights or the
    preprocessing do; differentiable: whether gradients reach the images.
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
        """images: (B, 3, H, W) in [0, 1]. Returns (B, dim), each row of unit length."""
        ...


def check_embedding(embedding: Tensor, encoder: Encoder, batch: int, *, tolerance: float = 1e-2) -> Tensor:
    """Return `embedding` unchanged if it can be trusted, else raise.

    embedding: what `encoder` returned for `batch` images, to be (batch, encoder.dim), finite, rows of unit
    length within `tolerance` (wide enough for half precision). Raises EncoderError that names encoder and
    fault: a NaN compares as "not similar", so an unchecked one would wave a copy through.
    """
    import torch

    wanted = (batch, encoder.dim)
    if not isinstance(embedding, torch.Tensor) or tuple(embedding.shape) != wanted:
        got = tuple(embedding.shape) if isinstance(embedding, torch.Tensor) else type(embedding).__name__
        raise EncoderError(
            f"encoder {encoder.name!r} returned {got}, not {wanted}; its dim must be what it returns"
        )
    values = embedding.detach().float()
    if not bool(torch.isfinite(values).all()):
        rows = (~torch.isfinite(values).all(dim=1)).nonzero().flatten().tolist()
        raise EncoderError(
            f"encoder {encoder.name!r} returned NaN or infinity for image(s) {_few(rows)} of {batch}"
        )
    off = (values.norm(dim=1) - 1).abs() > tolerance
    if bool(off.any()):
        rows = off.nonzero().flatten().tolist()
        length = float(values[rows[0]].norm())
        raise EncoderError(
            f"encoder {encoder.name!r} returned length {length:.4g}, not 1, for image(s) {_few(rows)} "
            f"of {batch}; normalise its output"
        )
    return embedding


def _few(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")


__getattr__ = moved(  # old names, for one release
    __name__,
    {
        "fit": "steerclear.pixels:fit",
    },
)
