"""Returns of a model's policies on training levels and on unseen levels."""

import copy
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from inspect import signature
from numbers import Integral
from typing import Any, Final, Literal, get_args

import numpy as np
import torch as th
from numpy.typing import NDArray
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_with_masks
from sb3_contrib.common.maskable.utils import is_masking_supported
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_mdpo.envs.native import UNSEEN_LEVELS, has_levels, make_levels
from sb3_mdpo.envs.procgen_options import SEED_RANGE
from sb3_mdpo.lab.generalization.results import ENSEMBLE, GeneralizationResult, LevelsResult, PolicyResult
from sb3_mdpo.lab.generalization.scores import normalized_score
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.mdpo.losses import distillation_kl
from sb3_mdpo.utils.random_state import undisturbed

MakeEnv = Callable[..., VecEnv]
Protocol = Literal["fixed", "authors"]
EPISODES: Final = 128
MAX_ENVS: Final = 32
# Environments, their seed, and episodes of the paper's authors (main.py and agent.py of their code)
AUTHORS_ENVS, AUTHORS_SEED, AUTHORS_EPISODES = 4, 42, 10
# Observations of each policy for the KL between policies
KL_OBSERVATIONS: Final = 256


def members_of(model: OnPolicyAlgorithm) -> dict[str, BasePolicy]:
    """The policies of MDPO or another actor-critic algorithm by name: ``policy 0`` and so on."""
    if not isinstance(model, MDPO):
        return {"policy 0": model.policy}
    return {f"policy {k}": member for k, member in enumerate(model.policy.members)}


def all_policies(model: OnPolicyAlgorithm) -> dict[str, BasePolicy]:
    """The members by name, and if there are several the average of their distributions as ``ensemble``."""
    members = members_of(model)
    if not isinstance(model, MDPO) or len(members) == 1:
        return members
    ensemble = copy.copy(model.policy)  # with the same networks
    ensemble.predict_with = ENSEMBLE
    return members | {ENSEMBLE: ensemble}


def check_has_levels(env_id: str) -> None:
    """Raise ValueError if there are no levels to choose from."""
    if not has_levels(env_id):
        raise ValueError(
            f"{env_id} has no levels to choose from, so none are unseen: use a model of an environment with "
            "num_levels among its arguments, e.g. procgen-coinrun-easy-v0."
        )


def check_levels(env_id: str, train_levels: int | None) -> int:
    """Return the number of training levels; raise ValueError if there are no levels to choose from, or none unseen."""
    check_has_levels(env_id)
    if not (isinstance(train_levels, Integral) and train_levels >= 1):
        raise ValueError(
            f"train_levels={train_levels!r} must be the number of levels that the model was trained on, at least 1: "
            "for a model trained on all levels (num_levels=0), none are unseen."
        )
    return train_levels


def check_episodes(episodes: int, n_envs: int | None, seed: int) -> int:
    """Return the number of environments; raise ValueError if a number is out of range."""
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


def check_protocol(
    protocol: str, episodes: int | None, n_envs: int | None, seed: int, deterministic: bool
) -> tuple[int, int]:
    """Return the numbers of episodes and environments; raise ValueError if they do not fit the protocol."""
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol={protocol!r} is unknown: use {' or '.join(map(repr, get_args(Protocol)))}.")
    if protocol == "fixed":
        episodes = EPISODES if episodes is None else episodes
        return episodes, check_episodes(episodes, n_envs, seed)
    if episodes not in (None, AUTHORS_EPISODES) or n_envs not in (None, AUTHORS_ENVS) or deterministic:
        raise ValueError(
            f"The authors' protocol is {AUTHORS_EPISODES} episodes in {AUTHORS_ENVS} environments with sampled "
            "actions: leave out episodes, n_envs and deterministic."
        )
    check_seed(seed)
    return AUTHORS_EPISODES, AUTHORS_ENVS


def check_seed(seed: int) -> None:
    """Raise ValueError if the seed is out of range."""
    if not 0 <= seed < SEED_RANGE:
        raise ValueError(f"seed={seed} must be from 0 to {SEED_RANGE - 1}.")


