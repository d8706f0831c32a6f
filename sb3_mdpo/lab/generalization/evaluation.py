"""Returns of a model's policies on the levels of its training and on levels that it never saw."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_mdpo.envs.native import UNSEEN_LEVELS, has_levels, make_levels
from sb3_mdpo.envs.procgen_options import SEED_RANGE
from sb3_mdpo.lab.generalization.divergence import ObservationSample, kl_from_peers
from sb3_mdpo.lab.generalization.intervals import confidence_interval
from sb3_mdpo.lab.generalization.policies import all_policies, members_of
from sb3_mdpo.lab.generalization.scores import normalized_score
from sb3_mdpo.utils.random_state import undisturbed

MakeEnv = Callable[..., VecEnv]
MAX_ENVS: Final = 32
# Observations of each policy that the KL between policies is taken on
KL_OBSERVATIONS: Final = 256


@dataclass(frozen=True)
class LevelsResult:
    """
    How one policy did on one set of levels.

    :param returns: undiscounted return of every episode, as the environment gives rewards
    :param success_rate: share of the episodes that ended in success, None where the environment does not say
    :param normalized: mean return as a score, see :func:`~sb3_mdpo.lab.generalization.scores.normalized_score`
    """

    returns: tuple[float, ...]
    success_rate: float | None
    normalized: float | None

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def stderr(self) -> float:
        """Standard error of the mean over episodes; the training would vary as well."""
        return float(np.std(self.returns, ddof=1) / np.sqrt(len(self.returns)))

    @property
    def interval(self) -> tuple[float, float]:
        """Student's t interval of the mean (95 %), over episodes."""
        return confidence_interval(self.returns)


@dataclass(frozen=True)
class PolicyResult:
    """
    :param policy: ``"policy 0"`` and so on, or ``"ensemble"``
    :param training: on the levels of the training
    :param unseen: on levels drawn from all there are
    :param kl: mean over peers of ``KL(peer || policy)`` on observations of the unseen levels, None for the ensemble
        and where there is no peer
    """

    policy: str
    training: LevelsResult
    unseen: LevelsResult
    kl: float | None

    @property
    def gap(self) -> float:
        """Generalisation gap: mean return on training levels minus that on unseen levels."""
        return self.training.mean - self.unseen.mean

    def row(self) -> dict[str, str | int | float | None]:
        """
        :return: the columns of a results table
        """
        row: dict[str, str | int | float | None] = {"policy": self.policy, "episodes": len(self.unseen.returns)}
        for levels, result in (("training", self.training), ("unseen", self.unseen)):
            row |= {
                f"{levels}_return": result.mean,
                f"{levels}_stderr": result.stderr,
                f"{levels}_normalized": result.normalized,
                f"{levels}_success": result.success_rate,
            }
        return row | {"gap": self.gap, "kl": self.kl}


@dataclass(frozen=True)
class GeneralizationResult:
    """
    :param env_id: Gymnasium id
    :param train_levels: number of training levels
    :param start_level: the first of them
    :param episodes: episodes per policy and set of levels
    :param n_envs: environments that they were played in
    :param seed: seed of the environments
    :param deterministic: whether the most probable actions were taken
    :param policies: the members, and where there are several the ensemble of them
    """

    env_id: str
    train_levels: int
    start_level: int
    episodes: int
    n_envs: int
    seed: int
    deterministic: bool
    policies: tuple[PolicyResult, ...]

    @property
    def members(self) -> tuple[PolicyResult, ...]:
        """The members alone."""
        return tuple(result for result in self.policies if result.policy.startswith("policy "))


def check_levels(env_id: str, train_levels: int | None) -> int:
    """
    :param env_id: Gymnasium id
    :param train_levels: number of training levels
    :return: this number
    :raises ValueError: where there are no levels to choose from, or the training left none unseen
    """
    if not has_levels(env_id):
        raise ValueError(
            f"{env_id} has no levels to choose from, so none are unseen: evaluate a model of an environment with "
            "num_levels among its arguments, e.g. procgen-coinrun-easy-v0."
        )
    if not (isinstance(train_levels, Integral) and train_levels >= 1):
        raise ValueError(
            f"train_levels={train_levels!r} must be the number of levels that the model was trained on, at least 1: "
            "a model that was trained on all levels (num_levels 0) has seen whatever it could be tested on."
        )
    return train_levels


def check_episodes(episodes: int, n_envs: int | None, seed: int) -> int:
    """
    :param episodes: number of episodes
    :param n_envs: number of environments, None to have it chosen
    :param seed: seed
    :return: number of environments
    :raises ValueError: where one of them is outside its range
    """
    if episodes < 2:
        raise ValueError(f"{episodes} episode(s) give no interval: evaluate at least 2.")
    n_envs = min(MAX_ENVS, episodes) if n_envs is None else n_envs
    if not 1 <= n_envs <= episodes:
        raise ValueError(
            f"{n_envs} environments for {episodes} episodes: each plays at least one, so use 1 to {episodes} "
            "environments, or more episodes."
        )
    check_seed(seed)
    return n_envs


