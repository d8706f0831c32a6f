"""``sb3-mdpo <command> ...``: what the zoo's own commands do not offer.

Only the standard library is imported here and by what registers the commands, so that ``--help``
answers at once; torch and the zoo are imported by the command that runs.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from sb3_mdpo.utils.gym_notice import silence_gym_notice
from sb3_mdpo.utils.terminal import Parser, one_line
from sb3_mdpo.zoo.hook import install

# Command -> what it does, in a line, and "module:function" that is given its parser. The function adds the
# arguments and parser.set_defaults(run=...), what to call with them.
COMMANDS = {
    "evaluate": ("evaluate a model on training and unseen levels", "sb3_mdpo.cli.evaluate:add_evaluate"),
    "study": ("train all runs of a study and collect their results", "sb3_mdpo.cli.study:add_study"),
    "report": ("show a study or a run on one HTML page", "sb3_mdpo.cli.report:add_report"),
    "robustness": ("measure how policies change with the picture", "sb3_mdpo.cli.robustness:add_robustness"),
    "features": ("measure and draw what encoders tell apart", "sb3_mdpo.cli.features:add_features"),
    "export": ("write a model as safe data or as one file", "sb3_mdpo.cli.export:add_export"),
    "push": ("share a trained run through the Hugging Face Hub", "sb3_mdpo.cli.hub:add_push"),
    "pull": ("fetch a shared run into the zoo's log folder", "sb3_mdpo.cli.hub:add_pull"),
}


def make_parser() -> argparse.ArgumentParser:
    """
    :return: the parser of all commands
    """
    parser = Parser(prog="sb3-mdpo", description="Commands of sb3-mdpo beside those of rl_zoo3.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (description, where) in COMMANDS.items():
        module, _, function = where.partition(":")
        command = commands.add_parser(name, help=description, description=f"{description[0].upper()}{description[1:]}.")
        getattr(import_module(module), function)(command)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run a command. What the user can put right (bad input, files, the network, a package that is not
    installed) ends as one line on stderr and exit code 2; everything else is a bug and shows where it is.

    :param argv: arguments, those of the process by default
    """
    args = make_parser().parse_args(argv)
    silence_gym_notice()  # before SB3 imports old Gym
    install()  # also without the start-up hook the zoo shall know MDPO
    try:
        args.run(args)
    except ModuleNotFoundError:
        raise
    except (OSError, ValueError, ImportError) as error:
        print(f"sb3-mdpo {args.command}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
