"""What the methods are compared on: the embedded model with its prompts, or any Stable Diffusion folder with prompts and
reference pictures of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.embedded import PROTECTED_FOLDER, read_prompts
from steerclear.encoders import Encoder
from steerclear.encoders.embedded import Clip, CopyDescriptor
from steerclear.errors import InputError
from steerclear.filters import NearestFilter
from steerclear.filters.pixel import pixel_l2
from steerclear.guard import Guard
from steerclear.library import Library
from steerclear.pipelines import latent_like
from steerclear.pixels import fit, to_image, to_tensor
from steerclear.steering import derive
from steerclear_lab.bench import prompt_files
from steerclear_lab.bench.baselines import Context, References
from steerclear_lab.bench.judge import Judge, Verdict, ordinary_pictures
from steerclear_lab.bench.outside import SSCD_COPY, URLS, SscdJudge, addressed, shelved

CALIBRATION = 12  # ordinary prompts that thresholds in units of the model are found on
PREFERRED = 8  # every n-th ordinary picture may be preferred
HARMLESS = (
    "a cat asleep on a sofa", "a bowl of fruit on a wooden table", "a mountain lake at sunrise", "a red bicycle by a wall",
    "a crowded street in the rain", "a loaf of bread", "a small boat on the sea", "a library full of books",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """kind: "memorized", "template" or "ordinary"; file: name of the protected picture behind the prompt, if known."""

    kind: str
    prompt: str
    file: str | None = None


@dataclass(frozen=True)
class Suite:
    """name; context: for the methods; requests of each kind, those of `validation` apart; verdict: of a picture, its prompt
    and its file, by a CLIP that no method uses; clip: that CLIP; protected (N, 3, S, S), ordinary (M, 3, S, S): pictures; sscd:
    one more judge, where its file was given; missing: (name, reason) of references that could not be had."""

    name: str
    context: Context
    validation: tuple[Request, ...]
    requests: tuple[Request, ...]
    verdict: Callable[[Image.Image, str, str | None], Verdict]
    clip: Clip
    protected: Tensor
    ordinary: Tensor
    sscd: SscdJudge | None = None
    missing: tuple[tuple[str, str], ...] = ()


def split(prompts: Sequence[Request], validation: int, seed: int) -> tuple[list[Request], list[Request]]:
    """(validation, test), by prompt: the same for the same seed, in whatever order the prompts come. No prompt is in both."""
    shuffled = sorted(prompts, key=lambda r: derive(seed, "split", r.prompt))
    chosen = {r.prompt for r in shuffled[: min(validation, len(shuffled) - 1)]}
    return [r for r in prompts if r.prompt in chosen], [r for r in prompts if r.prompt not in chosen]


def some(requests: Sequence[Request], count: int, seed: int) -> list[Request]:
    """`count` of them, always the same for a seed."""
    return sorted(requests, key=lambda r: derive(seed, "some", r.prompt))[:count]


def emoji(
    validation: int, memorized: int, template: int, ordinary: int, seed: int, steps: int, work: Path, sscd: Path | None = None
) -> Suite:  # fmt: skip
    """The embedded model: planted prompts verbatim, paraphrases of them, ordinary prompts; how many of each. work, sscd: as
    `folder` says."""
    guard = Guard.default()
    judge, pictures = Judge(), ordinary_pictures()
    captions = json.loads((PROTECTED_FOLDER / "captions.json").read_text())
    known = references(guard, lambda item: str(captions[f"{item}.png"]), pictures[::PREFERRED])
    harmless = [Request("ordinary", p) for p, _ in read_prompts("ordinary")]
    calibration = some(harmless, CALIBRATION, seed)
    harmless = [r for r in harmless if r not in calibration]
    context = Context(
        guard.pipe, steps, 4.0, guard, known, "mascot, photo", tuple(r.prompt for r in calibration)
    )
    planted = [Request("memorized", p, f) for p, f in read_prompts("planted")]
    tuning, test = split(planted, validation, seed)
    tested = {r.file for r in test}  # a paraphrase of a tuned prompt would not be unseen
    paraphrases = [Request("template", p, f) for p, f in read_prompts("template") if f in tested]
    requests = (
        *some(test, memorized, seed), *some(paraphrases, template, seed), *some(harmless, ordinary, seed),
    )  # fmt: skip
    again = None if sscd is None else SscdJudge.of(sscd, [PROTECTED_FOLDER], work)
    return Suite(
        "emoji", context, tuple(tuning), requests, judge, judge.clip, judge.protected, pictures, again
    )


def folder(
    model: str, prompts: Path, pictures: Path, work: Path, validation: int, most: int, seed: int, steps: int, guidance: float,
    sscd: Path | None = None,
) -> Suite:  # fmt: skip
    """Any Stable Diffusion 1-format model, prompt file and reference pictures.

    pictures: their folder, or "urls" for those that the prompt file names by URL, which are fetched; work: where their library
    is kept; most: prompts of each kind; sscd: its authors' TorchScript file, for one more judge. The other judge is the
    embedded CLIP, which knows drawings: see its figures as relative.
    """
    encoder = CopyDescriptor.default()
    library = Library.open_or_create(work / "library", [encoder])
    read = prompt_files.read(prompts)
    sources = addressed(read) if str(pictures) == URLS else [pictures]
    missing = shelved(library, sources, encoder)
    guard = Guard.from_pretrained(model, library=library)
    captions = library.captions_of(library.ids())
    known = references(guard, lambda item: captions.get(item, item.replace("-", " ").replace("_", " ")))
    rows = [Request(row.kind, row.prompt) for row in read]
    rows += [Request("ordinary", p) for p in HARMLESS] if not any(r.kind == "ordinary" for r in rows) else []
    kinds = {kind: [r for r in rows if r.kind == kind] for kind in ("memorized", "template", "ordinary")}
    if not kinds["memorized"]:
        raise InputError(f"{str(prompts)!r} has no memorized prompt; without one there is nothing to prevent")
    tuning, test = split(kinds["memorized"], validation, seed)
    harmless = kinds["ordinary"]
    context = Context(
        guard.pipe, steps, guidance, guard, known, ", ".join(known.captions), tuple(r.prompt for r in harmless[:CALIBRATION]),
    )  # fmt: skip
    requests = [r for group in (test, kinds["template"], harmless) for r in some(group, most, seed)]
    judge = Judge(torch.stack(list(library.pictures().values())))
    return Suite(
        "folder", context, tuple(tuning), tuple(requests), judge, judge.clip, judge.protected, ordinary_pictures(),
        None if sscd is None else SscdJudge.of(sscd, sources, work), tuple(missing),
    )  # fmt: skip


def references(guard: Guard, caption: Callable[[str], str], preferred: Tensor | None = None) -> References:
    """A guard's library as methods see it. preferred: ordinary pictures (M, 3, S, S), if there are any."""
    assert guard.protected is not None
    ids = tuple(guard.protected.pictures)
    latents = guard.protected.latents(ids, latent_like(guard.pipe))
    descriptor = next(f for f in guard.filters if isinstance(f, NearestFilter))
    encoder: Encoder = descriptor.encoder
    with torch.no_grad():
        embeddings = torch.cat([encoder(fit(guard.protected.pictures[i][None], encoder.size)) for i in ids])
    ordinary = None
    if preferred is not None:
        ordinary = guard.protected.encode([to_image(p) for p in preferred], latents[:1])
    captions = tuple(caption(item) for item in ids)
    return References(ids, captions, latents, encoder, embeddings, descriptor.threshold, ordinary)


