"""Is what is handed out what was asked for, on a model that nobody prepared?

    python -m steerclear_lab.bench.subjects --out docs/benchmarks
    python -m steerclear_lab.bench.subjects --name clipart --model M/model --library L --folder M

Planted prompts through the whole guard, without a list of alternatives: `NAME.json` (every request with its
seed), `NAME.md` (the tables) and `NAME.png` (a row per prompt: protected, then what was handed out). The
rules of the guard were chosen on the first half of the embedded model's prompts, those with even places in
the list; the second half and every other model only test them.

A model's folder holds `bystander/`, `protected/` and `prompts/` with `planted.txt` (caption, tab, file) and
`ordinary.txt`. For the concepts it holds `prompts/concepts.json`: "texts", by name the text that the
bystander is asked by; and "of", by file the name of what a planted picture shows.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from steerclear.embedded import MODEL_FOLDER, PROTECTED_FOLDER, read_prompts
from steerclear.encoders.embedded import Clip
from steerclear.filters.base import flagged
from steerclear.filters.pixel import pixel_l2
from steerclear.guard import Guard
from steerclear.pixels import fit, to_tensor
from steerclear_lab.assets import BYSTANDER_FOLDER
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import benchmark_parser, limit_threads
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.intervals import quantile
from steerclear_lab.bench.judge import concept_of
from steerclear_lab.bench.sampling import GUIDANCE, STEPS, generator
from steerclear_lab.bench.sheets import save_sheet
from steerclear_lab.bench.strategy_figures import TOP
from steerclear_lab.bench.sweep.judges import Judges, Values
from steerclear_lab.bench.sweep.verdicts import taken_for_copy, thresholds
from steerclear_lab.emoji.concepts import CONCEPTS
from steerclear_lab.pages import render, table

FIRST_SEED, ORDINARY_SEED = 70_000, 71_000  # neither training nor calibration drew these
ORDINARY = 24  # ordinary pictures above whose scores a copy by the separate judge begins
SAME = 0.1  # pixel L2 below which two pictures are the same
HALVES = {"chosen on": 0, "reported": 1}


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the benchmark needs of a model.

    Attributes:
        guard: around it.
        planted: pairs of a prompt and the file of its protected picture.
        ordinary: prompts that ask for nothing protected.
        protected: folder of the protected pictures.
        bystander: judges; it has seen no protected picture.
        model_clip: the model's own CLIP, if it has one.
        texts: by name of a concept, the text by which a CLIP is asked for it.
        concepts: by file of a protected picture, the name of what it shows.
    """

    guard: Guard
    planted: Sequence[tuple[str, str]]
    ordinary: Sequence[str]
    protected: Path
    bystander: Clip
    model_clip: Clip | None
    texts: Mapping[str, str]
    concepts: Mapping[str, str]

    @classmethod
    def embedded(cls, listed: bool) -> Model:
        """The embedded model; listed: with its list of alternatives."""
        guard = Guard.default()
        if not listed:
            guard.alternatives = ()
        planted = [(prompt, str(file)) for prompt, file in read_prompts("planted")]
        return cls(
            guard=guard,
            planted=planted,
            ordinary=[prompt for prompt, _ in read_prompts("ordinary")],
            protected=PROTECTED_FOLDER,
            bystander=Clip.load(BYSTANDER_FOLDER),
            model_clip=Clip.load(MODEL_FOLDER),
            texts={name: f"a {name}" for name in CONCEPTS.values()},
            concepts={file: name for _, file in planted if (name := concept_of(file)) is not None},
        )

    @classmethod
    def of(cls, model: str, library: str, folder: Path) -> Model:
        """Any other model, with a folder as the module describes it."""
        lines = (folder / "prompts" / "planted.txt").read_text().splitlines()
        known = folder / "prompts" / "concepts.json"
        concepts: dict[str, dict[str, str]] = json.loads(known.read_text()) if known.exists() else {}
        model_folder = Path(model)
        return cls(
            guard=Guard.from_pretrained(model, library=library),
            planted=[(prompt, file) for prompt, _, file in (line.partition("\t") for line in lines)],
            ordinary=(folder / "prompts" / "ordinary.txt").read_text().splitlines(),
            protected=folder / "protected",
            bystander=Clip.load(folder / "bystander"),
            model_clip=Clip.load(model_folder) if (model_folder / "clip").is_dir() else None,
            texts=concepts.get("texts", {}),
            concepts=concepts.get("of", {}),
        )


