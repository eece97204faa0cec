"""The main job measured: planted prompts through the guard, ordinary prompts beside the plain pipeline.

    python -m steerclear_lab.bench.main_job --out docs/benchmarks

writes `main-job.json` (every request with its seed), `main-job.md` (the table) and `main-job.png` (a contact
sheet).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import track

from steerclear.embedded import PROTECTED_FOLDER, read_prompts
from steerclear.filters.base import flagged
from steerclear.guard import Guard
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import benchmark_parser, limit_threads
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.judge import Judge, verdict_row
from steerclear_lab.bench.main_job_figures import summary
from steerclear_lab.bench.sampling import SETTINGS, generator
from steerclear_lab.bench.sheets import save_sheet
from steerclear_lab.pages import render, table

SHOWN = 8  # seeds on the contact sheet
# neither training nor calibration drew these
PLANTED_SEED, ORDINARY_SEED, PARAPHRASE_SEED = 20_000, 31_000, 35_000


def planted(guard: Guard, judge: Judge, seeds: int) -> list[Row]:
    """Generate every planted prompt, plain and guarded.

    Args:
        guard: the embedded model's.
        judge: judges both pictures.
        seeds: pictures per prompt.

    Returns:
        A row per request; its "pictures" are (plain, handed out or None).
    """
    requests = [(p, f, PLANTED_SEED + s) for p, f in read_prompts("planted") for s in range(seeds)]
    rows = []
    for prompt, file, seed in track(requests, "planted"):
        began = time.monotonic()
        plain = guard.pipe(prompt, generator=generator(seed), **SETTINGS).images[0]
        plain_seconds = time.monotonic() - began
        began = time.monotonic()
        output = guard(prompt, generator=generator(seed), **SETTINGS)
        seconds = time.monotonic() - began
        report, picture = output.reports[0], output.images[0]
        row: Row = {
            "prompt": prompt,
            "file": file,
            "seed": seed,
            "outcome": str(report.outcome),
            "overhead": round(report.overhead, 4),
            "wall": round(seconds / plain_seconds, 4),
            "matched": report.matched,
            "rungs": [attempt.strategy for attempt in report.attempts],
            "plain_flagged": flagged(guard.check([plain])[0]),
            "plain": verdict_row(judge(plain, prompt, file)),
            "handed_out": None,
        }
        if picture is not None:
            detections = guard.check([picture])[0]
            row["handed_out"] = verdict_row(judge(picture, prompt, file))
            row["scores"] = {d.filter: round(d.score, 4) for d in detections}
            row["flagged"] = flagged(detections)
        row["pictures"] = (plain, picture)
        rows.append(row)
    return rows


def ordinary(guard: Guard, count: int) -> list[Row]:
    """Generate ordinary prompts, plain and guarded: are the pictures the same, and what does looking cost?

    Args:
        guard: the embedded model's.
        count: how many requests, prompt after prompt.
    """
    prompts = [prompt for prompt, _ in read_prompts("ordinary")]
    rows = []
    for i in track(range(count), "ordinary"):
        prompt, seed = prompts[i % len(prompts)], ORDINARY_SEED + i
        seconds = {}
        pictures: dict[str, Image.Image | None] = {}
        # in turn, and in turning order, so that a drift of the machine cancels
        for who in ("plain", "guard") if i % 2 else ("guard", "plain"):
            began = time.monotonic()
            if who == "plain":
                pictures[who] = guard.pipe(prompt, generator=generator(seed), **SETTINGS).images[0]
            else:
                output = guard(prompt, generator=generator(seed), **SETTINGS)
                pictures[who] = output.images[0]
            seconds[who] = time.monotonic() - began
        plain, guarded, report = pictures["plain"], pictures["guard"], output.reports[0]
        assert plain is not None
        rows.append(
            {
                "prompt": prompt,
                "seed": seed,
                "outcome": str(report.outcome),
                "identical": guarded is not None and guarded.tobytes() == plain.tobytes(),
                "wall": round(seconds["guard"] / seconds["plain"], 4),
                "scores": {d.filter: round(d.score, 4) for d in report.detections},
            }
        )
    return rows


def paraphrases(guard: Guard, judge: Judge, seeds: int) -> list[Row]:
    """Generate paraphrased planted prompts plainly, and steer those that are flagged.

    No plain picture of a planted prompt is clear, so the clear ones among these are what steered pictures are
    compared with. The clear ones of other seeds are what fresh noise alone would have given a flagged
    request.

    Args:
        guard: the embedded model's.
        judge: judges each picture by the paraphrase, and the plain one by the planted prompt as well.
        seeds: pictures per prompt.
    """
    planted_prompt = {file: prompt for prompt, file in read_prompts("planted")}
    requests = [(p, f, PARAPHRASE_SEED + s) for p, f in read_prompts("template") for s in range(seeds)]
    rows = []
    for prompt, file, seed in track(requests, "paraphrases"):
        plain = guard.pipe(prompt, generator=generator(seed), **SETTINGS).images[0]
        plain_flagged = flagged(guard.check([plain])[0])
        steered = guard(prompt, generator=generator(seed), **SETTINGS).images[0] if plain_flagged else None
        rows.append(
            {
                "prompt": prompt,
                "file": file,
                "seed": seed,
                "flagged": plain_flagged,
                "plain": verdict_row(judge(plain, planted_prompt[file], file)),
                "asked": verdict_row(judge(plain, prompt, file)),
                "steered": verdict_row(judge(steered, prompt, file)) if steered else None,
            }
        )
    return rows


def page(document: Row) -> str:
    """The Markdown page of a document."""
    figures = [[key.replace("_", " "), _cell(value)] for key, value in document["summary"].items()]
    return render(
        "main-job.md.j2",
        {
            "remark": remark(document["environment"]),
            "command": document["command"],
            "figures": table(["figure", "value"], figures),
            "shown": SHOWN,
        },
    )


def _cell(value: Any) -> str:
    return (
        ", ".join(f"`{name}` {count}" for name, count in value.items())
        if isinstance(value, dict)
        else str(value)
    )


def sheet(rows: Sequence[Row], path: Path, zoom: int = 2) -> None:
    """Draw a row per planted prompt: protected, then plain above handed out for the first SHOWN seeds."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["prompt"], []).append(row)
    shown = [group[:SHOWN] for group in groups.values()]
    cell = 64 * zoom // 2 + 2
    size = (cell - 2, cell - 2)
    columns = 1 + max(len(group) for group in shown)
    canvas = Image.new("RGB", (columns * cell, len(shown) * (2 * cell + 6)), "white")
    for y, group in enumerate(shown):
        top = y * (2 * cell + 6)
        with Image.open(PROTECTED_FOLDER / group[0]["file"]) as image:
            canvas.paste(image.convert("RGB").resize(size), (0, top))
        for x, row in enumerate(group, 1):
            for k, picture in enumerate(row["pictures"]):
                if picture is not None:
                    canvas.paste(picture.resize(size), (x * cell, top + k * cell))
    save_sheet(canvas, path)


def main() -> None:
    limit_threads()
    parser = benchmark_parser(__doc__, seeds=8)
    parser.add_argument("--ordinary", type=int, default=200, help="ordinary requests")
    args = parser.parse_args()
    guard, judge = Guard.default(), Judge()
    planted_rows, ordinary_rows = planted(guard, judge, args.seeds), ordinary(guard, args.ordinary)
    paraphrase_rows = paraphrases(guard, judge, max(1, args.seeds // 4))
    args.out.mkdir(parents=True, exist_ok=True)
    sheet(planted_rows, args.out / "main-job.png")
    for row in planted_rows:
        del row["pictures"]
    threshold = next(f.threshold for f in guard.filters if f.name == "nearest")
    document = {
        "command": f"python -m steerclear_lab.bench.main_job --seeds {args.seeds} --ordinary {args.ordinary}",
        "environment": environment(),
        "summary": summary(
            planted_rows, ordinary=ordinary_rows, paraphrases=paraphrase_rows, nearest_threshold=threshold
        ),
        "planted": planted_rows,
        "ordinary": ordinary_rows,
        "paraphrases": paraphrase_rows,
    }
    documents.write(args.out, name="main-job", document=document, page=page(document))
    print(page(document))


if __name__ == "__main__":
    main()
