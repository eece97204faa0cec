"""The main job measured: planted prompts through the guard, ordinary prompts beside the plain pipeline.

    python -m steerclear_lab.bench.main_job --out docs/benchmarks

writes `main-job.json` (every request with its seed), `main-job.md` (the table) and `main-job.png` (a contact sheet).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.progress import track

from steerclear.embedded import PROTECTED_FOLDER, read_prompts
from steerclear.filters.base import flagged
from steerclear.guard import Guard
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.judge import Judge

STEPS, GUIDANCE = 25, 4.0
SHOWN = 8  # seeds on the contact sheet
# neither training nor calibration drew these
PLANTED_SEED, ORDINARY_SEED, PARAPHRASE_SEED = 20_000, 31_000, 35_000


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(guard: Guard, judge: Judge, seeds: int) -> list[dict[str, Any]]:
    """Every planted prompt × seeds: the plain picture, and what the guard hands out."""
    rows = []
    todo = [
        (prompt, file, PLANTED_SEED + s) for prompt, file in read_prompts("planted") for s in range(seeds)
    ]
    for prompt, file, seed in track(todo, "planted"):
        settings: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
        began = time.monotonic()
        plain = guard.pipe(prompt, generator=generator(seed), **settings).images[0]
        plain_seconds = time.monotonic() - began
        began = time.monotonic()
        out = guard(prompt, generator=generator(seed), **settings)
        seconds = time.monotonic() - began
        report, image = out.reports[0], out.images[0]
        row: dict[str, Any] = {
            "prompt": prompt, "file": file, "seed": seed, "outcome": str(report.outcome), "overhead": round(report.overhead, 4),
            "wall": round(seconds / plain_seconds, 4), "matched": report.matched,
            "rungs": [a.strategy for a in report.attempts], "plain_flagged": flagged(guard.check([plain])[0]),
            "plain": vars_of(judge(plain, prompt, file)), "handed_out": None,
        }  # fmt: skip
        if image is not None:
            row["handed_out"] = vars_of(judge(image, prompt, file))
            row["scores"] = {d.filter: round(d.score, 4) for d in guard.check([image])[0]}
            row["flagged"] = flagged(guard.check([image])[0])
        row["pictures"] = (plain, image)
        rows.append(row)
    return rows


def ordinary(guard: Guard, count: int) -> list[dict[str, Any]]:
    """Ordinary prompts, plain and guarded in turn: are they the same picture, and what does looking cost?"""
    prompts = [p for p, _ in read_prompts("ordinary")]
    rows = []
    for i in track(range(count), "ordinary"):
        prompt, seed = prompts[i % len(prompts)], ORDINARY_SEED + i
        settings: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
        seconds = {}
        pictures: dict[str, Image.Image | None] = {}
        # in turn, and in turning order, so that a drift of the machine cancels
        for who in ("plain", "guard") if i % 2 else ("guard", "plain"):
            began = time.monotonic()
            if who == "plain":
                pictures[who] = guard.pipe(prompt, generator=generator(seed), **settings).images[0]
            else:
                out = guard(prompt, generator=generator(seed), **settings)
                pictures[who] = out.images[0]
            seconds[who] = time.monotonic() - began
        same = pictures["guard"] is not None and pictures["guard"].tobytes() == pictures["plain"].tobytes()  # type: ignore[union-attr]
        rows.append({
            "prompt": prompt, "seed": seed, "outcome": str(out.reports[0].outcome), "identical": same,
            "wall": round(seconds["guard"] / seconds["plain"], 4),
            "scores": {d.filter: round(d.score, 4) for d in out.reports[0].detections},
        })  # fmt: skip
    return rows


def paraphrases(guard: Guard, judge: Judge, seeds: int) -> list[dict[str, Any]]:
    """Paraphrased planted prompts: the plain picture, judged against the planted prompt, and what a flagged one is steered to.

    No plain picture of a planted prompt is clear, so that these are the clear pictures that steered ones compare with: the
    clear ones of other seeds are what new seeds alone (`resampled`) would have given a flagged request.
    """
    planted_prompt = {file: prompt for prompt, file in read_prompts("planted")}
    todo = [
        (prompt, file, PARAPHRASE_SEED + s) for prompt, file in read_prompts("template") for s in range(seeds)
    ]
    settings: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
    rows = []
    for prompt, file, seed in track(todo, "paraphrases"):
        plain = guard.pipe(prompt, generator=generator(seed), **settings).images[0]
        out = (
            guard(prompt, generator=generator(seed), **settings) if flagged(guard.check([plain])[0]) else None
        )
        steered = out.images[0] if out else None
        rows.append({
            "prompt": prompt, "file": file, "seed": seed, "flagged": out is not None,
            "plain": vars_of(judge(plain, planted_prompt[file], file)),
            "asked": vars_of(judge(plain, prompt, file)),
            "steered": vars_of(judge(steered, prompt, file)) if steered else None,
        })  # fmt: skip
    return rows


def resampled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Steered against resampled pictures of the very same requests, each judged by the prompt that was asked.

    rows: of `paraphrases`. Of the flagged requests whose prompt has a clear picture under another seed: what the guard handed
    out, beside the mean of those clear pictures.
    """
    clear: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if not row["flagged"]:
            clear.setdefault(row["prompt"], []).append(row["asked"])
    pairs = [(r["steered"], clear[r["prompt"]]) for r in rows if r["steered"] and r["prompt"] in clear]
    named = [(one, others) for one, others in pairs if one["concept"] is not None]
    return {
        "flagged_paraphrases": sum(r["flagged"] for r in rows), "of_which_a_new_seed_clears": len(pairs),
        "alignment_resampled": mean(mean(v["alignment"] for v in others) for _, others in pairs),
        "alignment_steered_instead": mean(one["alignment"] for one, _ in pairs),
        "bystander_alignment_resampled": mean(mean(v["bystander"] for v in others) for _, others in pairs),
        "bystander_alignment_steered_instead": mean(one["bystander"] for one, _ in pairs),
        "concept_alignment_resampled": mean(mean(v["concept"] for v in others) for _, others in named),
        "concept_alignment_steered_instead": mean(one["concept"] for one, _ in named),
        "same_picture_resampled": mean(share(v["same_picture"] for v in others) for _, others in pairs),
        "same_picture_steered_instead": mean(one["same_picture"] for one, _ in pairs),
    }  # fmt: skip


