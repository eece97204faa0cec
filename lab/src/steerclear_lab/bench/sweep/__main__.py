"""The guard under a sweep of request settings: what it hands out for planted prompts, judged by what is no
filter.

    python -m steerclear_lab.bench.sweep --work sweep-work --out docs/benchmarks

writes `sweep.json` (every request with its settings), `sweep.md` (the tables) and `sweep.png` (the worst
pictures that were handed out). Resumes from what lies in --work; `--requests 500` makes the first 500
requests, a balanced sample of all. The whole takes about an hour and a half on one core, and the optimised
embeddings, which `--prepare` makes ahead, another hour.

The worst pictures are labelled by eye: `--label` writes a file with an entry for each, to be filled in.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from steerclear.copy_detection.alterations import alterations
from steerclear.embedded import read_prompts
from steerclear_lab.assets import SWEEP_LABELS
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import benchmark_parser, limit_threads
from steerclear_lab.bench.copy_detection.pictures import embedded, generations, ordinary_drawings
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.environment import environment, source_fingerprint, weights
from steerclear_lab.bench.notebook import Notebook
from steerclear_lab.bench.sampling import generator
from steerclear_lab.bench.sweep.embeddings import EmbeddingTask, kept
from steerclear_lab.bench.sweep.figures import by_variant, label_key, reliability, summary, worst
from steerclear_lab.bench.sweep.judges import Judges, Values
from steerclear_lab.bench.sweep.page import page, sheet
from steerclear_lab.bench.sweep.requests import GUIDANCE, STEPS, SweepRequest, requests
from steerclear_lab.bench.sweep.run import Sweep
from steerclear_lab.bench.sweep.verdicts import judged, taken_for_copy, thresholds

ORDINARY = 1024  # ordinary generations, half of them to choose thresholds on
KNOWN_EVERY = 6  # of the altered copies that the judges are tried on
PLAIN_SEED = 59_000
PLAIN = "plain pictures of the planted prompts"


def prepare(sweep: Sweep, asked: Sequence[SweepRequest]) -> None:
    """Make the optimised embeddings of some requests."""
    tasks = [EmbeddingTask(r.file, r.target, r.restart) for r in asked if r.target and r.restart is not None]
    for task in track(tasks, "embeddings"):
        kept(sweep.guard.pipe, task, sweep.embeddings)


def make_rows(sweep: Sweep, asked: Sequence[SweepRequest], notebook: Notebook) -> list[Row]:
    """The rows of some requests; those that the notebook lacks are made."""
    for request in track(asked, "requests"):
        if request.key not in notebook.rows:
            notebook.add(*sweep(request))
    return [notebook.rows[request.key] for request in asked]


def open_notebook(work: Path, sweep: Sweep) -> Notebook:
    """The notebook of a run. Raises InputError where it was begun with other filters, weights or source."""
    header = {
        "benchmark": "sweep",
        "source": source_fingerprint(),
        "weights": weights(),
        "filters": {f.name: f.threshold for f in (*sweep.guard.filters, *sweep.guard.strict)},
    }
    return Notebook(work, header, resume=True)


def known_copies(sweep: Sweep) -> Iterator[tuple[str, str, Image.Image]]:
    """Key, kind and picture of what the judges must find: altered protected pictures, plain generations."""
    others = list(ordinary_drawings().values())
    for number, (item, picture) in enumerate(embedded().items()):
        flat = [
            (kind, strength, alter)
            for kind, strengths in alterations(others, seed=number).items()
            for strength, alter in strengths.items()
        ]
        for kind, strength, alter in flat[number % KNOWN_EVERY :: KNOWN_EVERY]:
            yield f"{item} {kind} {strength}", kind, alter(picture)
    for number, (prompt, file) in enumerate(read_prompts("planted")):
        drawn = sweep.guard.pipe(
            prompt,
            generator=generator(PLAIN_SEED + number),
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
        )
        yield f"{file} plain", PLAIN, drawn.images[0]


def judge_known(sweep: Sweep, judges: Judges, work: Path, at: Mapping[str, float]) -> list[Row]:
    """A row per known copy: its kind, and the judges that find it."""
    kinds, pictures = {}, []
    for key, kind, picture in known_copies(sweep):
        kinds[key] = kind
        pictures.append((key, np.asarray(picture.convert("RGB"))))
    values = judged(judges, track(pictures, "known copies"), work / "judged-known.jsonl")
    return [{"kind": kinds[key], "copy_by": taken_for_copy(said, at)} for key, said in values.items()]


def judge_ordinary(judges: Judges, work: Path, drawn: Path, count: int) -> tuple[list[Values], list[Values]]:
    """What the judges say of ordinary generations: of those with an even number, then of the others."""
    pictures = ((str(i), np.asarray(p)) for i, (_, p) in enumerate(generations(drawn, count)))
    said = judged(judges, track(pictures, "ordinary", total=count), work / "judged-ordinary.jsonl")
    values = list(said.values())
    return values[::2], values[1::2]


def document_of_run(
    *,
    rows: Sequence[Row],
    said: Mapping[str, Values],
    ordinary: tuple[list[Values], list[Values]],
    known: Sequence[Row],
    at: Mapping[str, float],
    labels: Mapping[str, Any],
    command: str,
) -> Row:
    """The document of a run.

    Args:
        rows: of the requests that were made.
        said: what the judges say of what was handed out, by row key.
        ordinary: what they say of ordinary pictures, in two halves.
        known: a row per known copy.
        at: the judges' thresholds.
        labels: given by eye, by `label_key`.
        command: as it was typed.
    """
    judged_rows = [
        {**row, "judges": said[row["key"]], "copy_by": taken_for_copy(said[row["key"]], at)}
        if row["key"] in said
        else dict(row)
        for row in rows
    ]
    refusals = Counter(row["reason"] for row in rows if row["outcome"] == "refused")
    return {
        "command": command,
        "environment": environment(),
        "summary": summary(judged_rows, Counter(request.group for request in requests())),
        "variants": by_variant(sorted(judged_rows, key=lambda row: row["seed"])),
        "judges": reliability(*ordinary, at, known),
        "refusals": dict(refusals.most_common()),
        "worst": worst(judged_rows, at, labels),
        "rows": judged_rows,
    }


def read_labels(file: Path = SWEEP_LABELS) -> dict[str, Any]:
    """The labels given by eye, by `label_key`."""
    labels: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return labels


def ask_for_labels(document: Row, file: Path = SWEEP_LABELS) -> None:
    """Write an entry for each of the worst pictures into the file of labels, in the order of the sheet."""
    before = read_labels(file)
    labels = {label_key(row): before.get(label_key(row)) for row in document["worst"]}
    file.write_text(json.dumps(labels, indent=1) + "\n")


def main() -> None:
    limit_threads()
    parser = benchmark_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("sweep-work"), help="folder of rows and pictures")
    parser.add_argument("--requests", type=int, default=len(requests()), help="how many, from the first")
    parser.add_argument("--ordinary", type=int, default=ORDINARY, help="ordinary generations to judge")
    parser.add_argument("--generations", type=Path, help="their folder; by default in --work")
    parser.add_argument("--prepare", action="store_true", help="only make the optimised embeddings")
    parser.add_argument(
        "--label", action="store_true", help=f"also write {SWEEP_LABELS.name}, to be filled in by eye"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    asked = requests()[: args.requests]
    sweep, judges = Sweep(args.work / "embeddings"), Judges()
    if args.prepare:
        prepare(sweep, asked)
        return
    notebook = open_notebook(args.work, sweep)
    rows = make_rows(sweep, asked, notebook)
    handed = [(row["key"], notebook.picture(row)) for row in rows if row["outcome"] in ("clear", "steered")]
    said = judged(judges, track(handed, "judging"), args.work / "judged.jsonl")
    drawn = args.generations or args.work / "generations"
    ordinary = judge_ordinary(judges, work=args.work, drawn=drawn, count=args.ordinary)
    at = thresholds(ordinary[0])
    options = ["--requests", str(args.requests)] if args.requests < len(requests()) else []
    options += ["--ordinary", str(args.ordinary)] if args.ordinary != ORDINARY else []
    document = document_of_run(
        rows=rows,
        said=said,
        ordinary=ordinary,
        known=judge_known(sweep, judges=judges, work=args.work, at=at),
        at=at,
        labels=read_labels(),
        command=shlex.join(["python", "-m", "steerclear_lab.bench.sweep", *options]),
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "sweep.json").write_text(documents.text_with_row_lines(document))
    (args.out / "sweep.md").write_text(page(document))
    sheet(document["worst"], args.work / "pictures", args.out / "sweep.png")
    if args.label:
        ask_for_labels(document)
    print(page(document))


if __name__ == "__main__":
    main()
