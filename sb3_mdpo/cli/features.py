"""``sb3-mdpo features``. Heavy modules are imported when it runs."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sb3_mdpo.cli.robustness import add_models, check_options_of_study, is_study
from sb3_mdpo.utils.optional_dependencies import need
from sb3_mdpo.utils.outputs import check_output_folder
from sb3_mdpo.utils.terminal import note_code

if TYPE_CHECKING:
    from sb3_mdpo.lab.representation.results import FeatureAnalysis


def add_features(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sb3-mdpo features``."""
    add_models(parser)
    parser.add_argument(
        "--observations", metavar="N", type=int, default=512, help="number of observations (default: 512)"
    )
    parser.add_argument("--draws", metavar="N", type=int, default=8, help="random convolutions of each (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="folder to write to (default: the run's)")
    parser.set_defaults(run=_features)


def _features(args: argparse.Namespace) -> None:
    if any(map(is_study, args.paths)):
        _study_features(args)
        return
    if len(args.paths) > 1 and args.output is None:
        raise ValueError(
            f"{len(args.paths)} models are compared in one analysis, which belongs to none of their folders: pass a "
            "folder to write to (-o), or analyse them one at a time."
        )
    folder = output_folder(args.paths[0], args.output)
    _need_packages()
    from sb3_mdpo.lab.generalization.trained import open_trained
    from sb3_mdpo.lab.representation.analysis import analyse_features

    note_code(*args.paths)
    trained = [open_trained(path, args.env, args.load_best, args.device) for path in args.paths]
    analysis = analyse_features(trained, args.observations, args.draws, args.seed)
    print(tables(analysis))
    for file in analysis.write(folder):
        print(file)


def _need_packages(**more: str) -> None:
    need("lab", sklearn="scikit-learn", captum="captum", matplotlib="matplotlib", pandas="pandas", **more)


def _study_features(args: argparse.Namespace) -> None:
    if len(args.paths) > 1:
        raise ValueError("A study's runs are analysed together: give the study's folder alone, or only run folders.")
    (folder,) = args.paths
    check_options_of_study(folder, args)
    check_output_folder(folder)
    _need_packages(rliable="rliable")
    from sb3_mdpo.lab.study_analyses import analyse_study

    note_code(folder)
    for output, analysis in analyse_study(folder, args.observations, args.draws, args.seed, args.device):
        print(f"Unchanged: {output}" if analysis is None else f"{tables(analysis)}\nWritten: {output}")


def output_folder(first: Path, output: Path | None) -> Path:
    """The folder to write to: ``output``, or that of the first run or file."""
    folder = output or (first.parent if first.is_file() else first)
    check_output_folder(folder)
    return folder


def tables(analysis: "FeatureAnalysis") -> str:
    """Measures of each policy, and CKA between all of them if there are several, as text."""
    import pandas as pd

    rows = pd.DataFrame([asdict(row) for row in analysis.policies]).drop(columns="model")
    policies = rows.set_index("policy").rename_axis(None)
    parts = [policies.to_string(float_format="%.3f")]
    if analysis.cka:
        matrix = pd.DataFrame("", policies.index, policies.index)
        for row in analysis.cka:
            matrix.loc[row.a, row.b] = matrix.loc[row.b, row.a] = f"{row.cka:.3f}"
        parts.append(f"Linear CKA\n{matrix.to_string()}")
    return "\n\n".join(parts)
