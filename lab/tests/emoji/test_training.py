"""The training loop resumes as if it had never stopped, and stops at a loss that is not finite."""

from __future__ import annotations

import json
import time

import pytest
import torch
from torch import nn

from steerclear_lab.emoji.denoiser_training import SHORT_PHASES, phase_at
from steerclear_lab.emoji.training import Schedule, TrainingRun, training_minutes

SCHEDULE = Schedule(steps=12, batch=4, rate=0.05, warmup=2, ema=0.5)


class KilledError(Exception):
    pass


def run(folder, *, die_at=None, checkpoint_seconds=0.0):
    torch.manual_seed(0)
    training = TrainingRun(
        name="line",
        folder=folder,
        model=nn.Linear(2, 1),
        schedule=SCHEDULE,
        checkpoint_seconds=checkpoint_seconds,
    )

    def loss_at(step, generator):
        if step == die_at:
            raise KilledError
        x = torch.randn(SCHEDULE.batch, 2, generator=generator)
        return (training.model(x)[:, 0] - x.sum(1)).square().mean(), {}

    return training.fit(loss_at)


def test_a_run_that_was_killed_ends_where_an_uninterrupted_one_ends(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(KilledError):
        run(tmp_path / "killed", die_at=7)
    resumed = run(tmp_path / "killed")
    assert torch.equal(whole.weight, resumed.weight)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = run(tmp_path)
    assert torch.equal(first.weight, run(tmp_path, die_at=0).weight)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path):
    training = TrainingRun(name="line", folder=tmp_path, model=nn.Linear(2, 1), schedule=SCHEDULE)
    with pytest.raises(FloatingPointError, match="line: the loss is nan at step 0"):
        training.fit(lambda step, generator: (training.model(torch.full((1, 2), float("nan"))).sum(), {}))


def test_the_learning_rate_warms_up_and_ends_at_zero():
    factors = [SCHEDULE.factor(step) for step in range(SCHEDULE.steps + 1)]
    assert factors[0] == 0.5
    assert max(factors) == 1.0
    assert factors[-1] == pytest.approx(0.0, abs=1e-9)


def test_the_denoisers_phases_cover_the_run_in_order():
    assert [phase_at(SHORT_PHASES, p.start) for p in SHORT_PHASES] == list(SHORT_PHASES)
    assert phase_at(SHORT_PHASES, 0.999) == SHORT_PHASES[-1]


def test_the_minutes_of_a_stage_leave_out_the_pause_of_a_run_that_was_stopped(tmp_path):
    log = tmp_path / "stage.jsonl"
    log.write_text("".join(json.dumps({"time": time}) + "\n" for time in (60, 120, 180, 7200, 7260)))
    assert training_minutes(log) == 1 + 1 + 1 + 3 + 1
    log.write_text(json.dumps({"time": 60}) + "\n")
    assert training_minutes(log) == 0


def test_a_run_ends_when_its_time_is_over_although_steps_are_left(tmp_path):
    seen = []
    training = TrainingRun(
        name="line",
        folder=tmp_path,
        model=nn.Linear(2, 1),
        schedule=Schedule(steps=10**9, batch=4, rate=0.05, warmup=2, until=time.time() + 0.3),
        halfway=seen.append,
    )

    def loss_at(step, generator):
        time.sleep(0.01)
        return training.model(torch.ones(1, 2)).square().mean(), {}

    assert training.fit(loss_at) is training.ema
    assert seen == [training.ema]


def test_the_learning_rate_of_a_timed_run_ends_at_zero_with_the_time():
    endless = Schedule(steps=10**9, batch=4, rate=0.05, warmup=2)
    assert [round(endless.factor(5, passed), 2) for passed in (0.0, 0.5, 1.0)] == [1.0, 0.5, 0.0]
