"""Evaluation on training and unseen levels during training."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, EventCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.common.budget import Budget, BudgetMeter
from sb3_mdpo.envs.layers import monitor_folder
from sb3_mdpo.lab.generalization.evaluation import MakeEnv, check_episodes, check_levels, evaluate_generalization
from sb3_mdpo.lab.generalization.results import ENSEMBLE, TABLE, GeneralizationResult, read_table, write_table
from sb3_mdpo.utils.atomic import replacing


class GeneralizationEvalCallback(EventCallback):
    """
    Evaluate each policy and the ensemble on training levels and on unseen levels, before, during and at the end of
    training, see :func:`~sb3_mdpo.lab.evaluate_generalization`. Training is bitwise the same as without evaluation.

    Evaluations happen between updates. For MDPO and other on-policy algorithms, in environments with levels. In the
    zoo's files::

        callback:
          - sb3_mdpo.callbacks.GeneralizationEvalCallback:
              eval_freq: 100000

    The keys ``eval_train/mean_return``, ``eval_unseen/mean_return``, ``eval/gap`` and ``eval/kl`` are means over the
    members. Keys of single policies contain their name (``eval_unseen/policy_0_mean_return``,
    ``eval_unseen/ensemble_mean_return``). The best model has the highest mean over the members of the return on unseen
    levels, whichever policy ``predict()`` uses.

    :param eval_freq: environment steps of all policies together between two evaluations, as the zoo's ``--eval-freq``
        (SB3's ``EvalCallback`` counts calls of ``step()``); evaluations are after the first update at or past each
        multiple
    :param episodes: episodes per policy and set of levels
    :param final_episodes: as ``episodes``, in the evaluation at the end of training; None for as many
    :param n_envs: number of environments, None for one per episode but at most 32
    :param seed: seed of every evaluation
    :param deterministic: whether to take the most probable actions; the paper samples
    :param env_id: Gymnasium id, None for that of the training environments
    :param train_levels: number of training levels, None for that of the training environments
    :param start_level: first training level, None for that of the training environments
    :param make_env: see :func:`~sb3_mdpo.lab.evaluate_generalization`; needed if the training environments stack frames
        or normalize observations
    :param log_path: folder of the table ``generalization.csv``, None for that of the training environments' monitor
        file, in the zoo the run folder
    :param best_model_save_path: folder of ``best_model.zip``, None for that of the table
    :param callback_on_new_best: called after each new best model
    :param callback_after_eval: called after each evaluation
    :param verbose: 0 for no output, 1 to print the results
    :raises ValueError: if a number is out of range; at the start of training if levels or folders are not known, or
        another callback saves its best model to the same file
    """

    def __init__(
        self,
        eval_freq: int,
        episodes: int = 64,
        n_envs: int | None = None,
        seed: int = 0,
        deterministic: bool = False,
        env_id: str | None = None,
        train_levels: int | None = None,
        start_level: int | None = None,
        make_env: MakeEnv | None = None,
        log_path: str | Path | None = None,
        best_model_save_path: str | Path | None = None,
        callback_on_new_best: BaseCallback | None = None,
        callback_after_eval: BaseCallback | None = None,
        verbose: int = 1,
        final_episodes: int | None = None,
    ) -> None:
        super().__init__(callback_after_eval, verbose)
        if eval_freq < 1:
            raise ValueError(f"eval_freq={eval_freq} must be at least 1 environment step.")
        self.eval_freq = eval_freq
        self.episodes = episodes
        self.n_envs = check_episodes(episodes, n_envs, seed)
        self.final_episodes = episodes if final_episodes is None else final_episodes
        check_episodes(self.final_episodes, self.n_envs, seed)
        self.seed = seed
        self.deterministic = deterministic
        self.env_id = env_id
        self.train_levels = train_levels
        self.start_level = start_level
        self.make_env = make_env
        self.log_path = log_path
        self.best_model_save_path = best_model_save_path
        self.callback_on_new_best = callback_on_new_best
        if callback_on_new_best is not None:
            callback_on_new_best.parent = self
        self.best_mean_reward = -np.inf  # read by SB3's callbacks for new best models
        self.last_result: GeneralizationResult | None = None
        self.rows: list[dict[str, Any]] = []
        self._meter = BudgetMeter()
        self._evaluated_at: int | None = None
        self._continue = True

    def _init_callback(self) -> None:
        made_with = _made_with(self.training_env)
        if self.env_id is not None and not _same(self.env_id, made_with.get("env_id")):
            made_with = {}
        given = {"env_id": self.env_id, "num_levels": self.train_levels, "start_level": self.start_level}
        settings = made_with | {key: value for key, value in given.items() if value is not None}
        if "env_id" not in settings or "num_levels" not in settings:
            raise ValueError(
                "The training environments do not report their id and levels: pass env_id and train_levels to "
                "GeneralizationEvalCallback, or train in native ones (make_levels, or native_vec_env in the zoo)."
            )
        self._env_id = settings.pop("env_id")
        self._train_levels = check_levels(self._env_id, settings.pop("num_levels"))
        self._start_level = settings.pop("start_level", 0)
        self._env_kwargs = settings
        if self.callback_on_new_best is not None:
            self.callback_on_new_best.init_callback(self.model)

    # Not attributes, because checkpoints would store them and training may resume in another folder

    @property
    def _table(self) -> Path:
        folder = monitor_folder(self.training_env) if self.log_path is None else Path(self.log_path)
        if folder is None:
            raise ValueError(
                "The training environments write no monitor file, so the folder of generalization.csv is not known: "
                "pass log_path to GeneralizationEvalCallback."
            )
        return folder / TABLE

    @property
    def _best_model(self) -> Path:
        return Path(self.best_model_save_path or self._table.parent) / "best_model.zip"

    def _on_training_start(self) -> None:
        super()._on_training_start()
        _check_no_other_writes(self._best_model, self.locals.get("callback"))
        known = read_table(self._table) if self.num_timesteps and self._table.exists() else []
        self.rows = [row for row in known if row["timesteps"] <= self.num_timesteps]
        before = Budget(**{key: self.rows[-1][key] for key in Budget.__dataclass_fields__}) if self.rows else None
        self._meter.start(self.model, before)  # type: ignore[arg-type] # checked there
        self._evaluated_at = self.rows[-1]["timesteps"] if self.rows else None
        self.best_mean_reward = _best(self.rows)

    def _on_rollout_start(self) -> None:
        before, now = self._evaluated_at, self.model.num_timesteps
        if before is None or now // self.eval_freq > before // self.eval_freq:
            self._evaluate(self.episodes)

    def _on_step(self) -> bool:
        return self._continue

    def _on_training_end(self) -> None:
        if not self._meter.running:  # the zoo ends its first callback twice, and also if training could not start
            return
        if self._evaluated_at != self.model.num_timesteps:
            self._evaluate(self.final_episodes)
        self._meter.stop()

    def _evaluate(self, episodes: int) -> None:
        budget = self._meter.read()
        result = evaluate_generalization(
            self.model,  # type: ignore[arg-type]
            self._env_id,
            self._train_levels,
            episodes,
            self.seed,
            self.deterministic,
            self._start_level,
            self.n_envs,
            self._env_kwargs,
            self.make_env,
        )
        self.last_result = result
        self._evaluated_at = budget.timesteps
        self.rows += [vars(budget) | policy.row() for policy in result.policies]
        write_table(self._table, self.rows)
        self._log(result, budget)
        if _best(self.rows) > self.best_mean_reward:
            self.best_mean_reward = _best(self.rows)
            with replacing(self._best_model) as file:
                self.model.save(file)  # type: ignore[arg-type]
            if self.callback_on_new_best is not None:
                self._continue = self.callback_on_new_best.on_step()
        self._continue = self._on_event() and self._continue

    def _log(self, result: GeneralizationResult, budget: Budget) -> None:
        for key, value in logged(result).items():
            self.logger.record(key, value)
        self.logger.record("time/total_timesteps", budget.timesteps, exclude="tensorboard")
        self.logger.dump(budget.timesteps)
        if self.verbose >= 1:
            for policy in result.policies:
                print(
                    f"Eval num_timesteps={budget.timesteps}, {policy.policy}: training levels "
                    f"{policy.training.mean:.2f} +/- {policy.training.stderr:.2f}, unseen levels "
                    f"{policy.unseen.mean:.2f} +/- {policy.unseen.stderr:.2f}"
                )


def logged(result: GeneralizationResult) -> dict[str, float]:
    """Values to log by key, without undefined ones."""
    columns = {"eval/gap": "gap", "eval/kl": "kl"}
    for group, levels in (("eval_train", "training"), ("eval_unseen", "unseen")):
        columns |= {
            f"{group}/mean_return": f"{levels}_return",
            f"{group}/normalized_score": f"{levels}_normalized",
            f"{group}/success_rate": f"{levels}_success",
        }
    rows: dict[str, list[dict[str, Any]]] = {"": [member.row() for member in result.members]}
    rows |= {f"{policy.policy.replace(' ', '_')}_": [policy.row()] for policy in result.policies}
    return {
        key.replace("/", f"/{prefix}"): float(np.mean([row[column] for row in averaged]))
        for key, column in columns.items()
        for prefix, averaged in rows.items()
        if averaged[0][column] is not None
    }


def _best(rows: list[dict[str, Any]]) -> float:
    unseen: dict[int, list[float]] = {}
    for row in rows:
        if row["policy"] != ENSEMBLE:
            unseen.setdefault(row["timesteps"], []).append(row["unseen_return"])
    return float(max(map(np.mean, unseen.values()), default=-np.inf))


def _made_with(env: VecEnv) -> dict[str, Any]:
    if not (env.has_attr("env_id") and env.has_attr("env_kwargs")):
        return {}
    return {"env_id": env.get_attr("env_id")[0], **env.get_attr("env_kwargs")[0]}


def _same(env_id: str, other: str | None) -> bool:
    """Whether two ids are of the same environment, e.g. procgen-bigfish-v0 and procgen-bigfish-hard-v0."""
    if other is None or other not in gym.registry or env_id not in gym.registry:
        return env_id == other
    one, two = gym.spec(env_id), gym.spec(other)
    return (one.entry_point, one.kwargs) == (two.entry_point, two.kwargs)


def _check_no_other_writes(best_model: Path, callbacks: BaseCallback | None) -> None:
    for callback in getattr(callbacks, "callbacks", []):
        if isinstance(callback, EvalCallback) and callback.best_model_save_path is not None:
            path = Path(callback.best_model_save_path) / "best_model.zip"
            if path.resolve() == best_model.resolve():
                raise ValueError(
                    f"SB3's EvalCallback also saves its best model to {best_model}: switch it off (--eval-freq -1 "
                    "in the zoo) or pass another best_model_save_path."
                )
