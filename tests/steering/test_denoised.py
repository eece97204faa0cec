"""The affine coefficients, against what every scheduler of the installed diffusers computes itself."""

import ast
import importlib
import math
import pathlib
import sys
import types

import diffusers
import pytest
import torch

from steerclear.errors import UnsupportedError
from steerclear.steering import affine
from steerclear.steering.denoised import REFUSED, RULES, rule_for

FOLDER = pathlib.Path(diffusers.__file__).parent / "schedulers"
MODULES = {
    node.name: ".".join(("diffusers.schedulers", *file.relative_to(FOLDER).with_suffix("").parts))
    for file in sorted(FOLDER.rglob("scheduling_*.py"))
    for node in ast.parse(file.read_text()).body
    if isinstance(node, ast.ClassDef) and "SchedulerMixin" in {ast.unparse(base) for base in node.bases}
}
SHAPE = (1, 4, 4, 4)
GENERATOR = torch.Generator().manual_seed(0)


class SdeStub(types.ModuleType):
    """torchsde is optional, and its noise says nothing about the clean latent."""

    class BrownianInterval:
        def __init__(self, size, **_):
            self.size = size

        def __call__(self, *_):
            return torch.zeros(self.size)


@pytest.fixture(autouse=True)
def _sde(monkeypatch):
    if "torchsde" not in sys.modules:
        monkeypatch.setitem(sys.modules, "torchsde", SdeStub("torchsde"))


def make(name, **config):
    cls = getattr(importlib.import_module(MODULES[name]), name)
    return cls(**config)


def noise():
    return torch.randn(SHAPE, generator=GENERATOR)


def steps(scheduler, count=6, **kwargs):
    """(timestep, sample, output, coefficients, result) of every step of a run on random numbers."""
    scheduler.set_timesteps(count, **kwargs)
    extra = {}
    if type(scheduler).__name__ == "RePaintScheduler":
        extra = {"original_image": torch.zeros(SHAPE), "mask": torch.zeros(SHAPE)}
    last = -1 if type(scheduler).__name__ == "SCMScheduler" else None  # its timesteps include where it ends
    for timestep in scheduler.timesteps[:last]:
        sample, output = 3 * noise(), noise()
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(sample, timestep)
        coefficients = affine(scheduler, timestep, sample)
        if type(scheduler).__name__ == "CogVideoXDPMScheduler":
            result = scheduler.step(output, None, timestep, None, sample)
        else:
            result = scheduler.step(output, timestep, sample, **extra)
        yield timestep, sample, output, coefficients, result


def same(coefficients, sample, output, truth, rtol=1e-3):
    guess = coefficients.denoise(sample, output)
    assert torch.isfinite(guess).all()
    torch.testing.assert_close(guess, truth.to(guess), rtol=rtol, atol=1e-3 * float(truth.abs().max()))


PREDICTIONS = ["epsilon", "v_prediction", "sample"]
FLOW = ["FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler", "LTXEulerAncestralRFScheduler"]

