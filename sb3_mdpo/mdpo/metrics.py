"""The metrics that one call of ``train()`` logs."""

from dataclasses import dataclass

import numpy as np
import torch as th
from numpy.typing import NDArray

from sb3_mdpo.common.mutual_policy import MutualPolicy
from sb3_mdpo.common.nonfinite import BLAMED, NonFiniteError, in_weights
from sb3_mdpo.common.ranks import ALONE, Ranks
from sb3_mdpo.mdpo.update import METRICS


class UpdateHistory:
    """The metrics of an update, kept on the device until :meth:`fetch`."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.steps: list[th.Tensor] = []
        self.took_part: list[frozenset[int]] = []
        self.stepped: list[frozenset[int]] = []

    def append(self, epoch: int, metrics: th.Tensor, took_part: frozenset[int], stepped: frozenset[int]) -> None:
        """
        :param epoch: index of the epoch
        :param metrics: from ``minibatch_step()``, shape ``(n_policies, len(METRICS))``
        :param took_part: members whose loss was computed
        :param stepped: members among them that did not reach ``target_kl``
        """
        self.epochs.append(epoch)
        self.steps.append(metrics)
        self.took_part.append(took_part)
        self.stepped.append(stepped)

    def fetch(self, at_the_end: dict[str, th.Tensor]) -> "FetchedUpdate":
        """
        :param at_the_end: further metrics by name, one value per member, each of shape ``(n_policies,)``
        :return: everything on the host
        """
        steps = th.stack(self.steps)
        further = th.stack([one.to(steps.device) for one in at_the_end.values()])  # rollouts may be on the host
        host = th.cat([steps.flatten(), further.flatten()]).cpu().numpy()  # the host waits only here
        members = range(steps.shape[1])
        return FetchedUpdate(
            epochs=np.array(self.epochs),
            steps=host[: steps.numel()].reshape(steps.shape),
            took_part=np.array([[k in indices for k in members] for indices in self.took_part]),
            stepped=np.array([[k in indices for k in members] for indices in self.stepped]),
            at_the_end=dict(zip(at_the_end, host[steps.numel() :].reshape(further.shape), strict=True)),
        )


@dataclass(frozen=True)
class FetchedUpdate:
    """
    The metrics of an update on the host.

    :param epochs: index of the epoch of every minibatch, shape ``(minibatches,)``
    :param steps: metrics of every minibatch, shape ``(minibatches, n_policies, len(METRICS))``
    :param took_part: whether a member's loss was computed, shape ``(minibatches, n_policies)``
    :param stepped: whether the member also did not reach ``target_kl``, shape ``(minibatches, n_policies)``
    :param at_the_end: further metrics by name, each of shape ``(n_policies,)``
    """

    epochs: NDArray[np.int64]
    steps: NDArray[np.float32]
    took_part: NDArray[np.bool_]
    stepped: NDArray[np.bool_]
    at_the_end: dict[str, NDArray[np.float32]]

    def summary(self) -> dict[str, float]:
        """
        Means over the minibatches; as in SB3, ``approx_kl`` of the last epoch and ``loss`` of the
        last minibatch that the member took part in.

        :return: ``policy_<k>/...`` for each member, and their means over members under PPO's ``train/...``
        """
        members = []
        for k in range(self.steps.shape[1]):
            took_part, stepped = self.took_part[:, k], self.stepped[:, k]
            own = dict(zip(METRICS, self.steps[took_part, k].T, strict=True))
            in_last_epoch = self.epochs[took_part] == self.epochs[took_part].max()
            summary = {name: series.mean() for name, series in own.items()}
            summary["approx_kl"] = own["approx_kl"][in_last_epoch].mean()
            summary["loss"] = own["loss"][-1]
            # The step at which a member reached target_kl has no gradient
            grad_norms = self.steps[stepped, k, METRICS.index("grad_norm")]
            summary["grad_norm"] = grad_norms.mean() if len(grad_norms) else 0.0
            members.append(summary | {name: values[k] for name, values in self.at_the_end.items()})

        logged = {f"train/{name}": float(np.mean([member[name] for member in members])) for name in members[0]}
        for k, member in enumerate(members):
            logged.update({f"policy_{k}/{name}": float(value) for name, value in member.items()})
        return logged


def explained_variance(values: th.Tensor, returns: th.Tensor, ranks: Ranks = ALONE) -> th.Tensor:
    """
    SB3's ``explained_variance`` per member, computed on the device.

    :param values: predictions, shape ``(n_policies, samples)``
    :param returns: targets, same shape
    :param ranks: the processes that have samples
    :return: ``1 - Var[returns - values] / Var[returns]``, NaN where all returns are equal, shape ``(n_policies,)``
    """
    variance = ranks.variance(returns)
    unexplained = ranks.variance(returns - values)
    return th.where(variance == 0, th.nan, 1 - unexplained / variance)


def check_update(update: FetchedUpdate, policy: MutualPolicy, num_timesteps: int) -> None:
    """
    Check the losses and gradients of all optimizer steps. Losses of members that reached ``target_kl`` are not used.

    :param update: the metrics of all minibatches
    :param policy: the members after the update
    :param num_timesteps: environment steps so far
    :raises NonFiniteError: if a loss or a gradient is not finite, in the first such minibatch
    """
    watched = [METRICS.index("loss"), METRICS.index("grad_norm")]
    not_finite = (update.stepped & ~np.isfinite(update.steps[:, :, watched]).all(axis=2)).any(axis=1)
    if not not_finite.any():
        return
    first = int(not_finite.argmax())
    damaged = in_weights(policy, num_timesteps) is not None
    epoch = int(update.epochs[first])
    minibatch = first - int((update.epochs == epoch).argmax())
    for quantity in BLAMED:
        members = np.flatnonzero(update.stepped[first] & ~np.isfinite(update.steps[first, :, METRICS.index(quantity)]))
        if len(members):
            raise NonFiniteError(
                quantity, members.tolist(), num_timesteps, epoch=epoch, minibatch=minibatch, damaged=damaged
            )
