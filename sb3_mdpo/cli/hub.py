"""``sb3-mdpo push`` and ``sb3-mdpo pull``. Heavy modules are imported when they run."""

import argparse
from pathlib import Path
from typing import Any

from sb3_mdpo.utils.optional_dependencies import need
from sb3_mdpo.utils.terminal import add_code_note, note_code


def add_push(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sb3-mdpo push``."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="run folder, e.g. logs/mdpo/CartPole-v1_1")
    parser.add_argument("repo_id", metavar="REPO_ID", help="repository on the Hub, e.g. alice/mdpo-CartPole-v1")
    parser.add_argument("--load-best", action="store_true", help="share best_model.zip instead of the last model")
    parser.add_argument("--episodes", type=int, default=128, help="evaluation episodes per number (default: 128)")
    parser.add_argument("--n-envs", type=int, default=16, help="environments of the evaluation (default: 16)")
    parser.add_argument("--deterministic", action="store_true", help="evaluate and film the most probable actions")
    parser.add_argument("--video", dest="video_steps", metavar="STEPS", type=int, help="add a video of this many steps")
    parser.add_argument("--with-pickles", action="store_true", help="add the zoo's own files, which can run code")
    parser.add_argument("--private", action="store_true", help="make the new repository private")
    parser.add_argument("-m", "--commit-message", help="default: MDPO on the environment's id")
    parser.add_argument(
        "--seed", type=int, help="seed of the evaluation (default: 0, or 1 if --load-best chose the model with 0)"
    )
    parser.add_argument("--device", default="auto", help="PyTorch device of the evaluation (default: auto)")
    add_code_note(parser)
    parser.set_defaults(run=_push)


def add_pull(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``sb3-mdpo pull``."""
    parser.add_argument("repo_id", metavar="REPO_ID", help="repository on the Hub, e.g. alice/mdpo-CartPole-v1")
    parser.add_argument("-f", "--folder", type=Path, default=Path("logs"), help="the zoo's log folder (default: logs)")
    parser.add_argument("--exp-id", type=int, default=0, help="number of the run (default: 0, the next free one)")
    parser.add_argument("--force", action="store_true", help="replace the run given with --exp-id")
    parser.add_argument("--revision", help="branch, tag or commit (default: the latest commit)")
    parser.add_argument("--trust", action="store_true", help="accept files and settings that could run code")
    parser.set_defaults(run=_pull)


def _push(args: argparse.Namespace) -> None:
    options = _options(args)
    from sb3_mdpo.hub.push import push_run

    note_code(args.run_folder)
    print(f"Shared: {push_run(**options)}")


def _pull(args: argparse.Namespace) -> None:
    options = _options(args)
    from sb3_mdpo.hub.pull import pull_run

    pulled = pull_run(**options)
    if pulled.pickled:
        print("The model and the statistics are the author's pickles: loading them runs any code that they contain.")
    print(f"{args.repo_id} is in {pulled.folder}")
    print(f"rl_zoo3 enjoy --algo mdpo --env {pulled.env_id} -f {args.folder} --exp-id {pulled.exp_id}")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments as keywords of the command's function."""
    need("hub", **{name: name for name in ("huggingface_hub", "scipy", "jinja2", "pydantic")})
    return {name: value for name, value in vars(args).items() if name not in ("run", "command")}
