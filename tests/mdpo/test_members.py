"""The members: how many, how alike, who learns from whom."""

from functools import partial

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_mdpo import MDPO, ImpalaCNN
from sb3_mdpo.mdpo.update import METRICS, draw_peers, minibatch_step
from tests.support.envs import BrightSideEnv, maker
from tests.support.helpers import assert_same_parameters, parameters
from tests.support.training import NarrowPolicy, cartpole, small, small_silent

GOOD = {"n_steps": 64, "batch_size": 128, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 10, "learning_rate": 1e-3}


@pytest.mark.expensive
def test_any_number_of_policies_learns():
    """
    Three policies with random peers; two with all peers learn in ``test_run.py``. Random play gets about 22 on
    CartPole. After 25 updates every member was at 128 or more in each of five seeds; 80 leaves room for other
    machines' rounding.
    """
    model = MDPO("MlpPolicy", cartpole(12, seed=0), n_policies=3, distill_mode="random", seed=0, **GOOD)
    model.learn(25 * GOOD["n_steps"] * model.n_envs)
    for policy in (model, *model.policy.members):
        assert evaluate_policy(policy, cartpole(seed=0), n_eval_episodes=8)[0] > 80


@pytest.mark.parametrize(
    ("n_policies", "distill_mode"), [(1, "all"), (3, "all"), (3, "random"), (4, "all"), (4, "random"), (3, "max")]
)
def test_any_number_of_policies_is_updated_saved_and_loaded(n_policies, distill_mode, tmp_path):
    model = small(env=cartpole(n_policies), n_policies=n_policies, distill_mode=distill_mode)
    before = parameters(model.policy)
    model.learn(16 * n_policies)
    assert not any(th.equal(before[name], p) for name, p in model.policy.state_dict().items())
    model.save(tmp_path / "model")
    loaded = MDPO.load(tmp_path / "model")
    assert (loaded.n_policies, loaded.distill_mode) == (n_policies, distill_mode)
    assert_same_parameters(loaded.policy, model.policy)


def test_one_seed_gives_every_member_its_own_weights_and_again_the_same():
    first, second, other = (small(n_policies=4, seed=seed) for seed in (3, 3, 4))
    assert_same_parameters(first.policy, second.policy)
    weights = [member.action_net.weight for model in (first, other) for member in model.policy.members]
    assert all(not th.equal(a, b) for k, a in enumerate(weights) for b in weights[:k])
    # Whatever their number
    for mine, its in zip(small(n_policies=2, seed=3).policy.members, first.policy.members[:2], strict=True):
        assert_same_parameters(mine, its)


def test_all_peers_or_one_random_peer():
    assert draw_peers(3, "all") == [[1, 2], [0, 2], [0, 1]]
    np.random.seed(0)
    drawn = [draw_peers(4, "random") for _ in range(600)]
    for k in range(4):
        counts = np.bincount([peers[k][0] for peers in drawn], minlength=4)
        assert counts[k] == 0
        assert counts.sum() == 600
        # 200 each, with a standard deviation of 12
        assert np.delete(counts, k).min() > 140


def test_an_unknown_mode_is_refused_at_the_next_update_as_well():
    model = small()
    model.distill_mode = "one"
    with pytest.raises(ValueError, match="distill_mode='one' is unknown"):
        model.learn(32)


def test_two_members_have_no_choice_and_draw_nothing():
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    assert draw_peers(2, "random") == draw_peers(2, "all") == [[1], [0]]
    assert draw_peers(1, "random") == [[]]
    assert (np.random.get_state()[1] == state).all()


