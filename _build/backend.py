"""
In-tree build backend: setuptools, and files that it cannot put into a wheel.

These are the start-up hook of rl-zoo3, two files that must be directly in site-packages, and the hyperparameter files.
The latter are beside the package so that ``-conf hyperparams/ppo.yml`` works in a checkout, where an editable install
finds them.
"""

import base64
import csv
import hashlib
import io
import zipfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

ROOT = Path(__file__).parent.parent
# .pth for Python up to 3.14, .start for 3.15 and later, which then ignore the .pth (PEP 829)
STARTUP = {
    "sb3_mdpo.pth": "import sb3_mdpo.zoo.hook; sb3_mdpo.zoo.hook.install_on_startup()\n",
    "sb3_mdpo.start": "sb3_mdpo.zoo.hook:install_on_startup\n",
}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    hyperparams = {f"sb3_mdpo/hyperparams/{path.name}": path.read_text() for path in (ROOT / "hyperparams").glob("*.yml")}
    add_files(Path(wheel_directory) / name, STARTUP | hyperparams)
    return name


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    add_files(Path(wheel_directory) / name, STARTUP)
    return name


def add_files(wheel: Path, files: dict[str, str]) -> None:
    """Add text files to a wheel and to its RECORD."""
    with zipfile.ZipFile(wheel) as archive:
        contents = {info: archive.read(info) for info in archive.infolist()}
    record = next(info for info in contents if info.filename.endswith(".dist-info/RECORD"))
    rows = list(csv.reader(io.StringIO(contents.pop(record).decode())))
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in contents.items():
            archive.writestr(info, data)
        for name, text in sorted(files.items()):
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            archive.writestr(name, text)
            rows.append([name, f"sha256={digest}", str(len(text.encode()))])
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(rows)
        archive.writestr(record, table.getvalue())
