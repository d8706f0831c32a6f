"""The joint update: who gets which gradient, clipping, target_kl, synchronisation."""

from dataclasses import replace

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch.overrides import TorchFunctionMode

from sb3_mdpo import MDPO
from sb3_mdpo.common.buffers import of_member
from sb3_mdpo.mdpo.losses import LossSettings
from sb3_mdpo.mdpo.update import METRICS, draw_peers, minibatch_step
from tests.support.helpers import collect, parameters, silent_logger
from tests.support.training import cartpole, small_silent

SETTINGS = LossSettings(0.2, None, 0.01, 0.5, distill_coef=1.0, normalize_advantage=True)


@pytest.fixture
def model() -> MDPO:
    model = MDPO("MlpPolicy", cartpole(6), n_policies=3, n_steps=32, batch_size=32, seed=0)
    model.set_logger(silent_logger())
    collect(model)
    # Members that agree have no distillation gradient to look at
    for k, member in enumerate(model.policy.members):
        member.action_net.bias.data += th.tensor([1.0, -1.0]) * k
    return model


def first_minibatch(model: MDPO) -> RolloutBufferSamples:
    np.random.seed(0)
    return next(iter(model.rollout_buffer.get(32)))


def gradients(model: MDPO) -> list[dict[str, th.Tensor | None]]:
    return [
        {name: None if p.grad is None else p.grad.clone() for name, p in member.named_parameters()}
        for member in model.policy.members
    ]


def step(model: MDPO, active: set[int], settings: LossSettings = SETTINGS, **kwargs) -> th.Tensor:
    kwargs = {"max_grad_norm": 1e9} | kwargs
    return minibatch_step(model.policy, first_minibatch(model), draw_peers(3, "all"), settings, active, **kwargs)


def test_gradient_is_that_of_the_mean_over_members(model):
    """Computed here in one graph, in the update member by member."""
    start = parameters(model.policy)
    step(model, {0, 1, 2})
    actual = gradients(model)

    reference = MDPO("MlpPolicy", model.get_env(), n_policies=3)
    reference.policy.load_state_dict(start)
    losses = []
    minibatch = first_minibatch(model)
    for k, member in enumerate(reference.policy.members):
        samples = of_member(minibatch, k)
        logits = [m.action_net(m.mlp_extractor.forward_actor(samples.observations)) for m in reference.policy.members]
        log_probs = [th.log_softmax(logit, dim=1) for logit in logits]
        own = log_probs[k]
        kls = [(peer.exp() * (peer - own)).sum(1).mean() for j, peer in enumerate(log_probs) if j != k]
        values = member.value_net(member.mlp_extractor.forward_critic(samples.observations)).flatten()
        advantages = samples.advantages
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        ratio = (own.gather(1, samples.actions[:, None])[:, 0] - samples.old_log_prob).exp()
        surrogate = -th.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
        entropy = -(own.exp() * own).sum(1).mean()
        value_loss = ((values - samples.returns) ** 2).mean()
        losses.append(surrogate + 0.5 * value_loss - 0.01 * entropy + (kls[0] + kls[1]) / 2)
    (sum(losses) / 3).backward()
    for mine, theirs in zip(actual, gradients(reference), strict=True):
        th.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_gradients_reach_the_peers_unless_they_are_detached(model):
    def gradients_of_member_1(**kwargs) -> int:
        sent: list[th.Tensor] = []
        handle = model.policy.members[1].action_net.weight.register_hook(sent.append)
        step(model, {0, 1}, **kwargs)
        handle.remove()
        return len(sent)

    # Its own term and member 0's KL, or its own term alone
    assert gradients_of_member_1() == 2
    assert gradients_of_member_1(detach_peers=True) == 1


def test_norms_are_clipped_per_member_after_the_mean(model):
    model.policy.optimizer = th.optim.SGD(model.policy.parameters(), lr=0.0)
    limit = step(model, {0, 1, 2})[:, METRICS.index("grad_norm")].mean().item()
    reported = step(model, {0, 1, 2}, max_grad_norm=limit)[:, METRICS.index("grad_norm")]
    assert reported.min() < limit < reported.max()
    for member, before in zip(model.policy.members, reported.tolist(), strict=True):
        norm = th.cat([p.grad.flatten() for p in member.parameters()]).norm().item()
        assert norm == pytest.approx(min(limit, before), rel=1e-4)


def test_a_member_beyond_target_kl_leaves_the_update_and_its_peers_go_on(model):
    # Member 2 is moved far from the policy that collected its rollout
    model.policy.members[2].action_net.bias.data += th.tensor([4.0, -4.0])
    before = [parameters(member) for member in model.policy.members]
    active = {0, 1, 2}
    metrics = step(model, active, target_kl=0.5)
    approx_kl = metrics[:, METRICS.index("approx_kl")]
    assert active == {k for k in range(3) if approx_kl[k] <= 0.75} != {0, 1, 2}
    assert 2 not in active
    for k, member in enumerate(model.policy.members):
        unchanged = all(th.equal(before[k][name], p) for name, p in member.state_dict().items())
        assert unchanged == (k not in active)
        assert (metrics[k, METRICS.index("grad_norm")] == 0) == (k not in active)


def test_a_member_that_has_stopped_is_not_even_moved_by_adams_momentum(model):
    step(model, {0, 1, 2})
    before = parameters(model.policy.members[2])
    step(model, {0, 1})
    after = parameters(model.policy.members[2])
    assert all(th.equal(before[name], after[name]) for name in before)


def test_update_ends_when_all_members_have_stopped(model):
    model.target_kl = 1e-12
    for member in model.policy.members:
        member.action_net.bias.data += th.tensor([2.0, -2.0])
    before = parameters(model.policy)
    model.train()
    assert model._n_updates == 1
    assert all(th.equal(before[name], p) for name, p in model.policy.state_dict().items())
    assert model.logger.name_to_value["train/grad_norm"] == 0


class HostReads(TorchFunctionMode):
    """Counts the calls that make the host wait for a device."""

    SYNCHRONISING = ("item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__", "nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in self.SYNCHRONISING:
            self.calls.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_train_reads_from_the_device_once(env_id):
    model = small_silent(env=make_vec_env(env_id, n_envs=2), n_steps=32, n_epochs=3)
    collect(model)
    # Adam reads its step counters, which are on the host on any device
    model.policy.optimizer = th.optim.SGD(model.policy.parameters(), lr=1e-3)
    with HostReads() as reads:
        model.train()
    assert reads.calls == ["cpu", "numpy"]  # the latter of what the former fetched


def test_distributions_check_their_arguments_again_after_an_update(model, monkeypatch):
    # torch.compile, in another test, switches the checks off for the whole process
    monkeypatch.setattr(th.distributions.Distribution, "_validate_args", True)
    model.train()
    with pytest.raises(ValueError, match="Expected parameter logits"):
        th.distributions.Categorical(logits=th.tensor([float("nan")]))


def test_without_distillation_no_gradient_crosses(model):
    metrics = step(model, {0}, replace(SETTINGS, distill_coef=0.0))
    assert metrics[0, METRICS.index("distill_kl")] > 0.1  # measured nevertheless
    assert all(p.grad is None for p in model.policy.members[1].parameters())
