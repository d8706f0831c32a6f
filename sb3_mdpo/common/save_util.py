"""What MDPO adds to SB3's zip files: a format version, and errors that say what is wrong with a file."""

import json
import pickle
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from stable_baselines3.common.save_util import open_path

from sb3_mdpo._version import __version__

# What reading an open zip archive raises where it is none, or damaged; OSError for places before its beginning
ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, OSError, RuntimeError, ValueError),
)
# What SB3 raises where settings and weights in a file are not what they should be, beside what it has messages for
MODEL_ERRORS = (
    *(AttributeError, IndexError, MemoryError, OverflowError, TypeError, pickle.UnpicklingError),
    *(error for error in ZIP_ERRORS if error is not ValueError),
)
# Increased when older versions of this package could no longer read the files that newer ones write
FORMAT_VERSION = 1


def check_saved_model(path: str | Path | BufferedIOBase, settings: dict[str, Any]) -> None:
    """
    Check a file before anything in it is unpickled.

    :param path: what is going to be loaded
    :param settings: what the caller wants to be different in the loaded model
    :raises ValueError: if the file is of a newer format, not of MDPO or no zip file at all, or the
        settings contradict the weights inside
    """
    saved = read_plain_settings(path)
    version = saved.get("format_version", 1)
    if not isinstance(version, int):
        raise ValueError(f"{path} has the format version {version!r}, which is not a number: the file is damaged.")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, but sb3-mdpo {__version__} reads versions up to "
            f"{FORMAT_VERSION}: install a newer sb3-mdpo (pip install --upgrade sb3-mdpo)."
        )
    if "n_policies" not in saved:
        raise ValueError(
            f"{path} was not saved by MDPO. A PPO model can become one of the members: "
            "MDPO(...).load_ppo(0, 'ppo.zip'), in the same policy class and spaces."
        )
    n_policies = settings.get("n_policies", saved["n_policies"])
    if n_policies != saved["n_policies"]:
        raise ValueError(
            f"{path} holds {saved['n_policies']} policies and cannot be loaded with n_policies={n_policies}: "
            "leave n_policies away, or move single members with to_ppo() and load_ppo()."
        )


def read_plain_settings(path: str | Path | BufferedIOBase) -> dict[str, Any]:
    """
    :param path: zip file that SB3's ``save()`` wrote
    :return: the attributes inside that are plain JSON; nothing is unpickled
    :raises ValueError: if it is no such file
    """
    file = open_path(path, "r", suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:  # type: ignore[type-var]
            settings: dict[str, Any] = json.loads(archive.read("data"))
    except ZIP_ERRORS as error:
        raise ValueError(f"{path} is no saved model, or a damaged one ({error}).") from error
    finally:
        if isinstance(path, (str, Path)):
            file.close()
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is no saved model, or a damaged one (settings are {type(settings).__name__}).")
    return settings


@contextmanager
def loading(path: str | Path | BufferedIOBase) -> Iterator[None]:
    """
    :param path: what is loaded
    :return: context manager in which SB3 loads it
    :raises ValueError: if what is in the file, or what is to be different from it, does not go together
    """
    try:
        yield
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error
    except ImportError as error:
        raise ValueError(
            f"{path} cannot be loaded: {error}. Install the package that this is from; if there is none of that name, "
            "the file is damaged."
        ) from error
    except MODEL_ERRORS as error:
        raise ValueError(
            f"{path} cannot be loaded: it is damaged, or its settings, its weights and what was passed do not go "
            f"together ({type(error).__name__}: {error})."
        ) from error
