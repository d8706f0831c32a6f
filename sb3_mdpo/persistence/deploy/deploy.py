"""Write a policy for use without this package, and check that the file answers as the model does."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecNormalize

from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.persistence.deploy.formats import FORMATS, Answer
from sb3_mdpo.persistence.deploy.graph import DeployedPolicy
from sb3_mdpo.utils.atomic import replacing

N_CHECKED = 64
TOLERANCE = 1e-4  # other libraries add in another order


def deploy_policy(
    model: MutualOnPolicyAlgorithm, path: str | Path, format: str, vec_normalize: VecNormalize | None = None
) -> None:
    """
    Write whoever acts in ``predict()`` as one file; it is there only if it answers as the model does.

    :param model: model on the CPU, in float32; its ``predict_with`` says who acts
    :param path: file to write
    :param format: ``"onnx"`` or ``"torchscript"``
    :param vec_normalize: normalisation of the training environments, which becomes part of the file
    :raises ValueError: where the format cannot hold the policy, or the file does not answer as the model does
    :raises ImportError: where a package is missing
    """
    if format not in FORMATS:
        raise ValueError(f"format={format!r} is unknown: use one of {', '.join(map(repr, FORMATS))}.")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file.")
    policy = DeployedPolicy(model, vec_normalize).eval()
    space = model.observation_space if vec_normalize is None else vec_normalize.venv.observation_space
    observations = sample(space, N_CHECKED)
    to_bytes, open_file = FORMATS[format]
    with replacing(path) as file:
        file.write(to_bytes(policy, th.as_tensor(observations[:2])))
        file.flush()
        answer = open_file(Path(file.name))
        for batch in (observations, observations[:1]):
            check_answers(policy, answer, model, batch, vec_normalize)


def sample(space: spaces.Space[Any], n: int) -> NDArray[Any]:
    """
    :param space: observation space
    :param n: how many
    :return: random observations, always the same
    """
    space = deepcopy(space)  # the model's own goes on where it was
    space.seed(0)
    return np.stack([np.asarray(space.sample()) for _ in range(n)])


def check_answers(
    policy: DeployedPolicy,
    answer: Answer,
    model: MutualOnPolicyAlgorithm,
    observations: NDArray[Any],
    vec_normalize: VecNormalize | None,
) -> None:
    """
    :param policy: what was written
    :param answer: gives the outputs of the file
    :param model: what it was made of
    :param observations: observations, batch size ``B``
    :param vec_normalize: normalisation of the training environments
    :raises ValueError: where the file does not answer as the model does
    """
    found = dict(zip(policy.outputs, answer(observations), strict=True))
    seen = observations if vec_normalize is None else vec_normalize.normalize_obs(observations)
    actions, _ = model.predict(seen, deterministic=True)  # type: ignore[arg-type]
    tensors, _ = model.policy.obs_to_tensor(seen)  # type: ignore[arg-type]
    with th.no_grad():
        values = th.stack([member.predict_values(tensors) for member in policy.members]).mean(0).flatten().numpy()
    decided = np.ones(len(actions), dtype=bool)
    if "probabilities" in found:
        decided = margins(found["probabilities"], model.action_space) > TOLERANCE
    for name, expected in (("action", actions), ("value", values)):
        same = found[name].shape == expected.shape and np.allclose(
            found[name][decided], expected[decided], rtol=TOLERANCE, atol=TOLERANCE
        )
        if not same:
            raise ValueError(
                f"The file's {name} is not that of predict(): nothing was written. A policy class or features "
                "extractor of one's own that does more than its layers can be the reason: use --format safetensors."
            )


def margins(probabilities: NDArray[Any], space: spaces.Space[Any]) -> NDArray[Any]:
    """
    :param probabilities: probabilities, shape ``(B, n)``
    :param space: action space
    :return: how far each most probable action is from the next one, shape ``(B,)``: rounding decides where it is none
    """
    if isinstance(space, spaces.MultiBinary):
        return np.asarray(np.abs(probabilities - 0.5).min(1))
    sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else space.nvec.tolist()  # type: ignore[attr-defined]
    gaps = []
    for part in np.split(probabilities, np.cumsum(sizes)[:-1], axis=1):
        ordered = np.sort(part, axis=1)
        gaps.append(ordered[:, -1] - ordered[:, -2] if part.shape[1] > 1 else np.ones(len(part)))
    return np.asarray(np.min(gaps, axis=0))
