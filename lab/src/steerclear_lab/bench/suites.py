"""What the methods are compared on: the embedded model with its prompts, or another Stable Diffusion model
with prompts and reference pictures of your own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.judge import Judge, Verdict, ordinary_pictures, verdict_row
from steerclear_lab.bench.reference_pictures import URLS, add_references, url_sources
from steerclear_lab.bench.sampling import GUIDANCE
from steerclear_lab.bench.sscd import SSCD_COPY, SscdJudge

CALIBRATION = 12  # ordinary prompts that thresholds in units of the model are measured on
PREFERRED = 8  # every n-th ordinary picture may be preferred
PIXEL_L2 = 0.1  # the paper's distance below which a picture counts as memorized
HARMLESS = (
    "a cat asleep on a sofa",
    "a bowl of fruit on a wooden table",
    "a mountain lake at sunrise",
    "a red bicycle by a wall",
    "a crowded street in the rain",
    "a loaf of bread",
    "a small boat on the sea",
    "a library full of books",
)


@dataclass(frozen=True)
class Request:
    """One prompt of a comparison.

    Attributes:
        kind: "memorized", "template" or "ordinary".
        prompt: its text.
        file: name of the protected picture behind the prompt, if known.
    """

    kind: str
    prompt: str
    file: str | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One model with its prompts, pictures and judges.

    Attributes:
        name: "emoji" or "folder".
        context: what the methods are given.
        validation: memorized requests that methods are tuned on.
        requests: those that they are tested on, of each kind.
        verdict: judges a picture, given its prompt and its file, by a CLIP that no method uses.
        clip: that CLIP.
        protected: (N, 3, S, S) in [0, 1], the protected pictures.
        ordinary: (M, 3, S, S) in [0, 1], the ordinary pictures.
        sscd: one more judge, where its file was given.
        missing: (name, reason) of references that could not be read.
    """

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
    """Split requests by prompt, always the same for a seed, in whatever order they come.

    Args:
        prompts: the requests.
        validation: how many prompts are for tuning; one or more remains for the test.
        seed: of the split.

    Returns:
        (validation, test). No prompt is in both.
    """
    shuffled = sorted(prompts, key=lambda r: derive(seed, "split", r.prompt))
    chosen = {r.prompt for r in shuffled[: min(validation, len(shuffled) - 1)]}
    return [r for r in prompts if r.prompt in chosen], [r for r in prompts if r.prompt not in chosen]


def sample(requests: Sequence[Request], count: int, seed: int) -> list[Request]:
    """`count` of the requests, always the same for a seed, in whatever order they come."""
    return sorted(requests, key=lambda r: derive(seed, "some", r.prompt))[:count]


def emoji(
    *,
    validation: int,
    memorized: int,
    template: int,
    ordinary: int,
    seed: int,
    steps: int,
    work: Path,
    sscd: Path | None = None,
) -> Suite:
    """The embedded model, with planted prompts verbatim, paraphrases of them, and ordinary prompts.

    Args:
        validation: planted prompts for tuning.
        memorized: planted prompts for the test.
        template: paraphrases.
        ordinary: ordinary prompts.
        seed: of the split and of all choices.
        steps: denoising steps.
        work: a folder for what SSCD computes once.
        sscd: its authors' TorchScript file, for one more judge.
    """
    guard = Guard.default()
    judge, pictures = Judge(), ordinary_pictures()
    captions = json.loads((PROTECTED_FOLDER / "captions.json").read_text())
    harmless = [Request("ordinary", p) for p, _ in read_prompts("ordinary")]
    calibration = sample(harmless, CALIBRATION, seed)
    harmless = [r for r in harmless if r not in calibration]
    context = Context(
        pipe=guard.pipe,
        steps=steps,
        guidance=GUIDANCE,
        guard=guard,
        references=references(guard, lambda item: str(captions[f"{item}.png"]), pictures[::PREFERRED]),
        concept="mascot, photo",
        ordinary=tuple(r.prompt for r in calibration),
    )
    planted = [Request("memorized", p, f) for p, f in read_prompts("planted")]
    tuning, test = split(planted, validation, seed)
    tested = {r.file for r in test}  # a paraphrase of a tuned prompt would not be unseen
    paraphrases = [Request("template", p, f) for p, f in read_prompts("template") if f in tested]
    groups = ((test, memorized), (paraphrases, template), (harmless, ordinary))
    return Suite(
        name="emoji",
        context=context,
        validation=tuple(tuning),
        requests=tuple(r for group, count in groups for r in sample(group, count, seed)),
        verdict=judge,
        clip=judge.clip,
        protected=judge.protected,
        ordinary=pictures,
        sscd=None if sscd is None else SscdJudge.of(sscd, [PROTECTED_FOLDER], work),
    )


