"""From the rows of a comparison to the figures of each method, with intervals over prompts."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.pixels import fit, to_tensor
from steerclear_lab.bench.baselines import Method, configurations
from steerclear_lab.bench.diversity import kid, mean_distance, vendi
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.environment import environment
from steerclear_lab.bench.harness import PLAIN, Plan, score, settings, tuned_rows
from steerclear_lab.bench.intervals import interval, quantile
from steerclear_lab.bench.notebook import Notebook
from steerclear_lab.bench.pareto import fronts
from steerclear_lab.bench.suites import Suite

KINDS = ("memorized", "template", "ordinary")
RATES = ("memorized", "pixel", "tiled", "copy", "same_clip", "same_pixel")
TOP = 5  # a concept counts as kept where the judge ranks it among this many
RequestKey = tuple[str, str, int]


def document(
    *,
    suite: Suite,
    chosen: dict[str, Method],
    plan: Plan,
    notebook: Notebook,
    command: str,
    features: dict[str, Tensor],
) -> Row:
    """All that was measured, as JSON.

    Args:
        suite: what was compared on.
        chosen: each method with its settings.
        plan: how much was run.
        notebook: with the rows.
        command: that made them.
        features: of `picture_features`.
    """
    rows = list(notebook.rows.values())
    test = [r for r in rows if r["phase"] == "test" and r["method"] in chosen]
    peak_bytes = {r["method"]: r["bytes"] for r in rows if r["phase"] == "memory"}
    with torch.no_grad():
        ordinary = suite.clip(suite.ordinary)
    comparison = Comparison(
        plain={request_key(r): r for r in test if r["method"] == PLAIN},
        features=features,
        ordinary=ordinary,
        seed=plan.seed,
    )
    methods = {}
    for name, method in chosen.items():
        method_rows = [r for r in test if r["method"] == name]
        kinds = {kind: [r for r in method_rows if r["kind"] == kind] for kind in KINDS}
        methods[name] = {
            "settings": settings(method),
            "needs_reference": method.needs_reference,
            "source": method.source,
            "memory_ratio": round(peak_bytes[name] / peak_bytes[PLAIN], 3),
            **{kind: comparison.figures(kind_rows) for kind, kind_rows in kinds.items()},
        }
    ranking = order(methods)
    for name, front in ranking.items():
        methods[name]["front"] = front
    return {
        "command": command,
        "environment": environment(notebook.processes),
        "suite": suite.name,
        "plan": asdict(plan),
        "guidance": suite.context.guidance,
        "validation": [asdict(r) for r in suite.validation],
        "requests": [asdict(r) for r in suite.requests],
        "calibration": {"prompts": list(suite.context.ordinary)},
        "tuning": tuning_scores(suite, chosen, plan, notebook=notebook),
        "methods": {name: methods[name] for name in ranking},
        "rows": rows,
    }


def request_key(row: Row) -> RequestKey:
    """The request that a row answers, whichever method answered."""
    return row["kind"], row["prompt"], row["seed"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the figures of a method are measured against.

    Attributes:
        plain: by request, the rows of the plain pipeline.
        features: by row key, the judge's embedding (D,) of the picture.
        ordinary: (M, D), the judge's embeddings of the ordinary pictures.
        seed: of the bootstrap's draws.
    """

    plain: Mapping[RequestKey, Row]
    features: Mapping[str, Tensor]
    ordinary: Tensor
    seed: int

    def figures(self, rows: list[Row]) -> Row | None:
        """The figures of one method on one kind of prompt; None where there was none."""
        if not rows:
            return None
        plain = {r["key"]: self.plain[request_key(r)] for r in rows}
        handed_out = [r for r in rows if r["handed_out"]]
        flagged = [r for r in rows if plain[r["key"]]["memorized"]]
        ranked = [r for r in handed_out if r["rank"] is not None]
        both = [r for r in handed_out if plain[r["key"]]["handed_out"]]
        features = [self.features[r["key"]] for r in handed_out]
        by_prompt = [
            torch.stack(group) for group in _by_prompt(handed_out, lambda r: self.features[r["key"]]).values()
        ]

        def loss(key: str) -> Row:
            return self._mean(both, lambda r: plain[r["key"]][key] - r[key])

        return {
            "requests": len(rows),
            "prompts": len({r["prompt"] for r in rows}),
            "handed_out": len(handed_out),
            "flagged": len(flagged),
            **{f"{key}_rate": self._share(rows, partial(_handed_out_and, key)) for key in RATES},
            **self._sscd_rate(rows),
            "blocked_rate": self._share(flagged, lambda r: not r["handed_out"]),
            "alignment": self._mean(handed_out, lambda r: r["alignment"]),
            "alignment_loss": loss("alignment"),
            "bystander": self._mean(handed_out, lambda r: r["bystander"]),
            "bystander_loss": loss("bystander"),
            "concept": self._mean(ranked, lambda r: r["concept"]),
            "concept_top5": self._share(ranked, lambda r: r["rank"] < TOP),
            "concept_rank_median": statistics.median(r["rank"] for r in ranked) if ranked else None,
            "identical_rate": self._share(
                rows, lambda r: r["handed_out"] and r["sha256"] == plain[r["key"]]["sha256"]
            ),
            "kid": _rounded(kid(torch.stack(features), self.ordinary) if features else None),
            "diversity": _rounded(_mean_of_known(mean_distance(group) for group in by_prompt)),
            "vendi": _rounded(_mean_of_known(vendi(group) for group in by_prompt)),
            "nfe_ratio": _cost([r["nfe"] / plain[r["key"]]["nfe"] for r in rows]),
            "wall_ratio": _cost([r["seconds"] / plain[r["key"]]["seconds"] for r in rows]),
            "backwards": statistics.fmean(r["backwards"] for r in rows),
        }

    def _sscd_rate(self, rows: list[Row]) -> Row:
        """SSCD's rate, where its file was given."""
        # a method that handed out nothing has no row that says so: the plain ones do
        if "sscd" not in next(iter(self.plain.values())):
            return {}
        return {"sscd_rate": self._share(rows, partial(_handed_out_and, "sscd"))}

    def _share(self, rows: list[Row], measure: Callable[[Row], Any]) -> Row:
        return self._with_interval(rows, measure, share=True)

    def _mean(self, rows: list[Row], measure: Callable[[Row], Any]) -> Row:
        return self._with_interval(rows, measure, share=False)

    def _with_interval(self, rows: list[Row], measure: Callable[[Row], Any], share: bool) -> Row:
        """The mean over prompts of a measure, with its 95 % interval."""
        by_prompt = {
            prompt: [float(v) for v in values] for prompt, values in _by_prompt(rows, measure).items()
        }
        bounds = interval(by_prompt, self.seed, share)
        means = [statistics.fmean(values) for values in by_prompt.values()]
        return {
            "value": round(statistics.fmean(means), 4) if means else None,
            "interval": None if bounds is None else [round(b, 4) for b in bounds],
            "n": len(rows),
            "prompts": len(means),
        }