# class → (configs, how the scheduler itself tells its clean latent)
REPORTS_IT = {
    "CogVideoXDDIMScheduler": PREDICTIONS,
    "CogVideoXDPMScheduler": PREDICTIONS,
    "DDIMParallelScheduler": PREDICTIONS,
    "DDIMScheduler": PREDICTIONS,
    "DDPMParallelScheduler": PREDICTIONS,
    "DDPMScheduler": PREDICTIONS,
    "DPMSolverSDEScheduler": PREDICTIONS[:2],
    "EDMEulerScheduler": PREDICTIONS[:2],
    "EulerAncestralDiscreteScheduler": PREDICTIONS[:2],
    "EulerDiscreteScheduler": PREDICTIONS,
    "HeunDiscreteScheduler": PREDICTIONS,
    "LMSDiscreteScheduler": PREDICTIONS,
    "RePaintScheduler": ["epsilon"],
    "SCMScheduler": ["trigflow"],
    "UnCLIPScheduler": ["epsilon", "sample"],
}
KEEPS_IT = {
    "CosineDPMSolverMultistepScheduler": PREDICTIONS[:2],
    "DPMSolverMultistepScheduler": [*PREDICTIONS, "flow_prediction"],
    "DPMSolverSinglestepScheduler": [*PREDICTIONS, "flow_prediction"],
    "EDMDPMSolverMultistepScheduler": PREDICTIONS[:2],
    "SASolverScheduler": [*PREDICTIONS, "flow_prediction"],
    "UniPCMultistepScheduler": [*PREDICTIONS, "flow_prediction"],
}
ENDS_IN_IT = [*FLOW, "FlowMatchHeunDiscreteScheduler", "MiniMaxH3Scheduler"]
BY_HAND = [
    "CMStochasticIterativeScheduler",
    "DDPMWuerstchenScheduler",
    "DEISMultistepScheduler",
    "IPNDMScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "TCDScheduler",
]


def config_for(name, prediction):
    config = {"prediction_type": prediction} if name not in ("RePaintScheduler", "SCMScheduler") else {}
    if name in ("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler"):
        config["clip_sample"] = False
    if name in ("RePaintScheduler", "UnCLIPScheduler"):
        config["clip_sample"] = False
    if prediction == "flow_prediction":
        config["use_flow_sigmas"] = True
    return config


@pytest.mark.parametrize(
    ("name", "prediction"), [(n, p) for n, predictions in REPORTS_IT.items() for p in predictions]
)
def test_denoised_is_the_original_sample_that_the_scheduler_reports(name, prediction):
    kwargs = {"intermediate_timesteps": None} if name == "SCMScheduler" else {}
    for _, sample, output, coefficients, result in steps(
        make(name, **config_for(name, prediction)), **kwargs
    ):
        truth = result[1] if isinstance(result, tuple) else result.pred_original_sample
        same(coefficients, sample=sample, output=output, truth=truth)


@pytest.mark.parametrize(
    ("name", "prediction"), [(n, p) for n, predictions in KEEPS_IT.items() for p in predictions]
)
def test_denoised_is_the_converted_output_in_the_schedulers_history(name, prediction):
    scheduler = make(name, **config_for(name, prediction))
    for _, sample, output, coefficients, _result in steps(scheduler):
        same(coefficients, sample=sample, output=output, truth=scheduler.model_outputs[-1])


@pytest.mark.parametrize("name", ENDS_IN_IT)
def test_denoised_is_where_a_flow_ends_in_one_step(name):
    kwargs = {
        "FlowMatchEulerDiscreteScheduler": {"sigmas": [0.8]},
        "MiniMaxH3Scheduler": {"sigmas": [0.8, 0.0]},
    }
    for _, sample, output, coefficients, result in steps(make(name), 1, **kwargs.get(name, {})):
        same(coefficients, sample=sample, output=output, truth=result.prev_sample)
        assert coefficients.alpha == pytest.approx(1 - coefficients.sigma)


def test_an_inverted_flow_points_the_other_way():
    """Mochi: x = σ · clean + (1 − σ) · noise with output clean − noise."""
    scheduler = make("FlowMatchEulerDiscreteScheduler", invert_sigmas=True)
    scheduler.set_timesteps(4)
    timestep, sigma = scheduler.timesteps[1], scheduler.sigmas[1]
    clean, epsilon = noise(), noise()
    coefficients = affine(scheduler, timestep)
    torch.testing.assert_close(
        coefficients.denoise(sigma * clean + (1 - sigma) * epsilon, clean - epsilon), clean
    )


