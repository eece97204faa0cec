"""Going on from a noise level: the steps that are left are the pipeline's own, whatever the family."""

from __future__ import annotations

import pytest
import torch

from steerclear.generators import PipelineRunner
from steerclear.generators.resume import starting_at
from steerclear.generators.start import noise_scale
from steerclear.steering import Step
from steerclear.testing import FAMILIES, tiny_call, tiny_pipeline

# DiT takes no prompt; what begins from a picture begins at a noise level of its own
PROMPTED = [f for f in FAMILIES if f != "dit" and not f.endswith(("-image", "-inpaint"))]
# LCM's scheduler adds new noise at every step, and Würstchen's is the only one that its family takes
REPEATABLE = [family for family in PROMPTED if family not in ("lcm", "wuerstchen")]
NOISE_FAMILIES = (
    "sd1",
    "sdxl",
    "pixart",
    "pixart-alpha",
    "hunyuandit",
    "kandinsky22",
    "kandinsky3",
    "cascade",
)
# their step needs only the sample; multistep schedulers use earlier steps, which a resumed run never took
ONE_STEP = ("DDIMScheduler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "DDPMScheduler")


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("family", REPEATABLE)
def test_a_pass_taken_up_in_the_middle_ends_where_the_whole_pass_does(family):
    pipe = tiny_pipeline(family)
    if family in NOISE_FAMILIES:
        pipe = tiny_pipeline(family, "DDIMScheduler")
    if type(pipe.scheduler).__name__ not in ONE_STEP:
        pipe = tiny_pipeline(family, "FlowMatchEulerDiscreteScheduler")
    runner, call = PipelineRunner(pipe), tiny_call(family, "a small fox", steps=4)
    samples = []

    def keep(step: Step) -> None:
        samples.append(step.sample)

    whole = runner.run(keep, generator=seeded(), **call)
    condition = runner.encode("a small fox", call)
    with starting_at(pipe.scheduler, 2) as restore_timesteps:
        rest = runner.regenerate(
            condition,
            samples[2] / noise_scale(pipe),
            kwargs=call,
            generator=seeded(1 if hasattr(pipe, "decoder_pipe") else 2),  # a prior draws noise of its own
            on_denoised=lambda step: restore_timesteps(),
            resumed=True,
        )
    torch.testing.assert_close(rest.latents, whole.latents, rtol=1e-4, atol=1e-4)
    assert rest.steps == 2
    assert not {"set_timesteps", "set_begin_index", "step"} & set(vars(pipe.scheduler))
    again = runner.run(generator=seeded(), **call)
    assert again.images[0].tobytes() == whole.images[0].tobytes()


@pytest.mark.parametrize("family", PROMPTED)
def test_little_noise_leaves_the_latent_near_and_all_of_it_takes_it_anywhere(family):
    pipe = tiny_pipeline(family)
    runner, call = PipelineRunner(pipe), tiny_call(family, "a small fox", steps=8)
    first = runner.run(generator=seeded(), **call)
    condition = runner.encode("a small fox", call)

    def distance(strength):
        resumed = runner.resume(
            first.latents, strength, condition=condition, kwargs=call, generator=seeded(3)
        )
        return float((resumed.latents - first.latents).norm())

    assert distance(0.125) < distance(1.0)


def test_a_schedule_is_found_out_where_no_pass_came_before():
    pipe = tiny_pipeline("sd3")
    runner, call = PipelineRunner(pipe), tiny_call("sd3", steps=4)
    first = PipelineRunner(pipe).run(generator=seeded(), **call)
    condition = runner.encode("a fox", call)
    resumed = runner.resume(first.latents, 0.5, condition=condition, kwargs=call, generator=seeded())
    assert resumed.steps == 2
    assert resumed.resumed
