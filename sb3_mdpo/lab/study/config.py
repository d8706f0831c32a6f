"""Study files: YAML that says which runs there shall be."""

import inspect
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym

import sb3_mdpo.envs  # noqa: F401  registers the ids
from sb3_mdpo.envs.native import has_levels
from sb3_mdpo.envs.procgen_options import SEED_RANGE
from sb3_mdpo.lab.study.checks import did_you_mean, items, mapping, no_duplicates, plain_name, share, text, whole
from sb3_mdpo.lab.study.methods import METHODS
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.utils.yaml_files import read_yaml

ZOO_KEYS = {
    "callback",
    "env_kwargs",
    "env_wrapper",
    "frame_stack",
    "monitor_kwargs",
    "n_envs",
    "n_timesteps",
    "normalize",
    "vec_env_wrapper",
}
NOT_FROM_FILES = {"self", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"}
HYPERPARAMS = sorted((ZOO_KEYS | inspect.signature(MDPO.__init__).parameters.keys()) - NOT_FROM_FILES)


@dataclass(frozen=True)
class Evaluation:
    """
    :param freq: evaluate after this many environment steps of mdpo in all; other methods after as many per policy.
        By default a twentieth of the training
    :param episodes: episodes per policy and set of levels
    :param n_envs: environments to evaluate in, None for as many as episodes but no more than 32
    :param deterministic: whether to take the most probable actions instead of sampled ones
    """

    freq: int | None = None
    episodes: int = 256
    n_envs: int | None = None
    deterministic: bool = False


@dataclass(frozen=True)
class Resources:
    """
    What a run takes of a cluster.

    :param cpus: processor cores, fractions allowed; None for as many as threads
    :param gpus: GPUs, fractions allowed: runs that share one share its memory, too
    :param retries: how often a run is tried again where its machine is lost or its training is killed
    """

    cpus: float | None = None
    gpus: float = 0
    retries: int = 3


@dataclass(frozen=True)
class Variant:
    """
    :param name: what it is called in the table
    :param method: the method, a name in :data:`~sb3_mdpo.lab.study.methods.METHODS`
    :param hyperparams: hyperparameters that replace the method's
    """

    name: str
    method: str
    hyperparams: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """
    :param name: its name, that of the file by default
    :param environments: Gymnasium ids
    :param num_levels: numbers of training levels, None for what ``mdpo.yml`` says
    :param start_level: the first training level
    :param methods: what is compared
    :param seeds: seeds of the training
    :param timesteps: environment steps of mdpo in all, None for what ``mdpo.yml`` says
    :param hyperparams: hyperparameters that replace those of ``mdpo.yml``, before the methods are made from them
    :param evaluation: how often and on how much policies are evaluated
    :param jobs: runs at the same time
    :param threads: PyTorch's threads in each run
    :param device: PyTorch device
    :param resources: what a run takes of a cluster
    """

    name: str
    environments: tuple[str, ...]
    num_levels: tuple[int | None, ...]
    start_level: int
    methods: tuple[Variant, ...]
    seeds: tuple[int, ...]
    timesteps: int | None
    hyperparams: dict[str, Any]
    evaluation: Evaluation
    jobs: int
    threads: int
    device: str
    resources: Resources


STUDY_KEYS = [*Study.__dataclass_fields__, "games", "modes"]


def read_study(path: Path) -> Study:
    """
    :param path: study file
    :return: what it says
    :raises ValueError: where it is no study, in one line that names the key and what is allowed
    :raises OSError: where it cannot be read
    """
    document = read_yaml(path)
    try:
        return parse_study(document, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_study(document: Any, default_name: str) -> Study:
    """
    :param document: what the YAML says
    :param default_name: name of the study where it has none
    :return: the study
    :raises ValueError: where it is none
    """
    given = mapping(document, "the study", STUDY_KEYS)
    hyperparams = _hyperparams(given.get("hyperparams"), "hyperparams")
    if "n_timesteps" in hyperparams:
        raise ValueError(f"hyperparams: n_timesteps is the study's own timesteps: {hyperparams['n_timesteps']}.")
    return Study(
        name=plain_name(given.get("name", default_name), "name"),
        environments=_environments(given),
        num_levels=_num_levels(given.get("num_levels")),
        start_level=whole(given.get("start_level", 0), "start_level", 0, SEED_RANGE - 1),
        methods=_methods(given),
        seeds=tuple(whole(seed, "seeds", 0, SEED_RANGE - 1) for seed in items(given, "seeds")),
        timesteps=None if given.get("timesteps") is None else whole(given["timesteps"], "timesteps"),
        hyperparams=hyperparams,
        evaluation=_evaluation(given.get("evaluation")),
        jobs=whole(given.get("jobs", 1), "jobs"),
        threads=whole(given.get("threads", 1), "threads"),
        device=text(given.get("device", "auto"), "device"),
        resources=_resources(given.get("resources")),
    )


def _environments(given: dict[str, Any]) -> tuple[str, ...]:
    if ("environments" in given) == ("games" in given):
        raise ValueError("either environments (Gymnasium ids) or games (of Procgen, with modes) say what to train on.")
    if "environments" in given:
        if "modes" in given:
            raise ValueError("modes belong to games: environments are complete ids.")
        ids = [text(env_id, "environments") for env_id in items(given, "environments")]
    else:
        modes = items(given, "modes") if "modes" in given else ["hard"]
        ids = [f"procgen-{game}-{mode}-v0" for game, mode in product(items(given, "games"), modes)]
    for env_id in ids:
        if env_id not in gym.registry:
            raise ValueError(f"there is no environment {env_id}{did_you_mean(env_id, _ids_with_levels())}.")
        if not has_levels(env_id):
            raise ValueError(
                f"{env_id} has no levels to choose from, so nothing is unseen in it: use one with num_levels among its "
                "arguments, e.g. procgen-coinrun-easy-v0."
            )
    return tuple(ids)


def _ids_with_levels() -> list[str]:
    return [env_id for env_id in gym.registry if has_levels(env_id)]


def _num_levels(value: Any) -> tuple[int | None, ...]:
    if value is None:
        return (None,)
    numbers = items({"num_levels": value if isinstance(value, list) else [value]}, "num_levels")
    return tuple(whole(number, "num_levels", 1, SEED_RANGE - 1) for number in numbers)


def _methods(given: dict[str, Any]) -> tuple[Variant, ...]:
    variants = tuple(_variant(entry) for entry in items(given, "methods"))
    no_duplicates([variant.name for variant in variants], "methods")
    return variants


def _variant(entry: Any) -> Variant:
    if isinstance(entry, str):
        return Variant(entry, _method(entry))
    entry = mapping(entry, "an entry of methods", Variant.__dataclass_fields__)
    if "method" not in entry:
        raise ValueError("methods: a mapping says which method it is of, e.g. {name: mdpo_0.3, method: mdpo}.")
    name = plain_name(entry.get("name", entry["method"]), "methods")
    return Variant(name, _method(entry["method"]), _hyperparams(entry.get("hyperparams"), f"hyperparams of {name}"))


def _method(name: Any) -> str:
    if not isinstance(name, str) or name not in METHODS:
        hint = did_you_mean(str(name), METHODS)
        raise ValueError(f"methods: there is no {name!r}{hint}; there are {', '.join(METHODS)}.")
    return name


def _evaluation(value: Any) -> Evaluation:
    given = mapping({} if value is None else value, "evaluation", Evaluation.__dataclass_fields__)
    for key in given.keys() & {"freq", "episodes", "n_envs"}:
        given[key] = whole(given[key], f"evaluation: {key}")
    if not isinstance(given.get("deterministic", False), bool):
        raise ValueError(f"evaluation: deterministic is true or false, not {given['deterministic']!r}.")
    evaluation = Evaluation(**given)
    if not max(2, evaluation.n_envs or 0) <= evaluation.episodes:
        raise ValueError(
            f"evaluation: {evaluation.episodes} episodes must be at least 2, and no less than n_envs "
            f"({evaluation.n_envs}): each environment plays one."
        )
    return evaluation


def _resources(value: Any) -> Resources:
    given = mapping({} if value is None else value, "resources", Resources.__dataclass_fields__)
    for key in given.keys() & {"cpus", "gpus"}:
        given[key] = share(given[key], f"resources: {key}", zero=key == "gpus")
    if "retries" in given:
        given["retries"] = whole(given["retries"], "resources: retries", 0)
    return Resources(**given)


def _hyperparams(value: Any, key: str) -> dict[str, Any]:
    given = mapping({} if value is None else value, key, HYPERPARAMS)
    if not isinstance(given.get("env_kwargs", {}), dict):
        raise ValueError(f"{key}: env_kwargs is a mapping, not {given['env_kwargs']!r}.")
    for count in given.keys() & {"n_policies", "n_envs", "n_timesteps"}:
        given[count] = whole(given[count], f"{key}: {count}")
    for name, kinds in (("policy", (str, list)), ("policy_kwargs", (str, dict, list))):
        if name in given and not isinstance(given[name], kinds):
            raise ValueError(f"{key}: {name} is written as in the zoo's files, not {given[name]!r}.")
    if levels := {"num_levels", "start_level"} & given.get("env_kwargs", {}).keys():
        raise ValueError(f"{key}: env_kwargs has {', '.join(sorted(levels))}, which are keys of the study itself.")
    return given
