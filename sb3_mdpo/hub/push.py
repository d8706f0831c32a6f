"""``sb3-mdpo push``: evaluate a run, describe it, upload it."""

import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelInfo, hf_hub_download
from huggingface_hub.errors import RepositoryNotFoundError

from sb3_mdpo.hub import layout
from sb3_mdpo.hub.bundle import copy_run, model_name, versions, why_refused
from sb3_mdpo.hub.connection import connection_errors
from sb3_mdpo.hub.evaluation import Evaluation, evaluate_run
from sb3_mdpo.hub.model_card import CardFacts, make_card
from sb3_mdpo.hub.plain_yaml import read_mapping
from sb3_mdpo.hub.redaction import plain
from sb3_mdpo.hub.settings import folder_name
from sb3_mdpo.hub.video import record_video
from sb3_mdpo.lab.generalization.intervals import CONFIDENCE
from sb3_mdpo.lab.generalization.policies import acting_policy
from sb3_mdpo.lab.generalization.trained import check_device
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.zoo.run import Run, read_run


def push_run(
    run_folder: Path,
    repo_id: str,
    *,
    load_best: bool = False,
    episodes: int = 128,
    n_envs: int = 16,
    deterministic: bool = False,
    video_steps: int | None = None,
    with_pickles: bool = False,
    private: bool = False,
    commit_message: str | None = None,
    seed: int = 0,
    device: str = "auto",
) -> str:
    """
    Evaluate a run of ``rl_zoo3 train --algo mdpo`` and share it as one commit: model and statistics as plain
    data. Nothing is uploaded before everything is ready. A repository holds one run: files of an earlier push that
    this one does not have are removed from it.

    :param run_folder: the run's folder, e.g. ``logs/mdpo/CartPole-v1_1``
    :param repo_id: repository on the Hub, e.g. ``alice/mdpo-CartPole-v1``; made where it does not exist
    :param load_best: whether to share ``best_model.zip`` instead of the last model
    :param episodes: evaluation episodes per member and set of levels
    :param n_envs: environments to evaluate in
    :param deterministic: whether to evaluate and film the most probable actions instead of sampled ones
    :param video_steps: length of a video, None for no video
    :param with_pickles: whether to share the zoo's own model and statistics as well, which are pickles
    :param private: whether to make a new repository private
    :param commit_message: first line of the commit
    :param seed: seed of the evaluation and the video
    :param device: PyTorch device of the evaluation
    :return: address of the repository
    :raises ValueError: where the run is not complete, the repository holds something else, or the model has settings
        that an export cannot hold
    :raises OSError: where the Hub refuses or cannot be reached
    """
    if video_steps is not None and video_steps < 1:
        raise ValueError(f"A video of {video_steps} steps: use at least 1, or leave out --video.")
    if "/" not in repo_id:
        raise ValueError(f"{repo_id} names no repository: say whose it is as well, e.g. alice/{repo_id}.")
    check_device(device)
    run = read_run(Path(run_folder), load_best, algos=["mdpo"])
    with connection_errors():
        repository = _check_repository(repo_id, run, private)
    model = MDPO.load(run.model_path, device=device)
    with TemporaryDirectory() as name:
        folder = Path(name) / "run"
        model.export(folder)  # before the evaluation, which takes minutes: can it be?
        evaluations = evaluate_run(run, model, episodes, n_envs, deterministic, seed)
        copy_run(run, folder, with_pickles)
        if video_steps is not None:
            record_video(run, model, folder / layout.VIDEO, video_steps, deterministic, seed)
        facts = CardFacts(
            repo_id=repo_id,
            evaluations=evaluations,
            n_envs=min(n_envs, episodes),
            deterministic=deterministic,
            seed=seed,
            hyperparams=yaml.safe_load((folder / layout.CONFIG).read_text()),
            command=(folder / layout.COMMAND).read_text().strip(),
            versions=versions(),
            with_pickles=with_pickles,
            refused=why_refused(folder),
        )
        if facts.refused:
            warnings.warn(f"sb3-mdpo pull will take this run with --trust only. {facts.refused}", stacklevel=2)
        (folder / layout.RESULTS).write_text(json.dumps(_results(run, model, facts), indent=2, allow_nan=False) + "\n")
        make_card(run, model, facts).save(folder / layout.CARD)
        with connection_errors():
            message = commit_message or f"MDPO on {run.env_id}"
            return _upload(folder, model_name(run), repo_id, repository, private, message)


def _check_repository(repo_id: str, run: Run, private: bool) -> ModelInfo | None:
    """Before the evaluation, which takes minutes: may we, and would we overwrite something else?"""
    api = HfApi()
    api.whoami()
    try:
        info = api.model_info(repo_id)
    except RepositoryNotFoundError:
        return None
    held = _environment_of(repo_id, info)
    if held not in (None, folder_name(run.env_id)):
        raise ValueError(
            f"{repo_id} holds a model of {held}, this is one of {folder_name(run.env_id)}: use a "
            "repository for each environment."
        )
    if private and not info.private:
        raise ValueError(f"{repo_id} exists and is public: make it private in its settings, or leave out --private.")
    return info


def _environment_of(repo_id: str, info: ModelInfo) -> str | None:
    """Name of the environment of the model that a repository holds, None where it holds none."""
    files = _files(info)
    pickled = [name for name in files if name.startswith("mdpo-") and name.endswith(".zip")]
    if pickled:
        return pickled[0].removeprefix("mdpo-").removesuffix(".zip")
    if not set(layout.EXPORT) & set(files):
        return None
    if layout.ARGS not in files:
        raise ValueError(f"{repo_id} holds a model that sb3-mdpo push did not make: use another repository.")
    with TemporaryDirectory() as folder:
        args = read_mapping(Path(hf_hub_download(repo_id, layout.ARGS, revision=info.sha, local_dir=folder)))
    return folder_name(str(args.get("env")))


def _files(info: ModelInfo) -> list[str]:
    return [sibling.rfilename for sibling in info.siblings or []]


def _results(run: Run, model: MDPO, facts: CardFacts) -> dict[str, Any]:
    return {
        "env_id": run.env_id,
        "model": "best" if run.is_best else "last",
        "num_timesteps": model.num_timesteps,
        "n_policies": model.n_policies,
        "acts": acting_policy(model),
        "deterministic": facts.deterministic,
        "n_envs": facts.n_envs,
        "seed": facts.seed,
        "confidence": CONFIDENCE,
        "evaluations": [_result(evaluation) for evaluation in facts.evaluations],
        "versions": facts.versions,
    }


def _result(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "policy": evaluation.policy,
        "levels": evaluation.levels,
        "env_kwargs": plain(evaluation.env_kwargs),
        "mean": evaluation.mean,
        "interval": evaluation.interval,
        "returns": evaluation.returns,
    }


def _upload(
    folder: Path, zip_name: str, repo_id: str, repository: ModelInfo | None, private: bool, message: str
) -> str:
    api = HfApi()
    added = {path.name: path for path in sorted(folder.iterdir())}
    ours = {*layout.PUBLISHED, zip_name}
    stale = [name for name in (_files(repository) if repository else []) if name in ours]
    operations = [CommitOperationAdd(name, path) for name, path in added.items()]
    if repository is None:
        api.create_repo(repo_id, private=private or None, exist_ok=True)  # None leaves it to the owner's settings
    commit = api.create_commit(
        repo_id,
        [*operations, *(CommitOperationDelete(name) for name in stale if name not in added)],
        commit_message=message,
        parent_commit=repository.sha if repository else None,  # refused where somebody else was faster
    )
    return str(commit.repo_url)
