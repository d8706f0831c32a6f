"""The runs of a study: their names, hyperparameters and the zoo's command line."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import yaml

from sb3_mdpo.lab.study.algorithms import adapted_hyperparams, algo_of
from sb3_mdpo.lab.study.config import Study, Variant, did_you_mean
from sb3_mdpo.lab.study.methods import Hyperparams, n_policies
from sb3_mdpo.zoo.algorithms import algorithm_class, parameters_of
from sb3_mdpo.zoo.hyperparams import callbacks_of
from sb3_mdpo.zoo.register import hyperparams_folder

CALLBACK = "sb3_mdpo.callbacks.GeneralizationEvalCallback"
EVALUATIONS = 20  # during a training, by default
CONF, ALGO = "run.yml", "algo"


@dataclass(frozen=True)
class PlannedRun:
    """One training."""

    study: str
    env_id: str
    method: str  #: name of the method's variant
    seed: int
    hyperparams: Hyperparams  #: as in the zoo's files
    algo: str = "mdpo"  #: the zoo's name of the algorithm, or the dotted name of its class

    @property
    def name(self) -> str:
        """Name of the run and its folder."""
        return f"{self.env_id.replace('/', '-')}_{self.num_levels}_{self.method}_{self.seed}"

    @property
    def model_file(self) -> str:
        """Name of the model's file, which the zoo names after the environment."""
        return f"{self.env_id.replace('/', '-')}.zip"

    @property
    def num_levels(self) -> int:
        return int(self.hyperparams["env_kwargs"]["num_levels"])

    @property
    def start_level(self) -> int:
        return int(self.hyperparams["env_kwargs"]["start_level"])

    @property
    def n_timesteps(self) -> int:
        """Environment steps of all its policies together."""
        return int(self.hyperparams["n_timesteps"])

    @property
    def n_policies(self) -> int:
        """Number of its policies; one if the algorithm has no such argument."""
        return int(self.setting("n_policies", 1))

    def setting(self, name: str, otherwise: Any = None) -> Any:
        """A hyperparameter, by default the algorithm's; ``otherwise`` if the algorithm does not have it."""
        parameters = parameters_of(algorithm_class(self.algo))
        return self.hyperparams.get(name, parameters[name].default) if name in parameters else otherwise

    @property
    def conf(self) -> dict[str, Any]:
        """The zoo's file of hyperparameters for this run; the zoo reads the environment's only."""
        return {self.env_id: self.hyperparams} | ({} if self.algo == "mdpo" else {ALGO: self.algo})

    @property
    def arguments(self) -> list[str]:
        """The zoo's arguments in a folder that holds :attr:`conf`. Only the callback evaluates."""
        conf = ("-conf", CONF, "-f", ".", "--seed", str(self.seed), "--eval-freq", "-1")
        return ["train", "--algo", self.algo, "--env", self.env_id, *conf]


def plan_runs(study: Study) -> list[PlannedRun]:
    """The runs of a study, those of the first seed first, so that an unfinished study can already be compared."""
    entries: dict[str, Hyperparams] = yaml.safe_load((hyperparams_folder() / "mdpo.yml").read_text())
    return [
        _planned(study, entries, env_id, num_levels, variant, seed)
        for seed, env_id, num_levels, variant in product(
            study.seeds, study.env_ids, study.num_levels or (None,), study.methods
        )
    ]


def _planned(
    study: Study, entries: dict[str, Hyperparams], env_id: str, num_levels: int | None, variant: Variant, seed: int
) -> PlannedRun:
    if env_id not in entries:
        raise ValueError(f"mdpo.yml has no hyperparameters for {env_id}{did_you_mean(env_id, list(entries))}.")
    base = entries[env_id] | study.hyperparams
    base["n_timesteps"] = int(study.timesteps or base["n_timesteps"])
    try:
        hyperparams = adapted_hyperparams(variant.method, base) | variant.hyperparams
    except ValueError as error:
        raise ValueError(f"methods: {variant.name} on {env_id}: {error}") from error
    hyperparams["n_timesteps"] = int(hyperparams["n_timesteps"])
    train_levels = num_levels or entries[env_id]["env_kwargs"]["num_levels"]
    levels = {"num_levels": train_levels, "start_level": study.start_level}
    hyperparams["env_kwargs"] = (hyperparams.get("env_kwargs") or {}) | levels
    run = PlannedRun(study.name, env_id, variant.name, seed, hyperparams, algo_of(variant.method))
    freq = study.evaluation.freq or max(1, base["n_timesteps"] // EVALUATIONS)
    # After the same number of steps per policy in all methods
    freq = max(1, freq * run.n_policies // n_policies(base))
    evaluation = vars(study.evaluation) | {"eval_freq": freq, "env_id": env_id, "start_level": study.start_level}
    evaluation["train_levels"] = train_levels
    del evaluation["freq"]
    if evaluation["final_episodes"] is None:
        del evaluation["final_episodes"]  # as in runs of earlier versions, which must stay complete
    hyperparams["callback"] = [*callbacks_of(hyperparams), {CALLBACK: evaluation}]
    return run
