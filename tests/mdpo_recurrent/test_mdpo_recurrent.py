"""RecurrentMDPO: contrib's RecurrentPPO as an oracle, peers' states, sequences and the KL step by step."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_mdpo import MDPO, RecurrentMDPO
from sb3_mdpo.common.distributions import kl_divergence
from sb3_mdpo.mdpo.losses import LossSettings
from sb3_mdpo.mdpo.update import chunks, member_term
from sb3_mdpo.mdpo_recurrent.buffers import RecurrentMutualRolloutBuffer, RecurrentSamples
from sb3_mdpo.mdpo_recurrent.policies import from_lstm, to_lstm
from tests.support.envs import BrightSideEnv
from tests.support.helpers import assert_same_parameters, collect, seeded

LSTM = {"lstm_hidden_size": 8, "net_arch": [8]}
SHARED = {"shared_lstm": True, "enable_critic_lstm": False, "n_lstm_layers": 2}
TINY: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "seed": 0, "device": "cpu"}
SETTINGS: dict[str, Any] = {"n_steps": 64, "batch_size": 48, "n_epochs": 3, "seed": 3, "device": "cpu"}
LOSSES = LossSettings(0.2, None, 0.01, 0.5, 1.0, True)


def tiny(env: Any = "CartPole-v1", n_envs: int = 4, **kwargs: Any) -> RecurrentMDPO:
    kwargs = TINY | {"policy_kwargs": LSTM} | kwargs
    return RecurrentMDPO("MlpLstmPolicy", make_vec_env(env, n_envs, seed=0), **kwargs)


class StepByStep(RecurrentMutualRolloutBuffer):
    """Resets the states by the flags of new episodes, as contrib's: then its LSTM goes step by step."""

    def _sequences(self, k, index, starts, device):
        samples = super()._sequences(k, index, starts, device)
        begins = starts | (index % self.buffer_size == 0) | (np.arange(len(index)) == 0)
        flags = th.zeros(len(samples.lengths), max(samples.lengths))
        flags[:, 0] = th.as_tensor(starts[np.flatnonzero(begins)], dtype=th.float32)
        return samples._replace(episode_starts=flags.flatten())


def recurrent_ppo_and_one_policy(env: str, policy_kwargs: dict[str, Any], **extra: Any) -> tuple[Any, Any]:
    models = []
    for algorithm, kwargs in ((RecurrentPPO, {}), (RecurrentMDPO, {"n_policies": 1, **extra})):
        # One environment: at a time limit contrib predicts each value by itself
        n_envs = 1 if env == "Pendulum-v1" else 4
        envs = make_vec_env(env, n_envs, seed=0)
        model = algorithm("MlpLstmPolicy", envs, policy_kwargs=policy_kwargs, **SETTINGS, **kwargs)
        models.append(model.learn(3 * 64 * n_envs))
    return tuple(models)


@pytest.mark.parametrize(
    ("env", "kwargs"),
    [
        ("CartPole-v1", LSTM),
        ("CartPole-v1", LSTM | SHARED),
        ("CartPole-v1", LSTM | {"enable_critic_lstm": False}),
        ("Pendulum-v1", LSTM),
    ],
)
def test_one_policy_is_recurrent_ppo_bit_for_bit(env, kwargs):
    ppo, mdpo = recurrent_ppo_and_one_policy(env, kwargs, rollout_buffer_class=StepByStep)
    assert_same_parameters(mdpo.policy.members[0], ppo.policy)


def test_whole_sequences_at_once_are_recurrent_ppo_to_rounding():
    ppo, mdpo = recurrent_ppo_and_one_policy("CartPole-v1", LSTM)
    assert_same_parameters(mdpo.policy.members[0], ppo.policy, rtol=1e-4, atol=1e-5)


