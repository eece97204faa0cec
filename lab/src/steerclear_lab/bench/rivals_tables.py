"""The tables of the comparison and the notes that explain them; every number is read from the document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steerclear_lab.bench.documents import Row
from steerclear_lab.pages import render

TITLES = {
    "memorized": "Memorized prompts, verbatim",
    "template": "Template prompts: paraphrases of memorized ones",
    "ordinary": "Ordinary prompts: what a method costs those who ask for nothing protected",
}
# title and key of each figure, by kind of prompt
COLUMNS: dict[str, tuple[tuple[str, str], ...]] = {
    "memorized": (
        ("memorized", "memorized_rate"),
        ("L2 < 0.1", "pixel_rate"),
        ("tiled", "tiled_rate"),
        ("descriptor", "copy_rate"),
        ("SSCD ≥ 0.5", "sscd_rate"),
        ("same, CLIP", "same_clip_rate"),
        ("same, pixels", "same_pixel_rate"),
        ("nothing handed out", "blocked_rate"),
        ("alignment lost", "alignment_loss"),
        ("by the bystander", "bystander_loss"),
        ("concept in top 5", "concept_top5"),
        ("KID", "kid"),
        ("diversity", "diversity"),
        ("Vendi", "vendi"),
        ("NFE ×", "nfe_ratio"),
        ("time ×", "wall_ratio"),
    ),
    "template": (
        ("memorized", "memorized_rate"),
        ("same, CLIP", "same_clip_rate"),
        ("nothing handed out", "blocked_rate"),
        ("alignment lost", "alignment_loss"),
        ("by the bystander", "bystander_loss"),
        ("concept in top 5", "concept_top5"),
        ("KID", "kid"),
        ("NFE ×", "nfe_ratio"),
        ("time ×", "wall_ratio"),
    ),
    "ordinary": (
        ("bit-identical", "identical_rate"),
        ("alignment lost", "alignment_loss"),
        ("by the bystander", "bystander_loss"),
        ("KID", "kid"),
        ("NFE ×", "nfe_ratio"),
        ("time ×", "wall_ratio"),
    ),
}
OURS = "steerclear"
# most memorized pictures, and most requests without any picture, of a method that counts as a defence
SAFE, GIVING = 0.01, 0.05


@dataclass(frozen=True)
class Table:
    """A table, before it is written as Markdown or HTML.

    Attributes:
        title: its heading.
        header: the titles of its columns.
        rows: the cells of each row.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something that one method is best at.

    Attributes:
        text: as it stands in the table.
        kind: of the prompts.
        methods: "any"; "unreferenced", those that need no references; "giving", those that leave at most
            GIVING of the requests with nothing; or "defence", the giving ones that also hand out at most SAFE
            memorized pictures.
        figure: the key of the figure that decides.
        more_is_better: whether the highest figure is the best.
    """

    text: str
    kind: str
    methods: str
    figure: str
    more_is_better: bool = False


QUESTIONS = (
    Question(
        text="hands out the fewest memorized pictures",
        kind="memorized",
        methods="giving",
        figure="memorized_rate",
    ),
    Question(
        text="the same, of those that need no references",
        kind="memorized",
        methods="unreferenced",
        figure="memorized_rate",
    ),
    Question(
        text="of the defences: fewest that a CLIP takes for a protected picture",
        kind="memorized",
        methods="defence",
        figure="same_clip_rate",
    ),
    Question(
        text="of the defences: keeps the concept",
        kind="memorized",
        methods="defence",
        figure="concept_top5",
        more_is_better=True,
    ),
    Question(
        text="of the defences: loses least alignment",
        kind="memorized",
        methods="defence",
        figure="alignment_loss",
    ),
    Question(
        text="of the defences: the same, by the bystander",
        kind="memorized",
        methods="defence",
        figure="bystander_loss",
    ),
    Question(
        text="of the defences: cheapest, in evaluations",
        kind="memorized",
        methods="defence",
        figure="nfe_ratio",
    ),
    Question(
        text="paraphrases: hands out the fewest memorized pictures",
        kind="template",
        methods="giving",
        figure="memorized_rate",
    ),
    Question(
        text="leaves the most ordinary pictures as they are",
        kind="ordinary",
        methods="any",
        figure="identical_rate",
        more_is_better=True,
    ),
)


def tables(document: Mapping[str, Any]) -> Iterable[Table]:
    """Which method is best at what, then the methods on each kind of prompt, in Pareto order."""
    yield Table("Which method is best at what", ["question", "best", "figure", OURS], best(document))
    for kind in COLUMNS:
        figures = {name: m[kind] for name, m in document["methods"].items() if m[kind] is not None}
        if figures:
            yield _kind_table(kind, figures, document["methods"])


def best(document: Mapping[str, Any]) -> list[list[str]]:
    """The rows of the first table: question, best methods (all of equal figures), their figure, ours."""
    rows = []
    for question in QUESTIONS:
        values = {
            name: value
            for name, method in document["methods"].items()
            if name != "none"
            and _is_asked(method, question.methods)
            and (value := _figure(method[question.kind], question.figure)) is not None
        }
        if values:
            top = (max if question.more_is_better else min)(values.values())
            winners = [name for name, value in values.items() if value == top]
            ours = _figure(document["methods"].get(OURS, {}).get(question.kind), question.figure)
            rows.append(
                [question.text, ", ".join(winners), _short(top), "–" if ours is None else _short(ours)]
            )
    return rows


def settings(document: Mapping[str, Any]) -> Table:
    """The settings that tuning chose for each method, and its source."""
    rows = [
        [name, written_settings(method["settings"]) or "–", method["source"]]
        for name, method in document["methods"].items()
    ]
    return Table("Settings", ["method", "settings", "source"], rows)


def written_settings(values: Mapping[str, Any]) -> str:
    """A method's settings in one line."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


