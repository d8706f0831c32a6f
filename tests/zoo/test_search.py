"""Search for hyperparameters by several processes of the zoo on one storage."""

import re
import subprocess
import sys
from pathlib import Path

import optuna

RL_ZOO3 = str(Path(sys.executable).parent / "rl_zoo3")
FINISHED = re.compile(r"Trial (\d+) finished")


def search(folder: Path, storage: str, seed: int, *options: str) -> subprocess.Popen:
    command = [
        *(RL_ZOO3, "train", "--algo", "mdpo", "--env", "CartPole-v1", "-n", "400", "-params", "n_envs:2"),
        *("-optimize", "--storage", storage, "--study-name", "search", "--sampler", "random", "--pruner", "none"),
        *("--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots", "--num-threads", "1"),
        *("--seed", str(seed), "-f", str(folder / f"logs_{seed}"), *options),
    ]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_processes_divide_the_trials_of_a_search(tmp_path):
    journal = str(tmp_path / "search" / "journal.log")
    processes = [search(tmp_path, journal, seed, "--n-trials", "3") for seed in (0, 1)]
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    done = [{int(number) for number in FINISHED.findall(output)} for output in outputs]
    assert [len(numbers) for numbers in done] == [3, 3]
    assert done[0] | done[1] == set(range(6))  # each trial in one of them, none lost

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(journal))
    trials = optuna.load_study(study_name="search", storage=storage).trials
    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}
    assert len({trial.params["learning_rate"] for trial in trials}) == 6  # other seeds, other trials
    assert all("distill_coef" in trial.params for trial in trials)
    reports = list(tmp_path.glob("logs_*/mdpo/report_*.csv"))
    assert len(reports) == 2


def test_a_database_knows_when_there_are_enough_trials(tmp_path):
    """The second process comes later, to a study that the first one has made."""
    database = f"sqlite:///{tmp_path / 'search.db'}"
    for seed, expected in ((0, 2), (1, 2)):
        process = search(tmp_path, database, seed, "--max-total-trials", "2")
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        study = optuna.load_study(study_name="search", storage=database)
        assert len(study.trials) == expected