def test_the_maximum_is_that_of_all_members_on_the_same_states():
    """Stacked or one by one, and no peer is taught by another member's loss."""
    assert draw_peers(3, "max") == draw_peers(3, "all")
    env = make_vec_env("CartPole-v1", 6, seed=0)
    model = small_silent(env=env, n_policies=3, distill_mode="max", distill_coef=0.0).learn(6 * 16)
    with th.no_grad():
        for k, member in enumerate(model.policy.members):
            member.action_net.weight *= 1 + 20 * k
    samples = next(iter(model.rollout_buffer.get(16)))
    with th.no_grad():
        probs = th.stack(
            [one.get_distribution(samples.observations[0]).distribution.probs for one in model.policy.members]
        )
    joint = probs.amax(0) / probs.amax(0).sum(1, keepdim=True)
    expected = (probs[0] * (probs[0] / joint).log()).sum(1).mean()
    model.distill_coef = 1.0
    settings = model._loss_settings()
    for stacked in (True, False):
        model.policy.stacked = stacked
        model.policy.optimizer = th.optim.SGD(model.policy.parameters(), lr=0.0)
        step = partial(minibatch_step, model.policy, samples, draw_peers(3, "max"), settings, max_grad_norm=1e9)
        metrics = step(active={0, 1, 2}, detach_peers=True)
        th.testing.assert_close(metrics[0, METRICS.index("distill_kl")], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("action_space", [spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)])
def test_the_maximum_needs_discrete_actions(action_space):
    env = DummyVecEnv([maker(spaces.Box(-1, 1, (3,)), action_space)] * 2)
    with pytest.raises(ValueError, match="distill_mode='max' needs a Discrete action space, not "):
        small(MDPO, env, distill_mode="max")
    model = small(MDPO, env)
    model.distill_mode = "max"
    with pytest.raises(ValueError, match="distill_mode='max' needs a Discrete action space, not "):
        model.learn(32)


@pytest.mark.parametrize(("distill_mode", "passes"), [("all", [4, 9, 16]), ("random", [4, 6, 8]), ("max", [4, 9, 16])])
def test_cost_grows_with_the_square_of_the_members_or_linearly(distill_mode, passes):
    """Network evaluations of one update of one minibatch, with a single epoch, for 2, 3 and 4 members."""

    def forward_passes(n_policies: int) -> int:
        model = small(env=cartpole(n_policies), n_policies=n_policies, distill_mode=distill_mode)
        counted: list[bool] = []
        for member in model.policy.members:
            member.mlp_extractor.policy_net.register_forward_hook(lambda *_: counted.append(model.policy.training))
        model.learn(model.n_steps * model.n_envs)
        return sum(counted)

    assert [forward_passes(n) for n in (2, 3, 4)] == passes


def test_a_random_peer_is_drawn_for_every_minibatch():
    """The logged KL is that of the peer drawn: with one peer far away, it differs between minibatches."""
    model = small_silent(env=cartpole(6), n_policies=3, distill_mode="random", distill_coef=0.0, n_epochs=12)
    model.policy.members[2].action_net.bias.data = th.tensor([6.0, -6.0])
    model.policy.optimizer = th.optim.SGD(model.policy.parameters(), lr=0.0)

    def logged_kl() -> float:
        model.learn(6 * 16, log_interval=100)
        return model.logger.name_to_value["policy_0/distill_kl"]

    kl = logged_kl()
    model.distill_mode = "all"
    both = logged_kl()
    # The nearer peer's KL is about 0: the mean over draws is a share of the far one's, all of which is 2 * both
    share = kl / (2 * both)
    assert 0.05 < share < 0.95


class Projection(BaseFeaturesExtractor):
    """A features extractor of a user."""

    def __init__(self, observation_space: spaces.Box, features_dim: int = 6) -> None:
        super().__init__(observation_space, features_dim)
        self.linear = th.nn.Linear(observation_space.shape[0], features_dim)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.linear(observations)


@pytest.mark.parametrize("share_features_extractor", [True, False])
def test_policy_kwargs_of_ppo(share_features_extractor):
    kwargs = {
        "features_extractor_class": Projection,
        "features_extractor_kwargs": {"features_dim": 5},
        "share_features_extractor": share_features_extractor,
        "net_arch": {"pi": [8], "vf": [7, 6]},
        "activation_fn": th.nn.ELU,
        "ortho_init": False,
        "optimizer_class": th.optim.AdamW,
        "optimizer_kwargs": {"weight_decay": 0.5, "eps": 1e-7},
    }
    mdpo, ppo = (small(algorithm, policy_kwargs=kwargs) for algorithm in (MDPO, PPO))
    assert_same_parameters(mdpo.policy.members[0], ppo.policy)
    for member in mdpo.policy.members:
        assert str(member) == str(ppo.policy)
        assert (member.pi_features_extractor is member.vf_features_extractor) == share_features_extractor
    assert isinstance(mdpo.policy.optimizer, th.optim.AdamW)
    assert mdpo.policy.optimizer.defaults.items() >= kwargs["optimizer_kwargs"].items()
    before = parameters(mdpo.policy)
    mdpo.learn(128)
    assert all(not th.equal(before[name], p) for name, p in mdpo.policy.state_dict().items() if "weight" in name)


