"""The guard's promises hold for any module z → image."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from code_doubles import CODE, near, tiny_module
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from steerclear import CodeGuard
from steerclear.errors import ConfigError, InputError, UnsupportedError
from steerclear.generators import GanGenerator, VaeGenerator
from steerclear.generators.passes import Pass
from steerclear.nudge import Budget, Ladder
from steerclear.nudge.base import Candidate
from steerclear.nudge.code import RUNGS, CodeNudge
from steerclear.pixels import to_image, to_tensor
from steerclear.steering import generators
from steerclear.testing import FakeEncoder, MockFilter
from steerclear.types import Detection, Outcome

MODULE = tiny_module()


def gan(module=MODULE, **options):
    return GanGenerator(module, (CODE,), **options)


@torch.no_grad()
def plain(count, seed, module=MODULE):
    noise = torch.randn((count, CODE), generator=torch.Generator().manual_seed(seed))
    return [to_image(row) for row in (module(noise) / 2 + 0.5).clamp(0, 1)]


def bytes_of(images):
    return [image.tobytes() for image in images]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), count=st.integers(1, 5))
def test_a_clear_image_is_bit_identical_to_the_plain_modules(seed, count):
    guard = CodeGuard(gan(), [MockFilter(False)])
    out = guard(count, generator=torch.Generator().manual_seed(seed))
    assert bytes_of(out.images) == bytes_of(plain(count, seed))
    assert all(r.outcome == Outcome.CLEAR and r.overhead == 1.0 for r in out.reports)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    verdicts=st.lists(st.sampled_from([True, False, math.nan, ValueError("broken")]), min_size=1, max_size=9),
    strict=st.lists(st.booleans(), min_size=1, max_size=4),
    encoder=st.sampled_from([None, FakeEncoder(size=8)]),
)
def test_whatever_the_filters_say_nothing_flagged_is_ever_handed_out(verdicts, strict, encoder):
    checked = []

    def answer(image):
        verdict = verdicts[len(checked) % len(verdicts)]
        checked.append((image.clone(), verdict is False))
        return verdict

    guard = CodeGuard(gan(), [MockFilter(answer)], strict=[MockFilter(strict)], encoder=encoder, samples=4)
    out = guard(2, generator=torch.Generator().manual_seed(3))
    for image, report in zip(out.images, out.reports, strict=True):
        assert (image is None) == (report.outcome == Outcome.WITHHELD)
        if image is not None:
            pixels = to_tensor([image])[0]
            assert any(clear and torch.equal(seen, pixels) for seen, clear in checked)
            assert not any(d.flagged for d in report.final_detections)


def test_a_steered_image_must_pass_the_stricter_filters_as_well():
    ordinary, stricter = MockFilter([True, False, False]), MockFilter([True, False], name="strict")
    guard = CodeGuard(gan(), [ordinary], strict=[stricter], samples=0)
    out = guard(generator=generators([1]))
    first, second = out.reports[0].attempts
    assert [d.filter for d in first.after if d.flagged] == ["strict"]
    assert [d.filter for d in second.after] == ["mock", "strict"]
    handed_out = to_tensor(out.images)
    assert torch.equal(ordinary.calls[-1], handed_out)
    assert torch.equal(stricter.calls[-1], handed_out)


def test_what_only_the_stricter_filters_flag_is_withheld_once_steered_and_handed_out_where_it_was_clear():
    def ask(verdicts):
        guard = CodeGuard(gan(), [MockFilter(verdicts)], strict=[MockFilter(True)], samples=0)
        return guard(generator=generators([1]))

    assert ask([True, *[False] * len(RUNGS)]).images == [None]
    assert bytes_of(ask(False).images) == bytes_of(plain(1, 1))


class Watching:
    """A rung that notes which code it is given and from what it is pushed, and nudges it."""

    name, acts_on = "watching", "code"

    def __init__(self):
        self.unwanted, self.codes = [], []

    def apply(self, task, seed):
        self.unwanted.append(task.unwanted.clone())
        self.codes.append(task.code)
        return CodeNudge(iterations=1).apply(task, seed)


def test_no_rung_flees_from_one_protected_picture_into_another():
    encoder = FakeEncoder(size=8)
    protected = {f"item-{i}": to_tensor([image])[0] for i, image in enumerate(plain(3, 2))}
    first, second, third = (
        Detection("mock", flagged=True, score=1.0, threshold=0.5, matched=f"item-{i}") for i in range(3)
    )
    passing = replace(third, flagged=False, score=0.1)  # what a clear finding names is no copy
    filters = [
        MockFilter([first, second, passing, False]),
        MockFilter([False, False, True, False], name="other"),
    ]
    watching = Watching()
    ladder = Ladder((watching,) * 3, Budget(overhead=1000))
    guard = CodeGuard(gan(), filters, protected=protected, encoder=encoder, ladder=ladder, samples=0)
    report = guard(generator=generators([1])).reports[0]
    assert report.outcome == Outcome.STEERED
    points = encoder(torch.stack(list(protected.values())))
    expected = [points[:1], points[:2], points[:2]]
    assert [rows(unwanted) for unwanted in watching.unwanted] == [rows(known) for known in expected]


def rows(points):
    return sorted([round(value, 5) for value in row.tolist()] for row in points)


@settings(max_examples=10, deadline=None)
@given(seeds=st.lists(st.integers(0, 99), min_size=2, max_size=4, unique=True))
def test_a_batch_never_changes_an_image(seeds):
    (target,) = plain(1, seeds[0])
    filter_, pictures = near(target)
    guard = CodeGuard(gan(), [filter_], protected=pictures, encoder=FakeEncoder(size=8))
    together = guard(len(seeds), generator=generators(seeds))
    assert together.reports[0].outcome == Outcome.STEERED
    for i, seed in enumerate(seeds):
        alone = guard(1, generator=generators([seed]))
        assert alone.images[0].tobytes() == together.images[i].tobytes()


@pytest.mark.parametrize("encoder", [None, FakeEncoder(size=8)])
def test_a_copy_is_steered_past_a_real_filter_and_its_neighbours_stay(encoder):
    images = plain(3, 5)
    filter_, pictures = near(images[1])
    guard = CodeGuard(gan(), [filter_], protected=pictures, encoder=encoder)
    out = guard(3, generator=torch.Generator().manual_seed(5))
    assert [r.outcome for r in out.reports] == ["clear", "steered", "clear"]
    assert [out.images[i].tobytes() for i in (0, 2)] == [images[i].tobytes() for i in (0, 2)]
    assert out.reports[1].matched == "item"
    assert not guard.check([out.images[1]])[0][0].flagged


def test_the_nudge_pushes_off_the_protected_picture_in_the_encoders_space():
    (target,) = plain(1, 5)
    filter_, pictures = near(target)
    encoder = FakeEncoder(size=8)
    guard = CodeGuard(
        gan(), [filter_], protected=pictures, encoder=encoder, ladder=Ladder((CodeNudge(gamma=0.1),))
    )
    out = guard(generator=torch.Generator().manual_seed(5))
    point = encoder(pictures["item"][None])
    cosine = float(encoder(to_tensor([out.images[0]])) @ point.T)
    assert cosine < 0.9  # it began at 1


def test_a_nudged_code_keeps_its_length():
    lengths = []

    class Watched(nn.Module):
        def forward(self, z):
            lengths.extend(z.detach().norm(dim=1).tolist())
            return MODULE(z)

    CodeGuard(gan(Watched().eval()), [MockFilter(True)], samples=0)(generator=generators([1]))
    assert len(lengths) == 1 + len(RUNGS)
    assert lengths == pytest.approx([lengths[0]] * len(lengths), rel=1e-5)


def test_every_evaluation_of_the_module_is_counted():
    rows, backward = [], []

    class Watched(nn.Module):
        def forward(self, z):
            rows.append(len(z))
            if z.requires_grad:
                backward.append(len(z))
            return MODULE(z)

    guard = CodeGuard(gan(Watched().eval()), [MockFilter(True)], encoder=FakeEncoder(size=8), samples=0)
    report = guard(generator=generators([1])).reports[0]
    assert report.nfe == sum(rows) + 2 * sum(backward)
    assert sum(a.nfe for a in report.attempts) == report.nfe - 1 - 1  # the task looks where the code lies


def test_pixels_that_are_not_finite_end_withheld_and_cost_no_other_image():
    class Sometimes(nn.Module):
        def forward(self, z):
            return torch.where(z[:, :1, None, None] > 0, MODULE(z), math.nan)

    noise = torch.randn((8, CODE), generator=torch.Generator().manual_seed(0))
    broken = (noise[:, 0] <= 0).tolist()
    assert len(set(broken)) == 2
    out = CodeGuard(gan(Sometimes().eval()), [MockFilter(False)])(
        8, generator=torch.Generator().manual_seed(0)
    )
    assert [image is None for image in out.images] == broken
    assert all("not finite" in r.reason for r, bad in zip(out.reports, broken, strict=True) if bad)


def test_a_module_that_breaks_once_nudged_ends_withheld():
    class Once(nn.Module):
        calls = 0

        def forward(self, z):
            self.calls += 1
            return MODULE(z) if self.calls == 1 else torch.full((len(z), 3, 8, 8), math.nan)

    out = CodeGuard(gan(Once().eval()), [MockFilter(True)], samples=0)(generator=generators([1]))
    assert out.images == [None]
    assert all("ArithmeticError" in a.stopped for a in out.reports[0].attempts)


@pytest.mark.parametrize("run", [{"latents": torch.full((1, CODE), math.nan)}, {"finite": [False]}])
def test_a_strategys_picture_is_not_handed_out_where_its_run_is_not_finite(run):
    class Painter:
        name, acts_on = "painter", "code"

        def apply(self, task, seed):
            (image,) = task.model.pictures(task.code)
            return Candidate(Pass(images=[image], **run), "")

    guard = CodeGuard(gan(), [MockFilter([True, False])], ladder=Ladder((Painter(),)), samples=0)
    out = guard(generator=generators([1]))
    assert out.images == [None]
    assert [d.filter for d in out.reports[0].attempts[0].after if d.flagged] == ["finite"]


def test_whoever_keeps_the_models_pictures_cannot_paint_over_what_is_handed_out():
    class Keeping(GanGenerator):
        def pictures(self, code):
            self.kept = super().pictures(code)
            return self.kept

    model = Keeping(MODULE, (CODE,))
    paint = MockFilter(lambda image: model.kept[0].paste((1, 1, 1), (0, 0, 8, 8)) or False)
    out = CodeGuard(model, [paint])(generator=torch.Generator().manual_seed(4))
    assert bytes_of(out.images) == bytes_of(plain(1, 4)) != bytes_of(model.kept)


def test_an_encoder_that_fails_withholds_the_flagged_image_alone():
    class Broken(FakeEncoder):
        def __call__(self, images):
            raise RuntimeError("out of memory")

    guard = CodeGuard(gan(), [MockFilter([True, False])], encoder=Broken(size=8), samples=0)
    out = guard(2, generator=torch.Generator().manual_seed(1))
    assert [r.outcome for r in out.reports] == ["withheld", "clear"]
    assert "out of memory" in out.reports[0].reason


def test_a_mapping_network_makes_the_code_that_is_nudged():
    def mapping(z):
        return z.flip(1) * 2

    code = mapping(torch.randn((1, CODE), generator=torch.Generator().manual_seed(4)))
    with torch.no_grad():
        mapped = to_image((MODULE(code) / 2 + 0.5).clamp(0, 1)[0])

    def ask(verdicts):
        watching = Watching()
        guard = CodeGuard(gan(mapping=mapping), [MockFilter(verdicts)], ladder=Ladder((watching,)), samples=0)
        return guard(1, generator=torch.Generator().manual_seed(4)), watching

    clear, _ = ask(False)
    assert clear.images[0].tobytes() == mapped.tobytes()
    nudged, watching = ask([True, False])
    assert nudged.reports[0].outcome == Outcome.STEERED
    assert torch.equal(watching.codes[0], code)


def test_the_same_request_gives_the_same_steered_image_and_the_reported_seed_makes_a_clear_one_again():
    outputs = [
        CodeGuard(gan(), [MockFilter([True, False])], samples=0)(generator=generators([5])) for _ in range(2)
    ]
    assert outputs[0].images[0].tobytes() == outputs[1].images[0].tobytes()
    out = CodeGuard(gan(), [MockFilter(False)])()
    assert plain(1, out.reports[0].seed)[0].tobytes() == out.images[0].tobytes()


def test_an_item_whose_policy_is_to_withhold_is_never_steered_and_a_spent_budget_says_so():
    detection = Detection(filter="mock", flagged=True, score=1.0, threshold=0.5, matched="private")
    out = CodeGuard(gan(), [MockFilter([detection])], withhold=["private"])(generator=generators([1]))
    assert out.images == [None]
    assert "private" in out.reports[0].reason
    out = CodeGuard(gan(), [MockFilter(True)])(generator=generators([1]), budget=Budget(overhead=0))
    assert out.reports[0].attempts == ()
    assert "budget" in out.reports[0].reason


def test_guards_around_one_generator_queue():
    inside, together = [], []

    class Watched(nn.Module):
        def forward(self, z):
            inside.append(1)
            time.sleep(0.01)
            together.append(len(inside))
            inside.pop()
            return MODULE(z)

    shared = VaeGenerator(Watched().eval(), (CODE,), encoder=lambda pixels: torch.ones(len(pixels), CODE))
    guards = [CodeGuard(shared, [MockFilter([True, False])], samples=0) for _ in range(2)]

    def ask(i):
        if i % 3:
            return guards[i % 2](generator=generators([1])).images[0]
        return guards[i % 2].reconstruct(plain(1, 1)).images[0]

    with ThreadPoolExecutor(4) as pool:
        assert None not in list(pool.map(ask, range(9)))
    assert set(together) == {1}


def test_bad_configurations_and_requests_are_named_with_the_way_out():
    with pytest.raises(ConfigError, match="filters"):
        CodeGuard(gan(), [])
    for options in (
        {"filters": [MockFilter(), "nearest"]},
        {"filters": [MockFilter()], "strict": ["nearest"]},
    ):
        with pytest.raises(ConfigError, match="'nearest' sees no picture; pass filters with a name"):
            CodeGuard(gan(), **options)
    with pytest.raises(ConfigError, match="RUNGS"):
        CodeGuard(gan(), [MockFilter(False)], ladder=Ladder())
    with pytest.raises(ConfigError, match="eval"):
        GanGenerator(tiny_module().train(), (CODE,))
    with pytest.raises(ConfigError, match=r"\(B, 3, H, W\)"):
        CodeGuard(gan(lambda z: z), [MockFilter(False)])()
    guard = CodeGuard(gan(), [MockFilter(False)])
    with pytest.raises(InputError, match="num_images is 0"):
        guard(0)
    with pytest.raises(InputError, match="2 generators"):
        guard(3, generator=generators([1, 2]))
    with pytest.raises(UnsupportedError, match="encoder"):
        guard.reconstruct(plain(1, 0))
    assert {rung.acts_on for rung in RUNGS} == {"code"}
