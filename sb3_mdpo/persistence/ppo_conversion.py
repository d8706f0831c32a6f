"""Conversion between members and PPO models of SB3 and sb3-contrib."""

import inspect
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import TypeVar

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_mdpo.common.arguments import ARGUMENTS
from sb3_mdpo.common.distributions import starts_at_zero
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.common.save_util import loading, read_plain_settings

Algorithm = TypeVar("Algorithm", bound=OnPolicyAlgorithm)
# Arguments that PPO has under the same name and with the same meaning
COMMON_ARGUMENTS = tuple(name for name, argument in ARGUMENTS.items() if argument.ppo)


def member_to_ppo(model: MutualOnPolicyAlgorithm, k: int, ppo_class: type[Algorithm]) -> Algorithm:
    """See :meth:`sb3_mdpo.MDPO.to_ppo`."""
    member = _member(model, k)
    if not starts_at_zero(model.action_space):
        raise ValueError(
            f"SB3's PPO counts actions from 0, but the action space is {model.action_space}: use "
            f"model.policy.members[{k}] with sb3-mdpo."
        )
    member_class, member_kwargs = model.each_member()[k]
    known = inspect.signature(ppo_class).parameters  # MaskablePPO has no use_sde
    settings = {name: getattr(model, name) for name in COMMON_ARGUMENTS if name in known}
    settings["stats_window_size"] = model._stats_window_size
    make: Callable[..., Algorithm] = ppo_class  # the abstract class has other arguments
    ppo = make(member_class, None, policy_kwargs=member_kwargs, _init_setup_model=False, **settings)
    ppo.observation_space, ppo.action_space = model.observation_space, model.action_space
    ppo.n_envs = max(model.n_envs // model.n_policies, 1)
    with th.random.fork_rng(devices=[]):  # initial weights are drawn, but not used
        ppo._setup_model()
    ppo.seed = model.seed  # only now: _setup_model() would seed all generators with it
    ppo.policy.load_state_dict(member.state_dict())
    ppo.num_timesteps = model.num_timesteps // model.n_policies
    ppo._n_updates = model._n_updates
    return ppo


def ppo_to_member(
    model: MutualOnPolicyAlgorithm,
    k: int,
    ppo: OnPolicyAlgorithm | str | Path | BufferedIOBase,
    ppo_class: type[OnPolicyAlgorithm],
) -> None:
    """See :meth:`sb3_mdpo.MDPO.load_ppo`."""
    member = _member(model, k)
    source = ppo if isinstance(ppo, OnPolicyAlgorithm) else load_ppo(ppo, model.device, ppo_class)
    for name in ("observation_space", "action_space"):
        if getattr(source, name) != getattr(model, name):
            raise ValueError(
                f"The PPO model has the {name} {getattr(source, name)}, this model has {getattr(model, name)}."
            )
    theirs, ours = (
        {name: tuple(p.shape) for name, p in policy.state_dict().items()} for policy in (source.policy, member)
    )
    if theirs != ours:
        name = next(name for name in ours | theirs if ours.get(name) != theirs.get(name))
        raise ValueError(
            f"The network of the PPO model is not that of member {k}: {name} has shape {theirs.get(name)} there and "
            f"{ours.get(name)} here. Build MDPO with the policy and policy_kwargs of the PPO model."
        )
    member.load_state_dict(source.policy.state_dict())
    for parameter in member.parameters():
        model.policy.optimizer.state.pop(parameter, None)  # its moments are those of the old weights


def load_ppo(
    path: str | Path | BufferedIOBase, device: th.device | str = "auto", ppo_class: type[OnPolicyAlgorithm] = PPO
) -> OnPolicyAlgorithm:
    """Load a PPO model. A ``ValueError`` if the file is damaged or not PPO's."""
    if "n_policies" in read_plain_settings(path):
        raise ValueError(f"{path} is an MDPO model: pass MDPO.load({str(path)!r}).to_ppo(k) instead.")
    with loading(path):
        return ppo_class.load(path, device=device)


def _member(model: MutualOnPolicyAlgorithm, k: int) -> ActorCriticPolicy:
    if k not in range(model.n_policies):
        raise ValueError(f"There is no member {k!r}: use 0 to {model.n_policies - 1}.")
    return model.policy.members[k]