def evaluate_generalization(
    model: OnPolicyAlgorithm,
    env_id: str,
    train_levels: int,
    episodes: int | None = None,
    seed: int = 0,
    deterministic: bool = False,
    start_level: int = 0,
    n_envs: int | None = None,
    env_kwargs: dict[str, Any] | None = None,
    make_env: MakeEnv | None = None,
    progress_bar: bool = False,
    protocol: Protocol = "fixed",
) -> GeneralizationResult:
    """
    Evaluate every member and the ensemble on training levels and on unseen levels.

    By default each environment plays a fixed number of episodes, as in SB3's ``evaluate_policy``, so that short
    episodes are not overrepresented. All policies play the same levels, with independent samples of actions. The model
    and the global random generators are not changed.

    :param model: MDPO or another on-policy algorithm
    :param env_id: Gymnasium id of an environment that :func:`~sb3_mdpo.envs.native.has_levels`
    :param train_levels: number of levels that the model was trained on
    :param episodes: episodes per policy and set of levels, None for 128 (10 with the authors' protocol)
    :param seed: seed of the environments (with the authors' protocol always 42) and of the sampling of actions
    :param deterministic: whether to take the most probable actions; the paper samples
    :param start_level: first level of the training
    :param n_envs: number of environments, None for one per episode but at most 32 (4 with the authors' protocol)
    :param env_kwargs: further arguments of the environments, e.g. ``use_backgrounds``
    :param make_env: called with ``n_envs``, ``seed`` and the environments' arguments as keywords; needed for a model
        trained with wrappers such as frame stacking, e.g.
        :meth:`~sb3_mdpo.lab.generalization.trained.TrainedModel.make_env`. None for the native environments
    :param progress_bar: whether to show a progress bar
    :param protocol: ``"fixed"``, or ``"authors"`` for numbers that are comparable with the paper's: the first 10
        episodes to finish (and others that finish in the same step) in 4 environments with seed 42, made anew for each
        policy. This favours short episodes, and always plays the same few levels
    :return: returns, scores, gaps and the KL between members
    :raises ValueError: if there are no levels to choose from, a number is out of range, or the environments' spaces
        differ from the model's
    """
    train_levels = check_levels(env_id, train_levels)
    n_episodes, n_envs = check_protocol(protocol, episodes, n_envs, seed, deterministic)
    env_seed = AUTHORS_SEED if protocol == "authors" else seed
    make_env = make_env or partial(make_levels, env_id)
    on_training = {**(env_kwargs or {}), "num_levels": train_levels, "start_level": start_level}
    policies = all_policies(model)
    training, unseen, observations = {}, {}, {}
    with tqdm(total=2 * len(policies) * n_episodes, unit="episodes", disable=not progress_bar) as bar:

        def play(policy: BasePolicy, kwargs: dict[str, Any]) -> tuple[LevelsResult, NDArray[Any]]:
            env = model._wrap_env(make_env(n_envs, env_seed, **kwargs), monitor_wrapper=False)
            with closing(env):
                _check_spaces(model, env, env_id)
                if protocol == "authors":
                    returns, infos, sample = _play_first(policy, env, n_episodes, seed, bar)
                else:
                    returns, infos, sample = _play(policy, env, n_episodes, seed, deterministic, bar)
            return _levels_result(returns, infos, env_id), sample

        for k, (name, policy) in enumerate(policies.items()):
            with undisturbed(model.policy, seed + k):
                training[name], _ = play(policy, on_training)
                unseen[name], observations[name] = play(policy, on_training | UNSEEN_LEVELS)
    with undisturbed(model.policy, seed):
        model.policy.set_training_mode(False)
        # The policies of on-policy algorithms are actor-critics
        kls = kl_from_peers(members_of(model), observations)  # type: ignore[arg-type]
    results = tuple(PolicyResult(name, training[name], unseen[name], kls.get(name)) for name in policies)
    return GeneralizationResult(
        env_id, train_levels, start_level, n_episodes, n_envs, seed, deterministic, results, protocol
    )


def _levels_result(returns: list[float], infos: list[dict[str, Any]], env_id: str) -> LevelsResult:
    """From the returns of all episodes and what the environments reported at their ends."""
    successes = [bool(info["is_success"]) for info in infos if "is_success" in info]
    levels = tuple(int(info["prev_level_seed"]) for info in infos if "prev_level_seed" in info)
    return LevelsResult(
        tuple(returns),
        float(np.mean(successes)) if successes else None,
        normalized_score(float(np.mean(returns)), env_id),
        levels if len(levels) == len(returns) else None,
    )


