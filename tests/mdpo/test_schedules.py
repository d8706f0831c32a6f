"""Schedules of the learning rate, the clip ranges and the weight of the distillation, in Python and in the zoo."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule

from sb3_mdpo import MDPO
from sb3_mdpo.zoo.hyperparams import distill_coef_schedule
from tests.support.training import small, small_silent


def recorded(algorithm: type[PPO] | type[MDPO] = MDPO, **kwargs) -> list[dict[str, float]]:
    """What four updates log. n_envs differs between the algorithms, the progress at each update does not."""
    model, rows = small_silent(algorithm, "CartPole-v1", **kwargs), []
    model.logger.dump = lambda step=0: rows.append(dict(model.logger.name_to_value))
    model.learn(4 * 16 * model.n_envs)
    return rows[1:]


def test_learning_rate_and_clip_ranges_follow_the_schedule_as_ppos_do():
    schedules = {
        "learning_rate": LinearSchedule(1e-3, 1e-4, 0.5),
        "clip_range": lambda progress_remaining: 0.3 * progress_remaining + 0.1,
        "clip_range_vf": LinearSchedule(0.2, 0.1, 1.0),
    }
    ppo, mdpo = (
        {name: [row[f"train/{name}"] for row in recorded(algorithm, **schedules)] for name in schedules}
        for algorithm in (PPO, MDPO)
    )
    assert ppo == mdpo
    assert ppo["learning_rate"] == pytest.approx([0.00055, 1e-4, 1e-4])
    assert ppo["clip_range"] == pytest.approx([0.325, 0.25, 0.175])


def test_the_optimizer_has_the_scheduled_rate():
    model = small(env="CartPole-v1", learning_rate=LinearSchedule(1e-3, 0, 1))
    assert {group["lr"] for group in model.policy.optimizer.param_groups} == {1e-3}
    model.learn(2 * 32)
    assert {group["lr"] for group in model.policy.optimizer.param_groups} == {0.0}


def test_distill_coef_warms_up_with_sb3s_linear_schedule():
    rows = recorded(distill_coef=LinearSchedule(0.0, 2.0, 0.5))
    assert [row["train/distill_coef"] for row in rows] == pytest.approx([1.0, 2.0, 2.0])


def test_distill_coef_weighs_the_loss_at_every_update():
    """The loss is that of the parts logged, with the weight of that update."""
    rows = recorded(distill_coef=lambda remaining: 30 * remaining, policy_kwargs={})
    for row, weight in zip(rows, (22.5, 15, 7.5), strict=True):
        parts = row["policy_0/policy_gradient_loss"] + 0.5 * row["policy_0/value_loss"]
        assert row["policy_0/loss"] == pytest.approx(parts + weight * row["policy_0/distill_kl"], rel=1e-4)


def test_a_line_to_zero_stays_there_when_the_last_rollout_goes_beyond_the_total():
    model = small(env="CartPole-v1", distill_coef=distill_coef_schedule("lin_1.0")).learn(2 * 32 - 10)
    assert model.num_timesteps > 54
    assert model._current_progress_remaining == 0
    assert model.logger.name_to_value["train/distill_coef"] == 0.0


def test_continued_training_starts_the_schedule_anew_unless_told_otherwise():
    model = small_silent(env="CartPole-v1", distill_coef=LinearSchedule(1.0, 0.0, 1.0)).learn(2 * 32)
    model.learn(2 * 32, reset_num_timesteps=False, log_interval=100)
    # 128 of 128 steps
    assert model.logger.name_to_value["train/distill_coef"] == 0.0
    assert model.num_timesteps == 128


@pytest.mark.parametrize("value", [-0.5, float("nan")])
def test_a_schedule_that_turns_negative_is_stopped(value):
    model = small(env="CartPole-v1", distill_coef=lambda _: value)
    with pytest.raises(ValueError, match=f"schedule of distill_coef gave {value} at progress_remaining=0.0"):
        model.learn(32)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lin_2.0", {1.0: 2.0, 0.25: 0.5, 0.0: 0.0}),
        ("lin_1e-2", {1.0: 0.01}),
        ("warmup_3_0.5", {1.0: 0.0, 0.75: 1.5, 0.5: 3.0, 0.2: 3.0}),
        ("warmup_1.0_1", {0.5: 0.5, 0.0: 1.0}),
    ],
)
def test_schedules_as_text(text, expected):
    schedule = distill_coef_schedule(text)
    assert {progress: schedule(progress) for progress in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["2.0", "lin", "lin_", "lin_-1", "lin_1_2", "warmup_1", "warmup_1_0", "warmup_1_2", "cos_1"]
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=f"distill_coef: '{text}' is not a schedule: use lin_X .* or warmup_X_F"):
        distill_coef_schedule(text)


@given(st.text())
def test_any_text_is_a_schedule_or_an_error_that_helps(text):
    try:
        schedule = distill_coef_schedule(text)
    except ValueError as error:
        assert "use lin_X" in str(error)  # noqa: PT017
    else:
        assert schedule(0.5) >= 0


def zoo_model(tmp_path: Path, **hyperparams) -> MDPO:
    """What ``rl_zoo3 train`` makes of a file with these hyperparameters."""
    entry = {"policy": "MlpPolicy", "n_envs": 2, "n_timesteps": 64, "n_steps": 16, "batch_size": 16} | hyperparams
    conf = tmp_path / "conf.yml"
    conf.write_text(yaml.safe_dump({"CartPole-v1": entry}))
    manager = ExperimentManager(
        SimpleNamespace(), "mdpo", "CartPole-v1", str(tmp_path), config=str(conf), eval_freq=-1, verbose=0, seed=0,
        log_interval=-1, device="cpu",
    )  # fmt: skip
    model, saved = manager.setup_experiment()
    assert saved["distill_coef"] == hyperparams["distill_coef"]  # config.yml keeps what was written
    return model


def test_schedules_in_the_zoos_files(tmp_path):
    model = zoo_model(
        tmp_path, learning_rate="lin_1e-3", clip_range="lin_0.4", clip_range_vf="lin_0.2", distill_coef="warmup_2.0_0.5"
    )
    assert model.lr_schedule(0.5) == pytest.approx(5e-4)
    assert model.clip_range_schedule(0.5) == pytest.approx(0.2)
    assert model.clip_range_vf_schedule(0.5) == pytest.approx(0.1)
    assert [model.distill_coef_schedule(progress) for progress in (1.0, 0.75, 0.0)] == pytest.approx([0.0, 1.0, 2.0])
    model.learn(64)
    model.save(tmp_path / "model")
    assert MDPO.load(tmp_path / "model").distill_coef_schedule(0.75) == pytest.approx(1.0)


def test_numbers_and_lists_in_the_zoos_files(tmp_path):
    model = zoo_model(
        tmp_path, distill_coef=0.5, distill_mode="random",
        policy=["MlpPolicy", "stable_baselines3.common.policies.ActorCriticPolicy"],
        policy_kwargs="[dict(net_arch=[8]), dict(net_arch=[9])]",
    )  # fmt: skip
    assert model.distill_coef_schedule(0.3) == 0.5
    assert [member.net_arch for member in model.policy.members] == [[8], [9]]


def test_text_that_is_no_schedule_in_the_zoos_files(tmp_path):
    with pytest.raises(ValueError, match="'linear' is not a schedule"):
        zoo_model(tmp_path, distill_coef="linear")
