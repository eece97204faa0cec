"""Screening: one first prediction of a text tells whether its picture is likely to become a protected one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.generators.accepted import call_parameters
from steerclear.generators.conditions import Condition, is_guided
from steerclear.nudge.base import SteerTask
from steerclear.nudge.despecify import condition_predictions, predictions
from steerclear.pixels import cosines

# what most models can draw; measured where no calibration tells the similarity of ordinary prompts
PLAIN_TEXTS = ("a tree", "a chair", "a boat", "a bridge", "a cake", "a horse", "a mountain", "a bicycle")
SAFE = 0.35  # up to this risk a text is likely to pass; then what it keeps of the request decides
AGREES = 0.9  # agreement from which two texts show the same subject
HOPELESS = 0.75  # risk from which a text is not tried
LEAST_RANGE = 0.05  # least distance of the cosines of an ordinary prompt and of the copy


@dataclass(frozen=True)
class Screened:
    """A text, and what its first prediction says.

    Attributes:
        text: the text.
        similarity: highest cosine of its guided first prediction with any protected latent.
        risk: the same on the scale from an ordinary prompt's (0) to the flagged prompt's (1).
        agreement: cosine of what the text and what the last of the texts change in the prediction: whether
            the model still sees that text's subject in this one.
    """

    text: str
    similarity: float
    risk: float
    agreement: float = 1.0


def screened(task: SteerTask, texts: list[str]) -> list[Screened]:
    """Predict the risk of each text: whether its picture is likely to be a copy.

    The comparison is with all protected items, since leaving one must not lead to another. Costs one
    evaluation per text, and one or two more at the first call for a task. Each text is looked at once per
    task.

    Args:
        task: the flagged image.
        texts: to be screened.

    Returns:
        One result per text, in the order of the texts.
    """
    if not texts:
        return []
    missing = [text for text in dict.fromkeys(texts) if f"prediction:{text}" not in task.cache]
    if missing:
        denoised = guided_predictions(task, [task.unguided_condition(text) for text in missing])
        task.cache.update({f"prediction:{text}": row for text, row in zip(missing, denoised, strict=True)})
    rows = torch.stack([task.cache[f"prediction:{text}"] for text in texts])
    changes = rows - _unconditional(task) if _mixes(task) else rows
    agreements = cosines(changes[-1:], changes).tolist()
    similarities = [_nearest(task, row) for row in rows]
    return [
        Screened(text, similarity=similarity, risk=_risk(task, similarity), agreement=agreement)
        for text, similarity, agreement in zip(texts, similarities, agreements, strict=True)
    ]


def condition_risk(task: SteerTask, unguided: Condition) -> float:
    """Predict the risk of a condition, see `Screened`; costs one evaluation.

    Args:
        task: the flagged image.
        unguided: a condition that was encoded for a call without guidance.

    Returns:
        The risk, on the same scale as `Screened.risk`.
    """
    return _risk(task, _nearest(task, guided_predictions(task, [unguided])[0]))


def _risk(task: SteerTask, similarity: float) -> float:
    key = "similarity of the prompt"
    if key not in task.cache:
        first = task.first_prediction
        if first is None:
            first = guided_predictions(task, [task.unguided_condition(task.prompt)])
        task.cache[key] = _nearest(task, first[0])
    usual = usual_similarity(task)
    return (similarity - usual) / max(LEAST_RANGE, float(task.cache[key]) - usual)


def ordered(texts: list[Screened]) -> list[str]:
    """Put texts in the order in which they are to be tried.

    First come the safe texts in which the model sees the same subject as in the last text (the bare subject),
    in the order given, which is the order of how much they keep of the request. Then the others: those that
    agree on the subject before those that do not, each by rising risk. Texts whose risk is HOPELESS or more
    are left out.

    Args:
        texts: screened, the one that keeps most of the request first, the bare subject last.

    Returns:
        The texts alone.
    """
    hopeful = [row for row in texts if row.risk < HOPELESS]
    safe = [row for row in hopeful if row.risk <= SAFE and row.agreement >= AGREES]
    others = [row for row in hopeful if row not in safe]
    others.sort(key=lambda row: (row.agreement < AGREES, row.risk))
    return [row.text for row in (*safe, *others)]


def usual_similarity(task: SteerTask) -> float:
    """How similar the first prediction of an ordinary prompt is to protected items: from calibration, else
    measured on PLAIN_TEXTS.

    It is measured once per model and settings, on the noise of the first request that needs it.
    """
    guidance = guidance_scale(task)
    known = task.ordinary.similarity_at(guidance) if task.ordinary else None
    if known is not None:
        return known
    key = f"usual similarity:{guidance}:{tuple(task.start.shape[1:])}"
    remembered = task.runner.remembered
    if key not in remembered:
        plain = [task.unguided_condition(text) for text in PLAIN_TEXTS]
        values = [_nearest(task, row) for row in guided_predictions(task, plain)]
        remembered[key] = float(torch.tensor(values).median())
    return float(remembered[key])


def usual_similarities(task: SteerTask, prompts: Sequence[str], scales: Sequence[float]) -> list[float]:
    """Measure how similar first predictions of ordinary prompts are to protected items.

    Args:
        task: gives the noise and the protected items.
        prompts: ordinary prompts.
        scales: guidance scales; where guidance mixes no predictions, all give the same.

    Returns:
        For each scale, the median over the prompts of the highest cosine with any protected latent.
    """
    denoised = predictions(task, list(prompts))
    mixed = _mixes(task)
    unconditional = _unconditional(task) if mixed else denoised
    medians = []
    for scale in scales:
        guided = unconditional + scale * (denoised - unconditional) if mixed else denoised
        medians.append(float(torch.tensor([_nearest(task, row) for row in guided]).median()))
    return medians


def guided_predictions(task: SteerTask, conditions: list[Condition]) -> Tensor:
    """The first `denoised` (N, …) under the call's guidance, on the task's own noise.

    Guidance is u + g (c − u), and `denoised` is affine in it. So one evaluation per condition is enough, and
    one per task for u.

    Args:
        task: the flagged image.
        conditions: N conditions that were made for a call without guidance.
    """
    denoised = condition_predictions(task, conditions)
    if not (_mixes(task) and is_guided(task.runner.pipe, task.kwargs)):
        return denoised
    unconditional = _unconditional(task)
    return unconditional + guidance_scale(task) * (denoised - unconditional)


def guidance_scale(task: SteerTask) -> float:
    """The call's guidance scale; 1 for a pipeline that takes none."""
    parameter = call_parameters(task.runner.pipe).get("guidance_scale")
    scale = task.kwargs.get("guidance_scale", 1.0 if parameter is None else parameter.default)
    return float(scale) if isinstance(scale, int | float) else 1.0


def _unconditional(task: SteerTask) -> Tensor:
    """The first `denoised` (1, …) under the call's negative prompt, made once per task."""
    if "unconditional prediction" not in task.cache:
        negative = task.kwargs.get("negative_prompt") or ""
        negative = negative if isinstance(negative, str) else negative[0]
        task.cache["unconditional prediction"] = predictions(task, [negative])
    unconditional: Tensor = task.cache["unconditional prediction"]
    return unconditional


def _mixes(task: SteerTask) -> bool:
    """Whether the pipeline's guidance scale mixes two predictions; FLUX's is an input of its network."""
    accepted = call_parameters(task.runner.pipe)
    return "guidance_scale" in accepted and "negative_prompt" in accepted and "true_cfg_scale" not in accepted


def _nearest(task: SteerTask, denoised: Tensor) -> float:
    """Highest cosine of a prediction (…) with any protected latent, or with what was matched."""
    if "protected latents" not in task.cache:
        protected = task.unwanted if task.protected is None else task.protected()
        task.cache["protected latents"] = torch.cat([protected.to(task.unwanted), task.unwanted])
    return float(cosines(denoised[None], task.cache["protected latents"]).max())
