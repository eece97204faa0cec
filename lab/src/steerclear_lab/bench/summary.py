"""From rows to figures: what the comparison says of each method, with intervals over prompts."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.pixels import fit, to_tensor
from steerclear_lab.bench.baselines import Method
from steerclear_lab.bench.environment import environment
from steerclear_lab.bench.harness import PLAIN, Notebook, Plan, Row, score, settings, tuned_rows
from steerclear_lab.bench.intervals import fronts, interval, kid, quantile, spread, vendi
from steerclear_lab.bench.suites import Suite

KINDS = ("memorized", "template", "ordinary")
TOP = 5  # a concept counts as kept where the judge ranks it among this many


def document(
    suite: Suite, chosen: dict[str, Method], plan: Plan, notebook: Notebook, command: str, features: dict[str, Tensor]
) -> dict[str, Any]:  # fmt: skip
    """Everything that was measured, as JSON. features: `embedded`, of the notebook's pictures."""
    rows = list(notebook.rows.values())
    test = [r for r in rows if r["phase"] == "test" and r["method"] in chosen]
    bytes_of = {r["method"]: r["bytes"] for r in rows if r["phase"] == "memory"}
    plain = {ask(r): r for r in test if r["method"] == PLAIN}
    with torch.no_grad():
        gallery = suite.clip(suite.ordinary)
    methods = {}
    for name, method in chosen.items():
        mine = [r for r in test if r["method"] == name]
        methods[name] = {
            "settings": settings(method), "needs_reference": method.needs_reference, "source": method.source,
            "memory_ratio": round(bytes_of[name] / bytes_of[PLAIN], 3),
            **{
                kind: figures([r for r in mine if r["kind"] == kind], plain, features, gallery, plan.seed)
                for kind in KINDS
            },
        }  # fmt: skip
    ranking = order(methods)
    for name, front in ranking.items():
        methods[name]["front"] = front
    return {
        "command": command, "environment": environment(notebook.processes), "suite": suite.name, "plan": asdict(plan),
        "guidance": suite.context.guidance,
        "validation": [asdict(r) for r in suite.validation], "requests": [asdict(r) for r in suite.requests],
        "calibration": {"prompts": list(suite.context.ordinary)},
        "tuning": trials(suite, chosen, plan, notebook), "methods": {n: methods[n] for n in ranking}, "rows": rows,
    }  # fmt: skip


def ask(row: Row) -> tuple[str, str, int]:
    """What was asked for, whichever method answered."""
    return row["kind"], row["prompt"], row["seed"]