def _of_episode(info: dict[str, Any]) -> dict[str, Any]:
    """What is kept of the last info of an episode, without its observation."""
    return {key: info[key] for key in ("is_success", "prev_level_seed") if key in info}


def _play(
    policy: BasePolicy, env: VecEnv, episodes: int, seed: int, deterministic: bool, bar: tqdm
) -> tuple[list[float], list[dict[str, Any]], NDArray[Any]]:
    infos: list[dict[str, Any]] = []
    sample = ObservationSample(KL_OBSERVATIONS, seed)

    def watch(locals_: dict[str, Any], _globals: dict[str, Any]) -> None:
        sample.add(locals_["observations"][locals_["i"]])
        if locals_["done"]:
            bar.update()
            infos.append(_of_episode(locals_["info"]))

    # contrib's passes the environments' masks on; without them it is SB3's
    takes_masks = "action_masks" in signature(policy.predict).parameters and is_masking_supported(env)
    evaluate: Callable[..., Any] = evaluate_with_masks if takes_masks else evaluate_policy
    returns, _ = evaluate(
        policy, env, episodes, deterministic=deterministic, callback=watch, return_episode_rewards=True
    )
    return np.asarray(returns, dtype=float).tolist(), infos, np.stack(sample.kept)


def _play_first(
    policy: BasePolicy, env: VecEnv, episodes: int, seed: int, bar: tqdm
) -> tuple[list[float], list[dict[str, Any]], NDArray[Any]]:
    """As :func:`_play`, but until this many episodes have finished in any of the environments, as the authors do."""
    returns: list[float] = []
    ended: list[dict[str, Any]] = []
    sample = ObservationSample(KL_OBSERVATIONS, seed)
    observations: Any = env.reset()
    states, dones = None, np.ones(env.num_envs, dtype=bool)  # read by recurrent policies
    while len(returns) < episodes:
        for observation in observations:
            sample.add(observation)
        actions, states = policy.predict(observations, states, dones, deterministic=False)
        observations, _, dones, infos = env.step(actions)
        for done, info in zip(dones, infos, strict=True):
            if done:
                bar.update()
                returns.append(float(info["episode"]["r"]))
                ended.append(_of_episode(info))
    return returns, ended, np.stack(sample.kept)


def _check_spaces(model: OnPolicyAlgorithm, env: VecEnv, env_id: str) -> None:
    try:
        check_for_correct_spaces(env, model.observation_space, model.action_space)
    except ValueError as error:
        raise ValueError(
            f"The environments of {env_id} differ from those that the model was trained in. {error}. If it was trained "
            "with stacked frames or normalized observations, pass a make_env that makes environments with the same "
            "wrappers, e.g. open_trained(folder).make_env for a run folder of the zoo."
        ) from error


class ObservationSample:
    """A uniform sample of a stream of observations of unknown length (reservoir sampling, Vitter's algorithm R)."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.kept: list[NDArray[Any]] = []
        self._seen = 0
        self._rng = np.random.default_rng(seed)

    def add(self, observation: NDArray[Any]) -> None:
        """Offer the next observation; it is copied if it is kept."""
        self._seen += 1
        if len(self.kept) < self.size:
            self.kept.append(observation.copy())
        elif (place := int(self._rng.integers(self._seen))) < self.size:
            self.kept[place] = observation.copy()


def kl_from_peers(
    members: Mapping[str, ActorCriticPolicy], observations: Mapping[str, NDArray[Any]]
) -> dict[str, float | None]:
    """
    The mutual distillation term (:func:`~sb3_mdpo.mdpo.losses.distillation_kl`) on each member's own observations: the
    mean over peers and observations of ``KL(peer || member)``, without action masks; None without peers, or if the
    members are recurrent, whose distributions in single observations are not defined.
    """
    if len(members) < 2 or any(isinstance(member, RecurrentActorCriticPolicy) for member in members.values()):
        return dict.fromkeys(members)
    kls: dict[str, float | None] = {}
    for name, member in members.items():
        with th.no_grad():
            states, _ = member.obs_to_tensor(observations[name])
            on_states = {other: policy.get_distribution(states) for other, policy in members.items()}
            own = on_states.pop(name)
            kls[name] = float(distillation_kl(own, list(on_states.values())))
    return kls
