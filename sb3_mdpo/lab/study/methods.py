"""The methods that a study compares: MDPO, its ablations and its baselines, on one encoder and one protocol.

All methods are settings of MDPO, which is PPO with the paper's value clipping if it has one policy
(docs/deviations.md). They share encoder, environments, normalisation, evaluation and code.
"""

import ast
import inspect
from collections.abc import Callable
from typing import Any

from rl_zoo3.utils import get_class_by_name

from sb3_mdpo.mdpo import MDPO

Hyperparams = dict[str, Any]
# As in hyperparams/ppo_l2.yml and ppo_dropout.yml, which cite the sources
WEIGHT_DECAY = 1e-4
DROPOUT = 0.1
ENGINE, PER_POLICY = "sb3_mdpo.envs.native_vec_env", "per_policy"
ADAM = {"eps": 1e-5}  # the default of SB3's policies, which optimizer_kwargs replace


class Expression(str):
    """Python source of a value that is not a literal, e.g. ``nn.GELU``; only the zoo evaluates it."""

    def __repr__(self) -> str:
        return str(self)


def read_policy_kwargs(written: str | dict[str, Any] | None) -> dict[str, Any]:
    """``policy_kwargs`` as the zoo's files write them."""
    return read_arguments("policy_kwargs", written)


