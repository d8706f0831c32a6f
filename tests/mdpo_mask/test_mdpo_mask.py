"""MaskableMDPO: contrib's MaskablePPO as an oracle, the KL with masks, predictions, bad masks."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.envs import (
    InvalidActionEnvDiscrete,
    InvalidActionEnvMultiBinary,
    InvalidActionEnvMultiDiscrete,
)
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3.common.env_util import make_vec_env

from sb3_mdpo import MDPO, MaskableMDPO, MutualRolloutBuffer
from sb3_mdpo.common.buffers import of_member
from sb3_mdpo.common.distributions import kl_divergence
from sb3_mdpo.mdpo_mask.buffers import check_masks
from tests.support.helpers import TINY, assert_same_parameters, collect, needs_compiler, seeded, silent_logger

SETTINGS: dict[str, Any] = {"n_steps": 64, "batch_size": 48, "n_epochs": 3, "seed": 3, "device": "cpu"}
ENVS = {
    "discrete": lambda: InvalidActionEnvDiscrete(dim=20, n_invalid_actions=10),
    "multi_discrete": lambda: InvalidActionEnvMultiDiscrete(dims=[3, 4], n_invalid_actions=3),
    "multi_binary": lambda: InvalidActionEnvMultiBinary(dims=5, n_invalid_actions=3),
}
every_space = pytest.mark.parametrize("name", ENVS)


def masked(name: str = "discrete", n_envs: int = 4, **kwargs: Any) -> MaskableMDPO:
    return MaskableMDPO("MlpPolicy", make_vec_env(ENVS[name], n_envs, seed=0), **TINY | kwargs)


@every_space
def test_one_policy_is_maskable_ppo_bit_for_bit(name):
    models = []
    for algorithm, extra in ((MaskablePPO, {}), (MaskableMDPO, {"n_policies": 1})):
        seeded(0)  # the environments draw masks from NumPy's global generator
        model = algorithm("MlpPolicy", make_vec_env(ENVS[name], 1, seed=0), **SETTINGS, **extra)
        models.append(model.learn(4 * 64))
    ppo, mdpo = models
    assert mdpo.num_timesteps == ppo.num_timesteps
    assert_same_parameters(mdpo.policy.members[0], ppo.policy)


def test_two_policies_that_do_not_distill_are_two_maskable_ppos():
    """The mean over members halves each gradient: a PPO with twice ``max_grad_norm`` and Adam's eps does the same."""
    mdpo = MaskableMDPO(
        "MlpPolicy", make_vec_env(ENVS["discrete"], 2, seed=0), distill_coef=0.0, max_grad_norm=0.3, **SETTINGS
    )
    start = [{name: p.clone() for name, p in member.state_dict().items()} for member in mdpo.policy.members]
    rollout = collect(mdpo)
    seeded(5)
    mdpo.train()
    for k, member in enumerate(mdpo.policy.members):
        kwargs = {"optimizer_kwargs": {"eps": 2e-5}}
        env = make_vec_env(ENVS["discrete"], 1)
        ppo = MaskablePPO("MlpPolicy", env, max_grad_norm=0.6, policy_kwargs=kwargs, **SETTINGS)
        ppo.set_logger(silent_logger())
        ppo.policy.load_state_dict(start[k])
        buffer = ppo.rollout_buffer
        buffer.reset()
        for name in ("observations", "actions", "values", "log_probs", "advantages", "returns"):
            memory = getattr(buffer, name)
            setattr(
                buffer, name, getattr(rollout, name)[:, k : k + 1].numpy().astype(memory.dtype).reshape(memory.shape)
            )
        buffer.action_masks = rollout.inputs["action_masks"][:, k : k + 1].numpy().astype(np.float32)
        buffer.full = True
        seeded(5)
        ppo.train()
        assert not all(th.equal(start[k][name], p) for name, p in member.state_dict().items())
        assert_same_parameters(member, ppo.policy, rtol=1e-5, atol=1e-6)


