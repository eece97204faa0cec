"""The protected items as a pipeline sees them: latents, made by its own autoencoder when they are needed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from steerclear.embedded import is_embedded_library
from steerclear.errors import LibraryError
from steerclear.pixels import to_image, to_tensor
from steerclear.steering.autoencoder import AutoencoderCodec, autoencoder_of
from steerclear.steering.codecs import codec_for
from steerclear.steering.preview import Preview, preview_for

if TYPE_CHECKING:
    from steerclear.library import Library, Policy
    from steerclear.library.latents import LatentCache

Size = tuple[int, int] | None  # height and width in pixels
DESCRIBED = 1000  # most items whose captions are counted
SHARED = 0.15  # share of the captions from which a word names no single item
FEWEST = 4  # and at least so many captions
PREVIEW_PICTURES = 24  # pictures that a preview is fitted to
PREVIEW_NEIGHBOURHOOD = 3  # side of the square of latent pixels that each colour is computed from
SIDE_MULTIPLE = 32  # every known autoencoder, packed or not, takes pictures with sides a multiple of this


class Protected:
    """The protected pictures, and their latents for one pipeline.

    Args:
        pipe: the pipeline whose autoencoder makes the latents.
        pictures: item id → picture (3, S, S) in [0, 1].
        withhold: ids of items for which nothing is handed out.
        library: where the pictures come from, if from a library. Latents are then made from the original
            files while these can be read, and kept in the library if it can be written to.
        describe: returns id → caption, for those of some ids that have a caption.

    Attributes:
        pictures: item id → picture (3, S, S) in [0, 1].
        withhold: ids of items for which nothing is handed out.
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
        self._last_codec, self._last_autoencoder = codec_for(pipe), autoencoder_of(pipe)
        self._latents: dict[tuple[str, torch.Size, Size], Tensor] = {}
        self._library = library
        self._describe = describe
        self._cache: LatentCache | None = None

    @property
    def _codec(self) -> AutoencoderCodec:
        """The codec of the autoencoder that the pipeline has now; latents of an earlier one are forgotten."""
        # told by the module itself, since a codec may work on a copy in full precision
        if self._last_autoencoder is not (autoencoder := autoencoder_of(self._pipe)):
            self._last_codec, self._last_autoencoder = codec_for(self._pipe), autoencoder
            self._latents.clear()
            self._cache = None
            self.__dict__.pop("_preview", None)
        return self._last_codec

    def share_latents_of(self, before: Protected) -> None:
        """Use the latents that an earlier object of the same pipeline and library has stored in the library.

        This avoids computing the autoencoder's fingerprint again, which reads all weights. Latents in memory
        are not taken over, since an id may stand for another picture now.
        """
        if before._library is self._library and before._last_autoencoder is self._last_autoencoder:
            self._cache = before._cache

    @classmethod
    def of(cls, pipe: Any, library: Library, policy: Policy | None = None) -> Protected:
        """Read the protected pictures of a library, which also stores their latents.

        Args:
            pipe: the pipeline whose autoencoder makes the latents.
            library: the protected library.
            policy: replaces the policy of every item.
        """
        withhold = (
            library.ids("withhold") if policy is None else library.ids() if policy == "withhold" else ()
        )
        kept_in = None if is_embedded_library(library.uri) else library
        return cls(
            pipe,
            pictures=library.pictures(),
            withhold=withhold,
            library=kept_in,
            describe=library.captions_of,
        )

    def captions(self, ids: Sequence[str]) -> tuple[str, ...]:
        """Returns the captions of those of the items that have one, in the order of the ids."""
        captions: Mapping[str, str] = {}
        if ids and self._describe is not None:
            with suppress(LibraryError):  # captions help to steer, but nothing depends on them
                captions = self._describe(ids)
        return tuple(captions[item] for item in ids if item in captions)

    @cached_property
    def shared_words(self) -> frozenset[str]:
        """Words in lower case that many of the captions share: "mascot", where every item is one.

        An item without a caption counts by its id, which is a file's name, mostly. Of a large library,
        DESCRIBED items are asked, in even steps.
        """
        ids = list(self.pictures)
        count = min(DESCRIBED, len(ids))
        asked = [ids[i * len(ids) // count] for i in range(count)]
        captions: Mapping[str, str] = {}
        if self._describe is not None:
            with suppress(LibraryError):  # as in `captions`
                captions = self._describe(asked)
        return common_words([captions.get(item, item) for item in asked], SHARED)

    def latents(self, ids: Sequence[str], like: Tensor, size: Size = None) -> Tensor:
        """Returns the latents (n, …) of some items.

        Args:
            ids: the items; unknown ids are left out.
            like: (B, …) latents whose rows have the wanted shape, type and device.
            size: height and width of the image in pixels; needed where latents are packed and the image is
                not square.
        """
        _ = self._codec  # forgets the latents of an autoencoder that is no longer the pipeline's
        known = [item for item in ids if item in self.pictures]
        shape = like.shape[1:]
        missing = [item for item in known if (item, shape, size) not in self._latents]
        if missing:
            for item, latent in self._load_or_encode(missing, like, size).items():
                self._latents[item, shape, size] = latent
        return (
            torch.stack([self._latents[item, shape, size] for item in known]).to(like) if known else like[:0]
        )

    def encode(self, images: Sequence[Image.Image], like: Tensor, size: Size = None) -> Tensor:
        """Encode pictures.

        Args:
            images: (B, 3, H, W) in [0, 1].
            like: as for `latents`.
            size: as for `latents`.

        Returns:
            Latents (B, …).
        """
        return torch.cat([self._encode(to_tensor([image]), like, size) for image in images])

    def decode(self, latents: Tensor, size: Size = None) -> list[Image.Image]:
        """Decode latents to pictures, e.g. those of a pass that was left early.

        These are only looked at, never handed out: pixels that are not finite are black here.

        Args:
            latents: (B, …) clean latents.
            size: height and width in pixels, as for `latents`.
        """
        with torch.no_grad():
            pixels = self.pixels(latents, size).clamp(0, 1)
        return [to_image(image) for image in pixels.nan_to_num(0.0)]

    def pixels(self, latents: Tensor, size: Size = None) -> Tensor:
        """Decode latents to pixels; gradients reach the latents.

        Args:
            latents: (B, …) clean latents.
            size: height and width in pixels, as for `latents`.

        Returns:
            (B, 3, H, W) in [0, 1].
        """
        self._codec.size = size
        return self._codec.decode(latents)

    def preview(self, latents: Tensor, size: Size = None) -> Tensor:
        """Turn latents into small pictures by a linear map, which is fitted once to some items.

        Args:
            latents: (B, …) clean latents.
            size: height and width in pixels, as for `latents`.

        Returns:
            (B, 3, h, w), about in [0, 1].

        Raises:
            LibraryError: if there is no picture to fit it to.
        """
        return self._preview(latents, size)

    @cached_property
    def _preview(self) -> Preview:
        # cached here: an objective uses it in every iteration, and fitting it may read pictures from disk
        pictures = [self.pictures[item] for item in islice(self.pictures, PREVIEW_PICTURES)]
        if not pictures:
            raise LibraryError(
                "a preview is fitted to protected pictures, and there are none; add some to the library"
            )
        sides = [max(1, side // SIDE_MULTIPLE) * SIDE_MULTIPLE for side in pictures[0].shape[-2:]]
        resized = F.interpolate(
            torch.stack(pictures), size=sides, mode="bicubic", antialias=True, align_corners=False
        )
        return preview_for(self._pipe, resized.clamp(0, 1), PREVIEW_NEIGHBOURHOOD)

    def _load_or_encode(self, ids: list[str], like: Tensor, size: Size) -> dict[str, Tensor]:
        """Latents of items that are not in memory: read from the library, else encoded and kept there."""
        cache = self._latent_cache()
        stored: dict[str, Tensor] = {}
        if cache:
            with suppress(LibraryError):  # what cannot be read is encoded again
                stored = cache.read(ids, like.shape[1:], size)
        encoded = {
            item: self._encode(self._picture(item), like, size)[0] for item in ids if item not in stored
        }
        if encoded and cache:
            with suppress(LibraryError):  # a library that cannot be written to is only slower
                cache.write(encoded, size)
        return {**stored, **encoded}

    def _latent_cache(self) -> LatentCache | None:
        # offloaded weights are on the device during an evaluation only, so that they have no fingerprint here
        offloaded = any(weights.is_meta for weights in self._codec.autoencoder.parameters())
        if self._library is not None and self._cache is None and not offloaded:
            from steerclear.fingerprints import weights_fingerprint
            from steerclear.library.latents import LatentCache

            autoencoder = self._codec.autoencoder
            # keys with an underscore hold the path that it was loaded from
            config = sorted(
                (key, value) for key, value in autoencoder.config.items() if not key.startswith("_")
            )
            self._cache = LatentCache(self._library, weights_fingerprint(autoencoder, repr(config)))
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
        """(B, …) latents of pixels (B, 3, H, W), resized to the image behind `like`."""
        self._codec.size = size
        resized = F.interpolate(
            pixels,
            size=self._codec.pixels(tuple(like.shape[1:])),
            mode="bicubic",
            antialias=True,
            align_corners=False,
        )
        with torch.no_grad():
            return self._codec.encode(resized.clamp(0, 1).to(self._pipe._execution_device)).to(like)


def common_words(texts: Sequence[str], share: float) -> frozenset[str]:
    """Find words that many texts share.

    Args:
        texts: captions or file names.
        share: of the texts that must have a word, in [0, 1].

    Returns:
        The words in lower case; each is in at least FEWEST texts.
    """
    counts = Counter(word for text in texts for word in set(re.findall(r"[^\W_]+", text.lower())))
    return frozenset(word for word, n in counts.items() if n >= max(FEWEST, share * len(texts)))
