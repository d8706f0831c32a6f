"""What was downloaded, checked and laid out as a run of the zoo. Nothing is written here."""

import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from sb3_mdpo.hub import layout
from sb3_mdpo.hub.plain_yaml import read_mapping
from sb3_mdpo.hub.settings import check_args, check_hyperparams, checked_env_id, folder_name

METRICS_NAME = re.compile(r"evaluations\.npz|([A-Za-z0-9_-]+\.)?monitor\.csv")
METRICS_LIMIT = 2**30  # bytes, unpacked
COMMAND_LIMIT = 2**16  # bytes
ENCRYPTED = 1  # bit of the flags of a file in a zip archive


def read_snapshot(snapshot: Path, trust: bool = False) -> tuple[str, dict[str, bytes]]:
    """
    Check a downloaded repository and lay its files out as the zoo does. The model's zip file and the pickled
    statistics are made here, from plain data, unless the repository's own are there.

    :param snapshot: folder of the downloaded files
    :param trust: whether settings may name what could run code, and pickles may be handed on
    :return: the environment's id, and the run folder's files by their path in it
    :raises ValueError: where something is missing or not what it should be
    """
    args, config = read_mapping(snapshot / layout.ARGS), read_mapping(snapshot / layout.CONFIG)
    if args.get("algo") != "mdpo":
        raise ValueError(f"{layout.ARGS} is of the algorithm {args.get('algo')!r}, not of mdpo.")
    args = {"env_kwargs": None, "gym_packages": [], **args}  # which are read without asking whether they are there
    env_id = checked_env_id(args.get("env"), trust)
    if not trust:
        args, config = check_args(args), check_hyperparams(config)
    env_name = folder_name(env_id)
    documents: dict[str, Mapping[str, Any]] = {layout.ARGS: args, layout.CONFIG: config}
    if (snapshot / layout.ENV_KWARGS).exists():
        documents[layout.ENV_KWARGS] = read_mapping(snapshot / layout.ENV_KWARGS)
    files = {f"{env_name}/{name}": yaml.safe_dump(document).encode() for name, document in documents.items()}
    files[f"{env_name}.zip"] = _model(snapshot, env_name)
    if config.get("normalize"):
        files[f"{env_name}/{layout.LOCAL_STATISTICS}"] = _statistics(snapshot)
    if (snapshot / layout.COMMAND).exists():
        files[f"{env_name}/{layout.COMMAND}"] = _read_command(snapshot / layout.COMMAND)
    return env_id, files | _read_metrics(snapshot / layout.METRICS)


def _model(snapshot: Path, env_name: str) -> bytes:
    pickled = sorted(snapshot.glob("mdpo-*.zip"))
    if not pickled:
        return _rebuilt(snapshot)
    if pickled[0].name != f"mdpo-{env_name}.zip":
        raise ValueError(f"{layout.ARGS} is of {env_name}, the model is {pickled[0].name}: the run is not sound.")
    if not zipfile.is_zipfile(pickled[0]):
        raise ValueError(f"{pickled[0].name} is not a zip file, so it is no model.")
    return pickled[0].read_bytes()


def _rebuilt(snapshot: Path) -> bytes:
    from sb3_mdpo.mdpo import MDPO  # seconds, with torch: only for what has come this far

    file = BytesIO()
    MDPO.from_export(snapshot, device="cpu").save(file)
    return file.getvalue()


def _statistics(snapshot: Path) -> bytes:
    if (snapshot / layout.STATISTICS).exists():
        return (snapshot / layout.STATISTICS).read_bytes()
    if not (snapshot / layout.NORMALIZATION).exists():
        raise ValueError(
            f"{layout.CONFIG} says that observations or rewards are normalised, but {layout.NORMALIZATION} is missing."
        )
    from sb3_mdpo.hub.normalization import statistics_from_json

    return pickle.dumps(statistics_from_json(snapshot / layout.NORMALIZATION))  # as VecNormalize.save() does


def _read_command(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        sound = len(data) <= COMMAND_LIMIT and data.decode("ascii").strip().isprintable()
    except UnicodeDecodeError:
        sound = False
    if not sound:
        raise ValueError(f"{path.name} must be one line of printable ASCII: a terminal obeys other characters.")
    return data


def _read_metrics(path: Path) -> dict[str, bytes]:
    if not path.exists():
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            for entry in entries:
                if not METRICS_NAME.fullmatch(entry.filename):
                    raise ValueError(
                        f"{path.name} holds {entry.filename!r}, only monitor files and evaluations.npz may be."
                    )
                if entry.flag_bits & ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{path.name}: {entry.filename} is encrypted or compressed in an unusual way.")
            if sum(entry.file_size for entry in entries) > METRICS_LIMIT:
                raise ValueError(f"{path.name} unpacks to more than {METRICS_LIMIT} bytes.")
            return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise ValueError(f"{path.name} is not a zip file or damaged: {error}.") from error
