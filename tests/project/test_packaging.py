"""
Wheel and editable install in a fresh virtual environment: both register with the zoo.

The environment sees this one's packages through a path file, so nothing is fetched. A path file adds a folder without
reading the .pth files in it: what registers MDPO is the install under test.
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAIN = ["-m", "rl_zoo3.train", "--algo", "mdpo", "--env", "CartPole-v1", "-n", "64", "--eval-freq", "-1"]
TINY = ["--num-threads", "1", "-params", "n_envs:2", "n_steps:32", "batch_size:32", "n_epochs:1"]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
OFFLINE = ["-q", "--no-deps", "--no-index", "--no-build-isolation"]


def run(*command: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SB3_MDPO"))}
    result = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=600, check=False)
    assert not check or result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the files that git knows, so that building leaves nothing behind in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT, check=False)
    names = listed.stdout.split() if listed.returncode == 0 else [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]
    for name in names:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return build(source, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    """The Python of a virtual environment without this package, in which the zoo does not know MDPO."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=False)
    (site_packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "venv" / "bin" / "python"
    refused = run(str(python), *TRAIN, cwd=folder, check=False)
    assert "invalid choice: 'mdpo'" in refused.stderr
    return python


@pytest.fixture
def installed(fresh, tmp_path):
    """What installs something into the environment, trains in the test's folder and uninstalls it again."""

    def install_and_train(*what: str) -> str:
        run(*PIP, "--python", str(fresh), "install", *OFFLINE, *what, cwd=tmp_path)
        output = run(str(fresh), *TRAIN, *TINY, cwd=tmp_path).stdout
        run(*PIP, "--python", str(fresh), "uninstall", "-q", "-y", "sb3-mdpo", cwd=tmp_path)
        assert (tmp_path / "logs" / "mdpo" / "CartPole-v1_1" / "CartPole-v1.zip").exists()
        assert not list(fresh.parents[1].glob("lib/python*/site-packages/*sb3_mdpo*"))
        return output

    return install_and_train


def build(source: Path, folder: Path) -> Path:
    run(*PIP, "wheel", *OFFLINE, str(source), "-w", str(folder), cwd=source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_wheel_has_the_hook_the_hyperparameters_and_a_true_record(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("sb3_mdpo.start").decode() == "sb3_mdpo.zoo.hook:install_on_startup\n"
        assert archive.read("sb3_mdpo.pth").decode().startswith("import sb3_mdpo.zoo.hook")
        record = {line.split(",")[0] for line in archive.read("sb3_mdpo-0.1.0.dist-info/RECORD").decode().splitlines()}
    assert record == names
    hyperparams = {f"sb3_mdpo/hyperparams/{path.name}" for path in (ROOT / "hyperparams").glob("*.yml")}
    assert hyperparams | {"sb3_mdpo/py.typed"} <= names
    assert not any(name.startswith(("tests", "examples")) for name in names)


def test_wheel_registers_with_the_zoo_and_uninstalls_without_a_trace(wheel, fresh, installed):
    (site_packages,) = fresh.parents[1].glob("lib/python*/site-packages")
    output = installed(str(wheel))
    assert f"Loading hyperparameters from: {site_packages}/sb3_mdpo/hyperparams/mdpo.yml" in output


def test_editable_install_registers_with_the_zoo(source, installed):
    assert f"Loading hyperparameters from: {source}/hyperparams/mdpo.yml" in installed("-e", str(source))


def test_source_distribution_has_everything_and_builds_the_same_wheel(source, wheel, tmp_path):
    code = f"import sys; sys.path.insert(0, '_build'); import backend; print(backend.build_sdist({str(tmp_path)!r}))"
    name = run(sys.executable, "-c", code, cwd=source).stdout.split()[-1]
    with tarfile.open(tmp_path / name) as archive:
        archive.extractall(tmp_path / "unpacked")
    unpacked = tmp_path / "unpacked" / name.removesuffix(".tar.gz")
    for path in source.rglob("*"):
        relative = path.relative_to(source)
        built = {"build", "sb3_mdpo.egg-info", "__pycache__"} & set(relative.parts)
        if path.is_file() and not built and path.name != ".gitignore":
            assert (unpacked / relative).exists(), relative
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(build(unpacked, tmp_path / "again")) as theirs:
        assert set(ours.namelist()) == set(theirs.namelist())