def requests(
    model: Model,
    judges: Judges,
    at: Mapping[str, float],
    *,
    seeds: int,
    steps: int,
    guidance: float,
    part: int | None = None,
) -> list[Row]:
    """Every planted prompt through the guard; a row's "picture" is what was handed out.

    Args:
        model: what is asked.
        judges: the separate copy judge, over the model's protected pictures.
        at: its thresholds.
        seeds: pictures per prompt.
        steps: denoising steps.
        guidance: guidance scale.
        part: 0 or 1 for the prompts with even or odd places in the list; None for all.
    """
    rows = []
    planted = [(n, p, f) for n, (p, f) in enumerate(model.planted) if part is None or n % 2 == part]
    asked = [(n, p, f, FIRST_SEED + s) for n, p, f in planted for s in range(seeds)]
    for number, prompt, file, seed in track(asked, "requests"):
        output = model.guard(
            prompt, generator=generator(seed), num_inference_steps=steps, guidance_scale=guidance
        )
        report, picture = output.reports[0], output.images[0]
        row: Row = {
            "number": number,
            "prompt": prompt,
            "file": file,
            "seed": seed,
            "outcome": str(report.outcome),
            "overhead": round(report.overhead, 4),
            "rungs": [
                [rung.strategy, rung.stopped, [d.filter for d in rung.after if d.flagged]]
                for rung in report.attempts
            ],
        }
        if picture is not None:
            assert not flagged(model.guard.check([picture])[0])
            values = judges(picture)
            row |= {
                "sha256": sha256(picture.tobytes()).hexdigest()[:16],
                "copies": taken_for_copy(values, at),
                "severity": round(max(float(values[judge]) / at[judge] for judge in at), 4),
                **_judged(
                    "bystander", clip=model.bystander, picture=picture, prompt=prompt, model=model, file=file
                ),
                **(
                    _judged(
                        "own", clip=model.model_clip, picture=picture, prompt=prompt, model=model, file=file
                    )
                    if model.model_clip
                    else {}
                ),
            }
        row["picture"] = picture
        rows.append(row)
    return rows


@torch.no_grad()
def _judged(
    name: str, clip: Clip, picture: Image.Image, prompt: str, model: Model, file: str
) -> dict[str, Any]:
    """What a CLIP says of a picture: its cosine with the prompt, and the rank of the right concept."""
    embedding = clip(fit(to_tensor([picture]), clip.size))
    said: dict[str, Any] = {f"{name}_alignment": round(float(embedding @ clip.texts([prompt]).T), 4)}
    concept = model.concepts.get(file)
    if concept in model.texts:
        scores = (embedding @ clip.texts(list(model.texts.values())).T)[0]
        right = scores[list(model.texts).index(str(concept))]
        said[f"{name}_rank"] = int((scores > right).sum())
    return said


