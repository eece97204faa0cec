"""The scheduler hook: invisible when unused, exact when used, gone afterwards."""

import inspect
import threading

import pytest
import torch

from steerclear.errors import ConfigError, PipelineBusyError, UnsupportedError
from steerclear.steering import steer, unwrapped_call
from steerclear.testing import tiny_pipeline

SD1_SCHEDULERS = [
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
]


@pytest.fixture(scope="module")
def sd1():
    return tiny_pipeline("sd1")


def latents(pipe, seed=3, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    kwargs = {"num_inference_steps": 4, "output_type": "latent", **kwargs}
    return pipe("a fox", generator=generator, **kwargs).images


def with_scheduler(pipe, name):
    import diffusers

    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    return pipe


@pytest.mark.parametrize("name", SD1_SCHEDULERS)
def test_a_wanted_clean_latent_is_reached(sd1, name):
    pipe = with_scheduler(sd1, name)
    target = torch.full((1, 4, 8, 8), 0.7)
    with steer(pipe, on_denoised=lambda s: target):
        reached = latents(pipe, num_inference_steps=10)
    assert (reached - target).abs().mean() < 0.05


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_multistep_history_holds_the_steered_prediction(sd1, name):
    pipe = with_scheduler(sd1, name)
    target = torch.full((1, 4, 8, 8), 0.7)
    with steer(pipe, on_denoised=lambda s: target):
        latents(pipe)
    for converted in pipe.scheduler.model_outputs:
        assert torch.allclose(converted, target, atol=1e-3)


def test_the_signature_that_pipelines_inspect_is_kept(sd1):
    pipe = with_scheduler(sd1, "DDIMScheduler")
    before = inspect.signature(pipe.scheduler.step)
    with steer(pipe, on_denoised=lambda s: None):
        assert inspect.signature(pipe.scheduler.step) == before
        assert pipe.scheduler.step.__name__ == "step"


def test_eta_and_guidance_still_reach_the_scheduler(sd1):
    pipe = with_scheduler(sd1, "DDIMScheduler")
    plain = latents(pipe, eta=0.8, guidance_scale=3.0)
    with steer(pipe, on_denoised=lambda s: None):
        assert torch.equal(plain, latents(pipe, eta=0.8, guidance_scale=3.0))


@pytest.mark.parametrize("return_dict", [True, False])
def test_after_step_replaces_the_next_sample_in_both_result_forms(sd1, return_dict):
    scheduler = with_scheduler(sd1, "DDIMScheduler").scheduler
    scheduler.set_timesteps(4)
    x = torch.randn(1, 4, 8, 8)
    with steer(sd1, after_step=lambda s, prev: torch.zeros_like(prev)):
        out = scheduler.step(x, scheduler.timesteps[0], x, return_dict=return_dict)
    if return_dict:
        assert out.prev_sample.eq(0).all()
        assert out["prev_sample"].eq(0).all()
        assert out.pred_original_sample is not None
    else:
        assert out[0].eq(0).all()
        assert len(out) == 2


def test_index_counts_the_calls_of_each_block(sd1):
    pipe = with_scheduler(sd1, "DDIMScheduler")
    for _ in range(2):
        seen = []
        with steer(pipe, on_denoised=lambda s, seen=seen: seen.append(s.index)):
            latents(pipe)
        assert seen == [0, 1, 2, 3]


def test_an_error_in_a_callback_leaves_the_pass_and_restores_the_scheduler(sd1):
    pipe = with_scheduler(sd1, "DDIMScheduler")
    plain = latents(pipe)

    class EnoughError(Exception):
        pass

    def leave(step):
        if step.index == 1:
            raise EnoughError

    with pytest.raises(EnoughError), steer(pipe, on_denoised=leave):
        latents(pipe)
    assert "step" not in vars(pipe.scheduler)
    assert torch.equal(plain, latents(pipe))


def test_somebody_elses_wrapper_is_given_back(sd1):
    pipe = with_scheduler(sd1, "DDIMScheduler")
    theirs = pipe.scheduler.step
    pipe.scheduler.step = theirs
    with steer(pipe, on_denoised=lambda s: None):
        latents(pipe)
    assert vars(pipe.scheduler)["step"] is theirs


def test_a_second_block_on_the_same_scheduler_is_refused(sd1):
    pipe = with_scheduler(sd1, "DDIMScheduler")
    with steer(pipe):
        with (
            pytest.raises(PipelineBusyError, match="DDIMScheduler of this StableDiffusionPipeline"),
            steer(pipe),
        ):
            pass
        latents(pipe)
    with steer(pipe):
        pass


def test_a_second_thread_is_refused(sd1):
    pipe = with_scheduler(sd1, "DDIMScheduler")
    caught = []

    def other():
        try:
            with steer(pipe):
                pass
        except PipelineBusyError as error:
            caught.append(error)

    with steer(pipe):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(caught) == 1


def test_an_unknown_scheduler_is_refused_before_the_run(sd1):
    pipe = with_scheduler(sd1, "KDPM2DiscreteScheduler")
    with (
        pytest.raises(UnsupportedError, match="KDPM2DiscreteScheduler"),
        steer(pipe, on_denoised=lambda s: None),
    ):
        pass
    with steer(pipe):  # watching nothing is always allowed
        latents(pipe)


def test_a_wrong_shape_is_named(sd1):
    pipe = with_scheduler(sd1, "DDIMScheduler")
    with pytest.raises(ConfigError, match="shape"), steer(pipe, on_denoised=lambda s: s.denoised[:, :1]):
        latents(pipe)
    with pytest.raises(ConfigError, match="shape"), steer(pipe, after_step=lambda s, x: x[:, :1]):
        latents(pipe)


def test_a_learned_variance_is_passed_on_untouched():
    from types import SimpleNamespace

    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False)
    scheduler.set_timesteps(10)
    sample, output = torch.randn(1, 3, 4, 4), torch.randn(1, 6, 4, 4)
    seen = []
    original = scheduler.step

    def spy(model_output, timestep, sample, generator=None, return_dict=True):
        seen.append(model_output)
        return original(model_output, timestep, sample, generator, return_dict)

    scheduler.step = spy
    with steer(SimpleNamespace(scheduler=scheduler), on_denoised=lambda s: s.denoised + 1):
        scheduler.step(output, scheduler.timesteps[0], sample)
    assert torch.equal(seen[0][:, 3:], output[:, 3:])
    assert not torch.allclose(seen[0][:, :3], output[:, :3])


