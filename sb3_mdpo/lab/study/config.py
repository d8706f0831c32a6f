"""Study files: YAML that says which runs to train."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Annotated, Any, TypeVar

import gymnasium as gym
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

import sb3_mdpo.envs  # noqa: F401  registers the ids
from sb3_mdpo.envs.native import has_levels
from sb3_mdpo.envs.procgen_options import SEED_RANGE
from sb3_mdpo.lab.study.algorithms import allowed_hyperparams
from sb3_mdpo.lab.study.methods import METHODS
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.utils.yaml_files import read_yaml
from sb3_mdpo.zoo.algorithms import algorithm_class

T = TypeVar("T")
HYPERPARAMS = allowed_hyperparams(MDPO)
DOTTED = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """The name closest to one that does not exist, as an addition to a message; empty if none is close."""
    matches = get_close_matches(given, list(allowed), n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""


def _unknown(key: object, allowed: Iterable[str]) -> str:
    return f"unknown key {key!r}{did_you_mean(str(key), allowed)}; allowed are {', '.join(allowed)}"


def _integer(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("not an integer; write it without quotes (YAML reads 1e6 as text, 1_000_000 as a number)")
    return int(value) if isinstance(value, float) and value.is_integer() else value  # !!float 1e6


def _cpu_share(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise ValueError("neither a fraction like 0.25 nor an integer")
    return value


def _unique(entries: tuple[T, ...]) -> tuple[T, ...]:
    for index, entry in enumerate(entries):
        if entry in entries[:index]:
            raise ValueError(f"{entry!r} is there twice")
    return entries


def _method(name: str) -> str:
    if name in METHODS:
        return name
    if not re.match(DOTTED, name):
        raise ValueError(
            f"unknown method{did_you_mean(name, METHODS)}; use one of {', '.join(METHODS)}, or the dotted name of an "
            "algorithm's class, e.g. stable_baselines3.PPO"
        )
    algorithm_class(name)
    return name


def _of_method(given: dict[str, Any], about: ValidationInfo) -> dict[str, Any]:
    """Hyperparameters of a variant, which depend on its method if that is a class."""
    method = about.data.get("method", "mdpo")  # missing if it is wrong, too
    return _hyperparams(given, HYPERPARAMS if method in METHODS else allowed_hyperparams(algorithm_class(method)))


def _hyperparams(given: dict[str, Any], allowed: Sequence[str] = HYPERPARAMS) -> dict[str, Any]:
    for key in given:
        if key not in allowed:
            raise ValueError(_unknown(key, allowed))
    env_kwargs = given.get("env_kwargs", {})
    if not isinstance(env_kwargs, dict):
        raise ValueError(f"env_kwargs must be a mapping, not {env_kwargs!r}")
    if levels := {"num_levels", "start_level"} & env_kwargs.keys():
        raise ValueError(f"env_kwargs has {', '.join(sorted(levels))}, which are keys of the study itself")
    for count in given.keys() & {"n_policies", "n_envs", "n_timesteps"}:
        try:
            given = given | {count: _integer(given[count])}
        except ValueError as error:
            raise ValueError(f"{count} {given[count]!r}: {error}") from error
        if type(given[count]) is not int or given[count] < 1:
            raise ValueError(f"{count} must be an integer of at least 1, not {given[count]!r}")
    for name, kinds in (("policy", (str, list)), ("policy_kwargs", (str, dict, list))):
        if name in given and not isinstance(given[name], kinds):
            raise ValueError(f"{name} is written as in the zoo's files, not {given[name]!r}")
    return given


def _variant(entry: Any) -> Any:
    if isinstance(entry, str):
        entry = {"method": entry}
    if not isinstance(entry, dict):
        return entry
    given = {key: value for key, value in entry.items() if value is not None}
    return {"name": given["method"]} | given if "method" in given else given


Integer = Annotated[int, BeforeValidator(_integer)]
Positive = Annotated[Integer, Field(ge=1)]
Level = Annotated[Integer, Field(ge=1, lt=SEED_RANGE)]
Seed = Annotated[Integer, Field(ge=0, lt=SEED_RANGE)]
Share = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_cpu_share)]
Text = Annotated[str, Field(min_length=1)]
# Part of a folder's name
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
MethodName = Annotated[
    str,
    AfterValidator(_method),
    Field(json_schema_extra={"anyOf": [{"enum": list(METHODS)}, {"pattern": DOTTED}]}),
]
NAMES: dict[str, Any] = {"propertyNames": {"enum": HYPERPARAMS}}
Hyperparams = Annotated[
    dict[str, Any], AfterValidator(lambda given: _hyperparams(given)), Field(json_schema_extra=NAMES)
]
# YAML's lists; strict tuples would refuse them
Entries = Annotated[tuple[T, ...], Field(strict=False, min_length=1), AfterValidator(_unique)]


class _Keys(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class EvaluationSettings(_Keys):
    """How often and on how much policies are evaluated."""

    freq: Positive | None = Field(default=None, description="environment steps of mdpo in all; default: training / 20")
    episodes: Positive = Field(default=256, description="episodes per policy and set of levels")
    final_episodes: Positive | None = Field(default=None, description="at the end of training; default: episodes")
    n_envs: Positive | None = Field(default=None, description="environments; default: as many as episodes, 32 at most")
    deterministic: bool = Field(default=False, description="the most probable actions instead of sampled ones")

    @model_validator(mode="after")
    def _check(self) -> "EvaluationSettings":
        fewest = min(self.episodes, self.final_episodes or self.episodes)
        if fewest < max(2, self.n_envs or 0):
            raise ValueError(
                f"{fewest} episodes must be at least 2, and no less than n_envs ({self.n_envs}): each "
                "environment plays one"
            )
        return self


class Resources(_Keys):
    """What a run needs on a Ray cluster."""

    cpus: Annotated[Share, Field(gt=0)] | None = Field(
        default=None, description="processor cores or a fraction of one; default: threads"
    )
    gpus: Annotated[Share, Field(ge=0)] = Field(
        default=0, description="GPUs; 0.25: four runs share a GPU and its memory"
    )
    retries: Annotated[Integer, Field(ge=0)] = Field(default=3, description="attempts after a machine is lost")


class Variant(_Keys):
    """A method with other hyperparameters, or an algorithm's class."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"method": {"enum": list(METHODS)}}},
            "then": {"properties": {"hyperparams": NAMES}},
        }
    )

    name: Name = Field(default="", description="name in the table; default: the method's")
    method: MethodName = Field(description="a method, or the dotted name of an algorithm's class")
    hyperparams: Annotated[dict[str, Any], AfterValidator(_of_method)] = Field(
        default={}, description="replace the method's hyperparameters"
    )


