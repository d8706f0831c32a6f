"""Returns on training and on unseen levels of MDPO and its controls: runs studies and writes what they show.

python benchmarks/generalization.py                       # the textured grid, an hour on two cores
python benchmarks/generalization.py distill_coef          # another study of benchmarks/studies
python benchmarks/generalization.py --redraw textured_grid distill_coef starpilot_easy

Interrupted, it goes on with the runs that are missing. For each study: its table of evaluations (CSV), a summary
(Markdown), the report (HTML) and its figures. With --redraw nothing is run: report and figures are drawn anew from the
table that is committed.
"""

import shutil
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from report import argument_parser, circumstances, commit, receipt, table

from sb3_mdpo.lab.report.data import ReportData, read_report_data
from sb3_mdpo.lab.report.figures import write_figures
from sb3_mdpo.lab.report.page import make_page
from sb3_mdpo.lab.statistics.aggregates import probability_of_improvement
from sb3_mdpo.lab.statistics.results import TASK, task_name
from sb3_mdpo.lab.statistics.scores import MEMBERS, final_scores, score_matrices, task_table
from sb3_mdpo.lab.study.config import read_study
from sb3_mdpo.lab.study.folder import RESULTS
from sb3_mdpo.lab.study.study import run_study
from sb3_mdpo.utils.atomic import replacing

STUDIES = Path(__file__).parent / "studies"


def main() -> None:
    parser = argument_parser(__doc__)
    known = sorted(file.stem for file in STUDIES.glob("*.yml"))
    parser.add_argument("studies", nargs="*", default=["textured_grid"], metavar="STUDY", help=", ".join(known))
    parser.add_argument("--jobs", type=int, help="runs at the same time (default: the study's)")
    parser.add_argument("--redraw", action="store_true", help="only report and figures, from the committed table")
    args = parser.parse_args()
    if unknown := set(args.studies) - set(known):
        parser.error(f"there is no study {', '.join(sorted(unknown))} in {STUDIES.name}: use {', '.join(known)}")
    for name in args.studies:
        if args.redraw:
            with TemporaryDirectory() as study:
                shutil.copy(args.folder / f"{name}.csv", Path(study) / RESULTS)
                write_report(name, read_report_data(Path(study)), args.folder)
            continue
        file = STUDIES / f"{name}.yml"
        if run_study(read_study(file), file, Path("studies") / name, jobs=args.jobs):
            parser.exit(1, "Not all runs are complete: nothing is written.\n")
        write_results(name, Path("studies") / name, args.folder)


def write_results(name: str, study: Path, folder: Path) -> None:
    """Everything that is committed of a study."""
    data = read_report_data(study)
    files = {
        f"{name}.csv": (study / "results.csv").read_text(),
        f"{name}.md": f"{summary(data.results)}\n\n{receipt(circumstances())} Raw numbers: `{name}.csv`.\n",
    }
    for file_name, text in files.items():
        with replacing(folder / file_name) as file:
            file.write(text.encode())
    write_report(name, data, folder)
    print(files[f"{name}.md"])


def write_report(name: str, data: ReportData, folder: Path) -> None:
    """The page and the figures."""
    made = f"{version('sb3-mdpo')}, commit {commit()}, {date.today().isoformat()}"
    with replacing(folder / f"{name}.html") as file:
        file.write(make_page(data, progress=True).html(made).encode())
    write_figures(data, folder / name)


def summary(results: pd.DataFrame) -> str:
    """Returns after training, task by task, and how probably mdpo is better than each other method."""
    scores = final_scores(results)
    members = scores[scores["policies"] == MEMBERS]
    header = ["levels", "method", "steps in all", "training levels", "unseen levels", "gap", "ensemble, unseen", "KL"]
    tasks = task_table(scores).set_index([*TASK, "method", "policies"])
    steps = results.groupby([*TASK, "method"])["timesteps"].max()
    rows = []
    for key, row in tasks.xs(MEMBERS, level="policies").iterrows():
        together = tasks["unseen_return"].get((*key, "ensemble"))
        rows.append(
            [
                task_name(*key[:3]),
                key[3],
                f"{steps[key]:,}",
                f"{row['training_return']:.2f} +/- {row['training_return_std']:.2f}",
                f"{row['unseen_return']:.2f} +/- {row['unseen_return_std']:.2f}",
                f"{row['gap']:.2f}",
                "" if together is None else f"{together:.2f}",
                "" if pd.isna(row["kl"]) else f"{row['kl']:.2f}",
            ]
        )
    parts = [
        f"Return after training, mean +/- standard deviation over {members['seed'].nunique()} seeds, each the mean of "
        f"its policies.\n\n{table(header, rows)}"
    ]
    for task, one in members.groupby(TASK, sort=False):
        better = probability_of_improvement(score_matrices(one, "unseen_return"), "mdpo")
        lines = [[row.other, f"{row.probability:.2f} ({row.low:.2f} to {row.high:.2f})"] for row in better.itertuples()]
        parts.append(
            f"Probability that a run of mdpo has a higher return on unseen levels, {task_name(*task)}, with 95 % "
            f"bootstrap interval:\n\n{table(['than one of', 'probability'], lines)}"
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
