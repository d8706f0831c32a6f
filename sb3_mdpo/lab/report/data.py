"""The data of a report, read from the folder of a study or of a run."""

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
from stable_baselines3.common.monitor import get_monitor_files

from sb3_mdpo.common.save_util import ZIP_ERRORS
from sb3_mdpo.lab.generalization.results import SAFE, TABLE, read_csv
from sb3_mdpo.lab.report.comparison import Comparison, compare
from sb3_mdpo.lab.report.first_half import first_half
from sb3_mdpo.lab.report.method_style import Style, method_styles
from sb3_mdpo.lab.report.runs import RunFiles, find_run_folder, what_is_lacking
from sb3_mdpo.lab.statistics.aggregates import REPS
from sb3_mdpo.lab.statistics.results import TASK, check_results, read_results
from sb3_mdpo.lab.statistics.scores import MEMBERS, final_scores, learning_curves
from sb3_mdpo.lab.study.folder import RESULTS
from sb3_mdpo.zoo.run import read_run

# Method name of a run outside a study
ONE_RUN = "this run"
SMOOTHING = 100  # episodes, as in SB3's own statistics
LARGEST_ARRAYS = 2**28  # bytes of evaluations: 33 million episodes
# NumPy raises a MemoryError for an array that is said to be larger than the machine
_ERRORS = (AssertionError, IndexError, MemoryError, OverflowError, TypeError, pd.errors.DataError)


@dataclass(frozen=True)
class ReportData:
    """What a page shows; its tables and comparisons are computed when they are needed."""

    name: str
    folder: Path
    results: pd.DataFrame | None  #: one row per evaluation and policy; None without evaluations on unseen levels
    runs: tuple[RunFiles, ...]
    training: pd.DataFrame | None = None  #: what the zoo logged: columns ``series``, ``timesteps``, ``mean_return``
    reps: int = REPS  #: repetitions of the bootstrap
    lacking: tuple[str, ...] = ()  #: messages on complete runs that lack files
    reference: str = "mdpo"  #: the method that the others are compared with, or the first if there is none
    others: tuple[Path, ...] = ()  #: folders and tables that were joined to the first

    @cached_property
    def methods(self) -> list[str]:
        """Names of the methods, that of reference first."""
        names = dict.fromkeys(run.method for run in self.runs)
        return sorted(names, key=lambda name: name != self.reference)

    @cached_property
    def styles(self) -> dict[str, Style]:
        return method_styles(self.methods)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Final scores of all runs, and of ppo as the first half of ppo_2x_data; empty without evaluations."""
        if self.results is None:
            return pd.DataFrame()
        return pd.concat([final_scores(rows) for rows in (self.results, self.half) if len(rows)], ignore_index=True)

    @cached_property
    def half(self) -> pd.DataFrame:
        """What :func:`first_half` takes from the evaluations."""
        return pd.DataFrame() if self.results is None else first_half(self.results)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The members' means over seeds during training; empty without evaluations."""
        if self.results is None:
            return pd.DataFrame()
        curves = learning_curves(self.results)
        return curves[curves["policies"] == MEMBERS]

    @cached_property
    def comparison(self) -> Comparison:
        try:
            return Comparison() if self.results is None else compare(self.results, self.reps, reference=self.reference)
        except ValueError as error:
            raise ValueError(f"{self.folder}: {error}") from error

    def one_per_method(self) -> list[RunFiles]:
        """For each method the first run, by task and seed, that has a folder."""
        tasks = list(dict.fromkeys(run.task for run in self.runs))
        first: dict[str, RunFiles] = {}
        for run in sorted(self.runs, key=lambda run: (tasks.index(run.task), run.seed)):
            if run.folder is not None:
                first.setdefault(run.method, run)
        return [first[method] for method in self.methods if method in first]


def read_report_data(
    folder: Path, reps: int = REPS, reference: str | None = None, others: Sequence[Path] = ()
) -> ReportData:
    """
    Read a study's folder, with ``results.csv``, or a run folder of ``rl_zoo3 train``.

    :param folder: that folder, or a table that :func:`~sb3_mdpo.lab.read_results` reads
    :param reps: repetitions of the bootstrap
    :param reference: the method that the others are compared with; None for mdpo, or the first if there is no mdpo
    :param others: folders of studies, and tables, to join
    :return: what a report shows
    """
    if reps < 1:
        raise ValueError(f"reps={reps} must be at least 1; the default is 2000.")
    of_studies = others or folder.is_file() or (folder / RESULTS).is_file()
    data = _read_studies((folder, *others), reps) if of_studies else _read_run(folder, reps)
    if reference is None:
        return data
    if reference not in data.methods:
        raise ValueError(f"There is no method {reference}: compare one of {', '.join(data.methods)}.")
    return replace(data, reference=reference)