def test_heun_flow_counts_the_second_evaluation_at_the_next_sigma():
    scheduler = make("FlowMatchHeunDiscreteScheduler")
    for i, (_, _, _, coefficients, _) in enumerate(steps(scheduler, 4)):
        assert coefficients.sigma == pytest.approx(float(scheduler.sigmas[i]))
        assert coefficients.b == -coefficients.sigma


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_pndm_by_hand(prediction):
    scheduler = make("PNDMScheduler", prediction_type=prediction, skip_prk_steps=True)
    for timestep, sample, output, coefficients, _ in steps(scheduler):
        square = scheduler.alphas_cumprod[timestep]
        a, s = square.sqrt(), (1 - square).sqrt()
        truth = (sample - s * output) / a if prediction == "epsilon" else a * sample - s * output
        same(coefficients, sample=sample, output=output, truth=truth)


def test_deis_by_hand():
    """It keeps epsilon, from which its own alpha and sigma give the clean latent back."""
    for prediction in PREDICTIONS:
        scheduler = make("DEISMultistepScheduler", prediction_type=prediction)
        for i, (_, sample, output, coefficients, _) in enumerate(steps(scheduler)):
            a, s = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[i])
            same(
                coefficients,
                sample=sample,
                output=output,
                truth=(sample - s * scheduler.model_outputs[-1]) / a,
            )


@pytest.mark.filterwarnings("ignore:.*algorithm_type:FutureWarning")
def test_noise_predicting_solvers_by_hand():
    for name in ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"):
        scheduler = make(name, algorithm_type="dpmsolver", final_sigmas_type="sigma_min")
        for i, (_, sample, output, coefficients, _) in enumerate(steps(scheduler)):
            a, s = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[i])
            same(coefficients, sample=sample, output=output, truth=(sample - s * output) / a)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_lcm_by_hand(prediction):
    """Its own denoised is c_out · clean + c_skip · sample."""
    scheduler = make("LCMScheduler", prediction_type=prediction, clip_sample=False)
    for timestep, sample, output, coefficients, result in steps(scheduler):
        skip, out = scheduler.get_scalings_for_boundary_condition_discrete(timestep)
        same(coefficients, sample=sample, output=output, truth=(result.denoised - skip * sample) / out)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_tcd_by_hand(prediction):
    """pred_noised_sample is the clean latent and epsilon, mixed at the next timestep."""
    scheduler = make("TCDScheduler", prediction_type=prediction)
    for i, (timestep, sample, output, coefficients, result) in enumerate(steps(scheduler)):
        later = int(scheduler.timesteps[i + 1]) if i + 1 < len(scheduler.timesteps) else 0
        square, mixed = scheduler.alphas_cumprod[timestep], scheduler.alphas_cumprod[math.floor(0.7 * later)]
        epsilon = output if prediction == "epsilon" else square.sqrt() * output + (1 - square).sqrt() * sample
        same(
            coefficients,
            sample=sample,
            output=output,
            truth=(result.pred_noised_sample - (1 - mixed).sqrt() * epsilon) / mixed.sqrt(),
        )


def test_ipndm_by_hand():
    """Its first step moves clean latent and epsilon to the next pair of alpha and sigma."""
    scheduler = make("IPNDMScheduler")
    scheduler.set_timesteps(6)
    scheduler.set_begin_index(2)
    sample, output = noise(), noise()
    coefficients = affine(scheduler, scheduler.timesteps[2])
    prev = scheduler.step(output, scheduler.timesteps[2], sample).prev_sample
    epsilon = coefficients.sigma * sample + coefficients.alpha * output
    same(
        coefficients,
        sample=sample,
        output=output,
        truth=(prev - scheduler.betas[3] * epsilon) / scheduler.alphas[3],
    )


def test_consistency_by_hand():
    scheduler = make("CMStochasticIterativeScheduler", clip_denoised=False)
    for _, sample, output, coefficients, result in steps(scheduler, 1):
        same(coefficients, sample=sample, output=output, truth=result.prev_sample)
    scheduler.set_timesteps(timesteps=[39, 0])
    least = affine(scheduler, scheduler.timesteps[1])
    assert least.a == pytest.approx(1)
    assert least.b == pytest.approx(0, abs=1e-6)


