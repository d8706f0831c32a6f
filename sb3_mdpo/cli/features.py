"""Arguments and tables of ``sb3-mdpo features``. What it needs is imported when it runs."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sb3_mdpo.utils.optional_dependencies import need

if TYPE_CHECKING:
    from sb3_mdpo.lab.representation.results import FeatureAnalysis


def add_features(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: the parser of ``sb3-mdpo features``
    """
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        type=Path,
        help="run folder, e.g. logs/mdpo/procgen-coinrun-easy-v0_1, or file",
    )
    parser.add_argument("--env", metavar="ID", help="environment of files, which do not tell")
    parser.add_argument("--observations", metavar="N", type=int, default=512, help="how many (default: 512)")
    parser.add_argument("--draws", metavar="N", type=int, default=8, help="random convolutions of each (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument(
        "--load-best", action="store_true", help="take best_model.zip of runs instead of the last model"
    )
    parser.add_argument("--device", default="auto", help="PyTorch device (default: auto)")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", type=Path, help="where to write (default: the run's folder)"
    )
    parser.set_defaults(run=_features)


def _features(args: argparse.Namespace) -> None:
    need("lab", sklearn="scikit-learn", captum="captum", matplotlib="matplotlib", pandas="pandas")
    from sb3_mdpo.lab.generalization.trained import open_trained
    from sb3_mdpo.lab.representation.analysis import analyse_features

    if len(args.paths) > 1 and args.output is None:
        raise ValueError(
            f"{len(args.paths)} models are compared with each other in one analysis, which is no single run's: say "
            "where to write it (-o), or analyse them one by one."
        )
    folder = output_folder(args.paths[0], args.output)
    trained = [open_trained(path, args.env, args.load_best, args.device) for path in args.paths]
    analysis = analyse_features(trained, args.observations, args.draws, args.seed)
    print(tables(analysis))
    for file in analysis.write(folder):
        print(file)


def output_folder(first: Path, output: Path | None) -> Path:
    """
    :param first: the first run or file that is analysed
    :param output: what was asked for
    :return: that, by default the run's folder or the one that the file is in
    :raises ValueError: where there is something else than a folder
    """
    folder = output or (first.parent if first.is_file() else first)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder: give one with -o.")
    return folder


def tables(analysis: "FeatureAnalysis") -> str:
    """
    :param analysis: an analysis
    :return: its numbers as text: a row per policy, and CKA between all of them where there are several
    """
    import pandas as pd

    policies = pd.DataFrame([asdict(row) for row in analysis.policies]).set_index("policy").rename_axis(None)
    parts = [policies.to_string(float_format="%.3f")]
    if analysis.cka:
        matrix = pd.DataFrame("", policies.index, policies.index)
        for row in analysis.cka:
            matrix.loc[row.a, row.b] = matrix.loc[row.b, row.a] = f"{row.cka:.3f}"
        parts.append(f"Linear CKA\n{matrix.to_string()}")
    return "\n\n".join(parts)
