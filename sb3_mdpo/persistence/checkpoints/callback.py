"""The callback that writes checkpoints, and goes on from them."""

import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.utils import FloatSchedule

from sb3_mdpo.common.arguments import HYPERPARAMETERS
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.common.ranks import current_ranks
from sb3_mdpo.envs.layers import monitor_folder
from sb3_mdpo.persistence.checkpoints.archive import read_newest, remove_rest, versions, write
from sb3_mdpo.persistence.checkpoints.signals import Signals
from sb3_mdpo.persistence.checkpoints.snapshot import Snapshot
from sb3_mdpo.persistence.checkpoints.training import Training

FOLDER = "checkpoints"
SETTINGS = (*HYPERPARAMETERS, "normalize_advantage", "use_sde", "sde_sample_freq", "_stats_window_size")
# Copying takes at most this share of the time, and so does writing without save_freq, which spares disks too. But no
# pause is longer than the last: a machine that stood still for a while is not one that always needs so long
SHARE, SECONDS_BETWEEN, MOST_SECONDS_BETWEEN = 0.01, 60.0, 600.0


class ResumableCheckpointCallback(BaseCallback):
    """
    Save checkpoints from which the training goes on **bit for bit** as if it had not been interrupted: networks,
    optimizer, random generators, environments, statistics, callbacks, logs.

    At the start of a rollout a snapshot is taken in memory, as often as that takes one percent of the time, and now and
    then it is written. SIGTERM and SIGINT (Ctrl-C) write the last one and end the training, a second signal ends it at
    once; an error in MDPO's training writes it as well. For MDPO and SB3's PPO. Run the same program again to go on::

        model = MDPO("MlpPolicy", "CartPole-v1", seed=0)
        model.learn(1_000_000, callback=ResumableCheckpointCallback("checkpoints", resume=True))

    It must be the first callback. In the zoo's files ``callback: sb3_mdpo.callbacks.ResumableCheckpointCallback``,
    and ``python -m sb3_mdpo.zoo train --resume LOGDIR`` goes on.

    Environments must be in this process, and such that pickle can copy them, or with methods ``get_state()`` and
    ``set_state(state)``. Where they are not, a warning says why, and a resumed training begins new episodes in them.
    Checkpoints are pickles, which can execute code when they are read: resume only from your own.

    :param save_path: folder of the checkpoints, by default ``checkpoints`` beside the monitor files
    :param save_freq: environment steps, of all policies together, between checkpoints; None for as often as it takes
        one percent of the time, at most once a minute and at least every ten
    :param keep: how many checkpoints are kept
    :param resume: whether to go on from the newest checkpoint in the folder, if there is one
    :param handle_signals: whether SIGTERM and SIGINT write a checkpoint
    :param verbose: 0 for no output, 1 for what is resumed and interrupted, 2 for every checkpoint
    :raises ValueError: here where a number is outside its range; at the start of training where the folder has
        checkpoints and ``resume`` is False, all of them are damaged, or the training is not made as theirs was
    """

    every_rank = True  # each process has environments and generators; the first one writes those of all

    def __init__(
        self,
        save_path: str | Path | None = None,
        save_freq: int | None = None,
        keep: int = 2,
        resume: bool = False,
        handle_signals: bool = True,
        verbose: int = 1,
    ) -> None:
        super().__init__(verbose)
        if save_freq is not None and save_freq < 1:
            raise ValueError(f"save_freq={save_freq} must be at least 1 environment step, or None.")
        if keep < 1:
            raise ValueError(f"keep={keep} must be at least 1 checkpoint.")
        self.save_path = save_path
        self.save_freq = save_freq
        self.keep = keep
        self.resume = resume
        self.handle_signals = handle_signals
        self.snapshot: Snapshot | None = None
        self._signals = Signals(self._on_signal)
        self._training: Training | None = None
        self._settings: dict[str, Any] = {}
        self._to_put_back: dict[str, Any] | None = None
        self._iterations = 0
        self._written: Snapshot | None = None
        self._copy_after = self._write_after = 0.0
        self._in_rollout = False

    def _on_training_start(self) -> None:
        callbacks = self.locals["callback"]
        if _first(callbacks) is not self:
            raise ValueError(
                "ResumableCheckpointCallback must be the first callback: those before it would begin before it has "
                "told where."
            )
        self.folder = self._find_folder()
        self._settings = _settings(self.model)  # before callbacks change them
        self._training = Training(self.model, callbacks, without=self)  # type: ignore[arg-type] # PPO or MDPO
        self.snapshot = self._written = self._to_put_back = None
        self._copy_after = self._write_after = 0.0
        self._iterations, self._in_rollout = 0, False
        self._go_on()
        if self.handle_signals:
            self._signals.install()

    def _find_folder(self) -> Path:
        return current_ranks().broadcast(self._own_folder() if current_ranks().is_first else Path())

    def _own_folder(self) -> Path:
        if self.save_path is not None:
            return Path(self.save_path)
        beside = monitor_folder(self.training_env)
        if beside is None:
            raise ValueError(
                "The training environments write no monitor file beside which to put checkpoints: pass save_path to "
                "ResumableCheckpointCallback."
            )
        return beside / FOLDER

    def _go_on(self) -> None:
        assert self._training is not None
        checkpoint = current_ranks().broadcast(read_newest(self.folder) if current_ranks().is_first else None)
        if checkpoint is None:
            return
        if not self.resume:
            raise ValueError(
                f"{self.folder} has checkpoints of an earlier training: pass resume=True to go on with it, or another "
                "folder to begin anew."
            )
        snapshot = checkpoint.snapshot
        self._training.check(snapshot, self._settings)
        if current_ranks().is_first:
            self._training.put_back_logs(checkpoint)
        self._to_put_back = self._training.put_back_model(snapshot)
        self.num_timesteps = snapshot.num_timesteps
        self.snapshot = self._written = snapshot
        self._iterations = snapshot.iterations
        others = [f"{name} {then}" for name, then in checkpoint.versions.items() if then != versions()[name]]
        problems = snapshot.problems + ([f"it was written with {', '.join(others)}"] if others else [])
        if self.verbose >= 1 and current_ranks().is_first:
            print(f"Going on from step {snapshot.num_timesteps}: {checkpoint.path}")
        if checkpoint.is_a_copy() and snapshot.events and current_ranks().is_first:
            warnings.warn(
                f"{self.folder} was copied from {checkpoint.written.parent}, which is still there: TensorBoard's log "
                "is left to that one and begun anew here.",
                stacklevel=2,
            )
        if problems and current_ranks().is_first:
            warnings.warn(f"The training goes on, but not identically: {'; '.join(problems)}.", stacklevel=2)

    def _on_rollout_start(self) -> None:
        self._in_rollout = True
        if self._to_put_back is not None:
            self._finish_going_on()
            return
        interval = self.locals["log_interval"]  # SB3 counts the iterations since learn() was called
        if interval is None or self._iterations % interval == 0:
            due = self._is_due()
            copying = time.monotonic() >= self._copy_after or (due and self.save_freq is not None)
            if current_ranks().broadcast(copying):  # all processes copy at the same time
                self._take_snapshot()
            if due:
                self._write()

    def _finish_going_on(self) -> None:
        assert self._training is not None
        assert self._to_put_back is not None
        self._training.put_back_callbacks(self._to_put_back, self._in_rollout)
        self._to_put_back = None

    def _take_snapshot(self) -> None:
        assert self._training is not None
        first, start = self.snapshot is None, time.monotonic()
        self.snapshot = self._training.snapshot(self._iterations, self._settings, self._in_rollout)
        self._copy_after = _next(start)
        if first and self.snapshot.problems and current_ranks().is_first:
            problems = "; ".join(self.snapshot.problems)
            warnings.warn(f"If this training is resumed, it will go on, but not identically: {problems}.", stacklevel=2)

    def _is_due(self) -> bool:
        if self._written is None:
            return True
        if self.save_freq is None:
            return time.monotonic() >= self._write_after
        return self.num_timesteps // self.save_freq > self._written.num_timesteps // self.save_freq

    def _write(self) -> None:
        """Write the last snapshot. Where that fails, training goes on, unless it was the first."""
        assert self.snapshot is not None
        if self.snapshot is self._written or not current_ranks().is_first:
            return
        start = time.monotonic()
        try:
            with self._signals.held():
                path = write(self.folder, self.snapshot)
                remove_rest(self.folder, self.keep)
                self._write_after = max(_next(start), time.monotonic() + SECONDS_BETWEEN)
        except OSError as error:
            if self._written is None:
                raise
            warnings.warn(
                f"The checkpoint of step {self.snapshot.num_timesteps} could not be written ({error}). That of step "
                f"{self._written.num_timesteps} is still there, and training goes on.",
                stacklevel=2,
            )
            return
        self._written = self.snapshot
        if self.verbose >= 2:
            print(f"Saved {path}")

    def _on_rollout_end(self) -> None:
        self._in_rollout = False
        self._iterations += 1

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if self._training is None:  # the zoo ends its first callback twice, and where an error ended the training
            return
        if self._to_put_back is not None:  # the training was complete already
            self._finish_going_on()
        # Only MDPO tells of errors, which the zoo hides: others may be in the middle of an update
        elif isinstance(self.model, MutualOnPolicyAlgorithm) and not self._in_rollout:
            self._take_snapshot()
        self._end()

    def on_training_error(self, error: BaseException) -> None:
        """
        Called by MDPO where an error ends the training.

        :param error: what ends it
        """
        if self._training is not None:
            self._end()
            self._tell(f"Training ended at step {self.num_timesteps}")

    def _on_signal(self, number: signal.Signals) -> None:
        self._end()
        self._tell(f"{number.name} at step {self.num_timesteps}")

    def _end(self) -> None:
        """Write what is there to write."""
        self._training = None
        self._signals.uninstall()
        if self.snapshot is not None:
            self._write()

    def _tell(self, what: str) -> None:
        if self.verbose >= 1 and self._written is not None and current_ranks().is_first:
            how = (
                f"python -m sb3_mdpo.zoo train --resume {self.folder.parent}"
                if self.save_path is None
                else "the same program with resume=True"
            )
            print(f"{what}. {how} goes on from step {self._written.num_timesteps}.", file=sys.stderr)


def _next(start: float) -> float:
    """When that which began at this time, and ends now, may begin again."""
    now = time.monotonic()
    return now + min((now - start) / SHARE, MOST_SECONDS_BETWEEN)


def _first(callback: BaseCallback) -> BaseCallback:
    while isinstance(callback, CallbackList) and callback.callbacks:
        callback = callback.callbacks[0]
    return callback


def _settings(model: Any) -> dict[str, Any]:
    """What can be compared: numbers, words, and schedules that say what they are."""
    found = {name.lstrip("_"): getattr(model, name) for name in SETTINGS if name in vars(model)}
    plain = {name: one for name, one in found.items() if isinstance(one, bool | int | float | str)}
    schedules = {name: repr(one) for name, one in found.items() if isinstance(one, FloatSchedule)}
    named = {name: one for name, one in schedules.items() if " at 0x" not in one}
    return {"algorithm": type(model).__name__} | plain | named
