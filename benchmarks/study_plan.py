"""How good the forecast of ``sb3-mdpo study plan --probe`` is: forecast, then run, then compare.

python benchmarks/study_plan.py

Steps, images and evaluations must be equal, and are checked. Time and disk are forecast from a few rollouts.
"""

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from report import argument_parser, table, write

from sb3_mdpo.lab.generalization.table import TABLE, read_table
from sb3_mdpo.lab.study.config import read_study
from sb3_mdpo.lab.study.folder import StudyFolder
from sb3_mdpo.lab.study.plan import from_probe, make_plan
from sb3_mdpo.lab.study.plan_text import amount, duration
from sb3_mdpo.lab.study.study import run_study


def size(folder: Path) -> int:
    """:return: bytes of all files in a folder"""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=Path("examples/study_small.yml"), help="study file")
    parser.add_argument("--rollouts", type=int, default=5, help="of each probe (default: 5)")
    parser.add_argument("--timesteps", type=int, help="of mdpo in each run (default: the file's)")
    args = parser.parse_args()

    study = read_study(args.file)
    study = replace(study, timesteps=args.timesteps or study.timesteps)
    plan = make_plan(study, from_probe, args.rollouts, 1)
    rows, measured = [], []
    with TemporaryDirectory() as scratch:
        folder = StudyFolder(Path(scratch) / "study")
        start = time.perf_counter()
        assert run_study(study, args.file, folder.path) == 0
        wall = time.perf_counter() - start
        for group in plan.groups:
            tables = [read_table(folder.complete(run) / TABLE) for run in group.runs]
            for evaluations in tables:
                last = evaluations[-1]
                assert (last["timesteps"], last["trained_images"]) == (
                    group.costs.timesteps,
                    group.costs.trained_images,
                )
                assert len({row["timesteps"] for row in evaluations}) == group.costs.evaluations
            assert group.seconds is not None
            # The table's time is of the training alone
            forecast = group.seconds - group.needs.start_seconds
            seconds = float(np.mean([evaluations[-1]["seconds"] for evaluations in tables]))
            disk = float(np.mean([size(folder.complete(run)) for run in group.runs]))
            rows.append(
                [group.runs[0].method, *_compared(forecast, seconds, duration), *_compared(group.disk, disk, amount)]
            )
            measured.append(
                {"method": group.runs[0].method, "seconds": [forecast, seconds], "disk": [group.disk, disk]}
            )
    total = plan.wall_seconds(1)
    assert total is not None
    rows.append(["the study", *_compared(total, wall, duration), "", "", ""])
    header = ["", "time, forecast", "run", "error", "bytes, forecast", "run", "error"]
    title = f"`{args.file.name}`, forecast from {args.rollouts} rollouts; steps, images and evaluations are equal"
    write("study_plan", f"{title}:\n\n{table(header, rows)}", [*measured, {"wall": [total, wall]}], args.folder)


def _compared(forecast, real, show):
    return show(forecast), show(real), f"{100 * (forecast / real - 1):+.0f} %"


if __name__ == "__main__":
    main()
