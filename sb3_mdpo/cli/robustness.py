"""``sb3-mdpo robustness``. Heavy modules are imported when it runs."""

import argparse
from pathlib import Path

from sb3_mdpo.utils.optional_dependencies import need
from sb3_mdpo.utils.outputs import check_output_file
from sb3_mdpo.utils.terminal import add_code_note, note_code


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which models are measured, and where."""
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        type=Path,
        help="run folder of rl_zoo3 train, saved model, or a study's folder",
    )
    parser.add_argument("--env", metavar="ID", help="environment of saved models, e.g. procgen-coinrun-easy-v0")
    parser.add_argument("--load-best", action="store_true", help="use a run's best_model.zip instead of its last model")
    parser.add_argument("--device", default="auto", help="PyTorch device (default: auto)")
    add_code_note(parser)


def add_robustness(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sb3-mdpo robustness``."""
    add_models(parser)
    parser.add_argument(
        "--states",
        type=int,
        default=256,
        help="states per policy: of its own play, or in a study the same for all (default: 256)",
    )
    parser.add_argument(
        "--draws", type=int, default=32, help="random convolutions, and other backgrounds per state (default: 32)"
    )
    parser.add_argument(
        "--episodes", type=int, default=0, help="play this many under each perturbation, for the return (default: 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of levels, actions and perturbations (default: 0)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="default: robustness.json in or beside each PATH"
    )
    parser.set_defaults(run=_robustness)


def _robustness(args: argparse.Namespace) -> None:
    outputs = [args.output or (path if path.is_dir() else path.parent) / "robustness.json" for path in args.paths]
    if len({output.resolve() for output in outputs}) < len(outputs):
        raise ValueError(
            f"Several models would be written to {outputs[0]}: measure them one at a time, each with its own -o."
        )
    for output in outputs:
        check_output_file(output, ".json")
    for path in filter(is_study, args.paths):
        check_options_of_study(path, args)
    need("lab", scipy="scipy")
    from sb3_mdpo.lab.generalization.trained import open_trained
    from sb3_mdpo.lab.robustness.measure import measure_robustness

    note_code(*args.paths)
    numbers = (args.states, args.draws, args.seed)
    for path, output in zip(args.paths, outputs, strict=True):
        if is_study(path):
            _study_robustness(path, args)
            continue
        trained = open_trained(path, args.env, args.load_best, args.device)
        robustness = measure_robustness(trained, *numbers, episodes=args.episodes)
        robustness.write(output)
        print(robustness.to_text())
        print(f"Written: {output}")


def _study_robustness(folder: Path, args: argparse.Namespace) -> None:
    need("lab", pandas="pandas", rliable="rliable", sklearn="scikit-learn", captum="captum", matplotlib="matplotlib")
    from sb3_mdpo.lab.study_analyses import measure_study

    for file, measured in measure_study(folder, args.states, args.draws, args.seed, args.episodes, args.device):
        print(f"Unchanged: {file}" if measured is None else f"{measured.to_text()}\nWritten: {file}")


def is_study(path: Path) -> bool:
    """Whether it is the folder of a study with complete runs."""
    return (path / "results.csv").is_file()


def check_options_of_study(folder: Path, args: argparse.Namespace) -> None:
    """Raise ValueError for options that are for single models."""
    given = [option for option in ("env", "load_best", "output") if getattr(args, option)]
    if given:
        raise ValueError(
            f"{folder} is a study, whose runs are analysed at the end of their training, each in its own environment "
            f"and folder: leave out --{given[0].replace('_', '-')}, or give run folders."
        )
