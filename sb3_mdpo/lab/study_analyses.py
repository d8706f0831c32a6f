"""Robustness and representation of all complete runs of a study, on the same states of the same levels."""

from collections.abc import Iterator
from pathlib import Path

from sb3_mdpo.lab.generalization.trained import TrainedModel, open_trained
from sb3_mdpo.lab.provenance import is_measured, sha256_of
from sb3_mdpo.lab.report.data import read_report_data
from sb3_mdpo.lab.report.runs import RunFiles
from sb3_mdpo.lab.representation.analysis import analyse_features, feature_settings
from sb3_mdpo.lab.representation.results import FeatureAnalysis
from sb3_mdpo.lab.robustness.measure import measure_robustness, robustness_settings
from sb3_mdpo.lab.robustness.results import Robustness
from sb3_mdpo.lab.state_sampling import sample_from_all

FEATURES_FOLDER = "features"


def measure_study(
    folder: Path, states: int, draws: int, seed: int, episodes: int, device: str
) -> Iterator[tuple[Path, Robustness | None]]:
    """
    Measure all runs of each environment in the same states: those of the play of one run of each method. Write
    ``robustness.json`` to the run's folder.

    :return: each run's file, and what was measured, None if the file has it already
    """
    for runs in _runs_by_environment(folder):
        players = {run.name: _open(folder, run, device) for run in _one_per_method(runs)}
        hashes = [sha256_of(one) for one in players.values()]
        shared = None
        for run in runs:
            trained = players.get(run.name) or _open(folder, run, device)
            path = Path(trained.path) / "robustness.json"
            settings = robustness_settings(trained, states, draws, seed, episodes, hashes)
            if is_measured(path, settings):
                yield path, None
                continue
            shared = shared or sample_from_all(list(players.values()), states, seed)
            robustness = measure_robustness(trained, states, draws, seed, episodes=episodes, shared=shared)
            robustness.write(path)
            yield path, robustness


def analyse_study(
    folder: Path, observations: int, draws: int, seed: int, device: str
) -> Iterator[tuple[Path, FeatureAnalysis | None]]:
    """
    Analyse the features of all runs of each environment on the same observations, with pictures of one run of each
    method. Write the files to ``features/<environment>`` in the study's folder.

    :return: each environment's folder, and its analysis, None if its files have it already
    """
    for runs in _runs_by_environment(folder):
        trained = [_open(folder, run, device) for run in runs]
        output = folder / FEATURES_FOLDER / runs[0].env_id.replace("/", "-")
        if is_measured(output / "features.json", feature_settings(trained, observations, draws, seed)):
            yield output, None
            continue
        shown = _one_per_method(runs)
        pictured = [one for one, run in zip(trained, runs, strict=True) if run in shown]
        analysis = analyse_features(trained, observations, draws, seed, pictured=pictured)
        analysis.write(output)
        yield output, analysis


def _runs_by_environment(folder: Path) -> list[list[RunFiles]]:
    by_environment: dict[str, list[RunFiles]] = {}
    for run in read_report_data(folder).runs:
        by_environment.setdefault(run.env_id, []).append(run)
    return list(by_environment.values())


def _one_per_method(runs: list[RunFiles]) -> list[RunFiles]:
    """The run of the first seed."""
    first: dict[str, RunFiles] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        first.setdefault(run.method, run)
    return list(first.values())


def _open(folder: Path, run: RunFiles, device: str) -> TrainedModel:
    return open_trained(run.folder or folder / run.name, device=device)
