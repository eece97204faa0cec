"""The comparison as a Markdown page: every number of it is read from the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from steerclear_lab.bench.environment import remark

TITLES = {
    "memorized": "Memorized prompts, verbatim", "template": "Template prompts: paraphrases of memorized ones",
    "ordinary": "Ordinary prompts: what a method costs those who ask for nothing protected",
}  # fmt: skip
MAIN = (
    ("memorized", "memorized_rate"), ("L2 < 0.1", "pixel_rate"), ("tiled", "tiled_rate"), ("descriptor", "copy_rate"),
    ("SSCD ≥ 0.5", "sscd_rate"), ("same, CLIP", "same_clip_rate"), ("same, pixels", "same_pixel_rate"),
    ("nothing handed out", "blocked_rate"),
    ("alignment lost", "alignment_loss"), ("by the bystander", "bystander_loss"), ("concept in top 5", "concept_top5"),
    ("KID", "kid"), ("diversity", "diversity"), ("Vendi", "vendi"), ("NFE ×", "nfe_ratio"), ("time ×", "wall_ratio"),
)  # fmt: skip
SIDE = (
    ("memorized", "memorized_rate"), ("same, CLIP", "same_clip_rate"), ("nothing handed out", "blocked_rate"),
    ("alignment lost", "alignment_loss"), ("by the bystander", "bystander_loss"), ("concept in top 5", "concept_top5"),
    ("KID", "kid"), ("NFE ×", "nfe_ratio"), ("time ×", "wall_ratio"),
)  # fmt: skip
HARMLESS = (
    ("bit-identical", "identical_rate"), ("alignment lost", "alignment_loss"), ("by the bystander", "bystander_loss"),
    ("KID", "kid"), ("NFE ×", "nfe_ratio"), ("time ×", "wall_ratio"),
)  # fmt: skip
CAPTIONS = {
    "pareto": "Memorized rate against alignment lost; the area of a dot is its cost",
    "histograms": "Pixel L2 to the nearest protected picture, plain and with each method; the line is 0.1",
    "costs": "What a memorized prompt costs, as multiples of the plain pipeline",
    "pca": "CLIP embeddings, the first two principal components",
    "umap": "CLIP embeddings by UMAP",
    "sheet": "Memorized prompts, one a line; grey: nothing handed out",
    "ordinary": "Ordinary prompts, one a line: they should look like the first column",
}
OURS = "steerclear"
SAFE, GIVING = (
    0.01,
    0.05,
)  # most memorized pictures, and most requests without any, of a method that counts as a defence
# what is asked, of which requests, of which methods, by which figure, and whether more of it is better
QUESTIONS = (
    ("hands out the fewest memorized pictures", "memorized", "giving", "memorized_rate", False),
    ("the same, of those that need no references", "memorized", "unreferenced", "memorized_rate", False),
    ("of the defences: fewest that a CLIP takes for a protected picture", "memorized", "defence", "same_clip_rate", False),
    ("of the defences: keeps the concept", "memorized", "defence", "concept_top5", True),
    ("of the defences: loses least alignment", "memorized", "defence", "alignment_loss", False),
    ("of the defences: the same, by the bystander", "memorized", "defence", "bystander_loss", False),
    ("of the defences: cheapest, in evaluations", "memorized", "defence", "nfe_ratio", False),
    ("paraphrases: hands out the fewest memorized pictures", "template", "giving", "memorized_rate", False),
    ("leaves the most ordinary pictures as they are", "ordinary", "any", "identical_rate", True),
)  # fmt: skip
COLUMNS = {"memorized": MAIN, "template": SIDE, "ordinary": HARMLESS}


def cell(value: Any) -> str:
    """A figure as it is written: with its interval, or as median / p95."""
    if value is None:
        return "–"
    if isinstance(value, Mapping) and "p95" in value:
        return f"{value['median']:.2f} / {value['p95']:.2f}"
    if isinstance(value, Mapping):
        if value["value"] is None:
            return "–"
        low, high = value["interval"]
        return f"{_short(value['value'])} [{_short(low)}, {_short(high)}]"
    return _short(value)


def best(found: Mapping[str, Any]) -> list[list[str]]:
    """Who is best at what: question, methods, their figure, and ours. Methods whose figures are equal share a place.

    A *defence* hands out at most SAFE memorized pictures and leaves at most GIVING of the requests with nothing.
    """
    lines = []
    for question, kind, whom, figure, more in QUESTIONS:
        values = {
            name: value for name, method in found["methods"].items()
            if name != "none" and _asked(method, whom) and (value := _figure(method[kind], figure)) is not None
        }  # fmt: skip
        if values:
            top = (max if more else min)(values.values())
            winners = [name for name, value in values.items() if value == top]
            ours = _figure(found["methods"].get(OURS, {}).get(kind), figure)
            lines.append([question, ", ".join(winners), _short(top), "–" if ours is None else _short(ours)])
    return lines


def _asked(method: Mapping[str, Any], whom: str) -> bool:
    row = method["memorized"]
    blocked, memorized = _figure(row, "blocked_rate") or 0.0, _figure(row, "memorized_rate")
    if whom == "any":
        return True
    if whom == "unreferenced":
        return not method["needs_reference"]
    return blocked <= GIVING and (whom == "giving" or (memorized is not None and memorized <= SAFE))


def _figure(row: Mapping[str, Any] | None, name: str) -> float | None:
    """A figure's value to three places, as the tables have it."""
    value = None if row is None else row.get(name)
    if isinstance(value, Mapping):
        value = value["median"] if "median" in value else value["value"]
    return None if value is None else round(float(value), 3)