def test_kl_of_masked_distributions_by_hand():
    """With the learner's masks on both sides: KL(p || q) of the renormalised probabilities of the allowed actions."""
    policy = masked(n_policies=2).policy
    p, q = (member.action_dist for member in policy.members)
    p.proba_distribution(th.tensor([[0.2, 0.3, 0.5]]).log().repeat(1, 7)[:, :20])
    q.proba_distribution(th.tensor([[0.6, 0.3, 0.1]]).log().repeat(1, 7)[:, :20])
    masks = np.zeros((1, 20), dtype=bool)
    masks[0, :2] = True
    for one in (p, q):
        one.apply_masking(masks)
    expected = 0.4 * np.log(0.4 / (2 / 3)) + 0.6 * np.log(0.6 / (1 / 3))
    assert kl_divergence(p, q).item() == pytest.approx(expected, rel=1e-5)


@every_space
def test_masks_hold_on_both_sides_in_the_update(name):
    model = masked(name)
    rollout = collect(model)
    samples = of_member(next(rollout.get(16)), 0)
    masks = samples.action_masks
    assert 0 < masks.float().mean() < 1
    own, peer = (model.policy.peer_distribution(j, samples) for j in (0, 1))
    kl = kl_divergence(peer, own)
    assert kl.isfinite().all()
    for distribution in (own, peer):
        parts = getattr(distribution, "distributions", None) or [distribution.distribution]
        probs = th.cat([part.probs for part in parts], dim=1)
        assert probs[~masks].max() == 0
    # The actions that were taken were allowed
    sizes = [part.probs.shape[1] for part in parts]
    taken = samples.actions.view(len(masks), -1)
    for dimension, allowed in enumerate(masks.split(sizes, dim=1)):
        assert allowed.gather(1, taken[:, dimension : dimension + 1].long()).all()


