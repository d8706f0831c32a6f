"""``python -m sb3_mdpo.zoo train --resume LOGDIR``: resume an interrupted training of the zoo."""

import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from sb3_mdpo.common.ranks import current_ranks
from sb3_mdpo.envs.native import is_native
from sb3_mdpo.persistence.checkpoints.archive import read_newest
from sb3_mdpo.persistence.checkpoints.callback import FOLDER, ResumableCheckpointCallback
from sb3_mdpo.utils.terminal import Parser, one_line
from sb3_mdpo.utils.yaml_files import read_mapping
from sb3_mdpo.zoo.run import ARGS, CONFIG, read_args, read_hyperparams, settings_folder
from sb3_mdpo.zoo.torchrun import for_all_ranks

PROG = "python -m sb3_mdpo.zoo train --resume"


def main(argv: Sequence[str]) -> None:
    """
    Run the zoo's training with the arguments and hyperparameters of the run folder. If it cannot be resumed, print
    one line to stderr and exit with code 2.
    """
    parser = Parser(prog=PROG, description="Resume an interrupted training of the zoo.")
    parser.add_argument("folder", type=Path, help="run folder of rl_zoo3 train, e.g. logs/mdpo/CartPole-v1_1")
    parser.add_argument("--device", help="PyTorch device (default: as in the run)")
    parser.add_argument("--num-threads", type=int, help="number of PyTorch threads (default: as in the run)")
    parser.add_argument("--verbose", type=int, help="verbosity (default: as in the run)")
    parser.add_argument("--progress", action="store_true", default=None, help="show a progress bar")
    changes = vars(parser.parse_args(argv))
    folder: Path = changes.pop("folder")
    try:
        settings = settings_folder(folder)
        arguments = read_args(settings / ARGS)
        read_hyperparams(settings)
        # Only the first, because it renames damaged checkpoints
        if current_ranks().is_first and read_newest(folder / FOLDER) is None:
            raise ValueError(
                f"{folder / FOLDER} holds no checkpoints: ResumableCheckpointCallback writes them, where it is the "
                "first callback in the hyperparameters. Train anew."
            )
    except (OSError, ValueError) as error:
        print(f"{PROG}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    arguments |= {name: value for name, value in changes.items() if value is not None}
    sys.argv = ["rl_zoo3 train", *command_line(arguments)]
    _train(folder, settings)


def command_line(arguments: dict[str, Any]) -> list[str]:
    """The command line for parsed arguments of ``rl_zoo3 train``."""
    line: list[str] = []
    for name, value in arguments.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value is False or value in ("", [], {}):
            continue
        if value is True:
            # The only one that is not a flag
            line += [option, "True"] if name == "truncate_last_trajectory" else [option]
        elif isinstance(value, dict):
            line += [option, *(f"{key}:{one!r}" for key, one in value.items())]
        elif isinstance(value, list):
            line += [option, *map(str, value)]
        else:
            line.append(f"{option}={value}")  # one word, as numbers may be negative
    return line


def _train(folder: Path, settings: Path) -> None:
    from rl_zoo3 import train
    from rl_zoo3.exp_manager import ExperimentManager

    class ResumedExperiment(ExperimentManager):  # type: ignore[misc, valid-type]
        """An experiment in the folder of the interrupted one; the settings there are not changed."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.save_path, self.params_path = str(folder), str(settings)

        def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
            hyperparams = read_mapping(settings / CONFIG, yaml.UnsafeLoader)  # trusted: a local run
            if is_native(self.env_name.gym_id):
                self.deterministic_eval = False
            return hyperparams, deepcopy(hyperparams)

        def create_callbacks(self) -> None:
            super().create_callbacks()
            for callback in self.callbacks:
                if isinstance(callback, ResumableCheckpointCallback):
                    callback.resume = True

        def _save_config(self, _: dict[str, Any]) -> None:
            print(f"Log path: {self.save_path}")

    train.ExperimentManager = for_all_ranks(ResumedExperiment)
    train.train()