def test_two_policies_that_do_not_distill_are_two_recurrent_ppos():
    """The mean over members halves each gradient: a PPO with twice ``max_grad_norm`` and Adam's eps does the same."""
    mdpo = tiny(distill_coef=0.0, max_grad_norm=0.3, n_epochs=3, batch_size=24)
    start = [{name: p.clone() for name, p in member.state_dict().items()} for member in mdpo.policy.members]
    rollout = collect(mdpo)
    seeded(5)
    mdpo.train()
    for k, member in enumerate(mdpo.policy.members):
        settings = TINY | {"n_epochs": 3, "batch_size": 24}
        kwargs = LSTM | {"optimizer_kwargs": {"eps": 2e-5}}
        envs = make_vec_env("CartPole-v1", 2)
        ppo = RecurrentPPO("MlpLstmPolicy", envs, max_grad_norm=0.6, policy_kwargs=kwargs, **settings)
        ppo._setup_learn(1)
        ppo.policy.load_state_dict(start[k])
        buffer, own = ppo.rollout_buffer, slice(2 * k, 2 * k + 2)
        buffer.reset()
        for name in ("observations", "actions", "values", "log_probs", "advantages", "returns", "episode_starts"):
            memory = getattr(buffer, name)
            data = getattr(rollout, name)[:, own].numpy()
            setattr(buffer, name, np.ascontiguousarray(data).astype(memory.dtype).reshape(memory.shape))
        for which, states in (
            ("pi", rollout.inputs["pi_states"][:, own, k]),
            ("vf", rollout.inputs["vf_states"][:, own]),
        ):
            hidden, cell = states.permute(2, 0, 3, 1, 4).numpy()
            setattr(buffer, f"hidden_states_{which}", hidden)
            setattr(buffer, f"cell_states_{which}", cell)
        buffer.full = True
        seeded(5)
        ppo.train()
        assert not all(th.equal(start[k][name], p) for name, p in member.state_dict().items())
        assert_same_parameters(member, ppo.policy, rtol=1e-4, atol=1e-5)


def test_peers_states_are_those_of_running_through_the_episodes():
    """Every actor's stored states, against the actor going through all environments alone, step by step."""
    model = tiny(n_policies=2)
    rollout = collect(model)
    stored = rollout.inputs["pi_states"]
    assert rollout.episode_starts[1:].any()
    for j, member in enumerate(model.policy.members):
        states = th.zeros(4, 2, 1, 8)
        for step in range(model.n_steps):
            th.testing.assert_close(stored[step, :, j], states)
            with th.no_grad():
                _, after = member.get_distribution(
                    rollout.observations[step], to_lstm(states), rollout.episode_starts[step]
                )
            states = from_lstm(after)


def sequences(model: RecurrentMDPO) -> list[RecurrentSamples]:
    np.random.seed(0)
    return next(model.rollout_buffer.get(model.batch_size))


def test_sequences_hold_every_step_once():
    model = tiny(n_policies=2, batch_size=20)
    rollout = collect(model)
    for k in range(2):
        minibatches = [minibatch[k] for minibatch in rollout.get(20)]
        assert [one.n_samples for one in minibatches] == [20, 20, 20, 4]
        values = th.cat([one.old_values[one.mask] for one in minibatches])
        expected = rollout.by_member(rollout.values)[k]
        th.testing.assert_close(values.sort().values, expected.sort().values)
        for one in minibatches:
            assert one.mask.view(len(one.lengths), -1).sum(1).tolist() == list(one.lengths)
            assert not one.old_values[~one.mask].any()


def test_kl_over_padded_sequences_is_that_of_single_steps():
    model = tiny(n_policies=2)
    for member in model.policy.members:  # else nearly uniform, and the KL as small as its rounding
        member.action_net.weight.data.mul_(100)
    collect(model)
    minibatch = sequences(model)
    for k, samples in enumerate(minibatch):
        _, metrics = member_term(model.policy, k, samples, {1 - k: False}, LOSSES)
        kls = []
        n_seq = len(samples.lengths)
        observations = samples.observations.view(n_seq, -1, 4)
        for row, length in enumerate(samples.lengths):
            states = [tuple(part[:, row : row + 1].contiguous() for part in samples.actor_states[j]) for j in (0, 1)]
            for step in range(length):
                both = []
                for j, member in enumerate(model.policy.members):
                    distribution, states[j] = member.get_distribution(
                        observations[row, step : step + 1], states[j], th.zeros(1)
                    )
                    both.append(th.log_softmax(distribution.distribution.logits, 1))
                own, peer = both[k], both[1 - k]
                kls.append((peer.exp() * (peer - own)).sum())
        assert len(kls) == samples.n_samples
        assert metrics[3].item() == pytest.approx(th.stack(kls).mean().item(), rel=1e-3)