def test_a_copied_scheduler_is_refused(sd1):
    import copy

    pipe = with_scheduler(sd1, "DDIMScheduler")
    with steer(pipe), pytest.raises(UnsupportedError, match="copies"):
        copy.deepcopy(pipe.scheduler)


def test_gradients_reach_the_initial_latent(sd1):
    """One step through the denoiser, against central finite differences."""
    pipe = with_scheduler(sd1, "DDIMScheduler")
    for module in (pipe.unet, pipe.text_encoder, pipe.vae):
        module.requires_grad_(False)
    pipe.unet.double()
    pipe.text_encoder.double()
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(1, 4, 8, 8, generator=generator, dtype=torch.float64)
    direction = torch.randn(start.shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(start.shape, generator=generator, dtype=torch.float64)

    class EnoughError(Exception):
        pass

    def first_denoised(z):
        predictions = []

        def look(step):
            predictions.append(step.denoised)
            raise EnoughError

        with pytest.raises(EnoughError), steer(pipe, on_denoised=look):
            unwrapped_call(pipe)("a fox", num_inference_steps=4, latents=z, output_type="latent")
        return (predictions[0] * weight).sum()

    z = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(first_denoised(z), z)
    with torch.no_grad():
        h = 1e-4
        slope = (first_denoised(start + h * direction) - first_denoised(start - h * direction)) / (2 * h)
    pipe.unet.float()
    pipe.text_encoder.float()
    assert gradient.abs().sum() > 0
    assert torch.allclose((gradient * direction).sum(), slope, rtol=1e-4)
