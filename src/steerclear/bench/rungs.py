"""Each strategy alone on the planted prompts: what decides the ladder's order.

    python -m steerclear.bench.rungs --out docs/benchmarks

writes `rungs.json`, `rungs.md` (the table) and `rungs.png` (a row per prompt: protected, then one column per strategy).
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import track

from steerclear.bench.judge import Judge
from steerclear.bench.main_job import GUIDANCE, STEPS, arguments, generator, save_sheet, share
from steerclear.emoji import PROTECTED_FOLDER, read_prompts
from steerclear.filters.base import flagged
from steerclear.guard import Guard
from steerclear.nudge.ladder import STRATEGIES, Ladder, strategies

FIRST_SEED = 50_000


def measure(
    names: tuple[str, ...], seeds: int
) -> tuple[list[dict[str, Any]], list[list[Image.Image | None]]]:
    """One row per strategy, prompt and seed; and per prompt the pictures of the first seed, strategy by strategy."""
    guard, judge = Guard.default(), Judge()
    rows, pictures = [], []
    for prompt, file in track(read_prompts("planted"), "rungs"):
        line: list[Image.Image | None] = []
        for name in names:
            guard.ladder = Ladder(strategies((name,)))
            for s in range(seeds):
                out = guard(
                    prompt,
                    generator=generator(FIRST_SEED + s),
                    num_inference_steps=STEPS,
                    guidance_scale=GUIDANCE,
                )
                image, report = out.images[0], out.reports[0]
                row: dict[str, Any] = {
                    "strategy": name, "prompt": prompt, "seed": FIRST_SEED + s, "outcome": str(report.outcome),
                    "overhead": round(report.overhead, 3), "said": report.attempts[0].stopped if report.attempts else None,
                }  # fmt: skip
                if image is not None:
                    verdict = judge(image, prompt, file)
                    row |= {
                        "same_picture": verdict.same_picture,
                        "rank": verdict.rank,
                        "l2": round(verdict.pixel_l2, 4),
                    }
                    assert not flagged(guard.check([image])[0])
                rows.append(row)
                if s == 0:
                    line.append(image)
        pictures.append(line)
    return rows, pictures


def summary(rows: list[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Per strategy: share that passes, that the CLIP takes for the same picture, that keeps the concept, and cost."""
    out = []
    for name in names:
        mine = [r for r in rows if r["strategy"] == name and r["outcome"] != "clear"]
        passed = [r for r in mine if r["outcome"] == "steered"]
        ranks = [r["rank"] for r in passed if r["rank"] is not None]
        out.append({
            "strategy": name, "flagged": len(mine), "passes": share(r["outcome"] == "steered" for r in mine),
            "same_picture": share(r["same_picture"] for r in passed), "concept_top5": share(r < 5 for r in ranks),
            "overhead_median": round(statistics.median(r["overhead"] for r in mine), 3) if mine else None,
        })  # fmt: skip
    return out


def sheet(pictures: list[list[Image.Image | None]], path: Path) -> None:
    """Protected, then one column per strategy; grey where it did not pass."""
    size = 66
    canvas = Image.new("RGB", ((1 + len(pictures[0])) * size, len(pictures) * size), "lightgrey")
    for y, (line, (_, file)) in enumerate(zip(pictures, read_prompts("planted"), strict=True)):
        with Image.open(PROTECTED_FOLDER / str(file)) as protected:
            canvas.paste(protected.convert("RGB"), (0, y * size))
        for x, picture in enumerate(line, 1):
            if picture is not None:
                canvas.paste(picture, (x * size, y * size))
    save_sheet(canvas, path)


def main() -> None:
    parser = arguments(__doc__, seeds=2)
    parser.add_argument("--only", nargs="*", default=list(STRATEGIES))
    args = parser.parse_args()
    names = tuple(args.only)
    rows, pictures = measure(names, args.seeds)
    args.out.mkdir(parents=True, exist_ok=True)
    sheet(pictures, args.out / "rungs.png")
    figures = summary(rows, names)
    (args.out / "rungs.json").write_text(json.dumps({"summary": figures, "rows": rows}, indent=1) + "\n")
    head = list(figures[0])
    lines = [f"| {' | '.join(head)} |".replace("_", " "), "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(str(row[key]) for key in head)} |" for row in figures]
    text = "\n".join(lines) + "\n"
    command = f"python -m steerclear.bench.rungs --seeds {args.seeds}"
    (args.out / "rungs.md").write_text(
        f"# Each strategy alone\n\nMade by `{command}`.\n\n{text}\n![pictures](rungs.png)\n"
    )
    print(text)


if __name__ == "__main__":
    main()
