"""What several tests need to build models and look into them."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

from sb3_mdpo import MDPO
from sb3_mdpo.common.buffers import MutualRolloutBuffer
from sb3_mdpo.utils.terminal import CODE

# The smallest run with all parts: one update of two minibatches per 64 steps of four environments
TINY: dict[str, Any] = {
    "n_steps": 16,
    "batch_size": 16,
    "n_epochs": 1,
    "seed": 0,
    "device": "cpu",
    "policy_kwargs": {"net_arch": [8]},
}
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler"
)
both = pytest.mark.parametrize("algorithm", [PPO, MDPO])


def silent_logger() -> Logger:
    return Logger(folder=None, output_formats=[])


def parameters(module: th.nn.Module) -> dict[str, th.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def assert_same_parameters(actual: th.nn.Module, expected: th.nn.Module, **tolerances: float) -> None:
    """Equal bit for bit, or to the tolerances of ``torch.testing.assert_close`` where there are any."""
    kwargs: dict[str, Any] = tolerances or {"rtol": 0, "atol": 0}
    th.testing.assert_close(dict(actual.state_dict()), dict(expected.state_dict()), **kwargs)


def collect(model: MDPO) -> MutualRolloutBuffer:
    """Fill the rollout buffer once, without training."""
    steps = model.n_steps * model.n_envs
    learning, model.train = model.train, lambda: None  # type: ignore[method-assign]
    model.learn(steps)
    model.train = learning  # type: ignore[method-assign]
    return model.rollout_buffer


def seeded(seed: int) -> None:
    np.random.seed(seed)
    th.manual_seed(seed)


def refusal(capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], object], *arguments: str) -> str:
    """The last line on stderr of a command that refuses, in this process; before it only what it may execute."""
    with pytest.raises(SystemExit) as ended:
        command(list(arguments))
    assert ended.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if not line.endswith(CODE))
    return line