def measured(suite: Suite, image: Image.Image, request: Request) -> dict[str, Any]:
    """What is said of one picture that was handed out: distances, scores and thresholds passed, and the judges' verdicts."""
    guard = suite.context.required_guard()
    found = {d.filter: d for d in guard.check([image])[0]}
    copied = any(d.flagged for name, d in found.items() if name.startswith("nearest"))
    pixels = fit(to_tensor([image]), suite.protected.shape[-1])
    gallery = torch.cat([suite.protected, suite.ordinary])
    verdict = suite.verdict(image, request.prompt, request.file)
    distance = 1 - found["pixel"].score
    return {
        "pixel_l2": round(distance, 4), "tiled_l2": round(1 - found["tiled"].score, 4),
        "copy_score": round(found["nearest"].score, 4), "pixel": distance < 0.1, "tiled": found["tiled"].flagged, "copy": copied,
        "memorized": distance < 0.1 or found["tiled"].flagged or copied, "same_clip": verdict.same_picture,
        "same_pixel": int(pixel_l2(pixels, gallery).argmin()) < len(suite.protected),
        "alignment": round(verdict.alignment, 4), "bystander": round(verdict.bystander, 4),
        "concept": None if verdict.concept is None else round(verdict.concept, 4), "rank": verdict.rank,
        **({} if suite.sscd is None else {"sscd_score": round(score := suite.sscd(image), 4), "sscd": score >= SSCD_COPY}),
    }  # fmt: skip