def figures(
    rows: list[Row], plain: dict[tuple[str, str, int], Row], features: dict[str, Tensor], gallery: Tensor, seed: int
) -> dict[str, Any] | None:  # fmt: skip
    """One method on one kind of prompt; None where there was none. plain: by request, the plain pipeline's rows."""
    if not rows:
        return None
    out = [r for r in rows if r["handed_out"]]
    flagged = [r for r in rows if plain[ask(r)]["memorized"]]
    kept = [r for r in out if r["rank"] is not None]
    seen = [features[r["key"]] for r in out]
    by_prompt = [torch.stack(list(group)) for group in _grouped(out, lambda r: features[r["key"]]).values()]
    nfe = [r["nfe"] / plain[ask(r)]["nfe"] for r in rows]
    wall = [r["seconds"] / plain[ask(r)]["seconds"] for r in rows]

    def rate(some: list[Row], value: Callable[[Row], Any], share: bool = True) -> dict[str, Any]:
        grouped = {k: [float(v) for v in vs] for k, vs in _grouped(some, value).items()}
        bounds = interval(grouped, seed, share)
        means = [statistics.fmean(vs) for vs in grouped.values()]
        return {
            "value": round(statistics.fmean(means), 4) if means else None,
            "interval": None if bounds is None else [round(b, 4) for b in bounds], "n": len(some), "prompts": len(means),
        }  # fmt: skip

    return {
        "requests": len(rows), "prompts": len({r["prompt"] for r in rows}), "handed_out": len(out), "flagged": len(flagged),
        **{
            f"{name}_rate": rate(rows, lambda r, name=name: r["handed_out"] and r[name])  # type: ignore[misc]
            for name in ("memorized", "pixel", "tiled", "copy", "same_clip", "same_pixel")
        },
        # where nothing was handed out, no row says whether SSCD's file was given: the plain ones do
        **({"sscd_rate": rate(rows, lambda r: r["handed_out"] and r["sscd"])} if "sscd" in next(iter(plain.values())) else {}),
        "blocked_rate": rate(flagged, lambda r: not r["handed_out"]),
        "alignment": rate(out, lambda r: r["alignment"], share=False),
        "alignment_loss": rate(
            [r for r in out if plain[ask(r)]["handed_out"]], lambda r: plain[ask(r)]["alignment"] - r["alignment"], share=False,
        ),
        "bystander": rate(out, lambda r: r["bystander"], share=False),
        "bystander_loss": rate(
            [r for r in out if plain[ask(r)]["handed_out"]], lambda r: plain[ask(r)]["bystander"] - r["bystander"], share=False,
        ),
        "concept": rate(kept, lambda r: r["concept"], share=False), "concept_top5": rate(kept, lambda r: r["rank"] < TOP),
        "concept_rank_median": statistics.median(r["rank"] for r in kept) if kept else None,
        "identical_rate": rate(rows, lambda r: r["handed_out"] and r["sha256"] == plain[ask(r)]["sha256"]),
        "kid": _rounded(kid(torch.stack(seen), gallery) if seen else None),
        "diversity": _rounded(_mean(spread(e) for e in by_prompt)), "vendi": _rounded(_mean(vendi(e) for e in by_prompt)),
        "nfe_ratio": {"median": round(statistics.median(nfe), 3), "p95": round(quantile(nfe, 0.95), 3)},
        "wall_ratio": {"median": round(statistics.median(wall), 3), "p95": round(quantile(wall, 0.95), 3)},
        "backwards": statistics.fmean(r["backwards"] for r in rows),
    }  # fmt: skip


def order(methods: dict[str, Any]) -> dict[str, int]:
    """Pareto fronts in memorized rate, withheld rate, alignment loss and cost on memorized prompts; within a front by rate,
    withheld, loss. A method that handed out nothing has lost all alignment."""

    def point(found: dict[str, Any]) -> tuple[float, ...]:
        main = found["memorized"]
        loss = main["alignment_loss"]["value"]
        return (
            main["memorized_rate"]["value"], main["blocked_rate"]["value"] or 0.0, 1.0 if loss is None else loss,
            main["nfe_ratio"]["median"],
        )  # fmt: skip

    points = {name: point(found) for name, found in methods.items()}
    ranked = fronts(points)
    return {name: ranked[name] for name in sorted(points, key=lambda n: (ranked[n], points[n]))}


def trials(suite: Suite, chosen: dict[str, Method], plan: Plan, notebook: Notebook) -> list[dict[str, Any]]:
    """What was tried in tuning, and how it did."""
    from steerclear_lab.bench.baselines import configurations

    found = []
    for name, method in chosen.items():
        tried = configurations(type(method), plan.trials)
        for one in tried if len(tried) > 1 and suite.validation else []:
            rows = tuned_rows(one, suite, plan, notebook)
            found.append(
                {
                    "method": name,
                    "settings": settings(one),
                    "score": round(score(rows), 4),
                    "chosen": one == method,
                }
            )
    return found


def embedded(suite: Suite, notebook: Notebook, batch: int = 64) -> dict[str, Tensor]:
    """The judge's embedding (D,) of every picture of the test, by key."""
    rows = [r for r in notebook.rows.values() if r["phase"] == "test" and r["handed_out"]]
    found: dict[str, Tensor] = {}
    for i in range(0, len(rows), batch):
        pixels = torch.cat(
            [fit(to_tensor([opened(notebook.picture(r))]), suite.clip.size) for r in rows[i : i + batch]]
        )
        with torch.no_grad():
            found.update(zip((r["key"] for r in rows[i : i + batch]), suite.clip(pixels), strict=True))
    return found


def opened(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _grouped(rows: Iterable[Row], value: Callable[[Row], Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row["prompt"]].append(value(row))
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
