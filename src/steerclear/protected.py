"""The protected items as a pipeline sees them: their latents, made on demand by its own autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from steerclear.errors import LibraryError
from steerclear.pixels import to_image, to_tensor
from steerclear.steering.codecs import codec_for
from steerclear.steering.preview import Preview, preview_for

if TYPE_CHECKING:
    from steerclear.library import Library
    from steerclear.library.latents import LatentCache

Size = tuple[int, int] | None  # height and width in pixels
FITTED = 24  # pictures that a preview is fitted to
NEIGHBOURHOOD = 3  # latent pixels around each that it sees
MULTIPLE = 32  # what a side of a picture must be a multiple of, for every known autoencoder, packed or not


class Protected:
    """The pictures of a library by id, (3, S, S) in [0, 1] each, and their latents for one pipeline.

    withhold: ids whose policy is that nothing is handed out for them. library: where the pictures come from, if they do: a
    latent is made from the original where that can still be read, and kept there where it may be written to. describe: gives
    the captions that there are of some items, by id.
    """

    def __init__(
        self,
        pipe: Any,
        pictures: Mapping[str, Tensor],
        withhold: Iterable[str] = (),
        library: Library | None = None,
        describe: Callable[[Sequence[str]], Mapping[str, str]] | None = None,
    ) -> None:
        self.pictures = pictures
        self.withhold = frozenset(withhold)
        self._pipe = pipe
        self._codec = codec_for(pipe)
        self._latents: dict[tuple[str, torch.Size, Size], Tensor] = {}
        self._library = library
        self._describe = describe
        self._cache: LatentCache | None = None

    @classmethod
    def of(cls, pipe: Any, library: Library) -> Protected:
        """The items of a library, whose latents are kept in it."""
        return cls(pipe, library.pictures(), library.ids("withhold"), library, library.captions_of)

    def captions(self, ids: Sequence[str]) -> tuple[str, ...]:
        """What the named items show, in words, of those that have a caption; in their order."""
        known: Mapping[str, str] = {}
        if ids and self._describe is not None:
            with suppress(LibraryError):  # words help, and nothing depends on them
                known = self._describe(ids)
        return tuple(known[item] for item in ids if item in known)

    def latents(self, ids: Sequence[str], like: Tensor, size: Size = None) -> Tensor:
        """(n, …) latents of the named items, of the shape of the rows of `like`; unknown ids are passed over.

        size: height and width of the image, needed where latents are packed and the image is no square.
        """
        known = [i for i in ids if i in self.pictures]
        shape = like.shape[1:]
        missing = [i for i in known if (i, shape, size) not in self._latents]
        if missing:
            self._latents.update(((i, shape, size), v) for i, v in self._made(missing, like, size).items())
        return torch.stack([self._latents[i, shape, size] for i in known]).to(like) if known else like[:0]

    def encode(self, images: Sequence[Image.Image], like: Tensor, size: Size = None) -> Tensor:
        """(B, …) latents of any pictures, e.g. preferred ones, of the shape of the rows of `like`."""
        return torch.cat([self._encode(to_tensor([image]), like, size) for image in images])

    def decode(self, latents: Tensor, size: Size = None) -> list[Image.Image]:
        """Pictures of clean latents (B, …): what an abandoned pass was about to make."""
        with torch.no_grad():
            pixels = self.pixels(latents, size).clamp(0, 1)
        return [to_image(image) for image in pixels]

    def pixels(self, latents: Tensor, size: Size = None) -> Tensor:
        """(B, 3, H, W) in [0, 1] of clean latents (B, …); gradients reach these."""
        self._codec.size = size
        return self._codec.decode(latents)

    def preview(self, latents: Tensor, size: Size = None) -> Tensor:
        """(B, 3, h, w), about [0, 1]: what clean latents (B, …) show, by a linear map that is fitted once to some items.

        Raises LibraryError where there is no picture to fit it to.
        """
        return self._preview(latents, size)

    @cached_property
    def _preview(self) -> Preview:
        # kept here, since an objective looks at every iteration, and pictures may have to be read to fit it
        some = [self.pictures[item] for item in islice(self.pictures, FITTED)]
        if not some:
            raise LibraryError("a preview is fitted to protected pictures, and there are none")
        sides = [max(1, side // MULTIPLE) * MULTIPLE for side in some[0].shape[-2:]]
        fitted = F.interpolate(
            torch.stack(some), size=sides, mode="bicubic", antialias=True, align_corners=False
        )
        return preview_for(self._pipe, fitted.clamp(0, 1), NEIGHBOURHOOD)

    def _made(self, ids: list[str], like: Tensor, size: Size) -> dict[str, Tensor]:
        """Latents of items that are not in memory: read where they were kept, else encoded, and kept."""
        cache = self._kept()
        found: dict[str, Tensor] = {}
        with suppress(LibraryError):  # what cannot be read is made again
            found = cache.read(ids, like.shape[1:], size) if cache else {}
        fresh = {i: self._encode(self._picture(i), like, size)[0] for i in ids if i not in found}
        if fresh and cache:
            with suppress(LibraryError):  # a library that nobody may write to serves as well, only slower
                cache.write(fresh, size)
        return {**found, **fresh}

    def _kept(self) -> LatentCache | None:
        # offloaded weights come in for an evaluation and go again: there is nothing that tells two autoencoders apart
        offloaded = any(p.is_meta for p in self._codec.autoencoder.parameters())
        if self._library is not None and self._cache is None and not offloaded:
            from steerclear.fingerprints import weights_fingerprint
            from steerclear.library.latents import LatentCache

            module = self._codec.autoencoder
            config = sorted(
                (k, v) for k, v in module.config.items() if not k.startswith("_")
            )  # without its path
            self._cache = LatentCache(self._library, weights_fingerprint(module, repr(config)))
        return self._cache

    def _picture(self, item: str) -> Tensor:
        """(1, 3, H, W): the original where it can be read, else the thumbnail."""
        from steerclear.library.pictures import original

        picture = None
        if self._library is not None:
            with suppress(LibraryError):
                picture = original(self._library.get(item), self._library.uri)
        return self.pictures[item][None] if picture is None else to_tensor([picture])

    def _encode(self, pixels: Tensor, like: Tensor, size: Size) -> Tensor:
        self._codec.size = size
        fitted = F.interpolate(
            pixels,
            size=self._codec.pixels(tuple(like.shape[1:])),
            mode="bicubic",
            antialias=True,
            align_corners=False,
        )
        with torch.no_grad():
            return self._codec.encode(fitted.clamp(0, 1).to(self._pipe._execution_device)).to(like)
