"""``python -m sb3_mdpo.zoo <command> ...``: the zoo's commands with MDPO, without the start-up hook."""

import runpy
import sys

from sb3_mdpo.utils.gym_notice import silence_gym_notice
from sb3_mdpo.utils.terminal import one_line
from sb3_mdpo.zoo.hook import install

# Commands of the rl_zoo3 executable; the others are modules
CLI_COMMANDS = ("train", "enjoy", "all_plots", "plot_train", "plot_from_file")
MODULE_COMMANDS = ("record_video", "load_from_hub")
USAGE = f"""usage: python -m sb3_mdpo.zoo COMMAND ...

The zoo's commands with MDPO: {", ".join((*CLI_COMMANDS, *MODULE_COMMANDS))}.
COMMAND --help explains each of them; train --resume LOGDIR resumes an interrupted training;
hyperparams prints the folder of the hyperparameter files."""


def _train() -> None:
    silence_gym_notice()
    from sb3_mdpo.zoo.resume import main as resume
    from sb3_mdpo.zoo.torchrun import launched, unfinished_run

    with launched():
        if sys.argv[2:3] == ["--resume"]:
            resume(sys.argv[3:])
        elif run := unfinished_run():
            resume([str(run)])
        else:
            from rl_zoo3.train import train  # rl_zoo3.cli would also import all that the plots need

            sys.argv = ["python -m sb3_mdpo.zoo train", *sys.argv[2:]]
            train()


def main() -> None:
    """Run a command of the zoo, or print the folder of the hyperparameter files."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    install()
    if command == "train":
        _train()
    elif command in CLI_COMMANDS:
        from rl_zoo3.cli import main as rl_zoo3

        rl_zoo3()
    elif command in MODULE_COMMANDS:
        del sys.argv[1]
        runpy.run_module(f"rl_zoo3.{command}", run_name="__main__", alter_sys=True)
    elif command == "hyperparams":
        from sb3_mdpo.zoo.register import hyperparams_folder

        print(hyperparams_folder())
    elif command in ("-h", "--help"):
        print(USAGE)
    else:
        known = ", ".join((*CLI_COMMANDS, *MODULE_COMMANDS, "hyperparams"))
        message = one_line(f"unknown command {command!r}, use one of {known}.")
        print(f"python -m sb3_mdpo.zoo: {message}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
