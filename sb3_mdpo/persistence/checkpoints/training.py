"""A training that is going on: everything in it that changes, copied and put back."""

import time
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.common.callback_tree import walk_callbacks
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.common.ranks import current_ranks
from sb3_mdpo.envs.layers import layers, results_writers
from sb3_mdpo.persistence.checkpoints import environments, log_files
from sb3_mdpo.persistence.checkpoints.archive import Checkpoint
from sb3_mdpo.persistence.checkpoints.snapshot import Snapshot
from sb3_mdpo.persistence.checkpoints.state_pickle import (
    FAILURES,
    dumps,
    has_own_methods,
    loads,
    problems_of,
    put_back,
    state_of,
)
from sb3_mdpo.utils.random_state import generator_states, set_generator_states

# What a model is made of, or refers to, and what may be another one from now on. Parameters and optimizer are copied by
# themselves
MODEL_CONSTANT = frozenset(
    {
        "policy",
        "policy_class",
        "policy_kwargs",
        "env",
        "_vec_normalize_env",
        "rollout_buffer",
        "rollout_buffer_class",
        "rollout_buffer_kwargs",
        "observation_space",
        "action_space",
        "device",
        "start_time",
        "tensorboard_log",
        "verbose",
        "check_finite",
        "chunk_size",
        "_logger",
        "_custom_logger",
        "_callback",
        "_total_timesteps",
    }
)
# How callbacks are put together, what they are called with, where SB3's write, and bars that show progress
CALLBACK_CONSTANT = frozenset(
    {"model", "parent", "callback", "callbacks", "callback_on_new_best", "locals", "globals", "pbar"}
    | {"log_path", "save_path", "best_model_save_path"}
)
LOGGED = ("name_to_value", "name_to_count", "name_to_excluded")
# The same in all processes
SHARED = ("parameters", "optimizer")
NOISE = ("exploration_mat", "exploration_matrices")
# The environments that the model learns from; others belong to callbacks
TRAINING = "env"


