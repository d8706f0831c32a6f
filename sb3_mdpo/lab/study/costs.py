"""Steps, samples and evaluations of a run, counted from its hyperparameters."""

import inspect
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3.common.utils import FloatSchedule

from sb3_mdpo.lab.study.methods import n_policies
from sb3_mdpo.lab.study.runs import CALLBACK, PlannedRun
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.zoo.hyperparams import distill_coef_schedule


@dataclass(frozen=True)
class Costs:
    """What a run takes."""

    timesteps: int  #: of all policies together, in whole rollouts
    timesteps_per_policy: int
    trained_images: int  #: as in :class:`~sb3_mdpo.common.budget.Budget`; an upper bound with ``target_kl``
    rollouts: int
    evaluations: int


def costs_of(run: PlannedRun) -> Costs:
    """Count what a run takes."""
    members, per_rollout = n_policies(run.hyperparams), steps_per_rollout(run)
    rollouts = -(-run.n_timesteps // per_rollout)
    timesteps = rollouts * per_rollout
    passes = rollouts * members + _teaching(run, rollouts) * members * _teachers(run, members)
    images = int(_setting(run, "n_epochs")) * (per_rollout // members) * passes
    return Costs(timesteps, timesteps // members, images, rollouts, _evaluations(run, rollouts))


def steps_per_rollout(run: PlannedRun) -> int:
    """Environment steps of all policies together from one update to the next."""
    return int(run.hyperparams.get("n_envs", 1)) * int(_setting(run, "n_steps"))


def evaluation_of(run: PlannedRun) -> dict[str, Any]:
    """Arguments of a run's evaluation callback."""
    arguments: dict[str, Any] = run.hyperparams["callback"][-1][CALLBACK]
    return arguments


def kind_of(run: PlannedRun) -> str:
    """A text that is equal for runs with equal costs, which do not depend on seeds, levels and games."""
    spec = gym.spec(run.env_id)
    evaluation = evaluation_of(run) | {"env_id": None, "train_levels": None, "start_level": None}
    kwargs = run.hyperparams["env_kwargs"] | {"num_levels": None, "start_level": None}
    same = run.hyperparams | {"callback": evaluation, "env_kwargs": kwargs}
    return str(yaml.safe_dump([run.method, str(spec.entry_point), sorted(spec.kwargs), same]))


def _setting(run: PlannedRun, name: str) -> Any:
    return run.hyperparams.get(name, inspect.signature(MDPO).parameters[name].default)


def _teachers(run: PlannedRun, members: int) -> int:
    """Peers of a member in a minibatch that receive a gradient of its KL."""
    if _setting(run, "detach_peers"):
        return 0
    return min(1, members - 1) if _setting(run, "distill_mode") == "random" else members - 1


def _teaching(run: PlannedRun, rollouts: int) -> int:
    """Updates in which ``distill_coef`` is not 0."""
    coef = _setting(run, "distill_coef")
    schedule = FloatSchedule(distill_coef_schedule(coef) if isinstance(coef, str) else coef)
    per_rollout = steps_per_rollout(run)
    progress = (max(1 - done * per_rollout / run.n_timesteps, 0.0) for done in range(1, rollouts + 1))  # as MDPO
    return sum(schedule(remaining) != 0 for remaining in progress)


def _evaluations(run: PlannedRun, rollouts: int) -> int:
    """Before training, after updates that passed a multiple of the frequency, and at the end."""
    freq, per_rollout = evaluation_of(run)["eval_freq"], steps_per_rollout(run)
    passed = [done * per_rollout // freq for done in range(rollouts + 1)]
    during: int = sum(later > before for before, later in pairwise(passed[:-1]))
    return 1 + during + 1
