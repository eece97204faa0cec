"""The figures of the main job, from its rows."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.intervals import mean, quantile, share


def summary(
    planted: Sequence[Row], ordinary: Sequence[Row], paraphrases: Sequence[Row], nearest_threshold: float
) -> Row:
    """The figures of the table.

    Args:
        planted, ordinary, paraphrases: rows of the functions of these names in `main_job`.
        nearest_threshold: of the guard's nearest filter.
    """
    flagged = [r for r in planted if r["outcome"] != "clear"]
    handed_out = [r for r in planted if r["handed_out"]]
    steered = [r for r in handed_out if r["outcome"] == "steered"]
    ranks = [r["handed_out"]["rank"] for r in steered if r["handed_out"]["rank"] is not None]
    plain_ranks = [r["plain"]["rank"] for r in flagged if r["plain"]["rank"] is not None]
    overheads = [r["overhead"] for r in flagged] or [float("nan")]
    passed_by = Counter(r["rungs"][-1] for r in steered if r["rungs"])
    return {
        "requests": len(planted),
        "plain_flagged": share(r["plain_flagged"] for r in planted),
        "steered_though_plain_would_pass": sum(not r["plain_flagged"] for r in flagged),
        "flagged": len(flagged),
        "handed_out": len(handed_out),
        "handed_out_within_0.1": sum(r["handed_out"]["pixel_l2"] < 0.1 for r in handed_out),
        "handed_out_above_nearest": sum(r["scores"]["nearest"] >= nearest_threshold for r in handed_out),
        "handed_out_flagged": sum(r["flagged"] for r in handed_out),
        "same_picture_by_clip": share(r["handed_out"]["same_picture"] for r in handed_out),
        "plain_same_picture_by_clip": share(r["plain"]["same_picture"] for r in planted),
        "writers_block_rate": share(r["outcome"] == "withheld" for r in flagged),
        "overhead_median": round(statistics.median(overheads), 3),
        "overhead_p95": round(quantile(overheads, 0.95), 3),
        "wall_median": round(statistics.median([r["wall"] for r in flagged] or [float("nan")]), 3),
        **alignments(planted, steered, paraphrases),
        "concept_top5_steered": share(rank < 5 for rank in ranks),
        "concept_top5_plain": share(rank < 5 for rank in plain_ranks),
        "passed_by": dict(passed_by),
        **resampled(paraphrases),
        "ordinary": len(ordinary),
        "ordinary_identical": share(r["identical"] for r in ordinary),
        "ordinary_false_alarms": sum(r["outcome"] != "clear" for r in ordinary),
        "ordinary_wall_median": round(statistics.median(r["wall"] for r in ordinary), 4)
        if ordinary
        else None,
    }


def alignments(planted: Sequence[Row], steered: Sequence[Row], paraphrases: Sequence[Row]) -> Row:
    """How well steered, clear paraphrased and plain pictures answer the planted prompt.

    Steered and clear ones are compared on the protected pictures that have both.
    """
    clear = [r for r in paraphrases if not r["flagged"]]
    files = {r["file"] for r in clear} & {r["file"] for r in steered}
    all_steered = [r["handed_out"] for r in steered]
    compared_steered = [r["handed_out"] for r in steered if r["file"] in files]
    compared_clear = [r["plain"] for r in clear if r["file"] in files]
    plain = [r["plain"] for r in planted]
    return {
        "alignment_steered": mean(v["alignment"] for v in all_steered),
        "clear_paraphrases": len(clear),
        "of_paraphrases": len(paraphrases),
        "their_items": len(files),
        "alignment_clear_paraphrases": mean(v["alignment"] for v in compared_clear),
        "alignment_steered_same_items": mean(v["alignment"] for v in compared_steered),
        "alignment_plain": mean(v["alignment"] for v in plain),
        "bystander_alignment_steered": mean(v["bystander"] for v in compared_steered),
        "bystander_alignment_clear_paraphrases": mean(v["bystander"] for v in compared_clear),
        "bystander_alignment_plain": mean(v["bystander"] for v in plain),
        "concept_alignment_steered": mean(concepts(all_steered)),
        "concept_alignment_clear_paraphrases": mean(concepts(compared_clear)),
        "concept_alignment_plain": mean(concepts(plain)),
    }


def resampled(paraphrases: Sequence[Row]) -> Row:
    """Steered beside resampled pictures of the very same requests, each judged by the prompt of the request.

    Of the flagged requests whose prompt has a clear picture under another seed: what the guard handed out,
    beside the mean of those clear pictures.
    """
    clear: dict[str, list[Row]] = {}
    for row in paraphrases:
        if not row["flagged"]:
            clear.setdefault(row["prompt"], []).append(row["asked"])
    pairs = [(r["steered"], clear[r["prompt"]]) for r in paraphrases if r["steered"] and r["prompt"] in clear]
    named = [(steered, others) for steered, others in pairs if steered["concept"] is not None]
    return {
        "flagged_paraphrases": sum(r["flagged"] for r in paraphrases),
        "of_which_a_new_seed_clears": len(pairs),
        "alignment_resampled": mean(_mean_of(others, "alignment") for _, others in pairs),
        "alignment_steered_instead": mean(steered["alignment"] for steered, _ in pairs),
        "bystander_alignment_resampled": mean(_mean_of(others, "bystander") for _, others in pairs),
        "bystander_alignment_steered_instead": mean(steered["bystander"] for steered, _ in pairs),
        "concept_alignment_resampled": mean(_mean_of(others, "concept") for _, others in named),
        "concept_alignment_steered_instead": mean(steered["concept"] for steered, _ in named),
        "same_picture_resampled": mean(share(v["same_picture"] for v in others) for _, others in pairs),
        "same_picture_steered_instead": mean(steered["same_picture"] for steered, _ in pairs),
    }


def concepts(verdicts: Sequence[Row]) -> list[float]:
    """The cosines with the concept, of the verdicts whose prompt has one."""
    return [v["concept"] for v in verdicts if v["concept"] is not None]


def _mean_of(verdicts: Sequence[Row], key: str) -> float:
    """The mean of one score, to four places, of one verdict or more."""
    return round(statistics.fmean(v[key] for v in verdicts), 4)
