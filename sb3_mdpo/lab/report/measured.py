"""Measurements of several runs: which can be pooled, their means over runs, and how runs are related."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from sb3_mdpo.lab.generalization.results import CONFIDENCE
from sb3_mdpo.lab.report.captions import extremes
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.formatting import interval_cells
from sb3_mdpo.lab.report.runs import Measurement, RunFiles
from sb3_mdpo.lab.statistics.intervals import student_interval

# Settings that differ between runs of one kind, or follow from others
OF_THE_RUN = ("env_id", "model", "model_sha256", "models", "runs", "timesteps", "omitted", "n_envs", "n_observations")
LEAST_PAIRS = 4  # for the interval of a rank correlation
Settings = dict[str, Any]


@dataclass
class Pool:
    """Runs whose measurements were made alike within each task, and what was left out and why."""

    runs: list[Measurement] = field(default_factory=list)
    unknown: list[Measurement] = field(default_factory=list)  #: in files of earlier versions, that do not say how
    notes: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """Those of the first task."""
        return self.runs[0].settings if self.runs else {}


def pool(data: ReportData, measurements: Iterable[Measurement], command: str) -> Pool:
    """
    For each task the runs whose measurements have the settings of most of them, and are of the model at the end of
    training; ``command`` measures them anew.
    """
    pooled = Pool()
    of_tasks: dict[str, dict[RunFiles, Measurement]] = {}
    for one in measurements:
        if one.run is not None:
            of_tasks.setdefault(one.run.task, {})[one.run] = one
    for task, files in of_tasks.items():
        missing = [describe(run) for run in data.runs if run.task == task and run not in files]
        if missing:
            pooled.notes.append(f"Not measured: {'; '.join(missing)}.")
        last = {run: one for run, one in files.items() if not _left_out(data, run, one.settings, pooled)}
        if last:
            _pool_task(last, pooled)
    if pooled.notes:
        pooled.notes.append(f"To measure these: {command} {data.folder}{_options(pooled.settings)}")
    return pooled


def _left_out(data: ReportData, run: RunFiles, settings: Settings, pooled: Pool) -> bool:
    """Whether the measured model is known to be another one than that at the end of training."""
    steps, end = _steps(settings), end_of_training(data, run.name)
    if steps is None or end is None or steps == end:
        return False
    pooled.notes.append(f"Left out: {describe(run)}, its model of step {steps:,} instead of {end:,}.")
    return True


def _pool_task(files: Mapping[RunFiles, Measurement], pooled: Pool) -> None:
    kinds = {run: _kind(one.settings) for run, one in files.items()}
    counts = Counter(kinds.values())

    def rank(kind: str | None) -> tuple[int, bool, int]:
        states = json.loads(kind).get("states") if kind else None
        return counts[kind], kind is not None, states if isinstance(states, int) else 0

    most = max(counts, key=rank)
    for run, kind in kinds.items():
        if kind == most:
            (pooled.unknown if most is None else pooled.runs).append(files[run])
        elif kind is None:
            pooled.notes.append(f"Left out: {describe(run)}, with unknown settings, of an earlier version.")
        else:
            differences = _differences(files[run].settings, json.loads(most) if most else {})
            pooled.notes.append(f"Left out: {describe(run)}, with {differences}.")
    if most is None:
        pooled.notes.append(
            f"{len(pooled.unknown)} files of an earlier version do not say which model they measure, and with which "
            "settings: both are unknown."
        )


def _kind(settings: Settings) -> str | None:
    """The settings that measurements to be pooled have in common; None for a file of an earlier version."""
    if _steps(settings) is None:
        return None
    return json.dumps({key: value for key, value in settings.items() if key not in OF_THE_RUN}, sort_keys=True)


def _steps(settings: Settings) -> int | None:
    """Steps of the measured model, None if the file is of an earlier version or of several models."""
    model: Any = settings
    if "models" in settings:
        models = settings["models"]
        model = models[0] if isinstance(models, list) and len(models) == 1 else None
    steps = model.get("timesteps") if isinstance(model, dict) and "model_sha256" in model else None
    return steps if isinstance(steps, int) else None


def _differences(settings: Settings, others: Settings) -> str:
    keys = [key for key in sorted({*settings, *others} - {*OF_THE_RUN}) if settings.get(key) != others.get(key)]
    return ", ".join(f"{key} {_short(settings.get(key))} instead of {_short(others.get(key))}" for key in keys)


def _short(value: Any) -> str:
    if isinstance(value, list):  # of hashes of the models that played
        return ", ".join(str(each)[:8] for each in value) or "the policy itself"
    return str(value)


def _options(settings: Settings) -> str:
    names = ("states", "observations", "draws", "episodes", "seed")
    return "".join(f" --{name} {settings[name]}" for name in names if name in settings)


def end_of_training(data: ReportData, run: str) -> int | None:
    """Steps of the last evaluation of a run of a study."""
    if data.results is None:
        return None
    steps = data.results.loc[data.results["run"] == run, "timesteps"]
    return None if steps.empty else int(steps.max())


def describe(run: RunFiles) -> str:
    """A run in a sentence."""
    return f"{run.method}, seed {run.seed}, {run.task}"


def over_runs(rows: pd.DataFrame, keys: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """The members' mean of each run and measure; ``keys`` and ``seed`` are those of a run."""
    return rows.groupby([*keys, "seed"], sort=False, dropna=False)[list(measures)].mean().reset_index()