def notes(document: Mapping[str, Any]) -> list[str]:
    """What a reader must know to read the tables, a paragraph each.

    A document's `remarks` are what was particular to its run.
    """
    text = render(
        "rivals-notes.md.j2",
        {
            "suite": document["suite"],
            "plan": document["plan"],
            "guidance": document["guidance"],
            "env": document["environment"],
            "safe": SAFE,
            "giving": GIVING,
        },
    )
    return [*text.strip().split("\n\n"), *document.get("remarks", [])]


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


def _kind_table(kind: str, figures: Mapping[str, Row], methods: Mapping[str, Row]) -> Table:
    """The methods on one kind of prompt."""
    first = next(iter(figures.values()))
    # without SSCD's file there are no figures of it
    columns = [(title, key) for title, key in COLUMNS[kind] if key in first]
    header = ["method", *(title for title, _ in columns)]
    rows = [[name, *(cell(row[key]) for _, key in columns)] for name, row in figures.items()]
    if kind == "memorized":
        header = ["method", "front", "needs references", *header[1:], "memory ×"]
        rows = [
            [
                name,
                str(methods[name]["front"]),
                "yes" if methods[name]["needs_reference"] else "no",
                *cells,
                f"{methods[name]['memory_ratio']:.2f}",
            ]
            for name, *cells in rows
        ]
    title = f"{TITLES[kind]} ({first['requests']} pictures of {first['prompts']} prompts)"
    return Table(title, header, rows)


def _is_asked(method: Row, methods: str) -> bool:
    """Whether a question is about a method; methods: as in `Question`."""
    figures = method["memorized"]
    blocked, memorized = _figure(figures, "blocked_rate") or 0.0, _figure(figures, "memorized_rate")
    if methods == "any":
        return True
    if methods == "unreferenced":
        return not method["needs_reference"]
    return blocked <= GIVING and (methods == "giving" or (memorized is not None and memorized <= SAFE))


def _figure(row: Row | None, key: str) -> float | None:
    """A figure's value to three places, as the tables have it."""
    value = None if row is None else row.get(key)
    if isinstance(value, Mapping):
        value = value["median"] if "median" in value else value["value"]
    return None if value is None else round(float(value), 3)


def _short(value: float) -> str:
    short = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if short in ("-0", "") else short
