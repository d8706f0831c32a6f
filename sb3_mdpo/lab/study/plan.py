"""What a study will take, before it is run: counted, and with the throughput of some hardware in time."""

import csv
import heapq
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sb3_mdpo.lab.study.config import Study
from sb3_mdpo.lab.study.costs import Costs, costs_of, kind_of
from sb3_mdpo.lab.study.probe import Needs, probe
from sb3_mdpo.lab.study.runs import PlannedRun, plan_runs
from sb3_mdpo.lab.study.table import RESULTS
from sb3_mdpo.utils.yaml_files import read_text

CHECKPOINTS_KEPT = 2  # by ResumableCheckpointCallback
MODELS_KEPT = 2  # the last one and the best one
# Seconds of a run; None where they are not known
Seconds = Callable[[PlannedRun, Costs, Needs], float | None]


@dataclass(frozen=True)
class Group:
    """
    Runs that take the same.

    :param runs: the runs
    :param costs: what each of them takes
    :param needs: what was measured of one of them
    :param seconds: how long each takes, None where that is not known
    """

    runs: tuple[PlannedRun, ...]
    costs: Costs
    needs: Needs
    seconds: float | None

    @property
    def disk(self) -> int:
        """Bytes of a complete run; without logs where none were measured."""
        needs, costs = self.needs, self.costs
        logs = (needs.monitor or 0) * costs.timesteps + (needs.log or 0) * costs.rollouts
        return MODELS_KEPT * needs.model + round(logs)

    @property
    def disk_under_way(self) -> int:
        """Bytes that a run takes until it is complete."""
        return self.disk + CHECKPOINTS_KEPT * self.needs.checkpoint


@dataclass(frozen=True)
class Plan:
    """
    :param groups: the runs, those together that take the same
    :param order: names of the runs as the study begins them
    :param machines: number of machines
    :param jobs: runs at the same time on each
    """

    groups: tuple[Group, ...]
    order: tuple[str, ...]
    machines: int
    jobs: int

    def wall_seconds(self, machines: int) -> float | None:
        """
        :param machines: number of machines
        :return: seconds until the last run is complete, None where they are not known
        """
        seconds = {run.name: group.seconds for group in self.groups for run in group.runs}
        in_order = [seconds[name] for name in self.order]
        known = [value for value in in_order if value is not None]
        return makespan(known, machines * self.jobs) if len(known) == len(in_order) else None


def make_plan(study: Study, seconds: Seconds, rollouts: int, machines: int) -> Plan:
    """
    :param study: the study
    :param seconds: how long a run takes
    :param rollouts: rollouts that one run of each kind is trained for, 0 to measure sizes only
    :param machines: number of machines
    :return: what the study will take
    :raises ValueError: where a run cannot be made from the study, or trained
    """
    kinds: dict[str, list[PlannedRun]] = {}
    all_runs = plan_runs(study)
    for run in all_runs:
        kinds.setdefault(kind_of(run), []).append(run)

    def measure(runs: list[PlannedRun]) -> Needs:
        return probe(runs[0], rollouts, study.threads, study.device)

    # As many at a time as the study has: they share the processor in the same way
    with ThreadPoolExecutor(study.jobs if rollouts else 1) as pool:
        needs = list(pool.map(measure, kinds.values()))
    groups = []
    for runs, needed in zip(kinds.values(), needs, strict=True):
        costs = costs_of(runs[0])
        groups.append(Group(tuple(runs), costs, needed, seconds(runs[0], costs, needed)))
    return Plan(tuple(groups), tuple(run.name for run in all_runs), machines, study.jobs)


def from_probe(_: PlannedRun, costs: Costs, needs: Needs) -> float | None:
    """
    :param costs: what a run takes
    :param needs: what was measured of it
    :return: its seconds, None where nothing was trained
    """
    if needs.rollout_seconds is None or needs.evaluation_seconds is None:
        return None
    work = costs.rollouts * needs.rollout_seconds + costs.evaluations * needs.evaluation_seconds
    return needs.start_seconds + work


def from_rates(rates: Mapping[str, float]) -> Seconds:
    """
    :param rates: environment steps per second, evaluations included, by method; of all others under the empty name
    :return: how long a run takes at these rates
    """

    def seconds(run: PlannedRun, costs: Costs, needs: Needs) -> float | None:
        return needs.start_seconds + costs.timesteps / rates.get(run.method, rates.get("", 0.0))

    return seconds


def check_rates(rates: Mapping[str, float], study: Study) -> None:
    """
    :param rates: see :func:`from_rates`
    :param study: the study that they are for
    :raises ValueError: where one is missing, or of a method that the study does not have
    """
    methods = [variant.name for variant in study.methods]
    if missing := [method for method in methods if not {method, ""} & rates.keys()]:
        raise ValueError(f"the throughput of {', '.join(missing)} is not known: measure it, or state it.")
    if unknown := rates.keys() - {*methods, ""}:
        raise ValueError(f"the study has no method {', '.join(sorted(unknown))}; it has {', '.join(methods)}.")


def measured_rates(folder: Path, study: Study) -> dict[str, float]:
    """
    :param folder: folder of a study that was run
    :param study: the study that they are for
    :return: environment steps per second, evaluations included, by method, over its complete runs in environments of
        the study
    :raises ValueError: where it is no such folder, or one without such runs of a method of the study
    """
    table = folder / RESULTS
    if not table.is_file():
        raise ValueError(f"{folder} has no {RESULTS}: give the folder of a study that was run, e.g. studies/small.")
    last: dict[str, tuple[str, float, float]] = {}
    text = read_text(table)
    try:
        for row in csv.DictReader(io.StringIO(text, newline=""), strict=True):
            if row["env_id"] in study.environments:
                last[row["run"]] = (row["method"], float(row["timesteps"]), float(row["seconds"]))
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{table} is no table of a study ({error!r}).") from error
    steps: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for method, timesteps, time in last.values():
        steps[method] += timesteps  # type: ignore[assignment]
        seconds[method] += time  # type: ignore[assignment]
    rates = {method: steps[method] / seconds[method] for method in steps if seconds[method]}
    methods = [variant.name for variant in study.methods]
    if missing := [method for method in methods if not 0 < rates.get(method, 0) < math.inf]:
        raise ValueError(
            f"{table} does not tell the throughput of {', '.join(missing)} in the study's environments: probe it, or "
            "state it."
        )
    return {method: rates[method] for method in methods}


def makespan(seconds: Iterable[float], slots: int) -> float:
    """
    :param seconds: how long jobs take, in the order in which they are begun
    :param slots: how many can be under way at the same time
    :return: when the last one ends, if each begins as soon as a slot is free
    """
    free = [0.0] * slots
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)