def folder(
    *,
    model: str,
    prompts: Path,
    pictures: Path,
    work: Path,
    validation: int,
    most: int,
    seed: int,
    steps: int,
    guidance: float,
    sscd: Path | None = None,
) -> Suite:
    """Any Stable Diffusion 1-format model, with a prompt file and reference pictures.

    Its judge is the embedded CLIP, which has learnt drawings: read its figures as relative.

    Args:
        model: folder or name of the model.
        prompts: the prompt file.
        pictures: the folder of references, or "urls" for those that the prompt file names by URL, which are
            fetched.
        work: a folder where their library is kept.
        validation: memorized prompts for tuning.
        most: prompts of each kind for the test.
        seed: of the split and of all choices.
        steps: denoising steps.
        guidance: guidance scale.
        sscd: its authors' TorchScript file, for one more judge.

    Raises:
        InputError: the prompt file has no memorized prompt, or there are no reference pictures.
    """
    encoder = CopyDescriptor.default()
    library = Library.open_or_create(work / "library", [encoder])
    rows = prompt_files.read(prompts)
    sources = url_sources(rows) if str(pictures) == URLS else [pictures]
    missing = add_references(library, sources, encoder)
    guard = Guard.from_pretrained(model, library=library)
    captions = library.captions_of(library.ids())
    protected = references(guard, lambda item: captions.get(item, item.replace("-", " ").replace("_", " ")))
    kinds: dict[str, list[Request]] = {"memorized": [], "template": [], "ordinary": []}
    for row in rows:
        kinds[row.kind].append(Request(row.kind, row.prompt))
    kinds["ordinary"] = kinds["ordinary"] or [Request("ordinary", prompt) for prompt in HARMLESS]
    if not kinds["memorized"]:
        raise InputError(f"{str(prompts)!r} has no memorized prompt; without one there is nothing to prevent")
    tuning, test = split(kinds["memorized"], validation, seed)
    context = Context(
        pipe=guard.pipe,
        steps=steps,
        guidance=guidance,
        guard=guard,
        references=protected,
        concept=", ".join(protected.captions),
        ordinary=tuple(r.prompt for r in kinds["ordinary"][:CALIBRATION]),
    )
    groups = (test, kinds["template"], kinds["ordinary"])
    judge = Judge(torch.stack(list(library.pictures().values())))
    return Suite(
        name="folder",
        context=context,
        validation=tuple(tuning),
        requests=tuple(r for group in groups for r in sample(group, most, seed)),
        verdict=judge,
        clip=judge.clip,
        protected=judge.protected,
        ordinary=ordinary_pictures(),
        sscd=None if sscd is None else SscdJudge.of(sscd, sources, work),
        missing=tuple(missing),
    )


def references(guard: Guard, caption: Callable[[str], str], preferred: Tensor | None = None) -> References:
    """A guard's library as the methods see it.

    Args:
        guard: with a library.
        caption: of an item, by its id.
        preferred: (M, 3, S, S) in [0, 1], ordinary pictures, if there are any.
    """
    assert guard.protected is not None
    ids = tuple(guard.protected.pictures)
    latents = guard.protected.latents(ids, latent_like(guard.pipe))
    nearest = next(f for f in guard.filters if isinstance(f, NearestFilter))
    encoder: Encoder = nearest.encoder
    with torch.no_grad():
        embeddings = torch.cat([encoder(fit(guard.protected.pictures[i][None], encoder.size)) for i in ids])
    ordinary = None
    if preferred is not None:
        ordinary = guard.protected.encode([to_image(p) for p in preferred], latents[:1])
    return References(
        ids=ids,
        captions=tuple(caption(item) for item in ids),
        latents=latents,
        encoder=encoder,
        embeddings=embeddings,
        threshold=nearest.threshold,
        ordinary=ordinary,
    )


def measured(suite: Suite, picture: Image.Image, request: Request) -> Row:
    """The measures of a picture that was handed out: distances, scores, and the judges' verdicts."""
    detections = {d.filter: d for d in suite.context.required_guard().check([picture])[0]}
    is_copy = any(d.flagged for name, d in detections.items() if name.startswith("nearest"))
    pixels = fit(to_tensor([picture]), suite.protected.shape[-1])
    gallery = torch.cat([suite.protected, suite.ordinary])
    verdict = verdict_row(suite.verdict(picture, request.prompt, request.file))
    distance = 1 - detections["pixel"].score
    row = {
        "pixel_l2": round(distance, 4),
        "tiled_l2": round(1 - detections["tiled"].score, 4),
        "copy_score": round(detections["nearest"].score, 4),
        "pixel": distance < PIXEL_L2,
        "tiled": detections["tiled"].flagged,
        "copy": is_copy,
        "memorized": distance < PIXEL_L2 or detections["tiled"].flagged or is_copy,
        "same_clip": verdict["same_picture"],
        "same_pixel": int(pixel_l2(pixels, gallery).argmin()) < len(suite.protected),
        **{key: verdict[key] for key in ("alignment", "bystander", "concept", "rank")},
    }
    if suite.sscd is not None:
        score = suite.sscd(picture)
        row |= {"sscd_score": round(score, 4), "sscd": score >= SSCD_COPY}
    return row
