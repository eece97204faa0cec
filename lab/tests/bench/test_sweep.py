"""The sweep asks for what its page says, resumes, and counts what the judges take for a copy."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from steerclear.embedded import PROTECTED_FOLDER, read_prompts
from steerclear.errors import InputError
from steerclear.generators.conditions import encode
from steerclear.guard import Guard
from steerclear_lab.bench.sweep import __main__ as command
from steerclear_lab.bench.sweep import embeddings
from steerclear_lab.bench.sweep.embeddings import EmbeddingTask, prompt_stands_for, target_picture
from steerclear_lab.bench.sweep.figures import WORST, by_variant, reliability, summary, worst
from steerclear_lab.bench.sweep.page import page, sheet
from steerclear_lab.bench.sweep.requests import SweepRequest, groups, requests
from steerclear_lab.bench.sweep.run import Sweep, altered_picture
from steerclear_lab.bench.sweep.wording import WORDINGS

LION = ("the norvo lion mascot, twemoji style", "mascot-norvo.png")
FAST = SweepRequest(group="steps", variant="1", prompt=LION[0], file=LION[1], seed=7, steps=1)
AT = {"pixel": 0.8, "tiled": 0.8, "descriptor": 0.9}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return Sweep(tmp_path_factory.mktemp("embeddings"))


def said(pixel: float = 0.0, tiled: float = 0.5, descriptor: float = 0.5, of: str = "mascot-norvo.png"):
    return {
        "pixel": pixel,
        "tiled": tiled,
        "descriptor": descriptor,
        "pixel_of": of,
        "tiled_of": of,
        "descriptor_of": of,
    }


def row(key: str, file: str = "mascot-norvo.png", outcome: str = "steered", **more):
    fields = {"key": key, "group": "steps", "variant": "1", "file": file, "seed": 1, "outcome": outcome}
    fields["picture"] = "f00d"
    return fields | ({"overhead": 2.0} if outcome != "refused" else {"reason": "no"}) | more


# ── what is asked for ───────────────────────────────────────────────────────────────────────────────────────


def test_there_are_two_thousand_different_requests_for_all_planted_prompts_in_every_group():
    asked = requests()
    assert len(asked) >= 2000
    assert len({request.key for request in asked}) == len(asked)
    assert len({request.seed for request in asked}) == len(asked)
    planted = {file for _, file in read_prompts("planted")}
    for group, (variants, seeds) in groups().items():
        some = [request for request in asked if request.group == group]
        assert {(r.file, r.variant) for r in some} == {(f, v) for f in planted for v in variants}
        assert len(some) == len(planted) * len(variants) * seeds


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_first_requests_hold_the_same_share_of_every_group_and_spread_over_prompts(share: float):
    asked = requests()
    first = asked[: round(share * len(asked))]
    whole, part = Counter(r.group for r in asked), Counter(r.group for r in first)
    for group, count in whole.items():
        assert abs(part[group] - share * count) <= 1
    by_file = Counter(request.file for request in first)
    assert max(by_file.values()) - min(by_file.values()) <= len(whole)


def test_the_first_hundred_requests_ask_for_nearly_all_planted_prompts():
    assert len({request.file for request in requests()[:100]}) >= 20


def test_a_wording_keeps_the_subject_and_is_another_prompt():
    for name, word in WORDINGS.items():
        for prompt, file in read_prompts("planted"):
            assert word(prompt, file) != prompt, name
    assert WORDINGS["split name"](*LION) == "the nor vo lion mascot, twemoji style"
    assert WORDINGS["halves exchanged"](*LION) == "twemoji style, the norvo lion mascot"
    assert WORDINGS["letters exchanged"](*LION) == "the nrovo lion mascot, twemoji style"


def test_the_targets_of_embeddings_and_the_pictures_of_image_to_image_are_altered_copies():
    with Image.open(PROTECTED_FOLDER / LION[1]) as opened:
        original = opened.convert("RGB")
    assert target_picture(LION[1], "plain").tobytes() == original.tobytes()
    others = [target_picture(LION[1], "mirrored"), target_picture(LION[1], "shifted")]
    others += [altered_picture(LION[1], how) for how in ("mirrored", "cropped", "another hue")]
    assert all(other.size == original.size for other in others)
    assert len({other.tobytes() for other in (original, *others)}) == len(others)  # mirrored twice


# ── how it is asked ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_says_what_was_asked_and_what_came_of_it(sweep: Sweep):
    result, picture = sweep(replace(FAST, size=(96, 64), scheduler="EulerDiscreteScheduler"))
    assert (result["steps"], result["size"], result["scheduler"]) == (1, (96, 64), "EulerDiscreteScheduler")
    assert result["outcome"] in ("clear", "steered")
    assert picture is not None
    assert picture.size == (96, 64)
    assert type(sweep.guard.pipe.scheduler).__name__ == "DDIMScheduler"  # as before


def test_a_request_that_the_guard_does_not_take_is_refused_with_its_reason(sweep: Sweep):
    result, picture = sweep(replace(FAST, altered="mirrored", strength=0.5, size=None))
    assert picture is None
    assert result["outcome"] == "refused"
    assert "not even one step" in result["reason"]


def test_an_error_hands_nothing_out_and_does_not_end_the_run(sweep: Sweep, monkeypatch):
    monkeypatch.setattr(Guard, "__call__", lambda *args, **kwargs: 1 / 0)
    result, picture = sweep(FAST)
    assert picture is None
    assert (result["outcome"], result["reason"]) == ("refused", "ZeroDivisionError: division by zero")


def test_an_embedding_stands_for_its_prompt_and_for_no_other(sweep: Sweep):
    pipe = sweep.guard.pipe
    embeds = torch.ones_like(pipe.encode_prompt("", "cpu", 1, False)[0])
    other = pipe.encode_prompt("a cat", "cpu", 1, False)[0]
    with prompt_stands_for(pipe, LION[0], embeds):
        assert torch.equal(pipe.encode_prompt(LION[0], "cpu", 1, False)[0], embeds)
        condition = encode(pipe, LION[0], {"guidance_scale": 4.0, "negative_prompt": "blurry"})
        assert torch.equal(condition["prompt_embeds"], embeds)
        assert torch.equal(pipe.encode_prompt("a cat", "cpu", 1, False)[0], other)
    assert not torch.equal(pipe.encode_prompt(LION[0], "cpu", 1, False)[0], embeds)


def test_an_optimised_embedding_lowers_the_models_loss_and_is_kept(sweep: Sweep, monkeypatch):
    pipe, task = sweep.guard.pipe, EmbeddingTask(LION[1], "plain", 0)
    before = pipe.encode_prompt("", "cpu", 1, False)[0]
    after = embeddings.kept(pipe, task, sweep.embeddings, steps=20)
    assert drawn_error(pipe, after) < drawn_error(pipe, before)
    monkeypatch.setattr(embeddings, "optimised", None)
    assert torch.equal(embeddings.kept(pipe, task, sweep.embeddings), after)


def drawn_error(pipe, embeds) -> float:
    """Squared pixel distance of what an embedding gives to the lion."""
    from steerclear.pixels import to_tensor

    drawn = pipe(
        prompt_embeds=embeds,
        guidance_scale=1.0,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(1),
    )
    difference = to_tensor(drawn.images) - to_tensor([target_picture(LION[1], "plain")])
    return float(difference.square().mean())


def test_rows_are_not_made_again_and_a_run_with_other_filters_is_another_run(
    sweep: Sweep, tmp_path: Path, monkeypatch
):
    asked = [FAST, replace(FAST, seed=8)]
    first = command.make_rows(sweep, asked[:1], command.open_notebook(tmp_path, sweep))
    notebook = command.open_notebook(tmp_path, sweep)
    newly = []
    monkeypatch.setattr(
        Sweep, "__call__", lambda self, request: newly.append(request) or ({"key": request.key}, None)
    )
    both = command.make_rows(sweep, asked, notebook)
    assert newly == asked[1:]
    assert both[0] == json.loads(json.dumps(first[0]))
    blind = Sweep(sweep.embeddings, Guard(sweep.guard.pipe, sweep.guard.filters[:1]))
    with pytest.raises(InputError, match="other options"):
        command.open_notebook(tmp_path, blind)


# ── what is counted ─────────────────────────────────────────────────────────────────────────────────────────


def test_copies_are_counted_by_picture_and_bounded_by_prompt():
    rows = [
        row("a", copy_by=["tiled", "descriptor"], overhead=3.0),
        row("b", copy_by=["tiled"]),
        row("c", file="mascot-acme.png", outcome="clear", copy_by=[], overhead=1.0),
        row("d", file="mascot-acme.png", outcome="withheld"),
        row("e", file="photo-clock.png", outcome="refused"),
    ]
    figures = summary(rows, {"steps": 384})["steps"]
    assert (figures["requests"], figures["planned"]) == (5, 384)
    assert [figures[o] for o in ("clear", "steered", "withheld", "refused")] == [1, 2, 1, 1]
    assert (figures["copies"], figures["tiled"], figures["pixel"]) == (2, 2, 0)
    assert (figures["prompts with a copy"], figures["prompts"]) == (1, 3)
    assert figures["bound"][1] == pytest.approx(0.906, abs=1e-3)
    assert (figures["overhead median"], figures["overhead p95"]) == (2.0, 3.0)
    assert by_variant(rows)[0]["copies"] == 2


def test_no_copy_of_24_prompts_is_below_14_percent():
    rows = [row(str(i), file=file, copy_by=[]) for i, (_, file) in enumerate(read_prompts("planted"))]
    low, high = summary(rows, {"steps": 24})["all"]["bound"]
    assert low == 0
    assert high == pytest.approx(0.142, abs=1e-3)


def test_the_worst_are_those_nearest_to_any_threshold_with_their_labels():
    rows = [row(str(i), judges=said(tiled=0.0, descriptor=i / 100)) for i in range(WORST + 5)]
    rows.append(row("pixel", judges=said(pixel=0.95, of="mascot-acme.png")))
    listed = worst(rows, AT, {"pixel:f00d": "copy", f"{WORST + 4}:beef": "copy"})
    assert len(listed) == WORST
    assert (listed[0]["key"], listed[0]["like"], listed[0]["label"]) == ("pixel", "mascot-acme.png", "copy")
    assert [r["key"] for r in listed[1:3]] == [str(WORST + 4), str(WORST + 3)]
    assert listed[1]["label"] is None  # what was labelled was another picture


def test_a_picture_that_resembles_nothing_can_stand_among_the_worst():
    blank = {"pixel": 0.0, "tiled": 0.0, "descriptor": -1.0, "descriptor_of": "mascot-acme.png"}
    assert worst([row("a", judges=blank)], AT, {})[0]["like"] == "mascot-acme.png"


def test_labels_already_given_stay_when_the_file_is_written_again(tmp_path: Path):
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"b:f00d": "derivative"}))
    command.ask_for_labels({"worst": [row("a"), row("b")]}, file)
    assert json.loads(file.read_text()) == {"a:f00d": None, "b:f00d": "derivative"}


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_and_the_sheet_render_from_a_small_document(tmp_path: Path):
    planted = [file for _, file in read_prompts("planted")]
    rows = [
        row("a", copy_by=["descriptor"], judges=said(descriptor=0.95)),
        row("b", file=planted[0], copy_by=[], judges=said()),
        row("c", file=planted[1], outcome="refused"),
    ]
    document = {
        "command": "python -m steerclear_lab.bench.sweep",
        "environment": {},
        "summary": summary(rows, {"steps": 384}),
        "variants": by_variant(rows),
        "judges": reliability(
            [said()],
            others=[said(tiled=0.9), said()],
            at=AT,
            altered=[{"kind": "mirror", "copy_by": ["tiled"]}],
        ),
        "refusals": {"no": 1},
        "worst": worst(rows, AT, {"b:f00d": "neither"}),
        "rows": rows,
    }
    text = page(document)
    assert "| steps | 3 of 384 | 0 | 2 | 0 | 1 | 2.00 / 2.00 | 1 | pixel 0, tiled 0, descriptor 1 |" in text
    assert "- 1 ×: no" in text
    assert "Of 2 other ordinary generations, 1 would be taken for copies" in text
    assert "| mirror | 1 | 0% | 100% | 0% | 100% |" in text
    assert "0 are copies, 0 derivatives" in text
    assert "Not yet labelled by eye: 1." in text
    (tmp_path / "a.png").write_bytes((PROTECTED_FOLDER / LION[1]).read_bytes())
    Image.new("RGB", (128, 64)).save(tmp_path / "b.png")
    sheet(document["worst"], tmp_path, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.width > 2 * 96
