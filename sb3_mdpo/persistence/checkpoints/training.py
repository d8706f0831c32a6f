"""Saving and restoring the complete state of a running training."""

import time
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import CSVOutputFormat, KVWriter, TensorBoardOutputFormat
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecNormalize

from sb3_mdpo.common.callback_tree import walk_callbacks
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.common.ranks import current_ranks
from sb3_mdpo.envs.layers import layers, monitors, results_writers
from sb3_mdpo.persistence.checkpoints import log_files
from sb3_mdpo.persistence.checkpoints.archive import Checkpoint, Snapshot
from sb3_mdpo.persistence.checkpoints.state_pickle import (
    FAILURES,
    dumps,
    has_state_methods,
    loads,
    problems_of,
    restore,
    state_of,
)
from sb3_mdpo.utils.random_state import generator_states, set_generator_states

# Attributes that are not saved. The model's: parts with a separate state, and settings that the program passes
MODEL_CONSTANT = frozenset(
    {"policy", "policy_class", "policy_kwargs", "env", "_vec_normalize_env", "observation_space", "action_space"}
    | {"rollout_buffer", "rollout_buffer_class", "rollout_buffer_kwargs", "device", "start_time", "tensorboard_log"}
    | {"verbose", "check_finite", "chunk_size", "_logger", "_custom_logger", "_callback", "_total_timesteps"}
)
# The callbacks': their structure and arguments, the folders of SB3's callbacks, and progress bars
CALLBACK_CONSTANT = frozenset(
    {"model", "parent", "callback", "callbacks", "callback_on_new_best", "locals", "globals", "pbar"}
    | {"log_path", "save_path", "best_model_save_path"}
)
# The environments': their description, and clocks
ENV_CONSTANT = frozenset({"class_attributes", "spec", "_cached_spec", "metadata", "t_start"})
# VecNormalize's attributes that are saved even if the environments cannot be
STATISTICS = ("obs_rms", "ret_rms")
LOGGED = ("name_to_value", "name_to_count", "name_to_excluded")
SHARED = ("parameters", "optimizer")  # the same in all processes
NOISE = ("exploration_mat", "exploration_matrices")
TRAINING = "env"  # the model's environments; others belong to callbacks