def order(methods: Row) -> dict[str, int]:
    """The Pareto front of each method, in order.

    The coordinates are memorized rate, withheld rate, alignment loss and cost on memorized prompts; within a
    front methods are ordered by them. A method that handed out nothing has lost all alignment.
    """

    def point(figures: Row) -> tuple[float, ...]:
        memorized = figures["memorized"]
        loss = memorized["alignment_loss"]["value"]
        return (
            memorized["memorized_rate"]["value"],
            memorized["blocked_rate"]["value"] or 0.0,
            1.0 if loss is None else loss,
            memorized["nfe_ratio"]["median"],
        )

    points = {name: point(figures) for name, figures in methods.items()}
    ranks = fronts(points)
    return {name: ranks[name] for name in sorted(points, key=lambda n: (ranks[n], points[n]))}


def tuning_scores(suite: Suite, chosen: dict[str, Method], plan: Plan, *, notebook: Notebook) -> list[Row]:
    """The settings that tuning tried, with their scores."""
    scores = []
    for name, method in chosen.items():
        candidates = configurations(type(method), plan.trials)
        for candidate in candidates if len(candidates) > 1 and suite.validation else []:
            rows = tuned_rows(candidate, suite, plan, notebook=notebook)
            scores.append(
                {
                    "method": name,
                    "settings": settings(candidate),
                    "score": round(score(rows), 4),
                    "chosen": candidate == method,
                }
            )
    return scores


def picture_features(suite: Suite, notebook: Notebook, batch: int = 64) -> dict[str, Tensor]:
    """The judge's embedding (D,) of every picture of the test, by row key."""
    rows = [r for r in notebook.rows.values() if r["phase"] == "test" and r["handed_out"]]
    features: dict[str, Tensor] = {}
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        pixels = [fit(to_tensor([open_rgb(notebook.picture(row))]), suite.clip.size) for row in part]
        with torch.no_grad():
            features.update(zip((row["key"] for row in part), suite.clip(torch.cat(pixels)), strict=True))
    return features


def open_rgb(file: Path) -> Image.Image:
    """A picture from a file, in RGB."""
    with Image.open(file) as image:
        return image.convert("RGB")


def _handed_out_and(key: str, row: Row) -> bool:
    return bool(row["handed_out"] and row[key])


def _by_prompt(rows: Iterable[Row], measure: Callable[[Row], Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        groups[row["prompt"]].append(measure(row))
    return groups


def _cost(ratios: Sequence[float]) -> Row:
    return {"median": round(statistics.median(ratios), 3), "p95": round(quantile(ratios, 0.95), 3)}


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
