"""
``sb3-mdpo pull``: a shared run as a run folder of the zoo.

The files on the Hub were written by a stranger. Without ``trust`` nothing in them can run code when they are used:
pickles are not even downloaded, the model's zip file and ``vecnormalize.pkl`` are written here from plain data, and the
settings are checked. Nothing is unpickled in any case, and every file name is checked before it is used.
"""

import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of the HTTP library, httpx or another
from rl_zoo3.utils import EnvironmentName, get_latest_run_id

from sb3_mdpo.hub.normalization import NORMALIZATION, check_observations, statistics_from_json
from sb3_mdpo.hub.settings import check_settings, read_settings
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.persistence.export.format import FILES as EXPORT
from sb3_mdpo.persistence.export.format import TENSORS
from sb3_mdpo.utils.atomic import replacing, replacing_folder
from sb3_mdpo.zoo.run import ARGS, COMMAND, CONFIG

# Only with pickles, beside mdpo-<environment>.zip: what rl_zoo3.load_from_hub downloads, by the zoo's names
PICKLED_STATISTICS, ENV_KWARGS, METRICS = "vec_normalize.pkl", "env_kwargs.yml", "train_eval_metrics.zip"
CARD, RESULTS, VIDEO = "README.md", "results.json", "replay.mp4"
# The first five are what `rl_zoo3 enjoy` needs, as plain data
FILES = (*EXPORT, ARGS, CONFIG, NORMALIZATION, PICKLED_STATISTICS, ENV_KWARGS, METRICS, CARD, RESULTS, VIDEO)

VECNORMALIZE = "vecnormalize.pkl"  # in a run folder
PICKLED_MODEL = re.compile(r"mdpo-[A-Za-z0-9][A-Za-z0-9._-]*\.zip")


@dataclass(frozen=True)
class PulledRun:
    """A run folder of the zoo; ``pickled`` if the model is the author's pickle, not made here from plain data."""

    folder: Path
    env_id: str
    exp_id: int
    pickled: bool


def pull_run(
    repo_id: str,
    folder: Path = Path("logs"),
    *,
    exp_id: int = 0,
    force: bool = False,
    revision: str | None = None,
    trust: bool = False,
) -> PulledRun:
    """
    Download a run that was shared with ``sb3-mdpo push``, ready for ``rl_zoo3 enjoy``. The run's folder
    appears when it is complete. Nothing in it is run. For the arguments see ``sb3-mdpo pull --help``.

    :raises ValueError: if the repository holds no such run, or one that could run code and is not trusted
    :raises OSError: if the Hub refuses or cannot be reached, or there is a run of that number and it is not to be
        replaced
    """
    if exp_id < 0:
        raise ValueError(f"--exp-id {exp_id} must not be negative: leave it out for a new run.")
    if force and exp_id == 0:
        raise ValueError("--force replaces the run given with --exp-id: add it, or leave out --force for a new run.")
    with TemporaryDirectory() as name:
        snapshot = Path(name) / "snapshot"
        with connection_errors():
            pickled = _download(repo_id, revision, snapshot, trust)
        env_id, files = read_snapshot(snapshot, trust)
    logs, env_name = Path(folder) / "mdpo", EnvironmentName(env_id)
    files[f"{env_name}/{COMMAND}"] = f"sb3-mdpo pull {repo_id}\n".encode()  # the zoo has the training command there
    number = exp_id or get_latest_run_id(str(logs), env_name) + 1
    target = logs / f"{env_name}_{number}"
    if target.exists() and not force:
        raise FileExistsError(f"{target} exists: use --force to replace it, or leave out --exp-id for a new run.")
    with replacing_folder(target) as run:
        for path, content in files.items():
            with replacing(run / path) as file:
                file.write(content)
    return PulledRun(target, env_id, number, pickled)


def _download(repo_id: str, revision: str | None, snapshot: Path, trust: bool) -> bool:
    """Download without the cache, which would keep what is refused. Returns whether the model is a pickle."""
    info = HfApi().model_info(repo_id, revision=revision)
    names = {sibling.rfilename for sibling in info.siblings or []}
    zips = [name for name in names if PICKLED_MODEL.fullmatch(name)]
    exported = names.issuperset(EXPORT)
    if not exported and len(zips) != 1:
        raise ValueError(
            f"{repo_id} has neither {' and '.join(EXPORT)} nor one model named mdpo-<environment>.zip, but "
            f"{len(zips)}: give a repository that was made by sb3-mdpo push."
        )
    if not exported and not trust:
        raise ValueError(
            f"{repo_id} only has {zips[0]}, a pickle, which can run any code of its author: use --trust if you trust "
            "who shared it, or ask them to share it with sb3-mdpo push."
        )
    pickled = trust and len(zips) == 1
    model = (zips[0], PICKLED_STATISTICS) if pickled else (*EXPORT, NORMALIZATION)
    snapshot_download(repo_id, revision=info.sha, local_dir=snapshot, allow_patterns=[ARGS, CONFIG, *model])
    return pickled


def read_snapshot(snapshot: Path, trust: bool = False) -> tuple[str, dict[str, bytes]]:
    """
    Check a downloaded repository and lay its files out as the zoo does. Nothing is written.

    :param trust: whether to pass on pickles, and settings that could run code
    :return: the environment's id, and the run folder's files by their path in it
    """
    args, config = read_settings(snapshot / ARGS), read_settings(snapshot / CONFIG)
    if args.get("algo") != "mdpo":
        raise ValueError(f"{ARGS} is of the algorithm {args.get('algo')!r}, not of mdpo.")
    check_settings(args, config, trust)
    args = {"env_kwargs": None, "gym_packages": [], "seed": 0, **args}  # all of them are read without a default
    env_name = EnvironmentName(args["env"])
    files = {
        f"{env_name}/{name}": yaml.safe_dump(content).encode() for name, content in ((ARGS, args), (CONFIG, config))
    }
    statistics = None
    if config.get("normalize") and not (trust and (snapshot / PICKLED_STATISTICS).exists()):
        statistics = statistics_from_json(snapshot / NORMALIZATION)
    pickled = next(snapshot.glob("mdpo-*.zip"), None) if trust else None
    if pickled is None:
        model = MDPO.from_export(snapshot, device="cpu")
        _check_weights(model)
        if not trust:
            check_observations(model, statistics, config.get("frame_stack", 1))
        file = BytesIO()
        model.save(file)
        files[f"{env_name}.zip"] = file.getvalue()
    elif pickled.name != f"mdpo-{env_name}.zip" or not zipfile.is_zipfile(pickled):
        raise ValueError(f"{pickled.name} is not a model of {env_name}, the environment in {ARGS}.")
    else:
        files[f"{env_name}.zip"] = pickled.read_bytes()
    if statistics is not None:
        files[f"{env_name}/{VECNORMALIZE}"] = pickle.dumps(statistics)  # as VecNormalize.save() does
    elif trust and (snapshot / PICKLED_STATISTICS).exists():
        files[f"{env_name}/{VECNORMALIZE}"] = (snapshot / PICKLED_STATISTICS).read_bytes()
    return args["env"], files


def _check_weights(model: MDPO) -> None:
    for name, tensor in model.policy.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(f"{TENSORS}: the weights {name} hold NaN or infinity: such a model cannot act.")


@contextmanager
def connection_errors() -> Iterator[None]:
    """Raise every network error as an ``OSError``, which the errors that the Hub answers with are already."""
    try:
        yield
    except HTTPError as error:
        if isinstance(error, OSError):
            raise
        raise ConnectionError(f"{constants.ENDPOINT} cannot be reached: {error}") from error
