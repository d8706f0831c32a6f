"""``sb3-mdpo study``. Heavy modules are imported when it runs."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sb3_mdpo.utils.optional_dependencies import need
from sb3_mdpo.utils.outputs import check_output_folder

if TYPE_CHECKING:
    from sb3_mdpo.lab.study.runner import Engine


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sb3-mdpo study``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(action: str, description: str) -> argparse.ArgumentParser:
        return actions.add_parser(action, help=description[0].lower() + description[1:-1], description=description)

    run = add("run", "Train the missing runs of a study.")
    status = add("status", "Show the progress of a study.")
    plan = add("plan", "Show what a study will take.")
    schema = add("schema", "Print the JSON schema of study files.")
    for action in (run, status):
        action.add_argument("file", metavar="FILE", type=Path, help="study file, e.g. examples/study_small.yml")
        action.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="default: studies/<name of the study>")
        action.add_argument("--jobs", type=_positive, help="runs at the same time (default: the file's)")
    run.add_argument(
        "--only",
        metavar="I/N",
        type=_part,
        help="train every N-th run from the I-th on, e.g. 1/4: N commands share the study (default: all runs)",
    )
    run.add_argument("--threads", type=_positive, help="PyTorch's threads in each run (default: the file's)")
    run.add_argument("--device", help="PyTorch device (default: the file's)")
    run.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="where runs are executed (default: local)"
    )
    run.add_argument("--address", help="address of the Ray cluster: host:port or auto (default: this machine)")
    run.add_argument("--storage", metavar="URL", help="where Ray keeps unfinished runs (default: the study's folder)")
    plan.add_argument("file", metavar="FILE", type=Path, help="study file, e.g. examples/paper_matrix.yml")
    throughput = plan.add_mutually_exclusive_group()
    throughput.add_argument(
        "--steps-per-second",
        metavar="[METHOD=]X",
        type=_rate,
        nargs="+",
        help="stated throughput: environment steps per second, evaluations included",
    )
    throughput.add_argument("--measured", metavar="FOLDER", type=Path, help="throughput and disk of an earlier study")
    plan.add_argument("--machines", type=_positive, default=1, help="number of machines like this (default: 1)")
    plan.add_argument("--jobs", type=_positive, help="runs at the same time on each (default: the file's)")
    plan.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_study)
    for action, function in ((run, _run), (status, _status), (plan, _plan), (schema, _schema)):
        action.set_defaults(function=function)


def _study(args: argparse.Namespace) -> None:
    need("lab", pydantic="pydantic")
    args.function(args)


def _rate(text: str) -> tuple[str, float]:
    method, _, number = text.rpartition("=")
    try:
        rate = float(number)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a throughput: write 1500 or mdpo=1500")
    return method, rate


def _positive(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


def _part(text: str) -> tuple[int, int]:
    numbers = text.split("/")
    if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
        part, parts = map(int, numbers)
        if 1 <= part <= parts:
            return part, parts
    raise argparse.ArgumentTypeError(f"{text!r} is not a part: write 1/4 for the first of four, up to 4/4")


def _engine(args: argparse.Namespace) -> "Engine":
    given = {key: getattr(args, key) for key in ("address", "storage") if getattr(args, key) is not None}
    if args.engine == "ray":
        if args.jobs is not None:
            raise ValueError("--jobs is for this machine: Ray starts as many runs as there are resources for.")
        need("distributed", ray="ray", fsspec="fsspec")
        from sb3_mdpo.lab.study.ray_engine import on_ray

        return partial(on_ray, **given)
    if given:
        raise ValueError(f"--{' and --'.join(given)}: only for Ray, add --engine ray.")
    from sb3_mdpo.lab.study.runner import run_all

    return run_all


def _run(args: argparse.Namespace) -> None:
    engine = _engine(args)
    if args.output is not None:
        check_output_folder(args.output)
    from sb3_mdpo.lab.study.config import read_study
    from sb3_mdpo.lab.study.study import run_study

    options = {"jobs": args.jobs, "threads": args.threads, "device": args.device, "only": args.only}
    try:
        n_failed = run_study(read_study(args.file), args.file, args.output, engine=engine, **options)
    except KeyboardInterrupt:
        print("Interrupted. Complete runs are kept: the same command continues.", file=sys.stderr)
        sys.exit(130)
    if n_failed:
        sys.exit(1)


def _status(args: argparse.Namespace) -> None:
    from sb3_mdpo.lab.study.config import read_study
    from sb3_mdpo.lab.study.study import study_status

    print(study_status(read_study(args.file), args.output, args.jobs))


def _plan(args: argparse.Namespace) -> None:
    from sb3_mdpo.lab.study.config import read_study
    from sb3_mdpo.lab.study.plan import make_plan, measured, plan_json, plan_table

    study = read_study(args.file)
    study = study.model_copy(update={"jobs": args.jobs or study.jobs})
    rates, sizes = measured(args.measured, study) if args.measured else (dict(args.steps_per_second or ()), {})
    plan = make_plan(study, args.machines, rates, sizes)
    print(plan_json(plan) if args.json else plan_table(plan))


def _schema(_: argparse.Namespace) -> None:
    import json

    from sb3_mdpo.lab.study.config import Study

    print(json.dumps(Study.model_json_schema(), indent=1))
