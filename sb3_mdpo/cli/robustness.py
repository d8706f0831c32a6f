"""``sb3-mdpo robustness``. Heavy modules are imported when it runs."""

import argparse
from pathlib import Path

from sb3_mdpo.utils.optional_dependencies import need
from sb3_mdpo.utils.outputs import check_output_file
from sb3_mdpo.utils.terminal import add_code_note, note_code


def add_robustness(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sb3-mdpo robustness``."""
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="run folder of rl_zoo3 train, or a file")
    parser.add_argument("--env", metavar="ID", help="environment of a saved model, e.g. procgen-coinrun-easy-v0")
    parser.add_argument("--states", type=int, default=256, help="states per policy, from its own play (default: 256)")
    parser.add_argument(
        "--draws", type=int, default=32, help="random convolutions, and other backgrounds per state (default: 32)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of levels, actions and perturbations (default: 0)")
    parser.add_argument("--load-best", action="store_true", help="use a run's best_model.zip instead of its last model")
    parser.add_argument("--device", default="auto", help="PyTorch device (default: auto)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="default: robustness.json in or beside each PATH"
    )
    add_code_note(parser)
    parser.set_defaults(run=_robustness)


def _robustness(args: argparse.Namespace) -> None:
    outputs = [args.output or (path if path.is_dir() else path.parent) / "robustness.json" for path in args.paths]
    if len({output.resolve() for output in outputs}) < len(outputs):
        raise ValueError(
            f"Several models would be written to {outputs[0]}: measure them one at a time, each with its own -o."
        )
    for output in outputs:
        check_output_file(output, ".json")
    need("lab", scipy="scipy")
    from sb3_mdpo.lab.generalization.trained import open_trained
    from sb3_mdpo.lab.robustness.measure import measure_robustness
    from sb3_mdpo.utils.atomic import replacing

    note_code(*args.paths)
    for path, output in zip(args.paths, outputs, strict=True):
        trained = open_trained(path, args.env, args.load_best, args.device)
        robustness = measure_robustness(trained, args.states, args.draws, args.seed)
        with replacing(output) as file:
            file.write(robustness.to_json().encode())
        print(robustness.to_text())
        print(f"Written: {output}")
