"""What a GPU needs of a guard, tried without one: what it would wait for, and the end when it is lost."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from steerclear import CodeGuard, Guard
from steerclear.devices import differentiable_kernels, raise_if_lost
from steerclear.errors import DeviceLostError
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.testing import FAMILIES, MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Outcome

LOST = "CUDA error: an illegal memory access was encountered"
# what makes a program wait for a device: reading a number, a copy that leaves it, a question about values
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")


# Würstchen's scheduler computes its noise level at every step, from a number on the CPU
TEXT_FAMILIES = [
    f for f in FAMILIES if not f.endswith(("-image", "-inpaint")) and f not in ("wuerstchen", "cascade")
]


class Waits(TorchDispatchMode):
    """Counts the operations for which a program waits for its device."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        leaves = name == "_to_copy" and (kwargs or {}).get("device") == torch.device("cpu")
        if leaves or name.startswith(WAITS):
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


def waits(asked, family, steps):
    arguments = {**tiny_call(family, "a fox", steps=steps), "generator": torch.Generator().manual_seed(0)}
    with Waits() as counter:
        asked(**arguments)
    return counter.counts


@pytest.mark.parametrize(
    ("family", "scheduler"),
    [
        *(
            pytest.param(
                family, None, marks=() if family in ("sd1", "sdxl", "sd3", "flux") else pytest.mark.slow
            )
            for family in TEXT_FAMILIES
        ),
        *(
            ("sd1", f"{name}Scheduler")
            for name in ("EulerDiscrete", "DPMSolverMultistep", "PNDM", "LMSDiscrete")
        ),
    ],
)
def test_a_clear_request_waits_for_the_device_no_more_often_with_every_step(family, scheduler):
    pipe = tiny_pipeline(family, scheduler)
    guard = Guard(pipe, [MockFilter(False)])
    plain = waits(pipe, family, 9) - waits(pipe, family, 5)
    guarded = waits(guard, family, 9) - waits(guard, family, 5)
    assert not guarded - plain


class Failing:
    """A strategy that fails in the way that it is told."""

    name = "failing"

    def __init__(self, error):
        self.error = error

    def apply(self, task, seed):
        raise self.error


def guard_with(pipe, *, filters=(), error=None):
    rungs = (Failing(error), *strategies(("rewrite",)))
    return Guard(pipe, [*filters, MockFilter([True, False])], ladder=Ladder(rungs), preferred=["a bowl"])


DEVICE_ERRORS = [
    torch.AcceleratorError(LOST),
    RuntimeError(LOST),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
]


@pytest.mark.parametrize("error", DEVICE_ERRORS, ids=lambda e: type(e).__name__)
def test_a_strategy_that_loses_the_device_ends_the_call_and_names_the_way_out(error):
    with pytest.raises(DeviceLostError, match="Restart the process"):
        guard_with(tiny_pipeline(), error=error)("a fox", num_inference_steps=2)


@pytest.mark.parametrize("where", ["filter", "prompt", "pipeline", "preparation"])
def test_losing_the_device_anywhere_ends_the_call(where, monkeypatch):
    pipe, error = tiny_pipeline(), torch.AcceleratorError(LOST)

    def fail(*args, **kwargs):
        raise error

    guard = guard_with(pipe, filters=[MockFilter(error)] if where == "filter" else [], error=ValueError("no"))
    if where == "pipeline":
        monkeypatch.setattr(pipe.unet, "forward", fail)
    if where == "prompt":
        monkeypatch.setattr(pipe, "encode_prompt", fail)
    if where == "preparation":
        monkeypatch.setattr("steerclear.steer_tasks.SteerTasks.of", fail)
    with pytest.raises(DeviceLostError):
        guard("a fox", num_inference_steps=2)