def ordinary_values(model: Model, judges: Judges, *, steps: int, guidance: float) -> list[Values]:
    """What the separate judge says of ordinary pictures of the plain pipeline."""
    count = min(ORDINARY, len(model.ordinary))
    prompts = [model.ordinary[i * len(model.ordinary) // count] for i in range(count)]
    values = []
    for i, prompt in enumerate(track(prompts, "ordinary pictures")):
        picture = model.guard.pipe(
            prompt, generator=generator(ORDINARY_SEED + i), num_inference_steps=steps, guidance_scale=guidance
        ).images[0]
        values.append(judges(picture))
    return values


def figures(rows: Sequence[Row]) -> Row:
    """The figures of some requests.

    Returns:
        How many were withheld and how many handed out are `copies`; shares of the pictures handed out whose
        concept is known (`ranked`) for `bystander_top5` and `own_top5`; mean alignments; costs of the flagged
        requests as multiples of a plain one; and `same_pairs`, see there.
    """
    handed = [row for row in rows if row["picture"] is not None]
    costs = [row["overhead"] for row in rows if row["outcome"] != "clear"]

    def top5(judge: str) -> list[bool]:
        return [row[f"{judge}_rank"] < TOP for row in handed if f"{judge}_rank" in row]

    def mean(values: Sequence[float]) -> float | None:
        return round(statistics.fmean(values), 4) if values else None

    return {
        "requests": len(rows),
        "prompts": len({row["prompt"] for row in rows}),
        "flagged": len(costs),
        "withheld": sum(row["outcome"] == "withheld" for row in rows),
        "cost_mean": mean(costs),
        "cost_median": round(statistics.median(costs), 4) if costs else None,
        "cost_p95": quantile(costs, 0.95) if costs else None,
        "bystander_top5": mean(top5("bystander")),
        "own_top5": mean(top5("own")),
        "ranked": len(top5("bystander")),
        "bystander_alignment": mean([row["bystander_alignment"] for row in handed]),
        "own_alignment": mean([row["own_alignment"] for row in handed if "own_alignment" in row]),
        "copies": sum(bool(row["copies"]) for row in handed),
        "same_pairs": same_pairs(handed),
    }


def same_pairs(handed: Sequence[Row]) -> int:
    """How many pairs of requests of one seed for different protected pictures got the same picture."""
    count = 0
    for seed in {row["seed"] for row in handed}:
        group = [row for row in handed if row["seed"] == seed]
        pixels: list[Tensor] = [fit(to_tensor([row["picture"]]), 64) for row in group]
        for i, first in enumerate(group):
            for j in range(i):
                if first["file"] != group[j]["file"]:
                    count += bool(pixel_l2(pixels[i], pixels[j]) < SAME)
    return count


def summary(rows: Sequence[Row], halves: bool) -> dict[str, Row]:
    """The figures by part of the prompts; of a model that nothing was chosen on, all together."""
    if not halves:
        return {"all": figures(rows)}
    return {name: figures([r for r in rows if r["number"] % 2 == half]) for name, half in HALVES.items()}


COLUMNS = {
    "requests": "requests",
    "withheld": "withheld",
    "cost_median": "cost, median",
    "cost_p95": "cost, p95",
    "cost_mean": "cost, mean",
    "bystander_top5": "right concept, bystander's top 5",
    "own_top5": "right concept, own CLIP's top 5",
    "bystander_alignment": "alignment, bystander",
    "own_alignment": "alignment, own CLIP",
    "same_pairs": "pairs of different subjects with the same picture",
    "copies": "copies by the separate judge",
}


def page(document: Row) -> str:
    """The Markdown page of a document."""
    rows = [
        [part, *(_cell(part_figures[key]) for key in COLUMNS)]
        for part, part_figures in document["summary"].items()
    ]
    texts = [
        [row["prompt"], str(row["overhead"]), row["rungs"][-1][1] if row["rungs"] else "clear"]
        for row in document["rows"]
        if row["seed"] == FIRST_SEED
    ]
    return render(
        "subjects.md.j2",
        {
            "remark": remark(document["environment"]),
            "command": document["command"],
            "name": document["name"],
            "listed": document["listed"],
            "steps": document["steps"],
            "guidance": document["guidance"],
            "figures": table(["prompts", *COLUMNS.values()], rows),
            "texts": table(["prompt", "cost, × plain", "how it ended"], texts),
            "part": document["part"],
        },
    )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def sheet(rows: Sequence[Row], protected: Path, path: Path, cell: int = 66) -> None:
    """Draw a row per prompt, two prompts side by side: protected, then each seed; grey where withheld."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["prompt"], []).append(row)
    wide = 1 + max(map(len, groups.values()))
    high = -(-len(groups) // 2)
    canvas = Image.new("RGB", (2 * wide * cell + cell // 2, high * cell), "lightgrey")
    for number, group in enumerate(groups.values()):
        left, top = (number // high) * (wide * cell + cell // 2), (number % high) * cell
        with Image.open(protected / group[0]["file"]) as image:
            canvas.paste(image.convert("RGB").resize((cell - 2, cell - 2)), (left, top))
        for x, row in enumerate(group, 1):
            if row["picture"] is not None:
                canvas.paste(row["picture"].resize((cell - 2, cell - 2)), (left + x * cell, top))
    save_sheet(canvas, path)


def main() -> None:
    limit_threads()
    parser = benchmark_parser(__doc__, seeds=2)
    parser.add_argument("--name", default="subjects", help="of the document and its page")
    parser.add_argument("--model", help="folder or id; the embedded model by default")
    parser.add_argument("--library", help="of the model's protected pictures")
    parser.add_argument("--folder", type=Path, help="bystander, protected pictures and prompts of the model")
    parser.add_argument("--listed", action="store_true", help="the embedded model with its alternatives")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--part", choices=("all", *HALVES), default="all", help="of the embedded prompts")
    args = parser.parse_args()
    model = _model(parser, args)
    settings = {"steps": args.steps, "guidance": args.guidance}
    judges = Judges(folder=model.protected)
    at = thresholds(ordinary_values(model, judges, **settings))
    rows = requests(model, judges, at, seeds=args.seeds, part=HALVES.get(args.part), **settings)
    by_part = summary(rows, halves=args.model is None and args.part == "all")
    args.out.mkdir(parents=True, exist_ok=True)
    sheet(rows, model.protected, args.out / f"{args.name}.png")
    document = {
        "command": f"python -m steerclear_lab.bench.subjects {shlex.join(_typed(args))}",
        "environment": environment(),
        "name": args.name,
        "listed": args.listed,
        "part": args.part if args.model is None else None,
        **settings,
        "thresholds": at,
        "summary": by_part,
        "rows": [{key: value for key, value in row.items() if key != "picture"} for row in rows],
    }
    documents.write(args.out, name=args.name, document=document, page=page(document))
    print(page(document))


def _model(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Model:
    if args.model is None:
        return Model.embedded(args.listed)
    if args.library is None or args.folder is None:
        parser.error("--model needs --library and --folder")
    return Model.of(args.model, args.library, args.folder)


def _typed(args: argparse.Namespace) -> list[str]:
    """The options that the figures depend on, as they are typed."""
    words = ["--name", args.name, "--seeds", str(args.seeds)]
    for option in ("model", "library", "folder"):
        value = getattr(args, option)
        words += [] if value is None else [f"--{option}", Path(value).name]
    words += ["--listed"] if args.listed else []
    words += ["--part", args.part] if args.part != "all" else []
    return [*words, "--steps", str(args.steps), "--guidance", str(args.guidance)]


if __name__ == "__main__":
    main()
