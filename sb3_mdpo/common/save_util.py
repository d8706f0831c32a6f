"""Format version of MDPO's saved models, and clear errors for files that cannot be loaded."""

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

# Raised by zipfile for damaged archives
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, OSError, RuntimeError)
ZIP_ERRORS = (*DAMAGE, ValueError)
# Raised by SB3 for invalid settings or weights, without a message for users
MODEL_ERRORS = (*DAMAGE, AttributeError, IndexError, MemoryError, OverflowError, TypeError, pickle.UnpicklingError)
# Increased when older versions of this package can no longer read what newer ones write
FORMAT_VERSION = 1


def check_saved_model(path: str | Path | BufferedIOBase, settings: dict[str, Any], algorithm: str = "mdpo") -> int:
    """
    Check a file before anything in it is unpickled.

    :param path: file to load
    :param settings: settings to change in the loaded model
    :param algorithm: name of the algorithm that loads it
    :return: its number of policies
    :raises ValueError: if the file has a newer format or is not a saved MDPO model, or the settings contradict it
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
    if (saved_by := saved.get("saved_by", "mdpo")) != algorithm:
        raise ValueError(f"{path} was saved by {saved_by}, not by {algorithm}: load it with the class that saved it.")
    if "n_policies" not in saved:
        raise ValueError(
            f"{path} was not saved by MDPO. A PPO model can become one of the members: "
            "MDPO(...).load_ppo(0, 'ppo.zip'), in the same policy class and spaces."
        )
    if type(saved["n_policies"]) is not int:
        raise ValueError(f"{path} has n_policies={saved['n_policies']!r}, not an integer: the file is damaged.")
    n_policies = settings.get("n_policies", saved["n_policies"])
    if n_policies != saved["n_policies"]:
        raise ValueError(
            f"{path} holds {saved['n_policies']} policies and cannot be loaded with n_policies={n_policies}: "
            "leave n_policies away, or move single members with to_ppo() and load_ppo()."
        )
    return int(n_policies)


def read_plain_settings(path: str | Path | BufferedIOBase) -> dict[str, Any]:
    """
    Read the attributes that are plain JSON; nothing is unpickled.

    :param path: zip file that SB3's ``save()`` wrote
    :return: attributes by name
    :raises ValueError: if it is not such a file
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
    """Context in which SB3 loads the file; its errors become a ``ValueError`` that names the file."""
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
