"""The guards of the two generators, and their trials: random codes and reconstructions, plain and guarded."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from steerclear.code_guard import CodeGuard
from steerclear.embedded import MODEL_FOLDER
from steerclear.encoders.embedded import Clip, CopyDescriptor
from steerclear.filters import Filter, NearestFilter, PixelFilter, TiledFilter, flagged, pixel_l2
from steerclear.filters.pixel import AllPictures
from steerclear.generators import GanGenerator, VaeGenerator
from steerclear.library.search import Index
from steerclear.loading import embedded_calibration
from steerclear.pixels import to_tensor
from steerclear.types import GuardOutput
from steerclear_lab.bench.beyond.networks import CODE, SIZE, Decoder, Vae
from steerclear_lab.bench.beyond.recipe import planted_pictures, training_pictures

SEED = 40_000  # the first of the benchmark's codes


@dataclass(frozen=True)
class VaeEncoder:
    """The VAE's encoder as the space of the other generator's objective; no filter and no judge uses it."""

    network: nn.Module
    name: str = "vae-code"
    dim: int = CODE
    size: int = SIZE
    fingerprint: str = "beyond-vae"
    differentiable: bool = True

    def __call__(self, images: Tensor) -> Tensor:
        """Embeddings (B, CODE) of unit length, of images (B, 3, 64, 64) in [0, 1]."""
        return F.normalize(self.network(images * 2 - 1)[0], dim=1)


def filters(kind: str) -> list[Filter]:
    """The embedded library's filters over the planted set, with its calibrated thresholds.

    Args:
        kind: "thresholds" or "strict".
    """
    ids, pictures = planted_pictures()
    descriptor, thresholds = CopyDescriptor.default(), embedded_calibration()[kind]
    with torch.no_grad():
        index = Index(tuple(ids), descriptor(pictures))
    gallery = AllPictures(tuple(ids), pictures)
    return [
        NearestFilter(descriptor, index, thresholds["nearest"]),
        PixelFilter(gallery, thresholds["pixel"]),
        TiledFilter(gallery, thresholds["tiled"]),
    ]


def guards(vae: Vae, generator: Decoder) -> dict[str, CodeGuard]:
    """The guards by name. The VAE is nudged in its code space, the generator in the VAE encoder's space."""
    ids, pictures = planted_pictures()
    shared: dict[str, Any] = {
        "filters": filters("thresholds"),
        "strict": filters("strict"),
        "protected": dict(zip(ids, pictures, strict=True)),
    }
    encoder = vae.encoder
    return {
        "vae": CodeGuard(VaeGenerator(vae.decoder, (CODE,), encoder=lambda x: encoder(x)[0]), **shared),
        "generator": CodeGuard(GanGenerator(generator, (CODE,)), encoder=VaeEncoder(encoder), **shared),
    }


class PictureMeasures:
    """What is measured on a picture: distances to planted and training pictures, and the CLIP's neighbour."""

    def __init__(self) -> None:
        self.planted = planted_pictures()[1]
        self.ordinary = training_pictures()
        self.clip = Clip.load(MODEL_FOLDER)
        self.gallery = self.clip(torch.cat([self.planted, self.ordinary]))

    @torch.no_grad()
    def __call__(self, picture: Image.Image) -> dict[str, Any]:
        """The measures of one picture."""
        pixels = to_tensor([picture])
        nearest = int((self.clip(pixels) @ self.gallery.T).argmax())
        return {
            "pixel_l2": round(float(pixel_l2(pixels, self.planted).min()), 4),
            "training_l2": round(float(pixel_l2(pixels, self.ordinary).min()), 4),
            "same_picture": nearest < len(self.planted),
        }


@torch.no_grad()
def random_codes(guard: CodeGuard, measures: PictureMeasures, count: int) -> Iterator[dict[str, Any]]:
    """One row for each code: the module's own picture, and what the guard hands out."""
    for seed in range(SEED, SEED + count):
        noise = torch.randn((1, CODE), generator=torch.Generator().manual_seed(seed))
        (plain,) = guard.model.pictures(noise)
        out = guard(generator=torch.Generator().manual_seed(seed))
        yield _row(guard, measures, plain=plain, out=out, seed=seed)


