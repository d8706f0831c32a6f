"""Mean returns of a run's policies, with intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed

from sb3_mdpo.envs.native import UNSEEN_LEVELS, is_native
from sb3_mdpo.lab.generalization.evaluation import check_seed
from sb3_mdpo.lab.generalization.intervals import confidence_interval
from sb3_mdpo.lab.generalization.policies import acting_policies
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.zoo.run import Run


@dataclass(frozen=True)
class Evaluation:
    """
    :param policy: ``"policy 0"`` and so on, or ``"ensemble"``
    :param levels: which levels, empty where there is no such thing
    :param env_kwargs: arguments of the environments
    :param returns: undiscounted return of every episode, as the environment gives rewards
    """

    policy: str
    levels: str
    env_kwargs: dict[str, Any]
    returns: list[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def interval(self) -> tuple[float, float]:
        return confidence_interval(self.returns)


def levels_of(env_id: str, env_kwargs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """
    :param env_id: Gymnasium id
    :param env_kwargs: arguments of the training environments
    :return: what to evaluate on, and its arguments of the environments. Procgen, trained on a set of levels,
        is evaluated on levels drawn from all 2**31 (unseen ones, then) and on this set; everything else on
        the training environment alone
    """
    if not is_native(env_id):
        return {"": env_kwargs}
    num_levels = env_kwargs.get("num_levels", 0)
    if not num_levels:
        return {"levels of training": env_kwargs}
    return {"unseen levels": env_kwargs | UNSEEN_LEVELS, f"{num_levels} training levels": env_kwargs}


def evaluate_run(
    run: Run, model: MDPO, episodes: int = 128, n_envs: int = 16, deterministic: bool = False, seed: int = 0
) -> list[Evaluation]:
    """
    Evaluate every member. Each environment plays a number of episodes that is fixed beforehand (SB3's
    ``evaluate_policy`` shares them out), so that short episodes are not overrepresented. All members get the
    same environments; their samples are independent, lest barely trained members all take the same actions.

    :param run: run that the model is of
    :param model: the model
    :param episodes: number of episodes per member and set of levels
    :param n_envs: number of environments
    :param deterministic: whether to take the most probable actions; the paper samples
    :param seed: seed of the environments, and of the sampling of the first member
    :return: one evaluation per set of levels and member
    :raises ValueError: where a number is too small
    """
    if episodes < 2:
        raise ValueError(f"{episodes} episode(s) give no interval: evaluate at least 2.")
    if n_envs < 1:
        raise ValueError(f"{n_envs} environments: at least 1 is needed.")
    check_seed(seed)
    evaluations = []
    for levels, env_kwargs in levels_of(run.env_id, run.env_kwargs).items():
        for k, (name, policy) in enumerate(acting_policies(model).items()):
            set_random_seed(seed + k)
            env = run.make_env(env_kwargs, min(n_envs, episodes), seed)
            returns, _ = evaluate_policy(
                policy, env, episodes, deterministic=deterministic, return_episode_rewards=True
            )
            env.close()
            evaluations.append(Evaluation(name, levels, env_kwargs, np.asarray(returns, dtype=float).tolist()))
    return evaluations
