"""Callbacks for training."""

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam

from sb3_mdpo.common.arguments import HYPERPARAMETERS
from sb3_mdpo.common.budget import BudgetMeter

METRICS = ("rollout/ep_rew_mean", "train/distill_kl", "train/value_loss", "train/loss")


class HParamCallback(BaseCallback):
    """
    Record the hyperparameters, with the metrics to compare them by, in TensorBoard's HPARAMS tab.

    In the zoo's files: ``callback: sb3_mdpo.callbacks.HParamCallback``. Schedules are recorded as text.
    """

    def _on_training_start(self) -> None:
        values = {"algorithm": type(self.model).__name__}
        for name in filter(vars(self.model).__contains__, HYPERPARAMETERS):  # PPO, to compare with, has fewer
            value = getattr(self.model, name)
            values[name] = value if isinstance(value, (bool, int, float, str)) else str(value)  # type: ignore[assignment]
        record = HParam(values, dict.fromkeys(METRICS, 0.0))  # type: ignore[arg-type]
        self.logger.record("hparams", record, exclude=("stdout", "log", "json", "csv"))

    def _on_step(self) -> bool:
        return True


class BudgetCallback(BaseCallback):
    """
    Log the budget of the training at the end of every rollout and of the training, to compare methods:
    ``budget/timesteps``, ``budget/timesteps_per_policy``, ``budget/trained_images`` and ``budget/seconds``, see
    :class:`~sb3_mdpo.common.budget.Budget`.

    For MDPO and other on-policy algorithms. In the zoo's files: ``callback: sb3_mdpo.callbacks.BudgetCallback``.
    """

    def __init__(self, verbose: int = 0) -> None:
        super().__init__(verbose)
        self._meter = BudgetMeter()

    def _on_training_start(self) -> None:
        self._meter.start(self.model)  # type: ignore[arg-type] # which checks it

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        for name, value in vars(self._meter.read()).items():
            self.logger.record(f"budget/{name}", value)

    def _on_training_end(self) -> None:
        if not self._meter.running:  # the zoo ends its first callback twice
            return
        self._on_rollout_end()  # the last update is not followed by another rollout
        self._meter.stop()
        self.logger.dump(self.num_timesteps)
