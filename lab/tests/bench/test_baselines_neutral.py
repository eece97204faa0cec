"""With neutral hyper-parameters every method gives the plain picture bit for bit; each is deterministic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from toys import references

from steerclear.errors import ConfigError, UnsupportedError
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.testing import MockFilter, tiny_pipeline
from steerclear.types import Detection
from steerclear_lab.bench.baselines import METHODS, Context, Run
from steerclear_lab.bench.baselines.amg import AntiMemorization
from steerclear_lab.bench.baselines.attention import (
    changed_attention,
    cross_attentions,
    end_of,
    recorded_attention,
)
from steerclear_lab.bench.baselines.attractive_repulsive import AttractiveRepulsive
from steerclear_lab.bench.baselines.guarded import (
    BlockBaseline,
    ResampleBaseline,
    RewriteBaseline,
    SteerclearBaseline,
)
from steerclear_lab.bench.baselines.han import HanBatch, HanPerSample
from steerclear_lab.bench.baselines.jain import JainDynamic, JainOpposite, JainStatic
from steerclear_lab.bench.baselines.paper import PaperNudge
from steerclear_lab.bench.baselines.ren import Ren
from steerclear_lab.bench.baselines.sail import Sail
from steerclear_lab.bench.baselines.sld import SafeLatentDiffusion
from steerclear_lab.bench.baselines.spell import Spell
from steerclear_lab.bench.baselines.trivial import LowerGuidance, NegativePrompt, Plain, RandomTokens
from steerclear_lab.bench.baselines.wen import Wen

PROMPT, SEED, STEPS, GUIDANCE = "the acme fox", 3, 3, 4.0
NEUTRAL = (
    Plain(),
    LowerGuidance(None),
    RandomTokens(0),
    NegativePrompt(0.0),
    Wen(iterations=0),
    JainStatic(1000.0),
    JainDynamic(enabled=False),
    JainOpposite(transition=1000.0),
    Ren(1.0, mask=False),
    Sail(iterations=0),
    AntiMemorization(0.0, despecify=False),
    Spell(0.0),
    SafeLatentDiffusion(amount=0.0),
    HanPerSample(iterations=0),
    HanBatch(rounds=0),
    AttractiveRepulsive(repulsion=0.0, attenuation=1.0),
    PaperNudge(strength=0.0),
    BlockBaseline(),
    ResampleBaseline(),
    RewriteBaseline(),
    SteerclearBaseline(),
)


TEXTS = ("a plain fox", "a bear", "a tree", "a boat", "a house")  # the fox alone is near the prompt


def context(verdict: Any = False, **pipe: Any) -> Context:
    pipe = tiny_pipeline("sd1", **pipe)
    guard = Guard(pipe, [MockFilter(verdict)], ladder=Ladder(strategies(("rewrite",))), alternatives=TEXTS)
    bare = Context(pipe, STEPS, GUIDANCE, guard=guard, concept="a mascot", ordinary=("a bear", "a tree"))
    return replace(bare, references=references(bare))


def plain(pipe: Any) -> Any:
    generator = torch.Generator().manual_seed(SEED)
    return pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator).images[0]


CLASS = "class 1"  # the prompt of a class-conditional pipeline
EXTRA = {"sd3": {"max_sequence_length": 8}, "dit": {}}  # what every call of the pipeline is given
# methods that act on what these pipelines lack
UNSUPPORTED = {
    "sd3": {Ren, AttractiveRepulsive},  # cross-attention
    "dit": {
        Ren,
        AttractiveRepulsive,
        RandomTokens,
        SafeLatentDiffusion,
    },  # the same; a tokenizer; a concept in words
}


def of_family(family: str, verdict: Any = False) -> tuple[Context, str]:
    """A context of another architecture, and a prompt for it."""
    pipe = tiny_pipeline(family)
    guard = Guard(pipe, [MockFilter(verdict)], ladder=Ladder(strategies(("rewrite",))), alternatives=TEXTS)
    common: dict[str, Any] = {
        "steps": STEPS,
        "guidance": GUIDANCE,
        "guard": guard,
        "concept": "a mascot",
        "extra": EXTRA[family],
        "ordinary": ("a bear", "a tree") if family == "sd3" else ("class 2", "class 3"),
    }
    protected = replace(references(Context(pipe, **common)), captions=(CLASS, "class 4"))
    return Context(pipe, **common, references=protected), PROMPT if family == "sd3" else CLASS


@pytest.mark.parametrize("family", EXTRA)
@pytest.mark.parametrize("method", NEUTRAL, ids=lambda m: m.name)
def test_a_neutral_setting_is_the_plain_pipeline_of_other_architectures_too(method: Any, family: str) -> None:
    verdict = isinstance(method, NegativePrompt | PaperNudge)
    setting, prompt = of_family(
        family,
        Detection("mock", flagged=verdict, score=1.0 if verdict else 0.0, threshold=0.5, matched="fox"),
    )
    if type(method) in UNSUPPORTED[family] and not isinstance(method, SafeLatentDiffusion):
        with pytest.raises(UnsupportedError):
            method.generate(setting, prompt, SEED)
        return
    output = method.generate(setting, prompt, SEED)
    request = {"prompt": prompt} if family == "sd3" else {"class_labels": [1]}
    generator = torch.Generator().manual_seed(SEED)
    expected = setting.pipe(**request, **setting.call, generator=generator).images[0]
    assert output.image is not None
    assert output.image.tobytes() == expected.tobytes()


@pytest.mark.parametrize("family", EXTRA)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_runs_on_other_architectures_or_says_why_not(name: str, family: str) -> None:
    setting, prompt = of_family(
        family, Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="fox")
    )
    if METHODS[name] in UNSUPPORTED[family]:
        with pytest.raises(UnsupportedError):
            METHODS[name]().generate(setting, prompt, SEED)
    else:
        assert METHODS[name]().generate(setting, prompt, SEED).nfe > 0


def test_a_class_condition_is_the_class_and_can_be_differentiated() -> None:
    setting, prompt = of_family("dit")
    run = Run(setting, prompt, SEED)
    label = torch.tensor([1])
    timestep = setting.pipe.scheduler.timesteps[0]
    with torch.no_grad():
        expected = setting.pipe.transformer(run.start, timestep=timestep[None], class_labels=label).sample[
            :, :4
        ]
        assert torch.equal(run.outputs(run.start, timestep, run.cond), expected)
    embeds = run.cond.clone().requires_grad_(True)
    value = run.outputs(run.start, timestep, embeds).square().sum()
    (gradient,) = torch.autograd.grad(value, embeds)
    assert bool(gradient[:, 1:].any())
    assert not bool(gradient[:, 0].any())  # this row takes the place of a start token


def test_every_method_has_a_neutral_setting() -> None:
    assert {type(method) for method in NEUTRAL} == set(METHODS.values())


@pytest.mark.parametrize("method", NEUTRAL, ids=lambda m: m.name)
def test_a_neutral_setting_is_the_plain_pipeline(method: Any) -> None:
    # methods that act on flagged pictures must act, in a neutral way
    verdict = isinstance(method, NegativePrompt | PaperNudge)
    setting = context(
        Detection("mock", flagged=verdict, score=1.0 if verdict else 0.0, threshold=0.5, matched="fox")
    )
    output = method.generate(setting, PROMPT, SEED)
    assert output.image is not None
    assert output.image.tobytes() == plain(setting.pipe).tobytes()


@pytest.mark.parametrize(
    "scheduler", ["EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler"]
)
def test_the_loop_is_the_pipelines_own_under_other_schedulers(scheduler: str) -> None:
    setting = context(scheduler=scheduler)
    output = Plain().generate(setting, PROMPT, SEED)
    assert output.image is not None
    assert output.image.tobytes() == plain(setting.pipe).tobytes()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if i % 4 else ()) for i, name in enumerate(METHODS)]
)
def test_the_same_seed_gives_the_same_picture_and_cost(name: str) -> None:
    first, second = (
        METHODS[name]().generate(
            context(Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="fox")), PROMPT, SEED
        )
        for _ in range(2)
    )
    assert first.nfe == second.nfe > 0
    assert (first.image is None) == (second.image is None)
    if first.image is not None and second.image is not None:
        assert first.image.tobytes() == second.image.tobytes()


@pytest.mark.parametrize(
    "method",
    [
        Wen(target=0.0),
        Ren(),
        AttractiveRepulsive(),
        SafeLatentDiffusion(),
        JainStatic(),
        RandomTokens(),
        LowerGuidance(),
        Sail(target=0.0),
        HanPerSample(target=0.0),
        NegativePrompt(),
        PaperNudge(),
    ],
    ids=lambda m: m.name,
)
def test_the_defaults_change_something(method: Any) -> None:
    setting = context(Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="fox"))
    output = method.generate(setting, PROMPT, SEED)
    assert output.image is not None
    assert output.image.tobytes() != plain(setting.pipe).tobytes()


def test_behind_the_guard_nothing_flagged_is_handed_out() -> None:
    flagging = context(True)
    assert BlockBaseline().generate(flagging, PROMPT, SEED).image is None
    assert BlockBaseline().generate(flagging, PROMPT, SEED).nfe == 2 * STEPS
    resampled = ResampleBaseline(2).generate(flagging, PROMPT, SEED)
    assert resampled.image is None
    assert resampled.nfe == 3 * 2 * STEPS


def test_resample_hands_out_the_first_clear_seed() -> None:
    setting = context([True, True, False])
    output = ResampleBaseline(4).generate(setting, PROMPT, SEED)
    assert output.image is not None
    assert output.nfe == 3 * 2 * STEPS


def test_rewriting_draws_the_alternative_from_the_same_noise() -> None:
    setting = context([True, False])
    output = RewriteBaseline().generate(setting, PROMPT, SEED)
    generator = torch.Generator().manual_seed(SEED)
    again = setting.pipe(
        "a plain fox", num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator
    )
    assert output.image is not None
    assert output.image.tobytes() == again.images[0].tobytes()


def test_attention_is_masked_and_scaled_in_the_chosen_rows_alone() -> None:
    pipe = tiny_pipeline("sd1")
    module = cross_attentions(pipe.unet)[0]
    hidden = torch.randn(2, 5, module.to_q.in_features)
    words = torch.randn(2, 7, module.to_k.in_features)
    bias = torch.zeros(7)
    bias[4:] = -1e4
    with torch.no_grad():
        before = module(hidden, encoder_hidden_states=words)
        with changed_attention(pipe.unet, [1], bias, first=1.25):
            after = module(hidden, encoder_hidden_states=words)
        assert torch.equal(before[0], after[0])
        assert torch.equal(before, module(hidden, encoder_hidden_states=words))  # nothing is left behind

        heads = module.heads
        q, k, v = (
            f(x)[1].view(len(x[1]), heads, -1).transpose(0, 1)
            for f, x in ((module.to_q, hidden), (module.to_k, words), (module.to_v, words))
        )
        logits = q @ k.transpose(1, 2) * module.scale
        logits[:, :, 0] *= 1.25
        weights = logits[:, :, :4].softmax(-1)  # what stands after the end token is not attended to
        by_hand = module.to_out[0]((weights @ v[:, :4]).transpose(0, 1).reshape(5, -1))
        torch.testing.assert_close(after[1], by_hand + (after[1] - after[1]), atol=1e-5, rtol=1e-4)


def test_recorded_attention_sums_to_one_and_finds_the_token_attended_to() -> None:
    pipe = tiny_pipeline("sd1")
    sample, words = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 16)
    with torch.no_grad(), recorded_attention(pipe.unet, 0) as attention:
        pipe.unet(sample, 500, encoder_hidden_states=words)
    assert len(attention) == len(cross_attentions(pipe.unet))
    assert torch.stack(attention).sum(1).tolist() == pytest.approx([1.0] * len(attention), rel=1e-5)


def test_the_end_token_is_the_first_of_its_kind() -> None:
    tokenizer = tiny_pipeline("sd1").tokenizer
    assert end_of(tokenizer, "fox") == 1 + len(tokenizer("fox", add_special_tokens=False).input_ids)


def test_what_a_context_lacks_is_said() -> None:
    bare = Context(tiny_pipeline("sd1"), STEPS, GUIDANCE)
    with pytest.raises(ConfigError, match="reference pictures"):
        Spell().generate(bare, PROMPT, SEED)
    with pytest.raises(ConfigError, match="ordinary prompts"):
        Wen().generate(bare, PROMPT, SEED)
    with pytest.raises(UnsupportedError, match="FluxPipeline"):
        Context(tiny_pipeline("flux"))