def test_chunks_are_whole_sequences_and_add_up():
    model = tiny(n_policies=2, batch_size=64)
    collect(model)
    samples = sequences(model)[0]
    parts = chunks(samples, 40)
    assert len(parts) > 1
    assert [length for part in parts for length in part.lengths] == list(samples.lengths)
    whole, _ = member_term(model.policy, 0, samples, {1: False}, LOSSES)
    shares = [part.n_samples / samples.n_samples for part in parts]
    losses = [member_term(model.policy, 0, part, {1: False}, LOSSES)[0] for part in parts]
    total = sum(share * loss for share, loss in zip(shares, losses, strict=True))
    th.testing.assert_close(total, whole, rtol=1e-4, atol=1e-5)


def test_burn_in_by_hand():
    """Peers begin with zeros, and in the first 3 steps of a sequence within an episode the KL is 0."""
    model = tiny(n_policies=2, peer_burn_in=3)
    rollout = collect(model)
    assert not model.policy.follows_peers
    assert not rollout.inputs["pi_states"][:, :2, 1].any()  # of member 1 in the environments of member 0
    assert rollout.inputs["pi_states"][:, :2, 0].any()
    samples = sequences(model)[0]
    starts = rollout.by_member(rollout.episode_starts)[0]
    rows = samples.mask.view(len(samples.lengths), -1)
    counted = samples.peers_count.view(rows.shape)
    for row, length in enumerate(samples.lengths):
        late = [step >= 3 for step in range(length)]
        assert counted[row, :length].tolist() in (late, [True] * length)
        assert not counted[row, length:].any()
    assert starts.any()
    assert not counted.all()
    values, kl = model.policy.peer_distribution(0, samples), model.policy.peer_distribution(1, samples)
    expected = (kl_divergence(kl, values) * samples.peers_count)[samples.mask].mean()
    _, metrics = member_term(model.policy, 0, samples, {1: False}, LOSSES)
    assert metrics[3].item() == pytest.approx(expected.item(), rel=1e-3)


def test_predictions_carry_the_states_of_all_members():
    model = tiny(n_policies=2, predict_with=1)
    observations = make_vec_env("CartPole-v1", 3, seed=1).reset()
    _, states = model.predict(observations)
    actions, states = model.predict(observations, state=states, episode_start=np.zeros(3), deterministic=True)
    assert states[0].shape == (2, 3, 8)
    for j, member in enumerate(model.policy.members):
        _, own = member.predict(observations)
        expected, own = member.predict(observations, state=own, episode_start=np.zeros(3), deterministic=True)
        np.testing.assert_allclose(states[0][j : j + 1], own[0], rtol=1e-5, atol=1e-7)
        if j == 1:
            np.testing.assert_array_equal(actions, expected)
    single, _ = model.predict(observations[0])
    assert np.shape(single) == ()
    model.predict_with = "ensemble"
    evaluate_policy(model, make_vec_env("CartPole-v1", 2), n_eval_episodes=2, deterministic=True)
    evaluate_policy(model.policy.members[1], make_vec_env("CartPole-v1", 2), n_eval_episodes=2)


def test_values_at_time_limits_use_the_critics_states():
    """Pendulum's episodes end at 200 steps: one policy, many environments, against contrib's single predictions."""
    kwargs = TINY | {"n_steps": 210, "batch_size": 70, "policy_kwargs": LSTM}
    models = []
    for algorithm, extra in ((RecurrentPPO, {}), (RecurrentMDPO, {"n_policies": 1})):
        model = algorithm("MlpLstmPolicy", make_vec_env("Pendulum-v1", 3, seed=0), **kwargs, **extra)
        model._setup_learn(630)
        callback = model._init_callback(None)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 210)
        models.append(np.asarray(model.rollout_buffer.rewards))
    np.testing.assert_allclose(models[1], models[0], rtol=1e-5)