def mean_intervals(of_runs: pd.DataFrame, keys: Sequence[str], measure: str) -> pd.DataFrame:
    """
    Columns ``estimate``, ``low``, ``high`` and ``n``: mean over runs and the ends of Student's interval, which are NaN
    for a single run, and if all are equal.
    """
    groups = of_runs.dropna(subset=measure).groupby(list(keys), sort=False, dropna=False)[measure]
    table = groups.agg(estimate="mean", std="std", n="count").reset_index()
    low, high = student_interval(table["estimate"], table.pop("std"), table["n"])
    return table.assign(low=low, high=high)


def paired_differences(of_runs: pd.DataFrame, keys: Sequence[str], measure: str, method: str) -> pd.DataFrame:
    """:func:`mean_intervals` of ``method`` minus each other method over the seeds of both, as ``other``."""
    columns = of_runs[[*keys, "seed", "method", measure]].rename(columns={"method": "other"})
    first = columns["other"] == method
    pairs = columns[~first].merge(columns[first], on=[*keys, "seed"], suffixes=("", "_first"))
    pairs[measure] = pairs[f"{measure}_first"] - pairs[measure]
    return mean_intervals(pairs, [*keys, "other"], measure)


def caption(of_runs: pd.DataFrame) -> str:
    """How many runs are behind each point, and what its bar is."""
    counts = of_runs.groupby(["task", "method"])["seed"].nunique()
    if counts.max() == 1:
        return "n = 1 seed. No bands: they need two seeds."
    return (
        f"n = {extremes(counts)} seeds. Points: means over runs, in which the members are averaged first. Bars: 95 % "
        "intervals over seeds (Student's), none for a single seed."
    )


def difference_cells(
    of_runs: pd.DataFrame, keys: Sequence[str], measures: Mapping[str, str], method: str
) -> pd.DataFrame | None:
    """The table of :func:`paired_differences` of measures (column -> title), None without any."""
    cells: pd.DataFrame | None = None
    for measure, title in measures.items():
        rows = paired_differences(of_runs, keys, measure, method)
        rows = rows.assign(**{title: interval_cells(rows, digits=3)}).drop(columns=["estimate", "low", "high"])
        cells = rows if cells is None else cells.merge(rows, how="outer", on=[*keys, "other", "n"], sort=False)
    if cells is None or cells.empty:
        return None
    return cells.fillna("").rename(columns={"task": "environment", "other": f"{method} minus", "n": "seeds"})


def spearman(x: ArrayLike, y: ArrayLike) -> tuple[float, float, float]:
    """
    Spearman's rank correlation of at least four pairs, and the ends of its interval (Bonett & Wright 2000, Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations, Psychometrika 65). Perfect agreement, for
    which there is none, ends at it and begins as if two neighbours were exchanged. NaN if x or y do not vary.
    """
    pairs = np.asarray([x, y], dtype=float)
    n = pairs.shape[1]
    if n < LEAST_PAIRS:
        raise ValueError(f"{n} pairs give no interval of a rank correlation: use at least {LEAST_PAIRS}.")
    if (np.ptp(pairs, axis=1) == 0).any():
        return math.nan, math.nan, math.nan
    rho = float(stats.spearmanr(*pairs).statistic)
    largest = 1 - 12 / (n * (n**2 - 1))
    inner = float(np.clip(rho, -largest, largest))
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(inner) + side * half) for side in (-1, 1))
    return rho, -1.0 if rho < -largest else low, 1.0 if rho > largest else high