def _read_studies(paths: Sequence[Path], reps: int) -> ReportData:
    tables = {str(path / RESULTS if path.is_dir() else path): path for path in paths}
    if not all(Path(table).is_file() for table in tables):
        missing = next(table for table in tables if not Path(table).is_file())
        raise ValueError(f"There is no {missing}: give folders of studies, or tables (.csv), to compare them.")
    results = read_results(*map(Path, tables))
    if "source" not in results:
        results = results.assign(source=next(iter(tables)))
    runs: list[RunFiles] = []
    for source, rows in results.groupby("source", sort=False):
        path = tables[source]
        runs += _run_files(rows, partial(_folder_of, path) if path.is_dir() else lambda _: None)
    names = results["study"].dropna().unique()
    name = " and ".join(
        names if len(names) else [path.resolve().name if path.is_dir() else path.stem for path in paths]
    )
    lacking = tuple(message for path in paths if path.is_dir() for message in what_is_lacking(path))
    return ReportData(name, paths[0], results, tuple(runs), reps=reps, others=tuple(paths[1:]), lacking=lacking)


def _read_run(folder: Path, reps: int) -> ReportData:
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: give a study's folder or a run folder of rl_zoo3 train.")
    try:
        run = read_run(folder)
    except ValueError as error:
        raise ValueError(
            f"{folder} is not a study's folder (it has no {RESULTS}) and not a run folder: {error}"
        ) from error
    name = run.folder.resolve().name
    study = run.folder.resolve().parent / RESULTS
    if study.is_file() and name in (results := read_results(study))["run"].to_numpy():
        of_a_study = results[results["run"] == name]
        runs = _run_files(of_a_study, lambda _: run.folder)
        return ReportData(name, run.folder, of_a_study, tuple(runs), reps=reps)
    levels = {key: int(run.env_kwargs.get(key, 0)) for key in ("num_levels", "start_level")}
    files = RunFiles(name, ONE_RUN, run.env_id, **levels, seed=int(run.args["seed"]), folder=run.folder)
    path = run.folder / TABLE
    if not path.is_file():
        return ReportData(name, run.folder, None, (files,), _logged_returns(run.folder), reps)
    about = {"study": "", "env_id": run.env_id, **levels, "method": ONE_RUN, "seed": files.seed, "run": name}
    evaluations = read_csv(path).assign(**about)
    return ReportData(name, run.folder, check_results(evaluations, path), (files,), reps=reps)


def _run_files(results: pd.DataFrame, folder_of: Callable[[str], Path | None]) -> Iterator[RunFiles]:
    rows = results[["run", "method", *TASK, "seed"]].drop_duplicates().itertuples(index=False)
    for name, method, env_id, levels, start, seed in rows:
        yield RunFiles(name, method, env_id, int(levels), int(start), int(seed), folder_of(name))


def _folder_of(study: Path, run: str) -> Path | None:
    if Path(run).name != run or run in ("", ".", ".."):
        raise ValueError(f"{study / RESULTS} has a run {run!r}, which is not the name of a folder in it.")
    return find_run_folder(study / run)


@contextmanager
def _readable(what: object) -> Iterator[None]:
    """The readers of SB3 and NumPy raise many types of errors for a damaged file."""
    try:
        yield
    except (*ZIP_ERRORS, *_ERRORS) as error:
        raise ValueError(
            f"{what} cannot be read ({type(error).__name__}: {error}): move it away to see the rest."
        ) from error


def _monitored(folder: Path) -> pd.DataFrame:
    """Like SB3's ``load_results()``, which crashes the process at some damaged numbers."""
    tables = []
    for name in get_monitor_files(str(folder)):
        with Path(name).open(encoding="utf-8") as file:
            header = json.loads(file.readline().removeprefix("#"))
            table = pd.read_csv(file, float_precision=SAFE)
        tables.append(table.assign(t=table["t"] + header["t_start"]))
    return pd.concat(tables).sort_values("t", ignore_index=True)


def _evaluated(path: Path) -> pd.DataFrame:
    """Mean returns of SB3's ``EvalCallback``; the zip archive says how much memory its arrays take."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > LARGEST_ARRAYS:
        raise ValueError(f"its arrays have {size} bytes, more than {LARGEST_ARRAYS}")
    with np.load(path) as file:
        timesteps, returns = file["timesteps"], file["results"]
    if len(timesteps) != len(returns):  # of which there can be billions that are empty
        raise ValueError(f"it has {len(timesteps)} timesteps and results of {len(returns)} evaluations")
    return pd.DataFrame({"timesteps": timesteps, "mean_return": returns.mean(axis=1)})


def _logged_returns(folder: Path) -> pd.DataFrame | None:
    """Returns that the zoo logs for any environment."""
    series = {}
    if list(folder.glob("*monitor.csv")):
        with _readable(f"{folder}/*monitor.csv"):
            episodes = _monitored(folder)
            window = max(1, min(SMOOTHING, len(episodes) // 5))
            means = episodes["r"].rolling(window).mean()
            series[f"training, mean of {window} episodes"] = pd.DataFrame(
                {"timesteps": episodes["l"].cumsum(), "mean_return": means}
            ).dropna()
    path = folder / "evaluations.npz"
    if path.is_file():
        with _readable(path):
            series["evaluations during training"] = _evaluated(path)
    if not series:
        return None
    return pd.concat([rows.assign(series=name) for name, rows in series.items()], ignore_index=True)
