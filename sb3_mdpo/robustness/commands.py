"""Arguments of ``sb3-mdpo robustness``. What it needs is imported when it runs."""

import argparse
from pathlib import Path


def add_robustness(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: the parser of ``sb3-mdpo robustness``
    """
    parser.add_argument("path", metavar="PATH", type=Path, help="run folder of rl_zoo3 train, or a saved model")
    parser.add_argument("--env", metavar="ID", help="environment of a saved model, e.g. procgen-coinrun-easy-v0")
    parser.add_argument("--states", type=int, default=256, help="states per policy, from its own play (default: 256)")
    parser.add_argument("--draws", type=int, default=32, help="random convolutions, other backgrounds (default: 32)")
    parser.add_argument("--seed", type=int, default=0, help="seed of levels, actions and perturbations (default: 0)")
    parser.add_argument("--load-best", action="store_true", help="use a run's best_model.zip instead of its last model")
    parser.add_argument("--device", default="auto", help="PyTorch device (default: auto)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: robustness.json in or beside PATH")
    parser.set_defaults(run=_robustness)


def _prepare() -> None:
    from sb3_mdpo.gym_notice import silence_gym_notice
    from sb3_mdpo.zoo.hook import install

    silence_gym_notice()  # before SB3 imports old Gym
    install()  # also without the start-up hook the zoo shall know MDPO


def _robustness(args: argparse.Namespace) -> None:
    _prepare()
    from stable_baselines3.common.utils import get_device

    from sb3_mdpo.generalization.trained import open_trained
    from sb3_mdpo.robustness.measure import measure_robustness
    from sb3_mdpo.robustness.table import make_table
    from sb3_mdpo.saving import replacing

    try:
        get_device(args.device)
    except RuntimeError as error:
        raise ValueError(f"PyTorch knows no device {args.device}: use auto, cpu or cuda, for example.") from error
    trained = open_trained(args.path, args.env, args.load_best, args.device)
    robustness = measure_robustness(trained, args.states, args.draws, args.seed)
    output = args.output or (args.path if args.path.is_dir() else args.path.parent) / "robustness.json"
    with replacing(output) as file:
        file.write(robustness.to_json().encode())
    print(make_table(robustness))
    print(f"Written: {output}")