@every_space
@pytest.mark.parametrize("predict_with", [0, 1, "ensemble"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_predictions_respect_masks(name, predict_with, deterministic):
    model = masked(name, predict_with=predict_with)
    env = make_vec_env(ENVS[name], 16, seed=1)
    observations = env.reset()
    masks = np.stack(env.env_method("action_masks"))
    actions, _ = model.predict(observations, deterministic=deterministic, action_masks=masks)
    sizes = {"discrete": [20], "multi_discrete": [3, 4], "multi_binary": [2] * 5}[name]
    for dimension, allowed in enumerate(np.split(masks, np.cumsum(sizes)[:-1], axis=1)):
        assert allowed[np.arange(16), np.reshape(actions, (16, -1))[:, dimension].astype(int)].all()
    single, _ = model.predict(observations[0], action_masks=masks[0])
    assert np.shape(single) == env.action_space.shape


def test_learns_the_environment_of_contrib():
    """The mean over 100 steps is 100 at best; untrained about 10. contrib's own test asks for 99 from 5,000 steps."""
    model = MaskableMDPO(
        "MlpPolicy", make_vec_env(ENVS["discrete"], 2, seed=8), n_steps=64, gamma=0.4, seed=32, n_policies=2
    ).learn(10_000)
    for policy in (*model.policy.members, model):
        mean, _ = evaluate_policy(policy, make_vec_env(ENVS["discrete"], 1), n_eval_episodes=10, warn=False)
        assert mean > 90


def test_evaluation_callback_of_contrib(tmp_path):
    callback = MaskableEvalCallback(ActionMasker(Plain(), lambda env: np.array([True, False])), eval_freq=8, verbose=0)
    MaskableMDPO("MlpPolicy", lambda: Masking(), **TINY).learn(64, callback=callback)
    assert callback.last_mean_reward == 1  # the only allowed action's


def test_saving_and_loading(tmp_path):
    model = masked().learn(64)
    model.save(tmp_path / "model.zip")
    loaded = MaskableMDPO.load(tmp_path / "model.zip", env=make_vec_env(ENVS["discrete"], 4))
    assert_same_parameters(loaded.policy, model.policy)
    loaded.learn(64)
    with pytest.raises(ValueError, match="saved by maskable_mdpo, not by mdpo: load it with the class"):
        MDPO.load(tmp_path / "model.zip")


def test_a_member_as_a_model_of_contrib(tmp_path):
    model = masked().learn(64)
    ppo = model.to_ppo(1)
    assert type(ppo) is MaskablePPO
    assert_same_parameters(ppo.policy, model.policy.members[1])
    ppo.set_env(make_vec_env(ENVS["discrete"], 2))
    ppo.learn(64)
    ppo.save(tmp_path / "ppo.zip")
    model.load_ppo(0, tmp_path / "ppo.zip")
    assert_same_parameters(model.policy.members[0], ppo.policy)


def test_export_without_code(tmp_path):
    model = masked("multi_discrete").learn(64)
    model.export(tmp_path / "export")
    assert_same_parameters(MaskableMDPO.from_export(tmp_path / "export").policy, model.policy)


class Plain(gym.Env[Any, Any]):
    """Reward 1 for action 0; episodes of four steps."""

    observation_space = spaces.Box(0, 1, (2,))
    action_space: spaces.Space[Any] = spaces.Discrete(2)
    masks: Any = (True, False)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), float(action == 0) / 4, self.steps == 4, False, {}


class Masking(Plain):
    def action_masks(self):
        return np.array(self.masks)


def test_without_masking_all_actions_are_allowed():
    model = MaskableMDPO("MlpPolicy", Plain, **TINY).learn(64, use_masking=False)
    assert model.rollout_buffer.inputs["action_masks"].all()
    assert (model.rollout_buffer.actions == 1).any()


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ((False, False), r"environment 0 allows no action: at least one"),
        ((True, True, False), r"shape \(2, 3\): for Discrete\(2\) each must give 2 values"),
    ],
)
def test_bad_masks(masks, message):
    with pytest.raises(ValueError, match=message):
        MaskableMDPO("MlpPolicy", type("Bad", (Masking,), {"masks": masks}), **TINY).learn(64)


def test_a_dimension_without_an_action_is_named():
    masks = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]])
    with pytest.raises(ValueError, match="environment 1 allows no action in dimension 1"):
        check_masks(masks, 2, spaces.MultiDiscrete([3, 2]))


def test_environments_without_masks():
    with pytest.raises(
        ValueError, match=r"no action_masks\(\): add the method, wrap them in sb3_contrib's ActionMasker"
    ):
        MaskableMDPO("MlpPolicy", Plain, **TINY).learn(64)


def test_continuous_actions_and_actions_that_start_elsewhere():
    with pytest.raises(AssertionError, match="Box"):
        MaskableMDPO("MlpPolicy", "Pendulum-v1", **TINY)
    with pytest.raises(ValueError, match="do not start at 0"):
        MaskableMDPO("MlpPolicy", type("Late", (Masking,), {"action_space": spaces.Discrete(2, start=1)}), **TINY)


def test_buffers_without_masks_are_refused():
    with pytest.raises(TypeError, match="must be a subclass of MaskableMutualRolloutBuffer"):
        masked(rollout_buffer_class=MutualRolloutBuffer)


@needs_compiler
def test_the_compiled_update_masks_as_well():
    models = [masked(compile=compiled).learn(64) for compiled in (False, True)]
    assert_same_parameters(models[1].policy, models[0].policy, rtol=1e-4, atol=1e-5)


def test_plain_mdpo_points_to_maskable_mdpo():
    with pytest.warns(UserWarning, match=r"action_masks\(\), which MDPO ignores: use MaskableMDPO"):
        MDPO("MlpPolicy", Masking, **TINY).learn(64)