def test_wuerstchen_by_hand():
    scheduler = make("DDPMWuerstchenScheduler")
    scheduler.set_timesteps(5)
    clean, epsilon = noise(), noise()
    for t in scheduler.timesteps[1:-1]:
        square = scheduler._alpha_cumprod(t[None], t.device)
        sample = square.sqrt() * clean + (1 - square).sqrt() * epsilon
        same(affine(scheduler, t.expand(2)), sample=sample, output=epsilon, truth=clean)


def test_every_scheduler_of_this_diffusers_is_verified_or_refused():
    verified = {*REPORTS_IT, *KEEPS_IT, *ENDS_IN_IT, *BY_HAND}
    assert verified == set(RULES)
    assert not set(RULES) & set(REFUSED)
    assert set(MODULES) - verified - set(REFUSED) == set()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_scheduler_is_named(name):
    scheduler = object.__new__(getattr(importlib.import_module(MODULES[name]), name))
    with pytest.raises(UnsupportedError, match=name):
        rule_for(scheduler)


def test_an_unknown_scheduler_is_refused_and_a_mere_subclass_is_not():
    class Renamed(diffusers.DDIMScheduler):
        pass

    class Changed(diffusers.DDIMScheduler):
        def step(self, *args, **kwargs):
            raise AssertionError

    class DDIMScheduler:
        """Only the name is the same."""

    assert affine(Renamed(), 500) == affine(diffusers.DDIMScheduler(), 500)
    for stranger in (Changed(), DDIMScheduler()):
        with pytest.raises(UnsupportedError, match=type(stranger).__name__):
            affine(stranger, 500)


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(UnsupportedError, match="prediction_type='score'"):
        affine(make("DDIMScheduler", prediction_type="score"), 500)


@pytest.mark.parametrize(
    "name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "LMSDiscreteScheduler"]
)
def test_karras_sigmas_are_followed(name):
    scheduler = make(name, use_karras_sigmas=True)
    for i, (_, _, _, coefficients, _) in enumerate(steps(scheduler)):
        assert coefficients.sigma / coefficients.alpha == pytest.approx(float(scheduler.sigmas[i]), rel=1e-4)


def test_the_first_step_can_be_read_before_the_scheduler_has_begun():
    scheduler = make("EulerDiscreteScheduler")
    scheduler.set_timesteps(5)
    assert scheduler.step_index is None
    assert affine(scheduler, scheduler.timesteps[2]).sigma == pytest.approx(float(scheduler.sigmas[2]))
    assert scheduler.step_index is None
    scheduler.set_begin_index(1)
    assert affine(scheduler, scheduler.timesteps[1]).sigma == pytest.approx(float(scheduler.sigmas[1]))


@pytest.mark.parametrize(
    "name",
    ["DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler", "TCDScheduler"],
)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_zero_terminal_snr_never_divides_by_zero(name, prediction):
    scheduler = make(
        name, prediction_type=prediction, rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(5)
    coefficients = affine(scheduler, scheduler.timesteps[0])
    assert all(
        math.isfinite(value)
        for value in (coefficients.a, coefficients.b, coefficients.sigma, coefficients.alpha)
    )
    assert torch.isfinite(coefficients.denoise(noise(), noise())).all()


def test_clipping_is_left_to_the_scheduler():
    scheduler = make("DDIMScheduler", clip_sample=True)
    for _, sample, output, coefficients, result in steps(scheduler):
        clipped = coefficients.denoise(sample, output).clamp(-1, 1)
        torch.testing.assert_close(clipped, result.pred_original_sample, rtol=1e-3, atol=1e-3)


def test_half_precision_is_widened():
    coefficients = affine(make("DDIMScheduler"), 500)
    assert coefficients.denoise(noise().half(), noise().half()).dtype == torch.float32
    assert coefficients.denoise(noise().double(), noise().double()).dtype == torch.float64