def check_seed(seed: int) -> None:
    """
    :param seed: seed
    :raises ValueError: where environments or generators would not take it
    """
    if not 0 <= seed < SEED_RANGE:
        raise ValueError(f"seed={seed} must be from 0 to {SEED_RANGE - 1}.")


def evaluate_generalization(
    model: OnPolicyAlgorithm,
    env_id: str,
    train_levels: int,
    episodes: int = 128,
    seed: int = 0,
    deterministic: bool = False,
    start_level: int = 0,
    n_envs: int | None = None,
    env_kwargs: dict[str, Any] | None = None,
    make_env: MakeEnv | None = None,
    progress_bar: bool = False,
) -> GeneralizationResult:
    """
    Evaluate every member and the ensemble on training levels and on unseen levels.

    Each environment plays a number of episodes that is fixed beforehand (SB3's ``evaluate_policy`` shares them
    out), so that short episodes are not overrepresented; where ``n_envs`` does not divide ``episodes`` some play one
    more. All policies meet the same environments with the same levels; their samples of actions are independent.
    The global random generators and the model are left as they were found.

    :param model: MDPO, or SB3's PPO
    :param env_id: Gymnasium id of an environment that :func:`~sb3_mdpo.envs.native.has_levels`
    :param train_levels: number of levels that the model was trained on
    :param episodes: episodes per policy and set of levels
    :param seed: seed of the environments and of the sampling of actions
    :param deterministic: whether to take the most probable actions; the paper samples
    :param start_level: first level of the training
    :param n_envs: number of environments, None for as many as episodes but no more than 32
    :param env_kwargs: further arguments of the environments, e.g. how they are drawn
    :param make_env: called with ``n_envs``, ``seed`` and the environments' arguments as keywords, for models that
        see more than the bare environments show (stacked frames, normalised observations), e.g.
        :meth:`~sb3_mdpo.lab.generalization.trained.TrainedModel.make_env`. None for the native environments
    :param progress_bar: whether to show a progress bar
    :return: returns, scores, gaps and the KL between members
    :raises ValueError: where there are no levels to choose from, a number is outside its range, or the
        environments' spaces are not the model's
    """
    train_levels = check_levels(env_id, train_levels)
    n_envs = check_episodes(episodes, n_envs, seed)
    make_env = make_env or partial(make_levels, env_id)
    on_training = {**(env_kwargs or {}), "num_levels": train_levels, "start_level": start_level}
    policies = all_policies(model)
    training, unseen, observations = {}, {}, {}
    with tqdm(total=2 * len(policies) * episodes, unit="episodes", disable=not progress_bar) as bar:

        def play(policy: BasePolicy, kwargs: dict[str, Any]) -> tuple[LevelsResult, NDArray[Any]]:
            env = model._wrap_env(make_env(n_envs, seed, **kwargs), monitor_wrapper=False)
            with closing(env):
                _check_spaces(model, env, env_id)
                returns, success_rate, sample = _play(policy, env, episodes, seed, deterministic, bar)
            score = normalized_score(float(np.mean(returns)), env_id)
            return LevelsResult(tuple(returns), success_rate, score), sample

        for k, (name, policy) in enumerate(policies.items()):
            with undisturbed(model.policy, seed + k):
                training[name], _ = play(policy, on_training)
                unseen[name], observations[name] = play(policy, on_training | UNSEEN_LEVELS)
    with undisturbed(model.policy, seed):
        model.policy.set_training_mode(False)
        # The policies of on-policy algorithms are actor-critics
        kls = kl_from_peers(members_of(model), observations)  # type: ignore[arg-type]
    results = tuple(PolicyResult(name, training[name], unseen[name], kls.get(name)) for name in policies)
    return GeneralizationResult(env_id, train_levels, start_level, episodes, n_envs, seed, deterministic, results)


def _play(
    policy: BasePolicy, env: VecEnv, episodes: int, seed: int, deterministic: bool, bar: tqdm
) -> tuple[list[float], float | None, NDArray[Any]]:
    successes: list[bool] = []
    sample = ObservationSample(KL_OBSERVATIONS, seed)

    def watch(locals_: dict[str, Any], _globals: dict[str, Any]) -> None:
        sample.add(locals_["observations"][locals_["i"]])
        if locals_["done"]:
            bar.update()
            if "is_success" in locals_["info"]:
                successes.append(bool(locals_["info"]["is_success"]))

    returns, _ = evaluate_policy(
        policy, env, episodes, deterministic=deterministic, callback=watch, return_episode_rewards=True
    )
    success_rate = float(np.mean(successes)) if successes else None
    return np.asarray(returns, dtype=float).tolist(), success_rate, np.stack(sample.kept)


def _check_spaces(model: OnPolicyAlgorithm, env: VecEnv, env_id: str) -> None:
    try:
        check_for_correct_spaces(env, model.observation_space, model.action_space)
    except ValueError as error:
        raise ValueError(
            f"The environments of {env_id} are not what the model was trained in. {error}. Where it saw stacked frames "
            "or normalised observations, pass a make_env that makes environments with the same wrappers; for run "
            "folders of the zoo that is open_trained(folder).make_env."
        ) from error
