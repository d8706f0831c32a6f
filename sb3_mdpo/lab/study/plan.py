"""The costs of a study before it is run: steps, samples and evaluations, and time at a known throughput."""

import heapq
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3.common.utils import FloatSchedule

from sb3_mdpo.lab.generalization.results import read_csv
from sb3_mdpo.lab.study.config import Study
from sb3_mdpo.lab.study.folder import RESULTS
from sb3_mdpo.lab.study.runs import CALLBACK, PlannedRun, plan_runs
from sb3_mdpo.utils.terminal import text_table
from sb3_mdpo.zoo.hyperparams import distill_coef_schedule

UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
HEADER = ("method", "runs", "steps", "per policy", "images", "evaluations", "time", "disk")


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
    members, per_rollout = run.n_policies, steps_per_rollout(run)
    rollouts = -(-run.n_timesteps // per_rollout)
    timesteps = rollouts * per_rollout
    passes = rollouts * members
    if members > 1:
        passes += _teaching(run, rollouts) * members * _teachers(run, members)
    epochs = run.setting("n_epochs", run.setting("n_critic_updates", 1))  # the latter of TRPO
    images = int(epochs) * (per_rollout // members) * passes
    return Costs(timesteps, timesteps // members, images, rollouts, _evaluations(run, rollouts))


def steps_per_rollout(run: PlannedRun) -> int:
    """Environment steps of all policies together from one update to the next."""
    return int(run.hyperparams.get("n_envs", 1)) * int(run.setting("n_steps"))


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


def _teachers(run: PlannedRun, members: int) -> int:
    """Peers of a member in a minibatch that receive a gradient of its KL."""
    if run.setting("detach_peers") or run.setting("distill_mode") == "max":
        return 0
    return 1 if run.setting("distill_mode") == "random" else members - 1


def _teaching(run: PlannedRun, rollouts: int) -> int:
    """Updates in which ``distill_coef`` is not 0."""
    coef = run.setting("distill_coef", 0.0)
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


@dataclass(frozen=True)
class Group:
    """Runs with equal costs."""

    runs: tuple[PlannedRun, ...]
    costs: Costs
    seconds: float | None  #: duration of each run, None if unknown
    disk: int | None  #: bytes of each complete run, None if unknown


@dataclass(frozen=True)
class Plan:
    """What a study will take."""

    groups: tuple[Group, ...]
    order: tuple[str, ...]  #: names of the runs in the order in which the study starts them
    machines: int
    jobs: int  #: runs at the same time on each machine

    def wall_seconds(self, machines: int) -> float | None:
        """Seconds until the last run is complete on so many machines, None if unknown."""
        seconds = {run.name: group.seconds for group in self.groups for run in group.runs}
        known = [value for name in self.order if (value := seconds[name]) is not None]
        return makespan(known, machines * self.jobs) if len(known) == len(self.order) else None


def make_plan(
    study: Study, machines: int, rates: Mapping[str, float] | None = None, sizes: Mapping[str, int] | None = None
) -> Plan:
    """
    The costs of a study, and its duration on so many machines.

    :param rates: environment steps per second, evaluations included, by method; the empty name is for all others
    :param sizes: bytes of a complete run by method
    """
    if rates:
        methods = [variant.name for variant in study.methods]
        if missing := [method for method in methods if not {method, ""} & rates.keys()]:
            raise ValueError(f"the throughput of {', '.join(missing)} is not known: state it (--steps-per-second).")
        if unknown := rates.keys() - {*methods, ""}:
            raise ValueError(f"the study has no method {', '.join(sorted(unknown))}; it has {', '.join(methods)}.")
    kinds: dict[str, list[PlannedRun]] = {}
    all_runs = plan_runs(study)
    for run in all_runs:
        kinds.setdefault(kind_of(run), []).append(run)
    groups = []
    for runs in kinds.values():
        costs, method = costs_of(runs[0]), runs[0].method
        seconds = costs.timesteps / rates.get(method, rates.get("", 0.0)) if rates else None
        groups.append(Group(tuple(runs), costs, seconds, (sizes or {}).get(method)))
    return Plan(tuple(groups), tuple(run.name for run in all_runs), machines, study.jobs)


def measured(folder: Path, study: Study) -> tuple[dict[str, float], dict[str, int]]:
    """
    Environment steps per second, evaluations included, and bytes of a complete run, both by method, in the runs of an
    earlier study in the environments of the study to plan.
    """
    table = folder / RESULTS
    if not table.is_file():
        raise ValueError(f"{folder} has no {RESULTS}: give the folder of a study that was run, e.g. studies/small.")
    rows = read_csv(table)
    try:
        last = rows[rows["env_id"].isin(study.env_ids)].drop_duplicates("run", keep="last")
        last = last.assign(disk=[_size(folder / name) for name in last["run"]]).astype({"timesteps": float})
        means = last.groupby("method")[["timesteps", "seconds", "disk"]].mean()
        rates = means["timesteps"] / means["seconds"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{table} is not a table of a study ({error!r}).") from error
    methods = [variant.name for variant in study.methods]
    if missing := [method for method in methods if not 0 < rates.get(method, 0) < math.inf]:
        raise ValueError(
            f"{table} has no throughput of {', '.join(missing)} in the study's environments: state it "
            "(--steps-per-second)."
        )
    sizes = {method: round(means["disk"][method]) for method in methods}
    return {method: float(rates[method]) for method in methods}, {name: size for name, size in sizes.items() if size}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def makespan(seconds: Iterable[float], slots: int) -> float:
    """When the last of the jobs ends, if they start in this order, each as soon as one of the slots is free."""
    free = [0.0] * slots
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def plan_table(plan: Plan) -> str:
    """One line per kind of run with the costs of one run, then the totals."""
    return "\n".join([text_table(HEADER, map(_row, plan.groups)), "", *_totals(plan)])


def plan_json(plan: Plan) -> str:
    """The plan as JSON, in bytes and seconds."""
    groups = [
        {
            "method": group.runs[0].method,
            "runs": [run.name for run in group.runs],
            **vars(group.costs),
            "seconds": group.seconds,
            "disk": group.disk,
        }
        for group in plan.groups
    ]
    wall = {str(machines): plan.wall_seconds(machines) for machines in sorted({1, plan.machines})}
    return json.dumps({"jobs": plan.jobs, "wall_seconds": wall, "groups": groups}, indent=1)


def _row(group: Group) -> tuple[str, ...]:
    costs = group.costs
    return (
        group.runs[0].method,
        str(len(group.runs)),
        amount(costs.timesteps),
        amount(costs.timesteps_per_policy),
        amount(costs.trained_images),
        str(costs.evaluations),
        duration(group.seconds),
        "-" if group.disk is None else f"{amount(group.disk)}B",
    )


def _totals(plan: Plan) -> list[str]:
    steps = sum(len(group.runs) * group.costs.timesteps for group in plan.groups)
    images = sum(len(group.runs) * group.costs.trained_images for group in plan.groups)
    disk = sum(len(group.runs) * (group.disk or 0) for group in plan.groups)
    lines = [f"In all: {len(plan.order)} runs, {amount(steps)} environment steps, {amount(images)} images trained on"]
    if all(group.disk is not None for group in plan.groups):
        lines[0] += f", {amount(disk)}B of disk"
    if any(group.seconds is None for group in plan.groups):
        return [*lines, "Time: state the throughput (--steps-per-second) or read it from a study (--measured)"]
    for machines in sorted({1, plan.machines}):
        where = "1 machine" if machines == 1 else f"{machines} machines"
        lines.append(f"On {where}, {plan.jobs} at a time on each: {duration(plan.wall_seconds(machines))}")
    return lines


def amount(number: float) -> str:
    """A number of at least 0 with three digits and its unit."""
    for size, unit in UNITS:
        if number >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.{0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2}f} {unit}"
    return f"{number:.0f} "


def duration(seconds: float | None) -> str:
    """Days, hours, minutes and seconds."""
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))