def test_a_guard_of_a_module_ends_as_well_where_it_loses_the_device():
    from steerclear.generators.gan import GanGenerator

    def generator(noise):
        raise torch.AcceleratorError(LOST)

    guard = CodeGuard(GanGenerator(generator, (4,)), [MockFilter(False)])
    with pytest.raises(DeviceLostError):
        guard()


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), ValueError("CUDA error"), RuntimeError("shapes differ")],
)
def test_errors_that_leave_the_device_usable_only_fail_their_strategy(error):
    out = guard_with(tiny_pipeline(), error=error)("a fox", num_inference_steps=2)
    assert out.reports[0].outcome is Outcome.STEERED
    assert str(error) in out.reports[0].attempts[0].stopped


def test_a_lost_device_is_seen_through_the_error_that_another_library_made_of_it():
    with pytest.raises(DeviceLostError):  # noqa: PT012 - the cause has to be caught first
        try:
            try:
                raise torch.AcceleratorError(LOST)
            except RuntimeError as error:
                raise KeyError("embedding") from error
        except KeyError as error:
            raise_if_lost(error)


def test_cudnn_attention_is_off_until_the_last_of_several_gradient_passes_has_ended():
    before = torch.backends.cuda.cudnn_sdp_enabled()
    first, second = differentiable_kernels(), differentiable_kernels()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    second.__exit__(None, None, None)
    assert torch.backends.cuda.cudnn_sdp_enabled() is before


@pytest.mark.parametrize("strategy", ["noise", "trajectory-through", "magnitude"])
def test_gradient_passes_run_without_cudnn_attention_and_plain_passes_with_it(strategy, monkeypatch):
    pipe, seen = tiny_pipeline(), []
    forward = pipe.unet.forward

    def looking(*args, **kwargs):
        seen.append((torch.is_grad_enabled(), torch.backends.cuda.cudnn_sdp_enabled()))
        return forward(*args, **kwargs)

    monkeypatch.setattr(pipe.unet, "forward", looking)
    guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(strategies((strategy,))))
    guard("a fox", num_inference_steps=3)
    assert set(seen) == {(False, True), (True, False)}


HOW = ("compiled in place", "blocks compiled")


@pytest.mark.parametrize("how", ["compiled", *(pytest.param(how, marks=pytest.mark.slow) for how in HOW)])
def test_no_strategy_makes_a_compiled_module_be_compiled_once_more(how):
    pipe, compiled = tiny_pipeline(), []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph

    torch._dynamo.reset()
    match how:
        case "compiled":
            pipe.unet = torch.compile(pipe.unet, backend=backend)
        case "compiled in place":
            pipe.unet.compile(backend=backend)
        case "blocks compiled":
            for block in pipe.unet.up_blocks:
                block.compile(backend=backend)
    assert pipe("a fox", num_inference_steps=2).images
    before = len(compiled)
    for name in ("noise+condition", "trajectory-through", "final-latent+condition", "despecified"):
        ladder = Ladder(strategies((name,)))
        guard = Guard(pipe, [MockFilter([True, False])], ladder=ladder, preferred=["a bowl"])
        assert guard("a fox", num_inference_steps=2).reports[0].outcome is Outcome.STEERED
    assert len(compiled) == before > 0
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "strategy", ["noise", "trajectory-through", "final-latent", "magnitude", "condition"]
)
def test_a_guard_steers_under_inference_mode(strategy):
    pipe = tiny_pipeline()
    plain = pipe("a fox", num_inference_steps=3, generator=torch.Generator().manual_seed(0)).images[0]
    with torch.inference_mode():
        negative = torch.zeros(1, 77, 16)
        clear = Guard(pipe, [MockFilter(False)])(
            "a fox", num_inference_steps=3, generator=torch.Generator().manual_seed(0)
        )
        guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(strategies((strategy,))))
        out = guard("a fox", num_inference_steps=3, negative_prompt_embeds=negative)
    assert clear.images[0].tobytes() == plain.tobytes()
    assert out.reports[0].outcome is Outcome.STEERED, out.reports[0].attempts
