"""``sb3-mdpo export``. Heavy modules are imported when it runs."""

import argparse
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_mdpo.utils.outputs import check_output_file, check_output_folder
from sb3_mdpo.utils.terminal import add_code_note, note_code

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecNormalize

    from sb3_mdpo.zoo.run import Run


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sb3-mdpo export``."""
    parser.add_argument("path", metavar="PATH", type=Path, help="run folder of the zoo, or a file of MDPO.save()")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder or file to write")
    parser.add_argument(
        "--format",
        choices=("safetensors", "onnx", "torchscript"),
        default="safetensors",
        help="safetensors: a folder with the whole model, which runs no code when it is read; the others: one file "
        "that computes actions (default: safetensors)",
    )
    parser.add_argument("--policy", type=_policy, help="policy that acts: 0, 1, ... or ensemble (default: as saved)")
    parser.add_argument("--load-best", action="store_true", help="export a run's best_model.zip")
    parser.add_argument("--include-optimizer", action="store_true", help="safetensors only: also the optimizer's state")
    add_code_note(parser)
    parser.set_defaults(run=_export)


def _policy(text: str) -> int | str:
    return text if text == "ensemble" else int(text)


def _export(args: argparse.Namespace) -> None:
    if args.include_optimizer and args.format != "safetensors":
        raise ValueError("--include-optimizer is for --format safetensors: the other formats do not train.")
    (check_output_folder if args.format == "safetensors" else check_output_file)(args.output)
    from sb3_mdpo.common.save_util import read_plain_settings
    from sb3_mdpo.persistence.deploy import deploy_policy
    from sb3_mdpo.zoo.own import OWN
    from sb3_mdpo.zoo.run import read_run

    note_code(args.path)
    run = None if args.path.is_file() else read_run(args.path, args.load_best, OWN)
    if run is None and args.load_best:
        raise ValueError(f"{args.path} is a model file: --load-best is for run folders.")
    changed: dict[str, Any] = {} if args.policy is None else {"predict_with": args.policy}
    if args.format != "safetensors":  # such files compute in float32
        changed["precision"] = "fp32"
    path = args.path if run is None else run.model_path
    algo = str(read_plain_settings(path).get("saved_by", "mdpo"))
    model = OWN.get(algo, OWN["mdpo"]).load(path, device="cpu", **changed)
    vec_normalize = None if run is None else _normalization(run)
    if args.format == "safetensors":
        model.export(args.output, args.include_optimizer)
        if vec_normalize is not None:
            print("The run normalizes observations: its vecnormalize.pkl is not part of the export.")
    else:
        deploy_policy(model, args.output, args.format, vec_normalize)
    print(f"{args.output}: predict_with={model.predict_with}")


def _normalization(run: "Run") -> "VecNormalize | None":
    from stable_baselines3.common.vec_env import unwrap_vec_normalize

    if not run.hyperparams.get("normalize"):
        return None
    with redirect_stdout(None):  # the zoo prints what it loads
        env = run.make_env(run.env_kwargs, 1, 0)
    env.close()
    vec_normalize = unwrap_vec_normalize(env)
    return vec_normalize if vec_normalize is not None and vec_normalize.norm_obs else None
