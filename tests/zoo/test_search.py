"""Search for hyperparameters by several processes of the zoo on one storage."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna

from tests.support.commands import run

FINISHED = re.compile(r"Trial (\d+) finished")


def search(folder: Path, storage: str, seed: int) -> str:
    command = [
        *("rl_zoo3", "train", "--algo", "mdpo", "--env", "CartPole-v1", "-n", "400", "-params", "n_envs:2"),
        *("-optimize", "--storage", storage, "--study-name", "search", "--sampler", "random", "--pruner", "none"),
        *("--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots", "--num-threads", "1"),
        *("--n-trials", "2", "--seed", str(seed), "-f", str(folder / f"logs_{seed}")),
    ]
    result = run(command, folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_two_processes_divide_the_trials_of_a_search(tmp_path):
    journal = str(tmp_path / "search" / "journal.log")
    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(lambda seed: search(tmp_path, journal, seed), (0, 1)))
    done = [{int(number) for number in FINISHED.findall(output)} for output in outputs]
    assert [len(numbers) for numbers in done] == [2, 2]
    assert done[0] | done[1] == set(range(4))  # each trial in one of them, none lost

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(journal))
    trials = optuna.load_study(study_name="search", storage=storage).trials
    assert [trial.number for trial in trials] == list(range(4))
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}
    assert len({trial.params["learning_rate"] for trial in trials}) == 4  # other seeds, other trials
    assert all("distill_coef" in trial.params for trial in trials)
    assert len(list(tmp_path.glob("logs_*/mdpo/report_*.csv"))) == 2
