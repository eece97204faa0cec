"""Every family with every scheduler it takes: the hook is invisible when idle, and steers when asked."""

import pytest
import torch

from steerclear.errors import ConfigError
from steerclear.steering import steer
from steerclear.testing import FAMILIES, tiny_call, tiny_pipeline

IMAGE_FAMILIES = ["sd1-image", "sd1-inpaint", "sdxl-image", "sdxl-inpaint"]
NOISE_FAMILIES = ["sd1", "sdxl", "pixart", "pixart-alpha", "dit", "hunyuandit", *IMAGE_FAMILIES]
# their pipelines scale no input, and hand a generator to every step, so that few schedulers fit
KANDINSKY = ["kandinsky22", "kandinsky3"]
KANDINSKY_SCHEDULERS = [
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "LCMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
]
# Kandinsky 2.2 hands these a learned variance, which they have a setting for and no use
TAKES_NO_VARIANCE = {"DPMSolverMultistepScheduler", "SASolverScheduler"}
CASCADE_SCHEDULERS = ["DDPMScheduler", "DDIMScheduler"]  # beside Würstchen's own, which alone Würstchen takes
NOISE_SCHEDULERS = [
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
]
OTHERS = (*NOISE_FAMILIES, *KANDINSKY, "lcm", "wuerstchen", "cascade")
FLOW_FAMILIES = [family for family in FAMILIES if family not in OTHERS]
FLOW_SCHEDULERS = ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]
# pipelines that hand their own sigmas to set_timesteps, which Heun does not take
OWN_SIGMAS = {"flux", "flux2", "flux2-dev", "qwen", "lumina2", "zimage", "chroma", "cogview4"}
# schedulers for which DiT's loop, that scales the running latent in place, is no valid sampler
SCALES_INPUT = {
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
}

EVERYTHING = [
    *((family, name) for family in NOISE_FAMILIES for name in NOISE_SCHEDULERS),
    *((family, name) for family in KANDINSKY for name in KANDINSKY_SCHEDULERS),
    *(("cascade", name) for name in CASCADE_SCHEDULERS),
    *((family, name) for family in FLOW_FAMILIES for name in FLOW_SCHEDULERS),
]
QUICK = {("sd1", name) for name in NOISE_SCHEDULERS}
MATRIX = [
    pytest.param(family, name, marks=() if (family, name) in QUICK else pytest.mark.slow)
    for family, name in EVERYTHING
    if not (name == "FlowMatchHeunDiscreteScheduler" and family in OWN_SIGMAS)
    and not (name in SCALES_INPUT and family == "dit")
    and not (name in TAKES_NO_VARIANCE and family == "kandinsky22")
] + [pytest.param(family, None) for family in FAMILIES if family != "sd1"]

_pipelines: dict = {}


def pipeline(family, name):
    """The family's pipeline with another scheduler; built once, since nothing here changes its weights."""
    if family not in _pipelines:
        pipe = tiny_pipeline(family)
        _pipelines[family] = pipe, pipe.scheduler
    pipe, usual = _pipelines[family]
    scheduler = usual if name is None else tiny_pipeline(family, name).scheduler
    for holder in (pipe, getattr(pipe, "decoder_pipe", pipe)):
        holder.scheduler = scheduler
    return pipe


def run(pipe, family, steps=4):
    call = tiny_call(family, steps=steps)
    with torch.random.fork_rng():
        torch.manual_seed(5)  # DiT hands no generator to its scheduler
        return pipe(**call, output_type="pt", generator=torch.Generator().manual_seed(5)).images


def pull_to(target, share, scheduler):
    heun = "Heun" in type(scheduler).__name__

    def pull(step):
        if heun and step.affine.sigma < 0.1 * step.affine.alpha:
            return None  # it divides by sigma: a shift of the same size there throws the sample off
        return step.denoised + share * (target - step.denoised)

    return pull


@pytest.mark.parametrize(("family", "name"), MATRIX)
def test_watching_is_bit_exact_and_a_pull_moves_the_latent_to_its_target(family, name):
    pipe = pipeline(family, name)
    plain = run(pipe, family)
    last = []

    def watch(step):
        step.denoised  # noqa: B018
        return

    with steer(pipe, on_denoised=watch, after_step=lambda step, prev: last.append(prev)):
        watched = run(pipe, family)
    assert torch.equal(plain, watched)
    assert "step" not in vars(pipe.scheduler)

    end = last[-1]
    target = end + end.std() * torch.randn(end.shape, generator=torch.Generator().manual_seed(0))
    with steer(
        pipe,
        on_denoised=pull_to(target, 0.5, pipe.scheduler),
        after_step=lambda step, prev: last.append(prev),
    ):
        steered = run(pipe, family)
    # DiT carries every latent twice, and its model sees only the first
    assert (last[-1] - target)[:1].norm() < 0.9 * (end - target)[:1].norm()
    assert not torch.equal(plain, steered)
    assert "step" not in vars(pipe.scheduler)
    assert torch.equal(plain, run(pipe, family))


def test_heun_counts_both_of_its_calls():
    pipe = pipeline("sd1", "HeunDiscreteScheduler")
    indices, timesteps = [], []

    def watch(step):
        indices.append(step.index)
        timesteps.append(float(step.timestep))

    with steer(pipe, on_denoised=watch):
        run(pipe, "sd1")
    assert indices == list(range(7))
    assert len(set(timesteps)) == 4


def test_images_of_a_batch_are_steered_apart():
    pipe = pipeline("sd1", "DDIMScheduler")
    call = {**tiny_call("sd1"), "num_images_per_prompt": 2, "output_type": "latent"}

    def both(**hooks):
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        with steer(pipe, **hooks):
            return pipe(**call, generator=generators).images

    def only_second(step):
        moved = step.denoised.clone()
        moved[1] += 1
        return moved

    plain, steered = both(), both(on_denoised=only_second)
    torch.testing.assert_close(steered[0], plain[0], rtol=1e-4, atol=1e-4)
    assert (steered[1] - plain[1]).abs().mean() > 0.1


def test_where_no_noise_is_left_the_sample_itself_is_moved():
    """A consistency scheduler at sigma_min: the model's output no longer counts."""
    from types import SimpleNamespace

    from diffusers import CMStochasticIterativeScheduler

    scheduler = CMStochasticIterativeScheduler(clip_denoised=False)
    scheduler.set_timesteps(timesteps=[39, 0])
    scheduler.set_begin_index(1)
    timestep, sample, wanted = scheduler.timesteps[1], torch.randn(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    scheduler.scale_model_input(sample, timestep)
    seen = []

    def want(step):
        seen.append(step.affine.b)
        return wanted

    with steer(SimpleNamespace(scheduler=scheduler), on_denoised=want):
        reached = scheduler.step(torch.randn(1, 3, 4, 4), timestep, sample).prev_sample
    assert abs(seen[0]) < 1e-9
    torch.testing.assert_close(reached, wanted)


def test_a_pull_that_is_not_finite_is_not_hidden():
    pipe = pipeline("sd1", "DDIMScheduler")
    with steer(pipe, on_denoised=lambda s: s.denoised * float("nan")):
        images = run(pipe, "sd1")
    assert not torch.isfinite(images).any()
    with pytest.raises(ConfigError), steer(pipe, on_denoised=lambda s: s.denoised[0]):
        run(pipe, "sd1")
