"""``sb3-mdpo push``: evaluate a run, write its model card, upload it."""

import json
import pickle
import platform
import shutil
import warnings
import zipfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from huggingface_hub import HfApi, ModelInfo, hf_hub_download
from huggingface_hub.errors import RepositoryNotFoundError
from rl_zoo3.utils import EnvironmentName

from sb3_mdpo.hub.evaluation import evaluate_run, record_video
from sb3_mdpo.hub.model_card import make_card
from sb3_mdpo.hub.normalization import NORMALIZATION, statistics_to_json
from sb3_mdpo.hub.pull import (
    CARD,
    ENV_KWARGS,
    FILES,
    METRICS,
    PICKLED_STATISTICS,
    RESULTS,
    VECNORMALIZE,
    VIDEO,
    connection_errors,
    read_snapshot,
)
from sb3_mdpo.hub.redaction import plain
from sb3_mdpo.hub.settings import KEYS, read_settings
from sb3_mdpo.lab.generalization.results import CONFIDENCE, ENSEMBLE
from sb3_mdpo.lab.generalization.trained import check_device, evaluation_seed, selection_seed
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.persistence.export.format import FILES as EXPORT
from sb3_mdpo.zoo.run import ARGS, CONFIG, Run, read_run

PACKAGES = ("sb3-mdpo", "stable-baselines3", "rl-zoo3", "torch", "gymnasium", "numpy", "procgen", "procgen-mirror")


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
    seed: int | None = None,
    device: str = "auto",
) -> str:
    """
    Evaluate a run of ``rl_zoo3 train --algo mdpo`` and share what ``rl_zoo3 enjoy`` needs of it, as plain data and in
    one commit. Nothing is uploaded before everything is ready. A repository holds one run: files of an earlier push
    that are not part of this one are removed.

    For the arguments see ``sb3-mdpo push --help``.

    :return: address of the repository
    :raises ValueError: if the run is not complete, the repository holds something else, or the model has settings that
        an export cannot hold
    :raises OSError: if the Hub refuses or cannot be reached
    """
    if video_steps is not None and video_steps < 1:
        raise ValueError(f"A video of {video_steps} steps: use at least 1, or leave out --video.")
    if "/" not in repo_id:
        raise ValueError(f"{repo_id} is not a repository: add its owner, e.g. alice/{repo_id}.")
    check_device(device)
    run = read_run(Path(run_folder), load_best, algos=["mdpo"])
    seed = evaluation_seed(run.folder, selection_seed(run), seed)
    with connection_errors():
        repository = _check_repository(repo_id, run, private)
    model = MDPO.load(run.model_path, device=device)
    with TemporaryDirectory() as name:
        folder = Path(name) / "run"
        model.export(folder)  # before the evaluation, which takes minutes: it may refuse
        _copy_run(run, folder, with_pickles)
        results = {
            "env_id": run.env_id,
            "env_kwargs": plain(run.env_kwargs),
            "model": "best" if run.is_best else "last",
            "num_timesteps": model.num_timesteps,
            "n_policies": model.n_policies,
            "acts": ENSEMBLE if model.predict_with == ENSEMBLE else f"policy {model.predict_with}",
            "deterministic": deterministic,
            "n_envs": min(n_envs, episodes),
            "seed": seed,
            "confidence": CONFIDENCE,
            "evaluations": [
                {"policy": policy, "levels": levels, "mean": one.mean, "interval": one.interval, "returns": one.returns}
                for levels, policy, one in evaluate_run(run, model, episodes, n_envs, deterministic, seed)
            ],
            "versions": _versions(),
        }
        if video_steps is not None:
            record_video(run, model, folder / VIDEO, video_steps, deterministic, seed)
        refused = None
        try:
            read_snapshot(folder)
        except ValueError as error:
            refused = str(error).replace(f"{folder}", repo_id)
            warnings.warn(f"sb3-mdpo pull will only take this run with --trust. {refused}", stacklevel=2)
        (folder / RESULTS).write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")
        make_card(run, results, repo_id, with_pickles, refused).save(folder / CARD)
        with connection_errors():
            api = HfApi()
            if repository is None:  # and private is None to leave it to the owner's settings
                api.create_repo(repo_id, private=private or None, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message or f"MDPO on {run.env_id}",
                delete_patterns=[*FILES, "mdpo-*.zip"],
                parent_commit=repository.sha if repository else None,  # refused if somebody committed in the meantime
            )
    return str(commit.repo_url)


def _check_repository(repo_id: str, run: Run, private: bool) -> ModelInfo | None:
    """Before the evaluation, which takes minutes: may we write there, and would we overwrite something else?"""
    api = HfApi()
    api.whoami()
    try:
        info = api.model_info(repo_id)
    except RepositoryNotFoundError:
        return None
    files = [sibling.rfilename for sibling in info.siblings or []]
    if ARGS in files:
        with TemporaryDirectory() as folder:
            args = read_settings(Path(hf_hub_download(repo_id, ARGS, revision=info.sha, local_dir=folder)))
        environment, ours = (EnvironmentName(str(env_id)) for env_id in (args.get("env"), run.env_id))
        if environment != ours:
            raise ValueError(f"{repo_id} holds a model of {environment}, not of {ours}: use another repository.")
    elif any(name in EXPORT or name.endswith(".zip") for name in files):
        raise ValueError(f"{repo_id} holds a model that sb3-mdpo push did not make: use another repository.")
    if private and not info.private:
        raise ValueError(f"{repo_id} exists and is public: make it private in its settings, or leave out --private.")
    return info


def _copy_run(run: Run, folder: Path, with_pickles: bool) -> None:
    """Copy what ``rl_zoo3 enjoy`` needs beside the model, and with pickles what ``rl_zoo3.load_from_hub`` downloads."""
    args = {key: run.args[key] for key in KEYS[ARGS]} | {"env_kwargs": run.env_kwargs}
    config = {key: run.hyperparams[key] for key in KEYS[CONFIG] if run.hyperparams.get(key)}
    config["normalize"] = bool(run.hyperparams["normalize"])  # how to is in the statistics
    documents = {ARGS: args, CONFIG: config}
    if config["normalize"]:
        statistics = (run.settings / VECNORMALIZE).read_bytes()
        # The run was trained on this machine
        (folder / NORMALIZATION).write_text(statistics_to_json(pickle.loads(statistics)))
    if with_pickles:
        if config["normalize"]:
            (folder / PICKLED_STATISTICS).write_bytes(statistics)
        shutil.copy(run.model_path, folder / f"mdpo-{EnvironmentName(run.env_id)}.zip")
        documents[ENV_KWARGS] = run.env_kwargs
        with zipfile.ZipFile(folder / METRICS, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted([*run.folder.glob("*monitor.csv"), *run.folder.glob("evaluations.npz")]):
                archive.write(path, path.name)
    for name, document in documents.items():
        (folder / name).write_text(yaml.safe_dump(plain(document)))


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # Procgen has one of two names, or is not installed
            found[package] = version(package)
    return found
