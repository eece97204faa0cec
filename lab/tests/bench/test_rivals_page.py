"""Which method is best at what, as the page of the comparison says."""

from steerclear_lab.bench import rivals_tables


def rate(value):
    return {"value": value, "interval": [0, 1]}


def compared(memorized, blocked, same, references=True):
    row = {
        "memorized_rate": rate(memorized),
        "blocked_rate": rate(blocked),
        "same_clip_rate": rate(same),
        "concept_top5": rate(0.9),
        "alignment_loss": rate(0.1),
        "bystander_loss": rate(0.1),
        "nfe_ratio": {"median": 1.0, "p95": 2.0},
    }
    return {
        "needs_reference": references,
        "memorized": row,
        "template": None,
        "ordinary": {"identical_rate": rate(1.0)},
    }


def test_the_best_are_named_and_one_that_hands_out_nothing_wins_nothing():
    methods = {
        "none": compared(1, 0, 1),
        "refusal": compared(0, 1, 0),
        "leaky": compared(0.5, 0, 0, references=False),
        "good": compared(0, 0, 0.2),
        "steerclear": compared(0, 0, 0.1),
    }
    best = {row[0]: row[1:] for row in rivals_tables.best({"methods": methods})}
    assert best["hands out the fewest memorized pictures"] == ["good, steerclear", "0", "0"]
    assert best["the same, of those that need no references"] == ["leaky", "0.5", "0"]
    assert best["of the defences: fewest that a CLIP takes for a protected picture"] == [
        "steerclear",
        "0.1",
        "0.1",
    ]
    assert "paraphrases: hands out the fewest memorized pictures" not in best
