"""The callback that writes checkpoints and resumes from them."""

import signal
import sys
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.utils import FloatSchedule

from sb3_mdpo.common.arguments import HYPERPARAMETERS
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.common.ranks import current_ranks, from_first
from sb3_mdpo.envs.layers import monitor_folder
from sb3_mdpo.persistence.checkpoints.archive import VERSIONS, Checkpoint, Snapshot, read_newest, remove_old, write
from sb3_mdpo.persistence.checkpoints.lock import locked
from sb3_mdpo.persistence.checkpoints.signals import Signals
from sb3_mdpo.persistence.checkpoints.training import Training

FOLDER = "checkpoints"
SETTINGS = (*HYPERPARAMETERS, "normalize_advantage", "use_sde", "sde_sample_freq", "_stats_window_size")
# Snapshots take at most this share of the time, and so does writing if save_freq is None. The longest interval keeps a
# single slow one from delaying the next for hours
SHARE, SECONDS_BETWEEN, MOST_SECONDS_BETWEEN = 0.01, 60.0, 600.0


class ResumableCheckpointCallback(BaseCallback):
    """
    Save checkpoints from which training resumes **bit for bit** as if it had not been interrupted: networks, optimizer,
    random generators, environments, statistics, callbacks, logs.

    Snapshots are taken in memory at the start of rollouts, in at most one percent of the time, and some are written to
    disk. SIGTERM and SIGINT (Ctrl-C) write the last one and end the training, a second signal ends it at once; an error
    in MDPO's training also writes it. For MDPO and SB3's PPO. Run the same program again to resume::

        model = MDPO("MlpPolicy", "CartPole-v1", seed=0)
        model.learn(1_000_000, callback=ResumableCheckpointCallback("checkpoints", resume=True))

    It must be the first callback. In the zoo's files write
    ``callback: sb3_mdpo.callbacks.ResumableCheckpointCallback``, and resume with
    ``python -m sb3_mdpo.zoo train --resume LOGDIR``.

    Environments must be in this process, and pickle must be able to copy their attributes, or they must have methods
    ``get_state()`` and ``set_state(state)``. Otherwise a warning names the reason, and a resumed training starts new
    episodes. Checkpoints are pickles, which can execute code when they are read: resume only from your own.

    :param save_path: folder of the checkpoints, by default ``checkpoints`` beside the monitor files
    :param save_freq: environment steps, of all policies together, between checkpoints; None for as often as it takes
        one percent of the time, at most once a minute and at least every ten
    :param keep: number of newest checkpoints to keep
    :param resume: whether to resume from the newest checkpoint in the folder, if there is one
    :param handle_signals: whether SIGTERM and SIGINT write a checkpoint
    :param verbose: 0 for no output, 1 for messages about resuming and interruptions, 2 for every checkpoint
    :raises ValueError: if a number is outside its range; at the start of training if the folder has checkpoints and
        ``resume`` is False, all of them are damaged, another process is training there, or the training was set up
        differently
    """

    every_rank = True  # every process has environments and generators; the first one writes all of them

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
        self._signals = Signals(self._on_signal)
        self._until_end = ExitStack()  # the lock of the folder, and the handlers of signals
        self._training: Training | None = None
        self._settings: dict[str, Any] = {}
        self._reset()

    def _reset(self) -> None:
        self.snapshot: Snapshot | None = None
        self._written: Snapshot | None = None
        self._to_restore: dict[str, Any] | None = None
        self._copy_after = self._write_after = 0.0
        self._iterations, self._in_rollout = 0, False

    def _on_training_start(self) -> None:
        callbacks = self.locals["callback"]
        if _first(callbacks) is not self:
            raise ValueError(
                "ResumableCheckpointCallback must be the first callback: those before it would start before the "
                "training is resumed."
            )
        self.folder = from_first(self._find_folder)
        self._settings = _settings(self.model)  # before callbacks change them
        self._until_end.close()  # PPO does not report the error that ended an earlier training
        self._training = None
        self._reset()
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder))
            self._training = Training(self.model, callbacks, without=self)  # type: ignore[arg-type] # PPO or MDPO
            self._resume()
            if self.handle_signals:
                self._signals.install()
                stack.callback(self._signals.uninstall)
            self._until_end = stack.pop_all()

    def _find_folder(self) -> Path:
        if self.save_path is not None:
            return Path(self.save_path)
        monitored = monitor_folder(self.training_env)
        if monitored is None:
            raise ValueError(
                "The training environments write no monitor files beside which to put checkpoints: pass save_path "
                "to ResumableCheckpointCallback."
            )
        return monitored / FOLDER

    def _resume(self) -> None:
        assert self._training is not None
        is_first = current_ranks().is_first
        checkpoint = from_first(lambda: read_newest(self.folder))
        if checkpoint is None:
            return
        if not self.resume:
            raise ValueError(
                f"{self.folder} has checkpoints of an earlier training: pass resume=True to resume it, or another "
                "folder to start anew."
            )
        snapshot = checkpoint.snapshot
        self._training.check(snapshot, self._settings)
        if is_first:
            self._training.restore_logs(checkpoint)
        self._to_restore = self._training.restore_model(snapshot)
        self.num_timesteps = snapshot.num_timesteps
        self.snapshot = self._written = snapshot
        self._iterations = snapshot.iterations
        if is_first:
            self._tell_of_resuming(checkpoint)

    def _tell_of_resuming(self, checkpoint: Checkpoint) -> None:
        snapshot = checkpoint.snapshot
        if self.verbose >= 1:
            print(f"Resuming from step {snapshot.num_timesteps}: {checkpoint.path}")
        if checkpoint.is_a_copy and snapshot.events:
            warnings.warn(
                f"{self.folder} was copied from {checkpoint.written.parent}, which still exists: TensorBoard's log is "
                "left to that one and started anew here.",
                stacklevel=2,
            )
        others = [f"{name} {version}" for name, version in checkpoint.versions.items() if version != VERSIONS[name]]
        problems = snapshot.problems + ([f"it was written with {', '.join(others)}"] if others else [])
        if problems:
            warnings.warn(f"The training resumes, but not identically: {'; '.join(problems)}.", stacklevel=2)

    def _on_rollout_start(self) -> None:
        self._in_rollout = True
        if self._to_restore is not None:
            self._finish_resuming()
            return
        interval = self.locals["log_interval"]  # SB3 counts the iterations since learn() was called
        if interval is None or self._iterations % interval == 0:
            due = self._is_due()
            copying = time.monotonic() >= self._copy_after or (due and self.save_freq is not None)
            if current_ranks().broadcast(copying):  # all processes copy at the same time
                self._take_snapshot()
            if due:
                self._write()

    def _finish_resuming(self) -> None:
        assert self._training is not None
        assert self._to_restore is not None
        self._training.restore_callbacks(self._to_restore, self._in_rollout)
        self._to_restore = None

    def _take_snapshot(self) -> None:
        assert self._training is not None
        first, start = self.snapshot is None, time.monotonic()
        self.snapshot = self._training.snapshot(self._iterations, self._settings, self._in_rollout)
        self._copy_after = _next(start)
        if first and self.snapshot.problems and current_ranks().is_first:
            problems = "; ".join(self.snapshot.problems)
            warnings.warn(
                f"If this training is resumed, it will continue, but not identically: {problems}.", stacklevel=2
            )

    def _is_due(self) -> bool:
        if self._written is None:
            return True
        if self.save_freq is None:
            return time.monotonic() >= self._write_after
        return self.num_timesteps // self.save_freq > self._written.num_timesteps // self.save_freq

    def _write(self) -> None:
        """Write the last snapshot. If that fails, training continues, unless it was the first."""
        assert self.snapshot is not None
        if self.snapshot is self._written or not current_ranks().is_first:
            return
        start = time.monotonic()
        try:
            with self._signals.held():
                path = write(self.folder, self.snapshot)
                remove_old(self.folder, self.keep)
                self._write_after = max(_next(start), time.monotonic() + SECONDS_BETWEEN)
        except OSError as error:
            if self._written is None:
                raise
            warnings.warn(
                f"The checkpoint of step {self.snapshot.num_timesteps} could not be written ({error}). That of step "
                f"{self._written.num_timesteps} is still there, and training continues.",
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
        if self._training is None:  # the zoo ends its first callback twice, also after an error
            return
        if self._to_restore is not None:  # the resumed training was already complete
            self._finish_resuming()
        # Only MDPO calls on_training_error(): the zoo hides PPO's errors, which may come in the middle of an update
        elif isinstance(self.model, MutualOnPolicyAlgorithm) and not self._in_rollout:
            self._take_snapshot()
        self._end()

    def on_training_error(self, error: BaseException) -> None:
        """Called by MDPO if an error ends the training: write the last snapshot."""
        if self._training is not None:
            self._end()
            self._tell(f"Training ended at step {self.num_timesteps}")

    def _on_signal(self, number: signal.Signals) -> None:
        self._end()
        self._tell(f"{number.name} at step {self.num_timesteps}")

    def _end(self) -> None:
        self._training = None
        with self._until_end:  # signals wait for the last checkpoint
            if self.snapshot is not None:
                self._write()

    def _tell(self, what: str) -> None:
        if self.verbose >= 1 and self._written is not None and current_ranks().is_first:
            how = (
                f"python -m sb3_mdpo.zoo train --resume {self.folder.parent}"
                if self.save_path is None
                else "the same program with resume=True"
            )
            print(f"{what}. To resume from step {self._written.num_timesteps}: {how}", file=sys.stderr)


def _next(start: float) -> float:
    """Earliest time to repeat what started at this time and ends now."""
    now = time.monotonic()
    return now + min((now - start) / SHARE, MOST_SECONDS_BETWEEN)


def _first(callback: BaseCallback) -> BaseCallback:
    while isinstance(callback, CallbackList) and callback.callbacks:
        callback = callback.callbacks[0]
    return callback


def _settings(model: Any) -> dict[str, Any]:
    """Settings that can be compared: numbers, strings, and schedules whose ``repr()`` shows their values."""
    found = {name.lstrip("_"): getattr(model, name) for name in SETTINGS if name in vars(model)}
    plain = {name: one for name, one in found.items() if isinstance(one, bool | int | float | str)}
    schedules = {name: repr(one) for name, one in found.items() if isinstance(one, FloatSchedule)}
    named = {name: one for name, one in schedules.items() if " at 0x" not in one}
    return {"algorithm": type(model).__name__} | plain | named
