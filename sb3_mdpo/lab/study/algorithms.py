"""On-policy algorithms other than MDPO as methods of a study, by the dotted name of their class."""

from stable_baselines3 import PPO

from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.lab.study.methods import METHODS, Hyperparams, alone, read_arguments
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.zoo.algorithms import algorithm_class, parameters_of, zoo_name
from sb3_mdpo.zoo.hyperparams import callbacks_of, read_callback

CHECKPOINTS = "ResumableCheckpointCallback"
ZOO_KEYS = {
    *("callback", "env_kwargs", "env_wrapper", "frame_stack", "monitor_kwargs"),
    *("n_envs", "n_timesteps", "normalize", "vec_env_wrapper"),
}
NOT_FROM_FILES = {"self", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"}


def allowed_hyperparams(algorithm: type) -> list[str]:
    """Names of the hyperparameters in the zoo's files."""
    return sorted((ZOO_KEYS | parameters_of(algorithm).keys()) - NOT_FROM_FILES)


def algo_of(method: str) -> str:
    """The zoo's name of the algorithm of a method, which is MDPO's unless the method is a class."""
    return "mdpo" if method in METHODS else zoo_name(method)


def adapted_hyperparams(method: str, hyperparams: Hyperparams) -> Hyperparams:
    """A method's hyperparameters, given those of MDPO as in ``hyperparams/mdpo.yml``."""
    return METHODS[method](hyperparams) if method in METHODS else _for_class(algorithm_class(method), hyperparams)


def _for_class(algorithm: type, hyperparams: Hyperparams) -> Hyperparams:
    """Those that the algorithm knows; for one with a single policy those of ppo."""
    adapted = dict(hyperparams)
    if not issubclass(algorithm, MutualOnPolicyAlgorithm):
        adapted = alone(adapted)
        policy = adapted["policy"]
        if policy not in algorithm.policy_aliases and policy in MDPO.policy_aliases:  # type: ignore[attr-defined]
            found = MDPO.policy_aliases[policy]
            adapted["policy"] = f"{found.__module__}.{found.__name__}"
        if "per_policy" in str(adapted.get("normalize")):
            normalize = read_arguments("normalize", adapted["normalize"])
            adapted["normalize"] = {name: value for name, value in normalize.items() if name != "per_policy"}
    if not issubclass(algorithm, (PPO, MutualOnPolicyAlgorithm)):
        adapted["callback"] = [one for one in callbacks_of(adapted) if read_callback(one)[0] != CHECKPOINTS]
    allowed = allowed_hyperparams(algorithm)
    return {name: value for name, value in adapted.items() if name in allowed}