def _unique_names(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    _unique(tuple(variant.name for variant in variants))
    return variants


Methods = Annotated[
    tuple[Annotated[Variant, BeforeValidator(_variant, json_schema_input_type=MethodName | Variant)], ...],
    Field(strict=False, min_length=1),
    AfterValidator(_unique_names),
]
Levels = Annotated[
    Entries[Level],
    BeforeValidator(
        lambda value: value if isinstance(value, list | tuple) else [value], json_schema_input_type=Level | list[Level]
    ),
]


class Study(_Keys):
    """A study of sb3-mdpo: every method in every environment with every seed."""

    name: Name = Field(default="study", description="default: the file's name")
    environments: Entries[Text] | None = Field(default=None, description="Gymnasium ids with levels")
    games: Entries[Text] | None = Field(default=None, description="games of Procgen, in place of environments")
    modes: Entries[Text] | None = Field(default=None, description="modes of the games; default: [hard]")
    num_levels: Levels | None = Field(default=None, description="numbers of training levels; default: mdpo.yml's")
    start_level: Seed = Field(default=0, description="the first training level")
    methods: Methods
    seeds: Entries[Seed]
    timesteps: Positive | None = Field(default=None, description="steps of mdpo in all; default: mdpo.yml's")
    hyperparams: Hyperparams = Field(default={}, description="replace those of mdpo.yml, for all methods")
    evaluation: EvaluationSettings = EvaluationSettings()
    jobs: Positive = Field(default=1, description="runs at the same time")
    threads: Positive = Field(default=1, description="PyTorch's threads in each run")
    device: Text = Field(default="auto", description="PyTorch device")
    resources: Resources = Resources()

    @property
    def env_ids(self) -> tuple[str, ...]:
        """The environments, or games and modes, as Gymnasium ids."""
        pairs = product(self.games or (), self.modes or ("hard",))
        return self.environments or tuple(f"procgen-{game}-{mode}-v0" for game, mode in pairs)

    @model_validator(mode="after")
    def _check(self) -> "Study":
        if bool(self.environments) == bool(self.games):
            raise ValueError("give either environments (Gymnasium ids) or games (of Procgen, with modes)")
        if self.environments and self.modes:
            raise ValueError("modes belong to games: environments are complete ids")
        for env_id in self.env_ids:
            if env_id not in gym.registry:
                known = filter(has_levels, gym.registry)
                raise ValueError(f"there is no environment {env_id}{did_you_mean(env_id, known)}")
            if not has_levels(env_id):
                raise ValueError(
                    f"{env_id} has no levels to choose from, so no level would be unseen: use an environment with a "
                    "num_levels argument, e.g. procgen-coinrun-easy-v0"
                )
        if "n_timesteps" in self.hyperparams:
            raise ValueError(f"hyperparams: write timesteps: {self.hyperparams['n_timesteps']} instead of n_timesteps")
        return self


def read_study(path: Path) -> Study:
    """
    :param path: study file
    :return: the study
    :raises ValueError: if it is not a study, in one line that names the key and what is allowed
    :raises OSError: if it cannot be read
    """
    document = read_yaml(path)
    try:
        return parse_study(document, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_study(document: Any, default_name: str) -> Study:
    """The study in the content of a YAML file, in which its name can be missing."""
    if not isinstance(document, dict):
        raise ValueError(f"a study is a mapping with the keys {', '.join(Study.model_fields)}, not {document!r}.")
    given = {key: value for key, value in document.items() if value is not None or key not in Study.model_fields}
    try:
        return Study.model_validate({"name": default_name} | given)
    except ValidationError as error:
        raise ValueError(_one_error(error)) from error


MESSAGES = {
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must have at least one entry",
    "int_type": "must be an integer",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_pattern_mismatch": "becomes part of a folder's name: use letters, digits and . _ + -",
}
MODELS: dict[str, type[BaseModel]] = {"evaluation": EvaluationSettings, "resources": Resources, "methods": Variant}


def _one_error(error: ValidationError) -> str:
    """The first error: the path of the key, the value and what is allowed."""
    first = error.errors(include_url=False)[0]
    *parents, key = first["loc"] or ("",)
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        model = MODELS[str(parents[0])] if parents else Study
        return f"{'.'.join(map(str, parents)) or 'the study'}: {_unknown(key, model.model_fields)}."
    if first["type"] == "missing":
        return f"{where}: is required."
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    message = MESSAGES.get(first["type"], message)
    show_value = first["loc"] and not isinstance(first["input"], dict | BaseModel)
    given = f" {first['input']!r}:" if show_value or first["type"].endswith("_type") else ""
    return f"{where}{':' if where else ''}{given} {message}.".strip()
