"""The model card, ``README.md`` of a shared repository; its text is in ``model_card.md.j2``."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sb3_mdpo.envs.native import is_native, is_procgen
from sb3_mdpo.hub.evaluation import training_levels
from sb3_mdpo.hub.redaction import plain, plain_command
from sb3_mdpo.zoo.run import Run

TEMPLATE = Path(__file__).with_name("model_card.md.j2")
TAGS = ["reinforcement-learning", "deep-reinforcement-learning", "stable-baselines3", "mdpo"]


def make_card(
    run: Run, results: dict[str, Any], repo_id: str, with_pickles: bool = False, refused: str | None = None
) -> ModelCard:
    """The card of a run with the content of ``results.json``; ``refused`` is why pulling it needs ``--trust``."""
    env_id, procgen = run.env_id, is_procgen(run.env_id)
    eval_results = [
        EvalResult(
            task_type="reinforcement-learning",
            task_name="reinforcement-learning",
            dataset_type=env_id,
            dataset_name=env_id,
            dataset_split=evaluation["levels"] or None,
            metric_type="mean_reward",
            metric_name="mean_reward",
            metric_value=f"{evaluation['mean']:.2f} +/- {np.std(evaluation['returns']):.2f}",  # as the zoo does
        )
        for evaluation in results["evaluations"]
        if evaluation["policy"] == results["acts"]
    ]
    metadata = ModelCardData(
        library_name="stable-baselines3",
        pipeline_tag="reinforcement-learning",
        tags=[*TAGS, env_id, *(["procgen"] if procgen else [])],
        model_name="MDPO",
        eval_results=eval_results,
    )
    hyperparams = {key: value for key, value in run.hyperparams.items() if key != "normalize_kwargs"}
    card: ModelCard = ModelCard.from_template(
        metadata,
        template_path=str(TEMPLATE),
        run=run,
        results=results,
        repo_id=repo_id,
        with_pickles=with_pickles,
        refused=refused,
        procgen=gym.spec(env_id).kwargs | run.env_kwargs if procgen else None,
        native=is_native(env_id),
        training_levels=training_levels(run),
        command=plain_command(run.command),
        hyperparams=yaml.safe_dump(plain(hyperparams | {"env_kwargs": run.env_kwargs})).strip(),
    )
    return card