def vars_of(verdict: Any) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in vars(verdict).items()}


def summary(
    rows: list[dict[str, Any]], clear: list[dict[str, Any]], other: list[dict[str, Any]], guard: Guard
) -> dict[str, Any]:
    """The figures of the table. other: of `paraphrases`."""
    hit = [r for r in rows if r["outcome"] != "clear"]
    out = [r for r in rows if r["handed_out"]]
    steered = [r for r in out if r["outcome"] == "steered"]
    free = [r for r in other if not r["flagged"]]
    both = {r["file"] for r in free} & {r["file"] for r in steered}
    ranks = [r["handed_out"]["rank"] for r in steered if r["handed_out"]["rank"] is not None]
    plain_ranks = [r["plain"]["rank"] for r in hit if r["plain"]["rank"] is not None]
    threshold = next(f.threshold for f in guard.filters if f.name == "nearest")
    overheads = sorted(r["overhead"] for r in hit) or [float("nan")]
    p95 = overheads[math.ceil(0.95 * len(overheads)) - 1]
    return {
        "requests": len(rows), "plain_flagged": share(r["plain_flagged"] for r in rows),
        "steered_though_plain_would_pass": sum(not r["plain_flagged"] for r in hit), "flagged": len(hit), "handed_out": len(out),
        "handed_out_within_0.1": sum(r["handed_out"]["pixel_l2"] < 0.1 for r in out),
        "handed_out_above_nearest": sum(r["scores"]["nearest"] >= threshold for r in out),
        "handed_out_flagged": sum(r["flagged"] for r in out),
        "same_picture_by_clip": share(r["handed_out"]["same_picture"] for r in out),
        "plain_same_picture_by_clip": share(r["plain"]["same_picture"] for r in rows),
        "writers_block_rate": share(r["outcome"] == "withheld" for r in hit),
        "overhead_median": round(statistics.median(overheads), 3), "overhead_p95": round(p95, 3),
        "wall_median": round(statistics.median([r["wall"] for r in hit] or [float("nan")]), 3),
        "alignment_steered": mean(r["handed_out"]["alignment"] for r in steered),
        "clear_paraphrases": len(free), "of_paraphrases": len(other), "their_items": len(both),
        "alignment_clear_paraphrases": mean(r["plain"]["alignment"] for r in free if r["file"] in both),
        "alignment_steered_same_items": mean(r["handed_out"]["alignment"] for r in steered if r["file"] in both),
        "alignment_plain": mean(r["plain"]["alignment"] for r in rows),
        "bystander_alignment_steered": mean(r["handed_out"]["bystander"] for r in steered if r["file"] in both),
        "bystander_alignment_clear_paraphrases": mean(r["plain"]["bystander"] for r in free if r["file"] in both),
        "bystander_alignment_plain": mean(r["plain"]["bystander"] for r in rows),
        "concept_alignment_steered": mean(concepts([r["handed_out"] for r in steered])),
        "concept_alignment_clear_paraphrases": mean(concepts([r["plain"] for r in free if r["file"] in both])),
        "concept_alignment_plain": mean(concepts([r["plain"] for r in rows])),
        "concept_top5_steered": share(r < 5 for r in ranks), "concept_top5_plain": share(r < 5 for r in plain_ranks),
        "passed_by": {name: sum(r["rungs"][-1:] == [name] for r in steered) for name in {x for r in steered for x in r["rungs"][-1:]}},
        **resampled(other),
        "ordinary": len(clear), "ordinary_identical": share(r["identical"] for r in clear),
        "ordinary_false_alarms": sum(r["outcome"] != "clear" for r in clear),
        "ordinary_wall_median": round(statistics.median(r["wall"] for r in clear), 4) if clear else None,
    }  # fmt: skip