def test_a_list_of_policy_kwargs_gives_every_member_its_own(tmp_path):
    kwargs = [{"net_arch": [4]}, {"net_arch": [8, 8], "activation_fn": th.nn.ReLU}]
    model = small(policy_kwargs=kwargs).learn(128)
    assert [member.net_arch for member in model.policy.members] == [[4], [8, 8]]
    assert isinstance(model.policy.members[1].mlp_extractor.policy_net[1], th.nn.ReLU)
    model.save(tmp_path / "model")
    loaded = MDPO.load(tmp_path / "model", env=cartpole(), policy_kwargs=kwargs).learn(64)
    assert [member.net_arch for member in loaded.policy.members] == [[4], [8, 8]]
    model.policy.save(tmp_path / "policy.pth")
    assert_same_parameters(type(model.policy).load(tmp_path / "policy.pth"), model.policy)


def test_what_is_common_need_not_be_repeated():
    kwargs = {"optimizer_class": th.optim.SGD, "net_arch": [4], "member_kwargs": [{}, {"net_arch": [5]}]}
    model = small(policy_kwargs=kwargs)
    assert [member.net_arch for member in model.policy.members] == [[4], [5]]
    assert isinstance(model.policy.optimizer, th.optim.SGD)


def test_any_actor_critic_class_becomes_the_members():
    model = small(policy=NarrowPolicy, policy_kwargs={}).learn(64)
    assert all(isinstance(member, NarrowPolicy) for member in model.policy.members)


def test_a_list_of_policies_gives_every_member_its_own_class(tmp_path):
    env = make_vec_env(BrightSideEnv, n_envs=2)
    impala = {"features_extractor_kwargs": {"channels": (4,), "features_dim": 8}}
    model = small(MDPO, env, ["CnnPolicy", "ImpalaCnnPolicy"], policy_kwargs=[{}, impala]).learn(32)
    extractors = [type(member.features_extractor) for member in model.policy.members]
    assert extractors == [NatureCNN, ImpalaCNN]
    model.save(tmp_path / "model")
    loaded = MDPO.load(tmp_path / "model", env=env).learn(32)
    assert [type(member.features_extractor) for member in loaded.policy.members] == extractors


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"policy": ["MlpPolicy"] * 3}, ValueError, "policy lists 3 members, but n_policies=2"),
        ({"policy_kwargs": [{}] * 3}, ValueError, "policy_kwargs lists 3 members, but n_policies=2"),
        ({"policy_kwargs": [{}, None]}, TypeError, "must be a dict for all members, or a list of dicts"),
        ({"policy": None}, TypeError, "policy=None must be a subclass of ActorCriticPolicy"),
        ({"policy": ["MlpPolicy", dict]}, TypeError, "must be a subclass of ActorCriticPolicy"),
        ({"policy": ["MlpPolicy", "Mlp"]}, ValueError, "Policy Mlp unknown"),
        ({"policy_kwargs": [{}, {"optimizer_class": th.optim.SGD}]}, ValueError, "0 and 1 differ in optimizer_class"),
        ({"policy_kwargs": [{}, {"optimizer_kwargs": {"eps": 1.0}}]}, ValueError, "differ in optimizer_kwargs"),
        ({"distill_mode": "some"}, ValueError, "distill_mode='some' is unknown: use 'all' .*, 'random' .* or 'max'"),
    ],
)
def test_members_that_do_not_fit_together_are_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        small(**kwargs)


def test_members_with_different_action_distributions_are_refused():
    env = DummyVecEnv([maker(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))] * 2)
    kwargs = [{"squash_output": True}, {"squash_output": False}]
    with pytest.raises(ValueError, match="Members 0 and 1 differ in squash_output"):
        small(MDPO, env, use_sde=True, policy_kwargs=kwargs)
