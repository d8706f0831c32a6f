"""The methods that a study compares: MDPO, its ablations and its baselines, on one encoder and one protocol.

All methods are settings of MDPO, which is PPO with the paper's value clipping if it has one policy
(docs/deviations.md). They share encoder, environments, normalisation, evaluation and code.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rl_zoo3.utils import get_class_by_name

from sb3_mdpo.lab.study.policy_kwargs import Expression, read_policy_kwargs, write_policy_kwargs
from sb3_mdpo.mdpo import MDPO

Hyperparams = dict[str, Any]
# The coefficients of hyperparams/ppo_l2.yml and ppo_dropout.yml, which say where they come from
WEIGHT_DECAY = 1e-4
DROPOUT = 0.1
ADAM = {"eps": 1e-5}  # of SB3's policies, as long as they are given no optimizer_kwargs


@dataclass(frozen=True)
class Method:
    """
    :param name: name in study files and tables
    :param description: one line
    :param adapt: returns the method's hyperparameters, given those of MDPO as in ``hyperparams/mdpo.yml``
    """

    name: str
    description: str
    adapt: Callable[[Hyperparams], Hyperparams]


def n_policies(hyperparams: Hyperparams) -> int:
    """
    :param hyperparams: hyperparameters as in ``hyperparams/mdpo.yml``
    :return: how many policies learn
    """
    return int(hyperparams.get("n_policies", inspect.signature(MDPO).parameters["n_policies"].default))


def _half(hyperparams: Hyperparams) -> Hyperparams:
    return hyperparams | {"n_timesteps": int(hyperparams["n_timesteps"]) // n_policies(hyperparams)}


def _ppo(hyperparams: Hyperparams) -> Hyperparams:
    """One member alone: its share of the environments and of the steps, in as many minibatches of the same size."""
    for key in ("policy", "policy_kwargs"):
        value = hyperparams.get(key)
        if isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("[")):
            raise ValueError(f"{key} has an entry per member, of which PPO has one: give one for all.")
    members = n_policies(hyperparams)
    share, rest = divmod(hyperparams["n_envs"], members)
    if rest:
        raise ValueError(
            f"n_envs {hyperparams['n_envs']} cannot be divided among {members} policies: use a multiple of it."
        )
    return _half(hyperparams) | {"n_envs": share, "n_policies": 1}


def _ppo_2x_data(hyperparams: Hyperparams) -> Hyperparams:
    return _ppo(hyperparams) | {"n_timesteps": int(hyperparams["n_timesteps"])}


def _ppo_l2(hyperparams: Hyperparams) -> Hyperparams:
    ppo = _ppo(hyperparams)
    kwargs = read_policy_kwargs(ppo.get("policy_kwargs"))
    usual = {} if "optimizer_class" in kwargs else ADAM
    kwargs["optimizer_kwargs"] = (kwargs.get("optimizer_kwargs") or usual) | {"weight_decay": WEIGHT_DECAY}
    return ppo | {"policy_kwargs": write_policy_kwargs(kwargs)}


def _ppo_dropout(hyperparams: Hyperparams) -> Hyperparams:
    return _with_extractor(_ppo(hyperparams), dropout=lambda _: DROPOUT)


def _ppo_2x_width(hyperparams: Hyperparams) -> Hyperparams:
    return _with_extractor(
        _ppo(hyperparams),
        channels=lambda channels: [2 * width for width in channels],
        features_dim=lambda features_dim: 2 * features_dim,
    )


def _with_extractor(hyperparams: Hyperparams, **changes: Callable[[Any], Any]) -> Hyperparams:
    """With arguments of the features extractor changed from what the file says, or from their defaults."""
    kwargs = read_policy_kwargs(hyperparams.get("policy_kwargs"))
    given = kwargs.get("features_extractor_kwargs") or {}
    known = _extractor_defaults(hyperparams["policy"], kwargs) | given
    if missing := changes.keys() - known.keys():
        raise ValueError(
            f"the features extractor has no {' and '.join(sorted(missing))} to change (only "
            f"{', '.join(sorted(known)) or 'nothing'}): leave the method out, or use a policy like ImpalaCnnPolicy."
        )
    kwargs["features_extractor_kwargs"] = given | {name: change(known[name]) for name, change in changes.items()}
    return hyperparams | {"policy_kwargs": write_policy_kwargs(kwargs)}


def _extractor_defaults(policy: str, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    if isinstance(policy_kwargs.get("features_extractor_class"), Expression):
        return {}  # known to the zoo alone: what it takes is what the file gives
    policy_class = MDPO.policy_aliases.get(policy) or get_class_by_name(policy)
    extractor = inspect.signature(policy_class).parameters["features_extractor_class"].default
    parameters = inspect.signature(extractor).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


#: The methods by name, as study files call them
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("mdpo", "MDPO as in mdpo.yml", dict),
        Method("independent", "the same policies without distillation", lambda h: h | {"distill_coef": 0.0}),
        Method("mdpo_detached", "MDPO whose KL sends no gradient to the peer", lambda h: h | {"detach_peers": True}),
        Method("mdpo_half", "MDPO with as many steps in all as ppo has", _half),
        Method("ppo", "one member alone: its environments, its steps", _ppo),
        Method("ppo_l2", f"ppo with L2 regularisation ({WEIGHT_DECAY})", _ppo_l2),
        Method("ppo_dropout", f"ppo with dropout on the features ({DROPOUT})", _ppo_dropout),
        Method("ppo_2x_data", "ppo with as many steps as all members of mdpo together", _ppo_2x_data),
        Method("ppo_2x_width", "ppo with twice the channels and features", _ppo_2x_width),
    )
}