def share(hits: Any) -> float:
    found = [bool(h) for h in hits]
    return round(sum(found) / len(found), 4) if found else 0.0


def concepts(verdicts: list[dict[str, Any]]) -> list[float]:
    return [v["concept"] for v in verdicts if v["concept"] is not None]


def mean(values: Any) -> float | None:
    found = list(values)
    return round(statistics.fmean(found), 4) if found else None


def table(figures: dict[str, Any], command: str) -> str:
    """The figures as a Markdown table under the command that made them."""
    lines = [f"Made by `{command}`.", "", "| figure | value |", "|---|---|"]
    return (
        "\n".join(lines + [f"| {key.replace('_', ' ')} | {value} |" for key, value in figures.items()]) + "\n"
    )


def page(document: dict[str, Any]) -> str:
    """The Markdown page."""
    return "\n".join([
        "# The main job", "", *remark(document["environment"]), table(document["summary"], document["command"]),
        "*Plain* is what the pipeline gives without the guard. *Clear paraphrases* are plain pictures of paraphrased planted prompts "
        "that no filter flags: no plain picture of a planted prompt itself is clear, whatever the seed. *Alignment* is the CLIP's "
        "cosine of picture and planted prompt, whose invented name stands for the protected picture's very looks, so that whatever "
        "is no copy loses some; *bystander* is the same cosine by a CLIP that has seen no protected picture and none of their "
        "captions, so that a copy answers a prompt no better than another picture of what it names; *concept* leaves the name out, "
        "and is what the request can still be given. *Resampled* are the clear "
        "pictures that other seeds give to the same paraphrase, *steered instead* what the guard hands out for a flagged one: both "
        "are judged by the prompt that was asked. "
        "[Each strategy alone](rungs.md) has the alignment of what passes after new noise (`resample`) beside the others'.",
        "", f"![Protected, then plain over handed out for {SHOWN} seeds](main-job.png)", "",
    ])  # fmt: skip


def sheet(rows: list[dict[str, Any]], path: Path, zoom: int = 2) -> None:
    """Per planted prompt: protected, then plain over handed out for the first SHOWN seeds."""
    every: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        every.setdefault(row["prompt"], []).append(row)
    by_prompt = {prompt: group[:SHOWN] for prompt, group in every.items()}
    size = 64 * zoom // 2 + 2
    columns = 1 + max(len(group) for group in by_prompt.values())
    canvas = Image.new("RGB", (columns * size, len(by_prompt) * (2 * size + 6)), "white")
    for y, group in enumerate(by_prompt.values()):
        top = y * (2 * size + 6)
        with Image.open(PROTECTED_FOLDER / group[0]["file"]) as image:
            canvas.paste(image.convert("RGB").resize((size - 2, size - 2)), (0, top))
        for x, row in enumerate(group, 1):
            for k, picture in enumerate(row["pictures"]):
                if picture is not None:
                    canvas.paste(picture.resize((size - 2, size - 2)), (x * size, top + k * size))
    save_sheet(canvas, path)


def arguments(about: str | None, seeds: int) -> argparse.ArgumentParser:
    """What every benchmark takes on its command line; it also holds torch to two threads, as the tables were made."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--seeds", type=int, default=seeds)
    return parser


def save_sheet(canvas: Image.Image, path: Path) -> None:
    """In 256 colours: a third of the size, and nobody sees the difference."""
    canvas.quantize(256).save(path, optimize=True)


def main() -> None:
    parser = arguments(__doc__, seeds=8)
    parser.add_argument("--ordinary", type=int, default=200)
    args = parser.parse_args()
    guard, judge = Guard.default(), Judge()
    rows, clear = planted(guard, judge, args.seeds), ordinary(guard, args.ordinary)
    other = paraphrases(guard, judge, max(1, args.seeds // 4))
    figures = summary(rows, clear, other, guard)
    args.out.mkdir(parents=True, exist_ok=True)
    sheet(rows, args.out / "main-job.png")
    for row in rows:
        del row["pictures"]
    document = {
        "command": f"python -m steerclear_lab.bench.main_job --seeds {args.seeds} --ordinary {args.ordinary}",
        "environment": environment(),
        "summary": figures,
        "planted": rows,
        "ordinary": clear,
        "paraphrases": other,
    }
    (args.out / "main-job.json").write_text(json.dumps(document, indent=1) + "\n")
    (args.out / "main-job.md").write_text(page(document))
    print(page(document))


if __name__ == "__main__":
    main()
