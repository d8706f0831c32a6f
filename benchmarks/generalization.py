"""Returns on training and on unseen levels of MDPO and its controls: runs studies and writes what they show.

python benchmarks/generalization.py                       # the textured grid, an hour on two cores
python benchmarks/generalization.py distill_coef          # another study of benchmarks/studies
python benchmarks/generalization.py --complete jumper_easy      # what the complete runs of an unfinished study show
python benchmarks/generalization.py --redraw textured_grid distill_coef starpilot_easy

Interrupted, it continues with the runs that are missing. For each study: its table of evaluations (CSV), a summary
(Markdown), the report (HTML) and its figures. With --redraw nothing is run: report and figures are drawn anew from the
table that is committed.
"""

import math
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
from sb3_mdpo.lab.statistics.differences import method_differences
from sb3_mdpo.lab.statistics.intervals import interval_text
from sb3_mdpo.lab.statistics.results import TASK, task_name
from sb3_mdpo.lab.statistics.scores import MEMBERS, common_seeds, final_scores, score_matrices, task_table
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
    parser.add_argument("--complete", action="store_true", help="train nothing: write what the complete runs show")
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
        if not args.complete and run_study(read_study(file), file, Path("studies") / name, jobs=args.jobs):
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
    for old in {*(folder / name).glob("*.p*")} - {*write_figures(data, folder / name)}:
        old.unlink()  # of a chart that has nothing to show any more


def summary(results: pd.DataFrame, method: str = "mdpo") -> str:
    """Returns after training, task by task, and how far a method is from each of the others."""
    scores = final_scores(results)
    members = scores[scores["policies"] == MEMBERS]
    parts = [
        f"Return after training, mean +/- standard deviation over {seeds(members)}, each the mean of "
        "its policies, and 95 % interval of the mean (Student's). *Within runs* is the standard deviation between the "
        "policies of a run, *episodes* the standard error over the episodes of one policy in the last evaluation, both "
        f"on unseen levels.\n\n{returns(results, scores)}"
    ]
    members = common_seeds(members)  # all, unless the study is unfinished
    differences = method_differences(members, method)
    for task, one in members.groupby(TASK, sort=False):
        if one["method"].nunique() < 2:
            continue
        of_task = differences[(differences[TASK] == task).all(axis=1)]
        improvement = probability_of_improvement(score_matrices(one, "unseen_return"), method)
        parts.append(
            f"{task_name(*task)}: {method} minus another method, paired by seed, with 95 % interval (Student's), and "
            "the probability that a run has a higher return on unseen levels than a run of the other, with 95 % "
            f"interval (Wilson's):\n\n{comparison(of_task, improvement)}"
        )
    return "\n\n".join(parts)


def seeds(members: pd.DataFrame) -> str:
    """Their number, of an unfinished study for each method."""
    counts = members.groupby("method", sort=False)["seed"].nunique()
    if counts.nunique() == 1:
        return "1 seed" if counts.iloc[0] == 1 else f"{counts.iloc[0]} seeds"
    return "the seeds that are complete (" + ", ".join(f"{name} {count}" for name, count in counts.items()) + ")"


def returns(results: pd.DataFrame, scores: pd.DataFrame) -> str:
    """A row per task and method."""
    header = ["levels", "method", "steps in all", "training levels", "unseen levels", "interval", "within runs"]
    header += ["episodes", "gap", "ensemble, unseen", "KL"]
    tasks = task_table(scores).set_index([*TASK, "method", "policies"])
    steps = results.groupby([*TASK, "method"])["timesteps"].max()
    rows = []
    for key, row in tasks.xs(MEMBERS, level="policies").iterrows():
        together = tasks["unseen_return"].get((*key, "ensemble"), math.nan)
        rows.append(
            [
                task_name(*key[:3]),
                key[3],
                f"{steps[key]:,}",
                *(spread(row[f"{levels}_return"], row[f"{levels}_return_std"]) for levels in ("training", "unseen")),
                interval(row["unseen_return_low"], row["unseen_return_high"]),
                *map(number, row[["unseen_return_members_std", "unseen_stderr", "gap"]]),
                *map(number, [together, row["kl"]]),
            ]
        )
    return table(header, rows)


def spread(mean: float, deviation: float) -> str:
    """Mean and standard deviation, which one seed has not."""
    return number(mean) if math.isnan(deviation) else f"{number(mean)} +/- {number(deviation)}"


def number(value: float) -> str:
    """Two digits after the point, nothing for NaN."""
    return "" if math.isnan(value) else f"{round(value, 2) + 0.0:,.2f}"  # -0.0 + 0.0 is 0.0


def interval(low: float, high: float) -> str:
    """Its ends, nothing for NaN."""
    return "" if math.isnan(low) else f"{number(low)} to {number(high)}"


def comparison(differences: pd.DataFrame, improvement: pd.DataFrame) -> str:
    """A row per other method of one task."""
    titles = {"unseen_return": "unseen levels", "training_return": "training levels", "gap": "gap"}
    cells = {}
    for row in differences.itertuples():
        ends = interval(row.low, row.high)
        difference = f"{round(row.difference, 2) + 0.0:+.2f}"
        cells[row.other, row.measure] = f"{difference} ({ends})" if ends else difference
    rows = [
        [
            row.other,
            *(cells[row.other, measure] for measure in titles),
            f"{row.probability:.2f} ({interval_text(row.low, row.high, row.n_seeds)})",
        ]
        for row in improvement.itertuples()
    ]
    return table(["minus", *titles.values(), "probability"], rows)


if __name__ == "__main__":
    main()