def read_arguments(name: str, written: str | dict[str, Any] | None) -> dict[str, Any]:
    """
    Read arguments as the zoo's files write them (``"dict(net_arch=[64], activation_fn=nn.GELU)"``, a mapping or None),
    without executing them. Values that are not literals are :class:`Expression`.
    """
    if not isinstance(written, str):
        return dict(written or {})
    try:
        arguments = _value(ast.parse(written, mode="eval").body)
    except SyntaxError:
        arguments = None
    if not isinstance(arguments, dict):
        raise ValueError(f'{name}: {written!r} is not a dictionary: write "dict(net_arch=[64])", for example.')
    return arguments


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        return {ast.literal_eval(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict" and not node.args:
        keywords = {keyword.arg: _value(keyword.value) for keyword in node.keywords}
        if None not in keywords:  # dict(**others)
            return keywords
    try:
        return ast.literal_eval(node)
    except ValueError:
        return Expression(ast.unparse(node))


def setting(hyperparams: Hyperparams, name: str) -> Any:
    """A hyperparameter of MDPO, or its default if the zoo's file does not give it."""
    return hyperparams.get(name, inspect.signature(MDPO).parameters[name].default)


def n_policies(hyperparams: Hyperparams) -> int:
    """Number of policies, given hyperparameters as in ``hyperparams/mdpo.yml``."""
    return int(setting(hyperparams, "n_policies"))


def _independent(hyperparams: Hyperparams) -> Hyperparams:
    """The same policies without the KL."""
    return hyperparams | {"distill_coef": 0.0}


def _independent_2x_epochs(hyperparams: Hyperparams) -> Hyperparams:
    """As many images forward and backward as in mdpo, where those of a member also go through each of its peers."""
    passes = 2 if setting(hyperparams, "distill_mode") == "random" else n_policies(hyperparams)
    return _independent(hyperparams) | {"n_epochs": passes * int(setting(hyperparams, "n_epochs"))}


def _independent_2x_entropy(hyperparams: Hyperparams) -> Hyperparams:
    bonus = float(setting(hyperparams, "ent_coef"))
    if bonus == 0:
        raise ValueError("ent_coef is 0, and so is twice as much: set ent_coef in hyperparams.")
    return _independent(hyperparams) | {"ent_coef": 2 * bonus}


def _half(hyperparams: Hyperparams) -> Hyperparams:
    """With as many steps in all as ppo has."""
    return hyperparams | {"n_timesteps": int(hyperparams["n_timesteps"]) // n_policies(hyperparams)}


def _leep(hyperparams: Hyperparams) -> Hyperparams:
    """Each policy on its own share of the levels, drawn towards the normalised maximum of all."""
    wrappers = hyperparams.get("vec_env_wrapper") or []
    wrappers = wrappers if isinstance(wrappers, list) else [wrappers]
    divided = [_dividing(one) for one in wrappers]
    if divided == wrappers:
        raise ValueError(f"vec_env_wrapper has no {ENGINE}, which divides levels among policies: add it.")
    return hyperparams | {"distill_mode": "max", "vec_env_wrapper": divided}


def _dividing(wrapper: Any) -> Any:
    arguments = wrapper.get(ENGINE) if isinstance(wrapper, dict) else {} if wrapper == ENGINE else None
    return wrapper if arguments is None else {ENGINE: arguments | {"level_shares": PER_POLICY}}


def alone(hyperparams: Hyperparams) -> Hyperparams:
    """One member's share of the environments and steps, in as many minibatches of the same size."""
    for key in ("policy", "policy_kwargs"):
        value = hyperparams.get(key)
        if isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("[")):
            raise ValueError(f"{key} has an entry per member, but PPO has one member: give one for all.")
    members = n_policies(hyperparams)
    share, rest = divmod(hyperparams["n_envs"], members)
    if rest:
        raise ValueError(
            f"n_envs {hyperparams['n_envs']} cannot be divided among {members} policies: use a multiple of it."
        )
    return _half(hyperparams) | {"n_envs": share}


def _ppo(hyperparams: Hyperparams) -> Hyperparams:
    return alone(hyperparams) | {"n_policies": 1}


def _ppo_2x_data(hyperparams: Hyperparams) -> Hyperparams:
    """With as many steps as all members of mdpo together."""
    return _ppo(hyperparams) | {"n_timesteps": int(hyperparams["n_timesteps"])}


def _ppo_l2(hyperparams: Hyperparams) -> Hyperparams:
    ppo = _ppo(hyperparams)
    kwargs = read_policy_kwargs(ppo.get("policy_kwargs"))
    usual = {} if "optimizer_class" in kwargs else ADAM
    kwargs["optimizer_kwargs"] = (kwargs.get("optimizer_kwargs") or usual) | {"weight_decay": WEIGHT_DECAY}
    return ppo | {"policy_kwargs": repr(kwargs)}


def _ppo_dropout(hyperparams: Hyperparams) -> Hyperparams:
    return _with_extractor(_ppo(hyperparams), dropout=lambda _: DROPOUT)


def _ppo_2x_width(hyperparams: Hyperparams) -> Hyperparams:
    return _with_extractor(
        _ppo(hyperparams),
        channels=lambda channels: [2 * width for width in channels],
        features_dim=lambda features_dim: 2 * features_dim,
    )


def _with_extractor(hyperparams: Hyperparams, **changes: Callable[[Any], Any]) -> Hyperparams:
    """Change arguments of the features extractor, starting from the file's or from the defaults."""
    kwargs = read_policy_kwargs(hyperparams.get("policy_kwargs"))
    given = kwargs.get("features_extractor_kwargs") or {}
    known = _extractor_defaults(hyperparams["policy"], kwargs) | given
    if missing := changes.keys() - known.keys():
        raise ValueError(
            f"the features extractor has no {' and '.join(sorted(missing))} to change (only "
            f"{', '.join(sorted(known)) or 'nothing'}): leave the method out, or use a policy like ImpalaCnnPolicy."
        )
    kwargs["features_extractor_kwargs"] = given | {name: change(known[name]) for name, change in changes.items()}
    return hyperparams | {"policy_kwargs": repr(kwargs)}


def _extractor_defaults(policy: str, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    if isinstance(policy_kwargs.get("features_extractor_class"), Expression):
        return {}  # only the zoo can evaluate it
    policy_class = MDPO.policy_aliases.get(policy) or get_class_by_name(policy)
    extractor = inspect.signature(policy_class).parameters["features_extractor_class"].default
    parameters = inspect.signature(extractor).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


#: Method in study files -> its hyperparameters, given those of MDPO as in ``hyperparams/mdpo.yml``
METHODS: dict[str, Callable[[Hyperparams], Hyperparams]] = {
    "mdpo": dict,
    "independent": _independent,
    "independent_2x_epochs": _independent_2x_epochs,
    "independent_2x_entropy": _independent_2x_entropy,
    "mdpo_detached": lambda hyperparams: hyperparams | {"detach_peers": True},  # no gradient of the KL to the peer
    "mdpo_half": _half,
    "leep": _leep,
    "ppo": _ppo,
    "ppo_l2": _ppo_l2,
    "ppo_dropout": _ppo_dropout,
    "ppo_2x_data": _ppo_2x_data,
    "ppo_2x_width": _ppo_2x_width,
}
