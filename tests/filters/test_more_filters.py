"""Hash, concept, custom, classifier and safety filters: right on real input, flagged if they cannot judge."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from steerclear.embedded import MODEL_FOLDER, PROTECTED_FOLDER
from steerclear.encoders.embedded import Clip
from steerclear.errors import ConfigError, LibraryError, ModelError
from steerclear.filters import (
    ClassifierFilter,
    ConceptFilter,
    CustomFilter,
    HashFilter,
    NudityFilter,
    SafetyCheckerFilter,
    flagged,
    inspect,
)
from steerclear.pixels import fit, to_tensor


@pytest.fixture(scope="module")
def protected():
    files = sorted(PROTECTED_FOLDER.glob("*.png"))
    return [f.stem for f in files], to_tensor([Image.open(f) for f in files])


def test_a_hash_knows_every_protected_picture_and_its_resized_copy(protected):
    names, images = protected
    filter_ = HashFilter.of(names, images)
    assert [(d.matched, d.score) for d in filter_.check(images)] == [(name, 1.0) for name in names]
    large = fit(images, 128)
    assert [d.matched for d in filter_.check(large) if d.flagged] == names


def test_a_hash_is_silent_about_other_pictures(protected):
    names, images = protected
    half = len(names) // 2
    assert not any(d.flagged for d in HashFilter.of(names[:half], images[:half]).check(images[half:]))


def test_no_hash_filter_is_made_without_protected_pictures(protected):
    with pytest.raises(LibraryError, match="'hash' has no hash to compare with"):
        HashFilter.of([], protected[1][:0])


def test_a_concept_in_words_is_found_in_the_pictures_that_show_it(protected):
    names, images = protected
    counters = ["a penguin, noto style", "a robot, noto style", "a crab, fluent style", "a photo of grass"]
    filter_ = ConceptFilter.of(Clip.load(MODEL_FOLDER), ["a fox, noto style"], counters)
    detections = dict(zip(names, filter_.check(images), strict=True))
    assert detections["mascot-acme"].flagged
    assert detections["mascot-acme"].matched == "a fox, noto style"
    assert not detections["mascot-julep"].flagged
    assert not detections["mascot-quindle"].flagged


def test_a_concept_needs_something_else_that_it_might_be():
    clip = Clip.load(MODEL_FOLDER)
    with pytest.raises(ConfigError, match="counter-concept"):
        ConceptFilter.of(clip, ["a fox"], [])
    with pytest.raises(ConfigError, match="both"):
        ConceptFilter.of(clip, ["a fox"], ["a fox"])


@pytest.mark.parametrize("answer", [[math.nan] * 2, [0.1], ["no number", 0.1]])
def test_a_custom_filter_that_cannot_answer_flags(answer):
    pictures = [Image.new("RGB", (8, 8))] * 2
    assert all(flagged(row) for row in inspect([CustomFilter("mine", lambda images: answer, 0.5)], pictures))


def test_a_custom_filter_decides_by_its_score():
    filter_ = CustomFilter("bright", lambda images: images.mean(dim=(1, 2, 3)), 0.5)
    dark, bright = filter_.check(torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)]))
    assert (dark.flagged, bright.flagged) == (False, True)


@pytest.fixture(scope="module")
def classifier_folder(tmp_path_factory):
    from transformers import ViTConfig, ViTForImageClassification

    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "logo"},
    )
    ViTForImageClassification(config).save_pretrained(folder)
    settings = (
        '{"size": {"height": 32, "width": 32}, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}'
    )
    (folder / "preprocessor_config.json").write_text(settings)
    return folder


def test_a_classifier_filter_gives_its_models_own_probabilities(classifier_folder):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    filter_ = ClassifierFilter.from_pretrained(classifier_folder, ["dog", "logo"])
    detections = filter_.check(images)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    shares = filter_.model(pixel_values=(images - mean) / std).logits.softmax(-1)
    assert [d.score for d in detections] == pytest.approx((shares[:, 1] + shares[:, 2]).tolist())
    assert [d.flagged for d in detections] == (shares[:, 0] <= 0.5).tolist()
    assert {d.matched for d in detections} <= {"dog", "logo"}


def test_a_classifier_filter_refuses_what_it_cannot_use(classifier_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"'horse' is no label of .*cat, dog, logo"):
        ClassifierFilter.from_pretrained(classifier_folder, ["horse"])
    with pytest.raises(ModelError, match="holds no image classifier"):
        ClassifierFilter.from_pretrained(tmp_path, ["dog"])


def test_the_safety_checker_filter_decides_as_the_checker_does_and_leaves_the_picture_alone():
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    from steerclear.encoders.embedded import CLIP_MEAN, CLIP_STD

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config={**small, "image_size": 32, "patch_size": 8}, text_config=small, projection_dim=16
    )
    checker = StableDiffusionSafetyChecker(config).eval()
    images = torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    images *= torch.rand(24, 3, 1, 1, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        checker.concept_embeds.normal_()
        checker.special_care_embeds.normal_()
        embedding = checker.visual_projection(checker.vision_model((images - CLIP_MEAN) / CLIP_STD)[1])
        for name in ("concept", "special_care"):
            cosines = torch.cosine_similarity(
                embedding[:, None], getattr(checker, f"{name}_embeds")[None], dim=2
            )
            # thresholds that a part of these images passes
            getattr(checker, f"{name}_embeds_weights").copy_(cosines.quantile(0.97, dim=0))
        _, theirs = checker((images - CLIP_MEAN) / CLIP_STD, images.clone())
        before = images.clone()
        ours = SafetyCheckerFilter(checker).check(images)
    assert [d.flagged for d in ours] == theirs
    assert 0 < sum(theirs) < 24
    assert torch.equal(images, before)


def test_the_nudity_filter_is_silent_about_photographs_and_flags_what_it_cannot_see():
    from skimage import data

    for photograph in (data.astronaut(), data.cat(), data.coffee()):
        assert not NudityFilter().check(to_tensor([Image.fromarray(photograph)]))[0].flagged
    with pytest.raises(ValueError, match="not finite"):
        NudityFilter().check(torch.full((1, 3, 8, 8), math.nan))


def test_the_nudity_filter_hands_the_detector_its_colours_in_the_order_it_expects(monkeypatch):
    import nudenet

    from steerclear.filters import nsfw

    seen = []
    real = nudenet.NudeDetector.detect
    monkeypatch.setattr(
        nudenet.NudeDetector, "detect", lambda self, image: seen.append(image) or real(self, image)
    )
    nsfw.NudityFilter().check(torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64))
    assert seen[0][0, 0].tolist() == [0, 128, 255]


@pytest.mark.slow
def test_a_concept_that_no_library_holds_is_steered_away_and_never_handed_out():
    from steerclear import Guard, Outcome

    guard = Guard.default()
    names = ["a pumpkin, fluent style", "a pumpkin, flat style"]
    counters = [
        "a pizza, flat style",
        "a basketball, flat style",
        "a lion, flat style",
        "a lemon, flat style",
    ]
    concept = ConceptFilter.of(Clip.load(MODEL_FOLDER), names, counters)
    guard = Guard(guard.pipe, [*guard.filters, concept], protected=guard.protected)
    generator = torch.Generator().manual_seed(0)
    out = guard("a pumpkin, fluent style", generator=generator, num_inference_steps=25, guidance_scale=4.0)
    image, report = out.images[0], out.reports[0]
    assert report.matched == names[0]
    assert report.outcome is not Outcome.CLEAR
    assert image is None or not concept.check(to_tensor([image]))[0].flagged
    assert not any(attempt.stopped.startswith("KeyError") for attempt in report.attempts)