@torch.no_grad()
def reconstructions(guard: CodeGuard, measures: PictureMeasures) -> Iterator[dict[str, Any]]:
    """One row for each planted picture, which is encoded and decoded, plain and guarded."""
    for seed, pixels in enumerate(planted_pictures()[1]):
        picture = Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())
        (plain,) = guard.model.pictures(guard.model.encode(to_tensor([picture])))
        out = guard.reconstruct([picture], seed=seed)
        yield _row(guard, measures, plain=plain, out=out, seed=seed)


def _row(
    guard: CodeGuard, measures: PictureMeasures, *, plain: Image.Image | None, out: GuardOutput, seed: int
) -> dict[str, Any]:
    """What is noted of one sample."""
    assert plain is not None  # these modules make finite pixels
    (image,), (report,) = out.images, out.reports
    return {
        "seed": seed,
        "outcome": str(report.outcome),
        "matched": report.matched,
        "overhead": report.overhead,
        "rungs": [attempt.strategy for attempt in report.attempts],
        "plain_flagged": flagged(guard.check([plain])[0]),
        "plain": measures(plain),
        "handed_out": measures(image) if image else None,
        "flagged": flagged(guard.check([image])[0]) if image else None,
        "identical": image is not None and image.tobytes() == plain.tobytes(),
        "pictures": (plain, image),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of one generator."""
    steering = [r for r in rows if r["outcome"] != "clear"]
    clear = [r for r in rows if r["outcome"] == "clear"]
    out = [r for r in rows if r["handed_out"]]
    steered = [r for r in out if r["outcome"] == "steered"]
    costs = sorted(r["overhead"] for r in steering)
    last = [r["rungs"][-1] for r in steered]
    return {
        "samples": len(rows),
        "plain_within_0.1": sum(r["plain"]["pixel_l2"] < 0.1 for r in rows) / len(rows),
        "plain_flagged": sum(r["plain_flagged"] for r in rows) / len(rows),
        "handed_out": len(out),
        "handed_out_flagged": sum(r["flagged"] for r in out),
        "handed_out_within_0.1": sum(r["handed_out"]["pixel_l2"] < 0.1 for r in out),
        "writers_block_rate": sum(r["outcome"] == "withheld" for r in steering) / len(steering)
        if steering
        else None,
        "overhead_median": statistics.median(costs) if costs else None,
        "overhead_p95": costs[-(-95 * len(costs) // 100) - 1] if costs else None,
        "nearest_of_flagged_median": _median(r["plain"]["pixel_l2"] for r in steering),
        "nearest_of_steered_median": _median(r["handed_out"]["pixel_l2"] for r in steered),
        "nearest_of_steered_least": min((r["handed_out"]["pixel_l2"] for r in steered), default=None),
        "flagged_same_picture_by_clip": _share(r["plain"]["same_picture"] for r in steering),
        "steered_same_picture_by_clip": _share(r["handed_out"]["same_picture"] for r in steered),
        "clear_same_picture_by_clip": _share(r["plain"]["same_picture"] for r in clear),
        "to_ordinary_training_clear_median": _median(r["plain"]["training_l2"] for r in clear),
        "to_ordinary_training_steered_median": _median(r["handed_out"]["training_l2"] for r in steered),
        "clear": len(clear),
        "clear_identical": _share(r["identical"] for r in clear),
        "passed_by": {name: last.count(name) for name in sorted(set(last))},
    }


def _median(values: Iterator[float]) -> float | None:
    """The median, rounded; None where there is nothing."""
    listed = list(values)
    return round(statistics.median(listed), 4) if listed else None


def _share(hits: Iterator[bool]) -> float | None:
    """The share of what is true, rounded; None where there is nothing."""
    listed = list(hits)
    return round(sum(listed) / len(listed), 4) if listed else None