class Training:
    """
    The training of MDPO or SB3's PPO, whose ``learn()`` has begun, with its callbacks except for one that is not part
    of the state. In a distributed training, all processes must create, save and restore theirs at the same time.
    """

    def __init__(self, model: OnPolicyAlgorithm, callback: BaseCallback, without: BaseCallback) -> None:
        assert model.env is not None
        self.model = model
        self._ranks = current_ranks()
        self._callbacks: dict[str, Any] = {}
        venvs = {TRAINING: model.env}
        for one in walk_callbacks(callback):
            if one is without:
                continue
            name = f"{type(one).__name__} {sum(type(other) is type(one) for other in self._callbacks.values())}"
            self._callbacks[name] = one
            for attribute, value in vars(one).items():
                inside = f"{name}.{attribute}"
                if isinstance(value, VecEnv) and value is not model.env:
                    venvs[inside] = value
                elif not isinstance(value, BaseCallback) and has_state_methods(value):
                    self._callbacks[inside] = value
        self._environments = {group: layers(venv, group) for group, venv in venvs.items()}
        self._layers = {name: layer for parts in self._environments.values() for name, layer in parts.items()}
        self._writers = results_writers(self._layers)
        policy = model.policy
        parts = [*policy.named_modules(), *policy.named_parameters(), *policy.named_buffers()]
        self._objects: dict[str, Any] = {  # that a state may refer to
            "callback": callback,
            "without": without,
            "model": model,
            "policy": policy,
            "optimizer": policy.optimizer,
            **{f"policy.{name}": part for name, part in parts if name},
            "rollout_buffer": model.rollout_buffer,
            "logger": model.logger,
            **log_files.outputs(model.logger, KVWriter),
            **self._callbacks,
            **self._layers,
            **self._writers,
        }
        # Attributes that cannot be saved, by the name of their object; whole groups of environments
        self._unwanted: dict[str, frozenset[str]] = {}
        self._inexact = {group for group, venv in venvs.items() if isinstance(venv.unwrapped, SubprocVecEnv)}
        self.problems = [f"{group} are in other processes (SubprocVecEnv)" for group in sorted(self._inexact)]

    def snapshot(self, iterations: int, settings: dict[str, Any], in_rollout: bool) -> Snapshot:
        """The training in its current state, at the start of a rollout or at the end of the training."""
        try:
            state = dumps(self._state(in_rollout), self._objects)
        except FAILURES:
            self._find_problems()
            state = dumps(self._state(in_rollout), self._objects)
        logger = self.model.logger
        return Snapshot(
            num_timesteps=self.model.num_timesteps,
            iterations=iterations,
            seconds=(time.time_ns() - self.model.start_time) / 1e9,
            settings=settings,
            problems=list(self.problems),
            state=state,
            others=self._ranks.gather_to_first(state)[1:],
            files={name: log_files.position(file) for name, file in log_files.appended_files(logger, self._writers)},
            tables={
                name: log_files.position(one.file).read()
                for name, one in log_files.outputs(logger, CSVOutputFormat).items()
            },
            events={
                name: log_files.event_positions(one)
                for name, one in log_files.outputs(logger, TensorBoardOutputFormat).items()
            },
        )

    def _state(self, in_rollout: bool) -> dict[str, Any]:
        model = self.model
        model_state = state_of(model, MODEL_CONSTANT | self._unwanted.get("model", frozenset()))
        shared = {
            "parameters": _on_cpu(model.policy.state_dict()),
            "optimizer": _on_cpu(model.policy.optimizer.state_dict()),
        }
        return (shared if self._ranks.is_first else {}) | {
            "model": model_state,
            "noise": [{name: getattr(one, name).detach().cpu() for name in NOISE} for one in _noise(model)],
            "logger": {name: getattr(model.logger, name) for name in LOGGED},
            "callbacks": {
                name: state_of(one, CALLBACK_CONSTANT | self._unwanted.get(name, frozenset()))
                for name, one in self._callbacks.items()
            },
            "environments": {
                group: _statistics(parts)
                if group in self._inexact
                else {name: state_of(layer, ENV_CONSTANT) for name, layer in parts.items()}
                for group, parts in self._environments.items()
            },
            "inexact": self._inexact,
            "in_rollout": in_rollout,
            "generators": generator_states(),
        }

    def _find_problems(self) -> None:
        for group, parts in self._environments.items():
            if group in self._inexact:
                continue
            for layer in parts.values():
                if found := problems_of(layer, self._objects, ENV_CONSTANT):
                    self._inexact.add(group)
                    self.problems += found.values()
        for name, one, constant in (
            ("model", self.model, MODEL_CONSTANT),
            *((name, one, CALLBACK_CONSTANT) for name, one in self._callbacks.items()),
        ):
            unwanted = self._unwanted.get(name, frozenset())
            if found := problems_of(one, self._objects, constant | unwanted):
                self._unwanted[name] = unwanted | found.keys()
                self.problems += found.values()

    def check(self, snapshot: Snapshot, settings: dict[str, Any]) -> None:
        """Raise a ``ValueError`` if the snapshot is of other settings or another number of processes."""
        before, now = 1 + len(snapshot.others), self._ranks.size
        if before != now:
            raise ValueError(
                f"The checkpoint is from a training with {before} processes, this one has {now}: each resumes its own "
                f"environments and random generators. Start {before} with torchrun, or use another folder to start "
                "anew."
            )
        for name in sorted(snapshot.settings.keys() | settings.keys()):
            saved, given = snapshot.settings.get(name), settings.get(name)
            if saved != given:
                raise ValueError(
                    f"The checkpoint is from a training with {name}={saved!r}, this one has {name}={given!r}: resume "
                    "with the same settings, or use another folder to start anew."
                )

    def restore_model(self, snapshot: Snapshot) -> dict[str, Any]:
        """
        First half, before the other callbacks are told that training starts: the model and its environments. Returns
        the state for :meth:`restore_callbacks`.
        """
        model = self.model
        own = [snapshot.state, *snapshot.others][self._ranks.rank]
        state: dict[str, Any] = loads(own, _Named(self._objects))
        state |= self._ranks.broadcast({name: state.get(name) for name in SHARED})
        self._restore_environments(TRAINING, state)
        if TRAINING in state["inexact"]:  # new episodes begin
            for name in ("_last_obs", "_last_episode_starts", "_last_original_obs"):
                state["model"].pop(name, None)
        restore(model, state["model"])
        model.policy.load_state_dict(state["parameters"])
        model.policy.optimizer.load_state_dict(state["optimizer"])
        if isinstance(model, MutualOnPolicyAlgorithm):
            model.iterations_before = snapshot.iterations
        model.start_time = time.time_ns() - int(snapshot.seconds * 1e9)
        for monitor in monitors(self._layers.values()):  # time between interruption and resuming does not count
            monitor.t_start -= snapshot.seconds
        return state

    def restore_callbacks(self, state: dict[str, Any], in_rollout: bool) -> None:
        """
        Second half, when the other callbacks have been told that training starts: their states, and the random
        generators, which they may have used.
        """
        for name in self._callbacks.keys() & state["callbacks"].keys():
            restore(self._callbacks[name], state["callbacks"][name])
        for group in self._environments.keys() & state["environments"].keys() - {TRAINING}:
            self._restore_environments(group, state)
        vars(self.model.logger).update(state["logger"])
        for one, noise in zip(_noise(self.model), state["noise"], strict=True):
            vars(one).update({name: tensor.to(self.model.device) for name, tensor in noise.items()})
        set_generator_states(state["generators"])
        if in_rollout and not state["in_rollout"] and self.model.use_sde:  # a complete training continues
            self.model.policy.reset_noise(self.model.n_envs)

    def _restore_environments(self, group: str, state: dict[str, Any]) -> None:
        named = _Named(self._layers)
        for name, layer in state["environments"][group].items():
            restore(named[name], layer)

    def restore_logs(self, checkpoint: Checkpoint) -> None:
        """Cut all logs where they ended at the checkpoint."""
        snapshot, logger = checkpoint.snapshot, self.model.logger
        for name, file in log_files.appended_files(logger, self._writers):
            if name in checkpoint.texts:
                log_files.restore_content(file, checkpoint.texts[name])
        for name, table in log_files.outputs(logger, CSVOutputFormat).items():
            if name in snapshot.tables:
                log_files.restore_table(table, snapshot.tables[name])
        if not checkpoint.is_a_copy:  # else the original training may still write TensorBoard's files
            for name, output in log_files.outputs(logger, TensorBoardOutputFormat).items():
                log_files.continue_events(output, snapshot.events.get(name, []))


class _Named(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        raise ValueError(
            f"The checkpoint is from a training with {name}, which this one does not have: create the same "
            "environments, wrappers, callbacks and logger, or use another folder to start anew."
        )


def _statistics(parts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {key: getattr(layer, key) for key in STATISTICS if hasattr(layer, key)}
        for name, layer in parts.items()
        if isinstance(layer, VecNormalize)
    }


def _noise(model: OnPolicyAlgorithm) -> list[Any]:
    """The distributions of generalized State Dependent Exploration, which hold the noise of a rollout."""
    policies = getattr(model.policy, "members", [model.policy])
    return [policy.action_dist for policy in policies] if model.use_sde else []


def _on_cpu(state: Any) -> Any:
    """A state dict that machines without this one's devices can read."""
    if isinstance(state, th.Tensor):
        return state.detach().cpu()
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    return [_on_cpu(value) for value in state] if isinstance(state, list) else state
