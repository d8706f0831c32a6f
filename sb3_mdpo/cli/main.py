"""
``sb3-mdpo COMMAND``: the commands that rl-zoo3 does not have.

This file and the commands' parsers import only the standard library, so that ``--help`` is fast. Torch and rl-zoo3 are
imported when a command runs.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from sb3_mdpo._version import __version__
from sb3_mdpo.utils.gym_notice import silence_gym_notice
from sb3_mdpo.utils.terminal import Parser, one_line
from sb3_mdpo.zoo.hook import install

# Command -> help text, and "module:function" that adds the arguments to its parser and sets the default ``run``, the
# function to call with them
COMMANDS = {
    "evaluate": ("evaluate a model on training and unseen levels", "sb3_mdpo.cli.evaluate:add_evaluate"),
    "study": ("train all runs of a study and collect the results", "sb3_mdpo.cli.study:add_study"),
    "report": ("write an HTML report on a study or a run", "sb3_mdpo.cli.report:add_report"),
    "robustness": ("measure how much image perturbations change policies", "sb3_mdpo.cli.robustness:add_robustness"),
    "features": ("measure and plot the encoders' features", "sb3_mdpo.cli.features:add_features"),
    "export": ("export a model as data without code, ONNX or TorchScript", "sb3_mdpo.cli.export:add_export"),
    "push": ("upload a trained run to the Hugging Face Hub", "sb3_mdpo.cli.hub:add_push"),
    "pull": ("download a shared run into the zoo's log folder", "sb3_mdpo.cli.hub:add_pull"),
}


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(prog="sb3-mdpo", description="Commands that rl_zoo3 does not have.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (description, where) in COMMANDS.items():
        module, _, function = where.partition(":")
        command = commands.add_parser(name, help=description, description=f"{description[0].upper()}{description[1:]}.")
        getattr(import_module(module), function)(command)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run a command. Errors that the user can fix (bad input, files, the network, a missing package) end as one line on
    stderr and exit code 2. Any other exception is a bug and ends in a traceback.
    """
    args = make_parser().parse_args(argv)
    silence_gym_notice()  # before SB3 imports old Gym
    install()  # rl-zoo3 must know MDPO without the start-up hook, too
    try:
        args.run(args)
    except ModuleNotFoundError:
        raise
    except (OSError, ValueError, ImportError) as error:
        print(f"sb3-mdpo {args.command}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