class Training:
    """
    :param model: MDPO or SB3's PPO, whose ``learn()`` has begun
    :param callback: what its ``learn()`` calls
    :param without: a callback that is not part of the state

    Where several processes train together, all of them make, copy and put back theirs at the same time.
    """

    def __init__(self, model: OnPolicyAlgorithm, callback: BaseCallback, without: BaseCallback) -> None:
        assert model.env is not None
        self.model = model
        self._ranks = current_ranks()
        self._environments = {TRAINING: layers(model.env, TRAINING)}
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
                    self._environments[inside] = layers(value, inside)
                elif not isinstance(value, BaseCallback) and has_own_methods(value):
                    self._callbacks[inside] = value
        self._layers = {name: layer for parts in self._environments.values() for name, layer in parts.items()}
        self._writers = results_writers(self._layers)
        self._objects: dict[str, Any] = {
            "callback": callback,
            "without": without,
            "model": model,
            "policy": model.policy,
            "optimizer": model.policy.optimizer,
            **_parts(model.policy),
            "rollout_buffer": model.rollout_buffer,
            "logger": model.logger,
            **log_files.outputs(model.logger),
            **self._callbacks,
            **self._layers,
            **self._writers,
        }
        # What cannot be copied: attributes by the name of their object, and environments as a whole
        self._unwanted: dict[str, frozenset[str]] = {}
        self._inexact = {group for group, venv in venvs.items() if environments.in_other_processes(venv)}
        self.problems = [f"{group} are in other processes (SubprocVecEnv)" for group in sorted(self._inexact)]

    def snapshot(self, iterations: int, settings: dict[str, Any], in_rollout: bool) -> Snapshot:
        """
        :param iterations: rollouts that were followed by an update
        :param settings: what the model was made with
        :param in_rollout: whether this is the start of a rollout, and not the end of the training
        :return: the training as it is now
        """
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
            tables={name: log_files.content_of(table.file) for name, table in log_files.tables(logger).items()},
            events={name: log_files.event_positions(output) for name, output in self._tensorboards().items()},
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
                group: environments.statistics(parts)
                if group in self._inexact
                else {name: state_of(layer, environments.CONSTANT) for name, layer in parts.items()}
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
                if found := problems_of(layer, self._objects, environments.CONSTANT):
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
        """
        :param snapshot: of an earlier training
        :param settings: what the model of this one was made with
        :raises ValueError: where this training is not made as the earlier one was
        """
        then, now = 1 + len(snapshot.others), self._ranks.size
        if then != now:
            raise ValueError(
                f"The checkpoint is of a training on {then} processes, and this one has {now}: each goes on with its "
                "own environments and random generators. Start as many with torchrun, or use another folder to begin "
                "anew."
            )
        for name in sorted(snapshot.settings.keys() | settings.keys()):
            before, given = snapshot.settings.get(name), settings.get(name)
            if before != given:
                raise ValueError(
                    f"The checkpoint is of a training with {name}={before!r}, and this one has {given!r}: a training "
                    "goes on with the settings that it began with. To begin another one, use another folder."
                )

    def put_back_model(self, snapshot: Snapshot) -> dict[str, Any]:
        """
        First half, before callbacks hear that the training starts: the model and its environments.

        :param snapshot: of an earlier training
        :return: the rest, for :meth:`put_back_callbacks`
        :raises ValueError: where environments are wrapped differently, or networks are others
        """
        model = self.model
        own = [snapshot.state, *snapshot.others][self._ranks.rank]
        state: dict[str, Any] = loads(own, _Named(self._objects))
        state |= self._ranks.broadcast({name: state.get(name) for name in SHARED})
        self._put_back_environments(TRAINING, state)
        if TRAINING in state["inexact"]:  # they are at the start of episodes
            for name in ("_last_obs", "_last_episode_starts", "_last_original_obs"):
                state["model"].pop(name, None)
        put_back(model, state["model"])
        model.policy.load_state_dict(state["parameters"])
        model.policy.optimizer.load_state_dict(state["optimizer"])
        if isinstance(model, MutualOnPolicyAlgorithm):
            model.iterations_before = snapshot.iterations
        model.start_time = time.time_ns() - int(snapshot.seconds * 1e9)
        environments.shift_clocks(self._layers, snapshot.seconds)
        return state

    def put_back_callbacks(self, state: dict[str, Any], in_rollout: bool) -> None:
        """
        Second half, once callbacks have heard that the training starts: what they hold, and random generators, which
        they may have used.

        :param state: from :meth:`put_back_model`
        :param in_rollout: whether a rollout has just started
        """
        for name in self._callbacks.keys() & state["callbacks"].keys():
            put_back(self._callbacks[name], state["callbacks"][name])
        for group in self._environments.keys() & state["environments"].keys() - {TRAINING}:
            self._put_back_environments(group, state)
        vars(self.model.logger).update(state["logger"])
        for one, noise in zip(_noise(self.model), state["noise"], strict=True):
            vars(one).update({name: tensor.to(self.model.device) for name, tensor in noise.items()})
        set_generator_states(state["generators"])
        if in_rollout and not state["in_rollout"] and self.model.use_sde:  # a complete training that is prolonged
            self.model.policy.reset_noise(self.model.n_envs)

    def _put_back_environments(self, group: str, state: dict[str, Any]) -> None:
        named = _Named(self._layers)
        for name, layer in state["environments"][group].items():
            put_back(named[name], layer)

    def put_back_logs(self, checkpoint: Checkpoint) -> None:
        """
        Let all logs end where they ended then.

        :param checkpoint: of an earlier training
        """
        snapshot, texts = checkpoint.snapshot, checkpoint.texts
        logger = self.model.logger
        for name, file in log_files.appended_files(logger, self._writers):
            if name in texts:
                log_files.put_content_back(file, texts[name])
        for name, table in log_files.tables(logger).items():
            if name in snapshot.tables:
                log_files.put_table_back(table, snapshot.tables[name])
        if not checkpoint.is_a_copy():  # TensorBoard's files may be those of another training by now
            for name, output in self._tensorboards().items():
                log_files.continue_events(output, snapshot.events.get(name, []))

    def _tensorboards(self) -> dict[str, TensorBoardOutputFormat]:
        outputs = log_files.outputs(self.model.logger)
        return {name: output for name, output in outputs.items() if isinstance(output, TensorBoardOutputFormat)}


class _Named(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        raise ValueError(
            f"The checkpoint is of a training with {name}, which this one does not have: make environments, wrappers, "
            "callbacks and logger as they were, or use another folder to begin anew."
        )


def _parts(policy: th.nn.Module) -> dict[str, Any]:
    """Modules and tensors that callbacks may hold on to."""
    parts = [*policy.named_modules(), *policy.named_parameters(), *policy.named_buffers()]
    return {f"policy.{name}": part for name, part in parts if name}


def _noise(model: OnPolicyAlgorithm) -> list[Any]:
    """The distributions of generalised State Dependent Exploration, which hold the noise of a rollout."""
    policies = getattr(model.policy, "members", [model.policy])
    return [policy.action_dist for policy in policies] if model.use_sde else []


def _on_cpu(state: Any) -> Any:
    """A state dict, which a machine without this one's devices can read."""
    if isinstance(state, th.Tensor):
        return state.detach().cpu()
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    return [_on_cpu(value) for value in state] if isinstance(state, list) else state
