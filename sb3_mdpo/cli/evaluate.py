"""``sb3-mdpo evaluate``. Heavy modules are imported when it runs."""

import argparse
from contextlib import redirect_stdout
from pathlib import Path

from sb3_mdpo.utils.outputs import check_output_file
from sb3_mdpo.utils.terminal import add_code_note, note_code


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sb3-mdpo evaluate``."""
    parser.add_argument("path", metavar="PATH", type=Path, help="run folder of the zoo, or a model that save() wrote")
    parser.add_argument("--env", metavar="ID", help="environment of a saved model; not needed for a run")
    parser.add_argument("--levels", type=int, help="number of training levels (default: the run's)")
    parser.add_argument("--start-level", type=int, help="first training level (default: the run's, or 0)")
    parser.add_argument("--episodes", type=int, help="per policy and set of levels (default: 128)")
    parser.add_argument("--n-envs", type=int, help="environments to evaluate in (default: 32, or one per episode)")
    parser.add_argument(
        "--seed",
        type=int,
        help="seed of environments and actions (default: 0, or 1 if --load-best chose the model with 0)",
    )
    parser.add_argument("--deterministic", action="store_true", help="take the most probable actions")
    parser.add_argument(
        "--protocol",
        choices=["fixed", "authors"],
        default="fixed",
        help="authors: the first 10 episodes to finish in 4 environments with seed 42, as in the paper's code",
    )
    parser.add_argument("--load-best", action="store_true", help="evaluate a run's best_model.zip")
    parser.add_argument("--device", default="auto", help="PyTorch device (default: auto)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the results, as .csv or .json")
    add_code_note(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> None:
    if args.output is not None:
        check_output_file(args.output, ".csv", ".json")
    from sb3_mdpo.lab.generalization.evaluation import evaluate_generalization
    from sb3_mdpo.lab.generalization.trained import evaluation_seed, open_trained

    note_code(args.path)
    trained = open_trained(args.path, args.env, args.load_best, args.device)
    levels = trained.env_kwargs.get("num_levels") if args.levels is None else args.levels
    if levels is None:
        raise ValueError(
            f"{args.path} does not store how many levels it was trained on: pass their number (--levels), and the "
            "first one (--start-level) if it is not 0."
        )
    if levels == 0 and args.levels is None:
        raise ValueError(
            f"{args.path} was trained on all levels, so none are unseen. To evaluate it on some of them, pass their "
            "number (--levels)."
        )
    start = trained.env_kwargs.get("start_level", 0) if args.start_level is None else args.start_level
    selection = trained.selection_seed
    if args.protocol == "authors" and args.seed == selection:
        selection = None  # its levels are others
    seed = evaluation_seed(args.path, selection, args.seed)
    with redirect_stdout(None):  # the zoo prints what it loads for every environment
        result = evaluate_generalization(
            trained.model,
            trained.env_id,
            levels,
            args.episodes,
            seed,
            args.deterministic,
            start,
            args.n_envs,
            make_env=trained.make_env,
            progress_bar=True,
            protocol=args.protocol,
        )
    print(result.to_text())
    if args.output is not None:
        result.write(args.output, args.path)
