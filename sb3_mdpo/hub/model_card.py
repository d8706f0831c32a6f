"""The README of a shared repository."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sb3_mdpo.envs.native import is_native, is_procgen
from sb3_mdpo.hub.evaluation import Evaluation
from sb3_mdpo.lab.generalization.intervals import CONFIDENCE
from sb3_mdpo.lab.generalization.policies import acting_policy
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.zoo.run import Run

TEXT = """
# MDPO on {env_id}

{what} Trained with **Mutual Distillation Policy Optimization** (MDPO,
[arXiv 2501.02481](https://arxiv.org/abs/2501.02481); not Mirror Descent Policy Optimization) of
sb3-mdpo, an extension of [Stable-Baselines3](https://github.com/DLR-RM/stable-baselines3) and the
[RL Zoo](https://github.com/DLR-RM/rl-baselines3-zoo).

## Returns

{table}

Mean undiscounted return of {episodes} episodes per number, with its {confidence:.0f} % confidence interval (Student's t
over episodes, of this one training run). {actions} actions, {n_envs} environments with a number of episodes each that
was fixed beforehand, seed {seed}. All returns are in `results.json`.

## Protocol

{protocol}

## Use

{safety}

```
pip install "sb3-mdpo[{extras}]"
sb3-mdpo pull {repo_id} -f logs{trust}
rl_zoo3 enjoy --algo mdpo --env {env_id} -f logs{enjoy}
```

In Python, the model alone:

```python
from huggingface_hub import snapshot_download
from sb3_mdpo.mdpo import MDPO

snapshot_download("{repo_id}", local_dir="{name}", allow_patterns=["config.json", "model.safetensors"])
model = MDPO.from_export("{name}")
```

## Files

{files}

## Training

```
{command}
```

as the zoo recorded it (folders and quotes are left out), with the hyperparameters

```yaml
{hyperparams}
```

## Versions

{versions}

## Citation

```bibtex
@article{{xie2025representation,
  title = {{Representation Convergence: Mutual Distillation is Secretly a Form of Regularization}},
  author = {{Xie, Zhengpeng and Cao, Jiahang and Wang, Changwei and Yang, Fan and Hutter, Marco and Zhang, Qiang and
            Zhang, Jianxiong and Xu, Renjing}},
  journal = {{arXiv preprint arXiv:2501.02481}},
  year = {{2025}},
  url = {{https://arxiv.org/abs/2501.02481}}
}}
```
"""


@dataclass(frozen=True)
class CardFacts:
    """
    What a card says beside what the run and the model know.

    :param repo_id: repository on the Hub
    :param evaluations: from :func:`~sb3_mdpo.hub.evaluation.evaluate_run`
    :param n_envs: number of environments of the evaluation
    :param deterministic: whether it took the most probable actions
    :param seed: its seed
    :param hyperparams: plain hyperparameters
    :param command: training command
    :param versions: package -> version
    :param with_pickles: whether the zoo's pickles are shared as well
    :param refused: why ``sb3-mdpo pull`` wants ``--trust`` for the settings, None where it does not
    """

    repo_id: str
    evaluations: Sequence[Evaluation]
    n_envs: int
    deterministic: bool
    seed: int
    hyperparams: dict[str, Any]
    command: str
    versions: dict[str, str]
    with_pickles: bool
    refused: str | None


def make_card(run: Run, model: MDPO, facts: CardFacts) -> ModelCard:
    """
    :param run: the run
    :param model: its model
    :param facts: everything else
    :return: the card, with the Hub's metadata
    """
    text = TEXT.format(
        env_id=run.env_id,
        repo_id=facts.repo_id,
        what=_what(run),
        table=_table(facts.evaluations, acting_policy(model)),
        episodes=len(facts.evaluations[0].returns),
        confidence=100 * CONFIDENCE,
        actions="The most probable" if facts.deterministic else "Sampled",
        n_envs=facts.n_envs,
        seed=facts.seed,
        protocol=_protocol(run, model),
        name=facts.repo_id.split("/")[-1],
        safety=_safety(facts),
        trust=" --trust" if facts.refused else "",
        files=_files(run, facts),
        extras="hub,procgen" if is_procgen(run.env_id) else "hub",
        enjoy="" if facts.deterministic else " --stochastic",
        command=facts.command,
        hyperparams=yaml.safe_dump(facts.hyperparams, sort_keys=True).strip(),
        versions="\n".join(f"- {name} {version}" for name, version in facts.versions.items()),
    )
    return ModelCard(f"---\n{_metadata(run, model, facts.evaluations).to_yaml()}\n---\n{text}")


def _safety(facts: CardFacts) -> str:
    text = "Model and statistics are plain data: no code of whoever shared them runs when they are loaded."
    if facts.refused:
        text = f"Model and statistics are plain data, but these settings name code: {facts.refused}"
    if facts.with_pickles:
        text += (
            "\n\n**The `.zip` and `.pkl` files beside them are pickles: loading these runs code that they may contain. "
            "Load them only if you trust who shared them.** `sb3-mdpo pull` takes them with `--trust` only."
        )
    return text


def _files(run: Run, facts: CardFacts) -> str:
    lines = ["`config.json`, `model.safetensors`: the model, as `MDPO.export()` writes it"]
    if run.hyperparams["normalize"]:
        lines.append("`vec_normalize.json`: the statistics of `VecNormalize`")
    lines += [
        "`config.yml`, `args.yml`, `env_kwargs.yml`, `command.txt`: hyperparameters and arguments, plain YAML",
        "`train_eval_metrics.zip`: evaluations and episodes of the training; `results.json`: the returns above",
    ]
    if facts.with_pickles:
        lines.append("`mdpo-*.zip`, `vec_normalize.pkl`: the zoo's own files, for `rl_zoo3.load_from_hub`")
    return "\n".join(f"- {line}" for line in lines)


def _metadata(run: Run, model: MDPO, evaluations: Sequence[Evaluation]) -> ModelCardData:
    tags = ["reinforcement-learning", "deep-reinforcement-learning", "stable-baselines3", "mdpo", run.env_id]
    results = [
        EvalResult(
            task_type="reinforcement-learning",
            task_name="reinforcement-learning",
            dataset_type=run.env_id,
            dataset_name=run.env_id,
            dataset_split=evaluation.levels or None,
            metric_type="mean_reward",
            metric_name="mean_reward",
            metric_value=f"{evaluation.mean:.2f} +/- {np.std(evaluation.returns):.2f}",  # the zoo's way to put it
        )
        for evaluation in evaluations
        if evaluation.policy == acting_policy(model)
    ]
    return ModelCardData(
        library_name="stable-baselines3",
        pipeline_tag="reinforcement-learning",
        tags=[*tags, "procgen"] if is_procgen(run.env_id) else tags,
        model_name="MDPO",
        eval_results=results,
    )


def _what(run: Run) -> str:
    if not is_procgen(run.env_id):
        return f"An agent for `{run.env_id}`."
    options = gym.spec(run.env_id).kwargs | run.env_kwargs
    return f"An agent for Procgen's {options['env_name']}, mode {options['distribution_mode']} (`{run.env_id}`)."


def _table(evaluations: Sequence[Evaluation], acting: str) -> str:
    columns = list(dict.fromkeys(evaluation.levels for evaluation in evaluations))
    cells: dict[str, list[str]] = {}
    for evaluation in evaluations:  # the order of the columns, within each policy
        low, high = evaluation.interval
        cells.setdefault(evaluation.policy, []).append(f"{evaluation.mean:.2f} [{low:.2f}, {high:.2f}]")
    lines = [["", *(column or "return" for column in columns)], ["---", *("---:" for _ in columns)]]
    lines += [[f"**{name}** (acts)" if name == acting else name, *values] for name, values in cells.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _protocol(run: Run, model: MDPO) -> str:
    total = model.num_timesteps
    lines = [
        f"{model.n_policies} policies; {total} environment steps of all of them together, "
        f"{total // model.n_policies} each.",
        f"In `predict()`, and so in `rl_zoo3 enjoy`, acts: {acting_policy(model)}.",
    ]
    num_levels, first = run.env_kwargs.get("num_levels", 0), run.env_kwargs.get("start_level", 0)
    if is_native(run.env_id) and num_levels:
        lines.append(
            f"Trained on {num_levels} levels, {first} to {first + num_levels - 1}. "
            "Unseen levels are drawn from all 2**31."
        )
    elif is_native(run.env_id):
        lines.append("Trained on the full distribution of levels: there are no unseen ones to evaluate on.")
    if run.is_best:
        lines.append(
            "This is not the last model but the best one of the evaluations during training (`best_model.zip`), "
            "which are on unseen levels where there are levels."
        )
    if run.hyperparams["normalize"]:
        lines.append(
            "The statistics of `VecNormalize` are from the end of training; rewards are evaluated as they are."
        )
    return "\n".join(f"- {line}" for line in lines)
