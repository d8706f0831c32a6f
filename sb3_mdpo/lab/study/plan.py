"""What a study will take before it is run: counts, and time at a known throughput."""

import csv
import heapq
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sb3_mdpo.lab.study.config import Study
from sb3_mdpo.lab.study.costs import Costs, costs_of, kind_of
from sb3_mdpo.lab.study.runs import PlannedRun, plan_runs
from sb3_mdpo.lab.study.table import RESULTS
from sb3_mdpo.utils.yaml_files import read_text


@dataclass(frozen=True)
class Group:
    """
    Runs with equal costs.

    :param runs: the runs
    :param costs: counts of each run
    :param seconds: duration of each run, None if unknown
    :param disk: bytes of each complete run, None if unknown
    """

    runs: tuple[PlannedRun, ...]
    costs: Costs
    seconds: float | None
    disk: int | None


@dataclass(frozen=True)
class Plan:
    """
    :param groups: the runs, grouped by equal costs
    :param order: names of the runs in the order in which the study starts them
    :param machines: number of machines
    :param jobs: runs at the same time on each machine
    """

    groups: tuple[Group, ...]
    order: tuple[str, ...]
    machines: int
    jobs: int

    def wall_seconds(self, machines: int) -> float | None:
        """
        :param machines: number of machines
        :return: seconds until the last run is complete, None if unknown
        """
        seconds = {run.name: group.seconds for group in self.groups for run in group.runs}
        known = [value for name in self.order if (value := seconds[name]) is not None]
        return makespan(known, machines * self.jobs) if len(known) == len(self.order) else None


def make_plan(
    study: Study, machines: int, rates: Mapping[str, float] | None = None, sizes: Mapping[str, int] | None = None
) -> Plan:
    """
    :param study: the study
    :param machines: number of machines
    :param rates: environment steps per second, evaluations included, by method; the empty name is for all others
    :param sizes: bytes of a complete run by method
    :return: what the study will take
    :raises ValueError: if a run cannot be made from the study, a throughput is missing, or a rate names an unknown
        method
    """
    if rates:
        _check_rates(rates, study)
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


def _check_rates(rates: Mapping[str, float], study: Study) -> None:
    methods = [variant.name for variant in study.methods]
    if missing := [method for method in methods if not {method, ""} & rates.keys()]:
        raise ValueError(f"the throughput of {', '.join(missing)} is not known: state it (--steps-per-second).")
    if unknown := rates.keys() - {*methods, ""}:
        raise ValueError(f"the study has no method {', '.join(sorted(unknown))}; it has {', '.join(methods)}.")


def measured(folder: Path, study: Study) -> tuple[dict[str, float], dict[str, int]]:
    """
    Measurements of an earlier study, over its complete runs in environments of the study to plan.

    :param folder: folder of a study that was run
    :param study: the study to plan
    :return: environment steps per second, evaluations included, and bytes of a complete run, both by method
    :raises ValueError: if it is not such a folder, or has no run of a method of the study
    """
    table = folder / RESULTS
    if not table.is_file():
        raise ValueError(f"{folder} has no {RESULTS}: give the folder of a study that was run, e.g. studies/small.")
    last: dict[str, tuple[str, float, float]] = {}
    try:
        for row in csv.DictReader(io.StringIO(read_text(table), newline=""), strict=True):
            if row["env_id"] in study.env_ids:
                last[row["run"]] = (row["method"], float(row["timesteps"]), float(row["seconds"]))
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{table} is not a table of a study ({error!r}).") from error
    steps: dict[str, float] = {}
    seconds: dict[str, float] = {}
    sizes: dict[str, int] = {}
    n_runs = Counter(method for method, *_ in last.values())
    for name, (method, timesteps, time) in last.items():
        steps[method] = steps.get(method, 0.0) + timesteps
        seconds[method] = seconds.get(method, 0.0) + time
        files = (path for path in (folder / name).rglob("*") if path.is_file())
        sizes[method] = sizes.get(method, 0) + sum(path.stat().st_size for path in files)
    rates = {method: steps[method] / seconds[method] for method in steps if seconds[method]}
    methods = [variant.name for variant in study.methods]
    if missing := [method for method in methods if not 0 < rates.get(method, 0) < math.inf]:
        raise ValueError(
            f"{table} has no throughput of {', '.join(missing)} in the study's environments: state it "
            "(--steps-per-second)."
        )
    return {method: rates[method] for method in methods}, {
        method: round(sizes[method] / n_runs[method]) for method in methods if sizes[method]
    }


def makespan(seconds: Iterable[float], slots: int) -> float:
    """
    :param seconds: durations of the jobs, in the order in which they are started
    :param slots: number of jobs at the same time
    :return: when the last job ends if each starts as soon as a slot is free
    """
    free = [0.0] * slots
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)
