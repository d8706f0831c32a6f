"""``sb3-mdpo study``: run what is missing of a study, and tell how far it is."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path

from tqdm import tqdm

from sb3_mdpo.lab.study.config import Study
from sb3_mdpo.lab.study.folder import LOG, StudyFolder
from sb3_mdpo.lab.study.runner import Engine, run_all, tail
from sb3_mdpo.lab.study.runs import plan_runs
from sb3_mdpo.lab.study.status import progress_of, remaining_seconds, table
from sb3_mdpo.lab.study.table import write_results
from sb3_mdpo.utils.atomic import replacing

COPY = "study.yml"


def folder_of(study: Study, output: Path | None) -> StudyFolder:
    """
    :param study: the study
    :param output: its folder, None for the default
    :return: its folder
    """
    return StudyFolder(output or Path("studies") / study.name)


def run_study(
    study: Study,
    file: Path,
    output: Path | None = None,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    engine: Engine = run_all,
) -> int:
    """
    Train the runs of a study that are not complete, those that failed before included, and collect all evaluations
    in ``results.csv``, which is there from the first complete run on.

    :param study: the study
    :param file: its file, of which the folder gets a copy
    :param output: its folder, ``studies/<name>`` by default
    :param jobs: runs at the same time, instead of the study's number
    :param threads: PyTorch's threads in each, instead of the study's number
    :param device: PyTorch device, instead of the study's
    :param engine: what executes the runs: this machine by default, or
        :func:`~sb3_mdpo.lab.study.ray_engine.on_ray`
    :return: how many runs failed
    :raises ValueError: if a complete run was trained with other settings than the study has now
    :raises OSError: if somebody runs the study already
    """
    folder = folder_of(study, output)
    runs = plan_runs(study)
    folder.check(runs)
    with folder.lock():
        with replacing(folder.path / COPY) as copy:
            copy.write(file.read_bytes())
        missing = [run for run in runs if not folder.complete(run).is_dir()]
        n_failed = 0
        bar = tqdm(total=len(runs), initial=len(runs) - len(missing), desc=study.name, unit="run")
        given = {"jobs": jobs, "threads": threads, "device": device}
        changes = {key: value for key, value in given.items() if value is not None}
        outcomes = engine(study.model_copy(update=changes), missing, folder)
        with bar, closing(outcomes):
            for run, outcome in outcomes:
                if outcome == "done":
                    write_results(folder, runs)
                    bar.update()
                else:
                    n_failed += 1
                    # What a signal has ended is not wrong: the next start goes on with it
                    log = (folder.failed(run) if outcome == "failed" else folder.unfinished(run)) / LOG
                    ended = "failed" if outcome == "failed" else "was killed"
                    bar.write(f"{run.name} {ended}, the end of {log}:\n{tail(log)}\n")
        n_done = len(runs) - n_failed
        results = f", evaluations are in {write_results(folder, runs)}" if n_done else ""
    print(f"{n_done} of {len(runs)} runs are complete{results}.")
    return n_failed


def study_status(study: Study, output: Path | None = None, jobs: int | None = None) -> str:
    """
    :param study: the study
    :param output: its folder, ``studies/<name>`` by default
    :param jobs: runs at the same time that the remaining time is estimated for, instead of the study's number
    :return: for people: what is complete, under way, failed and missing, and about how long the rest takes
    """
    folder = folder_of(study, output)
    progress = progress_of(folder, plan_runs(study))
    lines = [table(progress)]
    lines += [f"failed: {folder.failed(one.run) / LOG}" for one in progress if one.state == "failed"]
    if any(one.missing_timesteps for one in progress):
        seconds = remaining_seconds(progress, jobs or study.jobs)
        lines.append(
            "remaining: not known yet" if seconds is None else f"remaining: about {timedelta(seconds=round(seconds))}"
        )
    return "\n".join(lines)