def test_saving_loading_and_export(tmp_path):
    model = tiny(peer_burn_in=2).learn(128)
    model.save(tmp_path / "model.zip")
    loaded = RecurrentMDPO.load(tmp_path / "model.zip", env=make_vec_env("CartPole-v1", 4))
    assert_same_parameters(loaded.policy, model.policy)
    assert loaded.rollout_buffer.peer_burn_in == 2
    loaded.learn(128)
    model.export(tmp_path / "export")
    exported = RecurrentMDPO.from_export(tmp_path / "export")
    assert_same_parameters(exported.policy, model.policy)
    assert not exported.policy.follows_peers
    with pytest.raises(ValueError, match="saved by recurrent_mdpo, not by mdpo: load it with the class"):
        MDPO.load(tmp_path / "model.zip")


def test_a_member_as_a_model_of_contrib(tmp_path):
    model = tiny().learn(128)
    ppo = model.to_ppo(1)
    assert type(ppo) is RecurrentPPO
    assert_same_parameters(ppo.policy, model.policy.members[1])
    ppo.set_env(make_vec_env("CartPole-v1", 2))
    ppo.learn(64)
    ppo.save(tmp_path / "ppo.zip")
    model.load_ppo(0, tmp_path / "ppo.zip")
    assert_same_parameters(model.policy.members[0], ppo.policy)


def test_images_dictionaries_and_continuous_actions():
    kwargs = TINY | {"policy_kwargs": {"lstm_hidden_size": 8}}
    env = make_vec_env(BrightSideEnv, 2)
    impala = {"features_extractor_kwargs": {"channels": (2, 2), "features_dim": 8}}
    for policy, own in (("CnnLstmPolicy", {}), ("ImpalaCnnLstmPolicy", impala)):
        kwargs["policy_kwargs"] = {"lstm_hidden_size": 8} | own
        model = RecurrentMDPO(policy, env, **kwargs, chunk_size=16).learn(64)
        assert np.isfinite(model.logger.name_to_value["train/distill_kl"])
    pendulum = VecNormalize(make_vec_env("Pendulum-v1", 3))
    tiny_kwargs = TINY | {"policy_kwargs": LSTM, "n_policies": 3, "use_sde": True, "sde_sample_freq": 4}
    RecurrentMDPO("MlpLstmPolicy", pendulum, **tiny_kwargs).learn(96)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"peer_burn_in": -1}, ValueError, "peer_burn_in=-1 must be a number of steps of at least 0, or None"),
        ({"compile": True}, ValueError, "compile=True is not supported by RecurrentMDPO"),
        (
            {"policy_kwargs": [{"lstm_hidden_size": 8}, {"lstm_hidden_size": 16}]},
            ValueError,
            r"different sizes \(1 x 8, 1 x 16\)",
        ),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        tiny(**kwargs)


def test_policies_without_memory_are_refused():
    with pytest.raises(ValueError, match="policy='MlpPolicy' has no memory: use MDPO, or one of MlpLstmPolicy"):
        RecurrentMDPO("MlpPolicy", "CartPole-v1")
    with pytest.raises(ValueError, match=r"MlpLstmPolicy needs vectors, .*: use MultiInputLstmPolicy"):
        RecurrentMDPO("MlpLstmPolicy", make_vec_env(DictEnv, 2))


class DictEnv(BrightSideEnv):
    observation_space = spaces.Dict({"a": spaces.Box(0, 1, (2,)), "b": spaces.Discrete(3)})


def test_states_of_the_last_rollout_continue():
    """Two rollouts in a row: the second begins with the states at the end of the first one."""
    model = tiny(n_policies=1, n_envs=1)
    first = collect(model)
    last = first.inputs["pi_states"][-1].clone()
    model.num_timesteps = 0
    after = model._last_lstm_states
    assert not th.equal(after.pi, last)
    with th.no_grad():
        *_, expected = model.policy.members[0](
            first.observations[-1],
            RNNStates(to_lstm(last[:, 0]), to_lstm(first.inputs["vf_states"][-1])),
            first.episode_starts[-1],
        )
    th.testing.assert_close(after.pi[:, 0], from_lstm(expected.pi))