def tables(found: Mapping[str, Any]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """(title, head, lines) of each table: who is best at what, then methods in Pareto order."""
    yield "Who is best at what", ["question", "best", "figure", OURS], best(found)
    for kind, columns in COLUMNS.items():
        rows = {name: m[kind] for name, m in found["methods"].items() if m[kind] is not None}
        if not rows:
            continue
        lines = []
        first = next(iter(rows.values()))
        # SSCD's file may not have been given
        columns = tuple((title, key) for title, key in columns if key in first)
        for name, row in rows.items():
            method = found["methods"][name]
            extra = (
                [str(method["front"]), "yes" if method["needs_reference"] else "no"]
                if kind == "memorized"
                else []
            )
            more = [f"{method['memory_ratio']:.2f}"] if kind == "memorized" else []
            lines.append([name, *extra, *(cell(row[key]) for _, key in columns), *more])
        head = [
            "method",
            *(["front", "needs references"] if kind == "memorized" else []),
            *(title for title, _ in columns),
        ]
        title = f"{TITLES[kind]} ({first['requests']} pictures of {first['prompts']} prompts)"
        yield title, head + (["memory ×"] if kind == "memorized" else []), lines


def notes(found: Mapping[str, Any]) -> list[str]:
    """What a reader must know to read the tables; a document's `remarks` are what was particular to its run."""
    plan, env = found["plan"], found["environment"]
    return [
        f"Suite `{found['suite']}`, {plan['steps']} steps, guidance {found['guidance']:g}, seed {plan['seed']}; steerclear "
        f"{env['steerclear']}, torch {env['torch']}, diffusers {env['diffusers']}, {env['cores']} cores, "
        f"{env['threads']} threads{_processes(env)}.",
        "Brackets are 95 % bootstrap intervals over prompts; where every picture agrees, exact binomial ones over prompts. "
        "Costs are median / 95th percentile, as multiples of the plain pipeline's on the same prompt and seed; a backward pass "
        "counts two evaluations; times were taken in turn with the plain pipeline's.",
        f"Each method was tuned alike: at most {plan['trials']} settings, its paper's own first, on {plan['validation']} "
        "validation prompts, which the tables do not contain, by the mean of safe · (1 + alignment), where safe means handed out "
        "and no copy.",
        "*Memorized*: handed out with a pixel L2 below 0.1, or tiled L2 or copy descriptor beyond its threshold, of all requests. "
        "The guard verifies by these very filters, so that its zero is by construction, and AMG lowers the descriptor's score itself; "
        "*same* is the row that tells: the nearest "
        "neighbour among protected and ordinary pictures is a protected one, by a CLIP and by pixels. *Nothing handed out*: of "
        "the requests whose plain picture is memorized. *Alignment*: CLIP cosine of prompt and picture; a memorized prompt's "
        "words name the copy, so that whatever is no copy loses some; *by the bystander*: the same by a CLIP that has seen no "
        "protected picture and none of their captions. KID is against the model's ordinary pictures.",
        f"A *defence* hands out at most {SAFE:.0%} memorized pictures and leaves at most {GIVING:.0%} of the requests with nothing.",
        "Pareto fronts: memorized rate, nothing handed out, alignment lost, and NFE. Methods of one front are not ordered by merit.",
        *(remark(env)[:1] if found["suite"] == "emoji" else []),
        *found.get("remarks", []),
    ]


def chosen(found: Mapping[str, Any]) -> list[list[str]]:
    """Method, the settings that tuning chose, source."""
    return [
        [name, ", ".join(f"{k} {v}" for k, v in m["settings"].items()) or "–", m["source"]]
        for name, m in found["methods"].items()
    ]


def text(found: Mapping[str, Any], figures: Iterable[str]) -> str:
    """The page. figures: names of the pictures beside it."""
    lines = [
        "# Every rival, side by side",
        "",
        f"Made by `{found['command']}`, every number from `rivals.json`.",
        "",
    ]
    lines += [line for note in notes(found) for line in (note, "")]
    for title, head, rows in tables(found):
        lines += [f"## {title}", "", *_table(head, rows), ""]
    lines += ["## Settings", "", *_table(["method", "settings", "source"], chosen(found)), ""]
    for name in figures:
        lines += [f"## {CAPTIONS[name]}", "", f"![{name}](rivals-{name}.png)", ""]
    return "\n".join(lines).rstrip() + "\n"


def write(found: Mapping[str, Any], drawn: Mapping[str, bytes], out: Path) -> None:
    """`rivals.json`, `rivals.md` and the figures that it shows."""
    figures = {k: v for k, v in found.items() if k != "rows"}
    head = json.dumps({**figures, "figures": list(drawn), "rows": []}, indent=1)
    rows = ",\n".join(json.dumps(row) for row in found["rows"])  # a line each, so that changes can be read
    (out / "rivals.json").write_text(head.removesuffix("[]\n}") + f"[\n{rows}\n]\n}}\n")
    for name, picture in drawn.items():
        (out / f"rivals-{name}.png").write_bytes(picture)
    (out / "rivals.md").write_text(text(found, drawn))


def _processes(env: Mapping[str, Any]) -> str:
    """Where a run was made in more than one process, how many there were."""
    count = env.get("processes", "1")
    return "" if count == "1" else f" in each of {count} processes"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *body]


def _short(value: float) -> str:
    short = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if short in ("-0", "") else short
