"""Pipelines in threads, callers who end a call, and seeds that make a picture again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline

from steerclear import Budget, Guard, InputError
from steerclear.generators.limits import takes_several
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.steering.seeds import generators
from steerclear.testing import FAMILIES, MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Outcome


def pipelines_that_share_networks():
    first = tiny_pipeline("sd1")
    parts = {**first.components, "scheduler": EulerDiscreteScheduler.from_config(first.scheduler.config)}
    second = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    second.set_progress_bar_config(disable=True)
    return first, second


def test_guards_of_pipelines_that_share_networks_do_not_disturb_each_other_in_threads():
    pipes = pipelines_that_share_networks()
    guards = [Guard(pipe, [MockFilter(False)]) for pipe in pipes]
    plain = [
        [p("a fox", num_inference_steps=4, generator=generators([s])[0]).images[0] for s in range(3)]
        for p in pipes
    ]

    def ask(which, seed):
        return which, seed, guards[which]("a fox", num_inference_steps=4, generator=generators([seed])[0])

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, which, seed) for seed in range(3) for which in (0, 1)]
        for which, seed, out in (future.result() for future in asked):
            assert out.images[0].tobytes() == plain[which][seed].tobytes()
            assert out.reports[0].nfe == out.reports[0].nfe_plain == 8.0


def test_guards_of_one_pipeline_queue_although_its_scheduler_was_set_to_another_one_between():
    pipe = tiny_pipeline("sd1")
    begun, go_on = threading.Event(), threading.Event()

    class Waiting(MockFilter):
        def check(self, images):
            begun.set()
            assert go_on.wait(60)
            return super().check(images)

    first, second = Guard(pipe, [Waiting(False)]), Guard(pipe, [MockFilter(False)])
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(first, "a fox", num_inference_steps=2)
        assert begun.wait(60)
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        waiting = pool.submit(second, "a fox", num_inference_steps=2)
        go_on.set()
        assert {running.result().reports[0].outcome, waiting.result().reports[0].outcome} == {Outcome.CLEAR}


class Progress:
    """A callback that records what it is told, and interrupts at a step of the first pass or an attempt."""

    def __init__(self, interrupt_at=None):
        self.calls, self.interrupt_at = [], interrupt_at

    def __call__(self, pipe, step, timestep, values):
        self.calls.append((values.get("attempt"), step))
        if self.calls[-1] == self.interrupt_at:
            pipe._interrupt = True
        return {}


def guard_of(*names, verdicts=(True, False)):
    return Guard(
        tiny_pipeline("sd1"),
        [MockFilter(list(verdicts))],
        ladder=Ladder(strategies(names)),
        preferred=["a cup"],
    )


def test_callbacks_see_every_step_of_every_attempt_under_its_name():
    progress, guard = Progress(), guard_of("rewrite", "noise", verdicts=(True, True, False))
    out = guard("a fox", num_inference_steps=3, callback_on_step_end=progress)
    assert out.reports[0].outcome is Outcome.STEERED
    assert progress.calls == [(name, step) for name in (None, "rewrite", "noise") for step in range(3)]


@pytest.mark.parametrize("where", [(None, 0), ("rewrite", 1), ("noise", 0)])
def test_an_interrupted_call_hands_out_nothing_and_begins_nothing_more(where):
    progress, guard = Progress(where), guard_of("rewrite", "noise", "rewrite", verdicts=(True,) * 9)
    out = guard("a fox", num_inference_steps=3, callback_on_step_end=progress)
    assert out.images == [None]
    assert out.reports[0].outcome is Outcome.WITHHELD
    assert out.reports[0].reason == "interrupted"
    assert progress.calls[-1] == where
    assert guard.pipe("a fox", num_inference_steps=2).images  # the pipeline is as before


def test_an_interrupted_call_is_not_handed_out_though_nothing_flags_it():
    guard = Guard(tiny_pipeline("sd1"), [MockFilter(False)], on_withheld="placeholder")
    out = guard(["a fox", "a cat"], num_inference_steps=3, callback_on_step_end=Progress((None, 1)))
    assert out.nsfw_content_detected == [True, True]
    assert [r.reason for r in out.reports] == ["interrupted"] * 2
    assert [image.getpixel((0, 0)) for image in out.images] == [(128, 128, 128)] * 2


@pytest.mark.parametrize("steps", [0, 2, 4, 7])
def test_a_cancelled_request_ends_at_its_next_step_also_inside_a_strategy(steps):
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) > steps

    guard = guard_of("noise", "rewrite", verdicts=(True,) * 9)
    out = guard("a fox", num_inference_steps=3, budget=Budget(cancelled=cancelled))
    assert out.reports[0].reason == "cancelled"
    assert out.images == [None]
    assert len(asked) == steps + 1


SAMPLE = ("sd1", "sd3", "dit", "cascade", "sd1-image", "sd1-inpaint")


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=() if f in SAMPLE else pytest.mark.slow) for f in FAMILIES]
)
def test_the_reports_seed_makes_each_picture_of_a_batch_again(family):
    guard, call = Guard(tiny_pipeline(family), [MockFilter(False)]), tiny_call(family, "a fox", steps=2)
    if "class_labels" in call:
        call["class_labels"] = [1, 1]
    elif takes_several(guard.pipe):
        call["prompt"] = [call["prompt"]] * 2
    torch.manual_seed(5)
    out = guard(**call)
    torch.manual_seed(5)
    assert [image.tobytes() for image in guard(**call).images] == [image.tobytes() for image in out.images]
    if "mask_image" in call and len(out.images) > 1:  # the first generator encodes the masked picture of all
        assert [report.seed for report in out.reports] == [None, None]
        return
    assert len({report.seed for report in out.reports}) == len(out.images)
    again = guard(**call, generator=generators([report.seed for report in out.reports]))
    assert [image.tobytes() for image in again.images] == [image.tobytes() for image in out.images]


def test_a_pipeline_that_takes_one_generator_only_is_asked_with_one():
    guard = Guard(tiny_pipeline("kandinsky22"), [MockFilter(False)])
    call = tiny_call("kandinsky22", "a fox", steps=2)
    out = guard(**call, negative_prompt="a cat", num_images_per_prompt=2)
    assert [report.seed for report in out.reports] == [None, None]


def test_a_generator_that_is_shared_or_was_drawn_from_is_told_by_no_seed():
    guard = Guard(tiny_pipeline("sd1"), [MockFilter(False)])
    generator = torch.Generator().manual_seed(3)
    seeds = [guard("a fox", num_inference_steps=2, generator=generator).reports[0].seed for _ in range(2)]
    assert seeds == [3, None]
    shared = torch.Generator().manual_seed(4)
    for given in (shared, [torch.Generator().manual_seed(4)] * 2):
        out = guard("a fox", num_images_per_prompt=2, num_inference_steps=2, generator=given)
        assert [report.seed for report in out.reports] == [None, None]
    out = guard("a fox", num_images_per_prompt=2, num_inference_steps=2, generator=generators([1, 2]))
    assert [report.seed for report in out.reports] == [1, 2]


def test_prompt_filters_see_the_prompts_of_all_text_encoders():
    class Word:
        name, threshold = "word", 0.5

        def check_prompts(self, prompts):
            from steerclear.types import Detection

            return [
                Detection(self.name, flagged="fox" in p, score=float("fox" in p), threshold=self.threshold)
                for p in prompts
            ]

    guard = Guard(tiny_pipeline("sd3"), [MockFilter(False), Word()], ladder=Ladder(strategies(("rewrite",))))
    for further in ({"prompt_2": "a fox"}, {"prompt_3": ["a fox"]}):
        assert guard("a cat", num_inference_steps=2, **further).reports[0].outcome is not Outcome.CLEAR
    assert guard("a cat", prompt_2="a dog", num_inference_steps=2).reports[0].outcome is Outcome.CLEAR


def test_a_latent_that_a_callback_could_have_changed_is_not_handed_out():
    guard = Guard(tiny_pipeline("sd1"), [MockFilter(False)])

    def other(pipe, step, timestep, values):
        return {"latents": values["latents"] * 0 + 0.3}

    with pytest.raises(InputError, match="a callback may change the latent"):
        guard("a fox", num_inference_steps=2, output_type="latent", callback_on_step_end=other)

    class Own(StableDiffusionPipeline):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    subclassed = Own(**tiny_pipeline("sd1").components, requires_safety_checker=False)
    with pytest.raises(InputError, match="a call of its own"):
        Guard(subclassed, [MockFilter(False)])("a fox", num_inference_steps=2, output_type="latent")


def test_a_picture_for_each_image_of_one_prompt_is_refused_before_anything_is_denoised():
    guard = Guard(tiny_pipeline("sd1-image"), [MockFilter(False)])
    pictures = torch.zeros(2, 3, 64, 64)
    for image in (pictures, list(pictures)):
        with pytest.raises(InputError, match="image has 2 pictures for 1 prompts with 2 images each"):
            guard("a fox", image=image, num_images_per_prompt=2, num_inference_steps=4)
