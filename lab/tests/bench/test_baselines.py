"""Each rival's maths where the right answer is known by hand."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from toys import prompt_value, references, toy

from steerclear.errors import InputError
from steerclear.steering.denoised import affine
from steerclear.testing import tiny_pipeline
from steerclear_lab.bench.baselines import METHODS, Context, Run, configurations, named
from steerclear_lab.bench.baselines.amg import AntiMemorization, limit
from steerclear_lab.bench.baselines.attractive_repulsive import AttractiveRepulsive, combined
from steerclear_lab.bench.baselines.base import SamplingStep
from steerclear_lab.bench.baselines.han import HanBatch, HanPerSample
from steerclear_lab.bench.baselines.jain import JainDynamic, JainOpposite, JainStatic, past_minimum
from steerclear_lab.bench.baselines.paper import PaperNudge, nearest
from steerclear_lab.bench.baselines.sail import Sail
from steerclear_lab.bench.baselines.sld import SafeLatentDiffusion
from steerclear_lab.bench.baselines.spell import Spell, repellency, typical_distance
from steerclear_lab.bench.baselines.trivial import RandomTokens
from steerclear_lab.bench.baselines.wen import Wen, magnitude


def test_delta_is_in_units_of_noise_whatever_the_model_predicts() -> None:
    context = toy(direction=1.0)
    run = Run(context, "a fox", 0)
    expected = prompt_value(run.cond) - prompt_value(run.uncond)
    assert run.first_step().delta.mean().item() == pytest.approx(expected, rel=1e-4)
    context.pipe.scheduler.register_to_config(prediction_type="v_prediction")
    step = Run(context, "a fox", 0).first_step()
    alpha = float(context.pipe.scheduler.alphas_cumprod[int(step.timestep)]) ** 0.5
    assert step.delta.mean().item() == pytest.approx(alpha * expected, rel=1e-4)  # Δε = α Δv


def test_in_flow_matching_the_velocity_stands_for_the_noise_which_says_nothing_at_the_start() -> None:
    pipe = tiny_pipeline("sd3")
    run = Run(Context(pipe, 4, 4.0, extra={"max_sequence_length": 8}), "a fox", 0)
    step = run.first_step()
    assert step.affine.alpha == 0.0
    assert step.noise_per_output == 1.0
    with torch.no_grad():
        assert magnitude(run) > 0
    timestep = pipe.scheduler.timesteps[1]
    later = SamplingStep(
        run=run, index=1, timestep=timestep, sample=run.start, affine=affine(pipe.scheduler, timestep)
    )
    assert later.noise_per_output == 1.0


def test_cost_counts_each_row_of_the_denoiser_and_backward_passes_twice() -> None:
    context = toy(slope=0.1)
    assert METHODS["none"]().generate(context, "a fox", 0).nfe == 2 * context.steps
    output = Sail(target=0.0, iterations=3).generate(replace(context, ordinary=("a bear",)), "a fox", 0)
    assert (output.evaluations, output.backwards) == (2 * context.steps + 3 * 4, 3 * 4)
    assert output.nfe == 2 * context.steps + 3 * 4 + 2 * 3 * 4


def test_wen_moves_every_token_but_the_first_down_the_magnitude_until_the_target() -> None:
    run = Run(toy(direction=1.0), "a fox", 0)
    start, begin = run.cond.clone(), magnitude(run)
    # the gradient has one sign, so AdamW moves each token by its rate; 256 entries of Δ have norm 16
    norm, tokens = 16.0, start.shape[1]
    step = 0.01 * (tokens - 1) / tokens * norm
    moved = Wen(rate=0.01).optimised(run, begin - 2.5 * step)
    assert run.backwards == 3
    with torch.no_grad():
        assert float(run.first_step(cond=moved).delta.norm()) <= begin - 2.5 * step
    decay = 1 - 0.01 * 0.01
    torch.testing.assert_close(moved[:, 0], start[:, 0] * decay**3)
    sign = math.copysign(1, prompt_value(run.uncond) - prompt_value(start))
    torch.testing.assert_close(moved[:, 1:, 0], start[:, 1:, 0] + sign * 0.03, atol=2e-3, rtol=0)


def test_wen_leaves_a_prompt_alone_that_is_below_the_target() -> None:
    run = Run(toy(direction=1.0), "a fox", 0)
    assert torch.equal(Wen().optimised(run, math.inf), run.cond)
    assert run.backwards == 0


def test_jain_static_is_unconditional_before_its_transition_and_guided_after() -> None:
    run = Run(toy(direction=1.0), "a fox", 0)
    blank, prompted = prompt_value(run.uncond), prompt_value(run.cond)
    step = run.first_step()
    early = JainStatic(float(step.timestep) - 1).guide(step)
    assert early.mean().item() == pytest.approx(blank, rel=1e-5)
    assert run.evaluations == 1
    late = JainStatic(float(step.timestep)).guide(run.first_step())
    assert late.mean().item() == pytest.approx(blank + 3.0 * (prompted - blank), rel=1e-4)


def test_jain_opposite_begins_with_the_negative_scale() -> None:
    outputs: list[float] = []
    context = toy(direction=1.0)
    step = context.pipe.scheduler.step
    context.pipe.scheduler.step = lambda out, *a, **k: (
        outputs.append(out.mean().item()),
        step(out, *a, **k),
    )[1]
    JainOpposite(-2.0, 600.0).generate(context, "a fox", 0)
    run = Run(context, "a fox", 0)
    blank, prompted = prompt_value(run.uncond), prompt_value(run.cond)
    scales = [-2.0 if t > 600 else 3.0 for t in context.pipe.scheduler.timesteps]
    assert {-2.0, 3.0} == set(scales)
    assert outputs == pytest.approx([blank + s * (prompted - blank) for s in scales], rel=1e-4)


@pytest.mark.parametrize(
    ("curve", "past"),
    [
        ([3, 2, 1], False),
        ([3, 1, 2], True),
        ([1, 2, 3], False),
        ([3, 1], False),
        ([2, 2, 3], False),
    ],
)
def test_jain_dynamic_waits_for_the_first_local_minimum(curve: list[float], past: bool) -> None:
    assert past_minimum(curve) is past


def test_jain_dynamic_guides_at_last_though_no_minimum_was_seen() -> None:
    context = toy(direction=1.0)  # d_t is constant
    flat = JainDynamic(latest=0.0).generate(context, "a fox", 0)
    unguided = Run(context, "a fox", 0)
    image = unguided.output(unguided.denoise(lambda m: m.both_outputs[0])).image
    assert flat.image is not None
    assert image is not None
    assert flat.image.tobytes() == image.tobytes()
    # 1000 counts as reached at once
    guided = JainDynamic(latest=1000.0).generate(context, "a fox", 0).image
    assert guided is not None
    assert guided.tobytes() == METHODS["none"]().generate(context, "a fox", 0).image.tobytes()


def test_sail_sharpness_of_a_linear_guidance_is_its_slope_times_the_probe() -> None:
    run = Run(toy(slope=2.0), "a fox", 0)
    k = 2.0 * (prompt_value(run.cond) - prompt_value(run.uncond))
    length = 10.0 * (256 / 16384) ** 0.5  # scaled by the size of the latent
    with torch.no_grad():
        sharp = float(Sail(delta=10.0).sharpness(run, run.start))
    assert sharp == pytest.approx((k * length) ** 2, rel=1e-2)


def test_sail_then_only_shrinks_the_noise() -> None:
    run = Run(toy(slope=2.0), "a fox", 0)
    moved = Sail(iterations=1, alpha=0.05).optimised(run, target=0.0)
    # the sharpness of a linear guidance has no gradient, so Adam's first step follows the sign of 2 α x
    clear = run.start.abs() > 0.05
    torch.testing.assert_close(moved[clear], (run.start - 0.05 * run.start.sign())[clear], atol=1e-3, rtol=0)


def test_han_per_sample_steps_down_the_magnitude_of_the_guidance() -> None:
    run = Run(toy(slope=2.0), "a fox", 0)
    moved = HanPerSample(iterations=1, rate=0.01).optimised(run, target=0.0)
    # ‖Δ‖ = |k| ‖x‖, so AdamW moves each entry by its rate against its sign, after its decay
    expected = run.start * (1 - 0.01 * 0.01) - 0.01 * run.start.sign()
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)
    assert torch.equal(HanPerSample().optimised(run, math.inf), run.start)


def test_han_batch_steps_against_the_curvature_of_the_guidance() -> None:
    run = Run(toy(slope=2.0), "a fox", 0)
    k = 2.0 * (prompt_value(run.cond) - prompt_value(run.uncond))
    with torch.no_grad():
        moved = HanBatch(rho=50.0, gamma=0.7).updated(run, run.start)
    length = 50.0 * (256 / 16384) ** 0.5
    # Δ(x) = k x, so Δ(x + ρ Δ̂) − Δ(x) = k ρ Δ̂, and Δ̂ = sign(k) x̂
    expected = run.start - 0.7 * abs(k) * length * run.start / run.start.norm()
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-4)


def test_amg_acts_above_a_limit_that_falls_with_time() -> None:
    assert limit(0) == pytest.approx(0.3)
    assert limit(1000) == pytest.approx(0.4 - 0.1 * math.exp(-5))


def test_amg_drops_the_guidance_of_a_copy_to_one() -> None:
    context = toy(direction=0.2)
    context = replace(
        context, references=references(context, threshold=1e-3)
    )  # everything is far beyond a copy
    copied = AntiMemorization(push=0.0).generate(context, "a fox", 0)
    run = Run(context, "a fox", 0)
    conditional = run.output(run.denoise(lambda m: m.guided(1.0)))
    assert copied.image is not None
    assert conditional.image is not None
    assert copied.image.tobytes() == conditional.image.tobytes()


def test_amg_lowers_the_similarity() -> None:
    from steerclear_lab.bench.baselines import amg

    context = toy(slope=0.1)
    protected = references(context, threshold=0.2)
    context = replace(context, references=protected)
    by_push, step = {}, context.pipe.scheduler.step

    def recorded_step(similarities: list[float], output: Any, t: Any, sample: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            clean = step(output, t, sample, **{**kwargs, "return_dict": True}).pred_original_sample
            similarities.append(float(amg.nearest_similarity(context.denoiser, protected, clean)))
        return step(output, t, sample, **kwargs)

    for push in (0.0, 1e-2):
        similarities: list[float] = []

        context.pipe.scheduler.step = functools.partial(recorded_step, similarities)
        output = AntiMemorization(push=push, despecify=False).generate(context, "a fox", 0)
        del context.pipe.scheduler.step
        by_push[push] = similarities
        assert (output.backwards > 0) is (push > 0)
    assert by_push[1e-2][0] < by_push[0.0][0]


def test_spell_with_a_strength_of_one_lands_on_the_radius() -> None:
    centre = torch.randn(1, 4, 8, 8)
    away = torch.randn(1, 4, 8, 8)
    inside = centre + away * (2.0 / away.norm())
    landed = inside + repellency(inside, centre, radius=5.0)
    assert float((landed - centre).norm()) == pytest.approx(5.0, rel=1e-5)
    torch.testing.assert_close((landed - centre) / 5, (inside - centre) / 2)
    assert not repellency(inside, centre, radius=1.9).any()
    # two centres: the pushes add up
    both = repellency(inside, torch.cat([centre, centre]), radius=5.0)
    torch.testing.assert_close(both, 2 * repellency(inside, centre, radius=5.0))


def test_spell_keeps_the_last_prediction_away() -> None:
    context = toy(slope=0.1)
    context = replace(context, references=references(context))
    centres = context.required_references().latents
    assert typical_distance(centres) == pytest.approx(float((centres[0] - centres[1]).norm()), rel=1e-5)
    run = Run(context, "a fox", 0)
    near = run.denoise()
    context = replace(
        context,
        references=replace(context.required_references(), latents=torch.cat([near + 0.01, centres[:1]])),
    )
    output = Spell(radius=0.5).generate(context, "a fox", 0)
    assert output.nfe == 2 * context.steps
    assert output.image is not None
    plain = run.output(near).image
    assert plain is not None
    assert output.image.tobytes() != plain.tobytes()


def test_safe_latent_diffusion_by_hand() -> None:
    def safety(blank: float, prompted: float, concept: float, momentum: float) -> tuple[torch.Tensor, ...]:
        values = {"blank": blank, "prompted": prompted, "concept": concept, "momentum": momentum}
        return SafeLatentDiffusion("medium").safety(
            **{name: torch.tensor([[value]]) for name, value in values.items()}
        )

    # ε_c − ε_s = −0.0005: μ = 0.5, γ = 0.5 · (0.4 − 0.1) + 0.3 · 0.2, ν = 0.4 · 0.2 + 0.6 γ
    gamma, momentum = safety(blank=0.1, prompted=0.3995, concept=0.4, momentum=0.2)
    assert float(gamma) == pytest.approx(0.5 * 0.3 + 0.06, abs=1e-4)
    assert float(momentum) == pytest.approx(0.08 + 0.6 * float(gamma), abs=1e-6)
    # farther below: μ is at most 1; at or above the threshold: 0
    assert float(safety(blank=0.1, prompted=0.0, concept=0.4, momentum=0.0)[0]) == pytest.approx(0.3)
    assert float(safety(blank=0.1, prompted=0.42, concept=0.4, momentum=0.0)[0]) == 0


def test_guard_pulls_to_the_attenuated_prompt_and_pushes_from_the_original() -> None:
    blank, plus, minus = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    assert combined(
        blank=blank, plus=plus, minus=minus, attraction=7.5, repulsion=2.0
    ).item() == pytest.approx(7.5 - 4.0)
    attention = torch.tensor([0.9, 0.01, 0.01, 0.06, 0.01, 0.01])
    bias = AttractiveRepulsive().bias(attention)
    assert bias.tolist() == pytest.approx([0, 0, 0, math.log(0.3), 0, 0])


def test_the_papers_objective_by_hand() -> None:
    origin, latent = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
    value = PaperNudge().objective(latent, origin, preferred=torch.tensor([[1.0, 0.0]]), unwanted=origin)
    assert float(value) == pytest.approx(math.sqrt(2) - 0.8 + 0.96, rel=1e-5)
    assert nearest(origin, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 1).tolist() == [[0.0, 1.0]]


def test_the_papers_plain_norm_holds_the_latent_where_it_is() -> None:
    origin = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    unwanted = origin + 0.1 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    held = PaperNudge(rate=0.01).nudged(origin, origin[:0], unwanted)
    free = PaperNudge(rate=0.01, gamma=0.0).nudged(origin, origin[:0], unwanted)
    cosine = torch.nn.functional.cosine_similarity
    assert float((held - origin).norm()) < 0.1 * float((free - origin).norm())
    assert (
        cosine(free.flatten(1), unwanted.flatten(1)).item()
        < cosine(origin.flatten(1), unwanted.flatten(1)).item() - 0.05
    )


def test_random_tokens_keep_the_prompts_own_in_order() -> None:
    tokenizer = toy().pipe.tokenizer
    prompt = "the acme fox"
    noised = RandomTokens(3).with_random_tokens(tokenizer, prompt, seed=4)
    prompt_ids = tokenizer(prompt, add_special_tokens=False).input_ids
    assert len(tokenizer(noised, add_special_tokens=False).input_ids) >= len(prompt_ids) + 1
    letters = iter(noised)
    assert all(letter in letters for letter in prompt.replace(" ", ""))
    assert noised == RandomTokens(3).with_random_tokens(tokenizer, prompt, seed=4)
    assert noised != RandomTokens(3).with_random_tokens(tokenizer, prompt, seed=5)


def test_every_method_has_the_same_budget_and_begins_with_its_defaults() -> None:
    for method in METHODS.values():
        tried = configurations(method, 4)
        assert 1 <= len(tried) <= 4
        assert tried[0] == method()
        assert len(set(map(repr, tried))) == len(tried)
        assert len(tried) in (1, 4)


def test_methods_are_found_by_name_and_a_wrong_one_is_named() -> None:
    assert list(named(["SPELL", "jain-static", "lowerguidance"])) == [
        "SPELL",
        "Jain static",
        "lower guidance",
    ]
    with pytest.raises(InputError, match="no method 'nope'"):
        named(["nope"])
