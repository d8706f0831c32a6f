"""Wheel and editable install in fresh virtual environments: both register with the zoo.

The environments see this one's packages through a path file, so nothing is fetched. A path file
adds a folder without reading the .pth files in it: what registers MDPO is the install under test.
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
TRAIN = [
    "-m",
    "rl_zoo3.train",
    "--algo",
    "mdpo",
    "--env",
    "CartPole-v1",
    "-n",
    "64",
    "--eval-freq",
    "-1",
    "--num-threads",
    "1",
]
TINY = ["-params", "n_envs:2", "n_steps:32", "batch_size:32", "n_epochs:1"]


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


@pytest.fixture
def fresh(tmp_path) -> Path:
    """The Python of a fresh virtual environment."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    # Up to Python 3.11 there is an old one, which would hide the one that builds
    run(str(python), "-m", "pip", "uninstall", "-q", "-y", "setuptools", cwd=tmp_path)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site_packages = Path(run(str(python), "-c", code, cwd=tmp_path).stdout.strip())
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    refused = run(str(python), *TRAIN, cwd=tmp_path, check=False)
    assert "invalid choice: 'mdpo'" in refused.stderr
    return python


def install(python: Path, *what: str) -> None:
    pip = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    run(*pip, *what, cwd=python.parent)


def build(source: Path, tmp_path: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    run(*pip, str(source), "-w", str(tmp_path / "dist"), cwd=source)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    return wheel


def test_wheel_has_the_hook_the_hyperparameters_and_a_true_record(source, tmp_path):
    wheel = build(source, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("sb3_mdpo.start").decode() == "sb3_mdpo.zoo.hook:install_on_startup\n"
        assert archive.read("sb3_mdpo.pth").decode().startswith("import sb3_mdpo.zoo.hook")
        record = {line.split(",")[0] for line in archive.read("sb3_mdpo-0.1.0.dist-info/RECORD").decode().splitlines()}
    assert record == names
    assert {
        "sb3_mdpo/py.typed",
        *(f"sb3_mdpo/hyperparams/{p.name}" for p in (ROOT / "hyperparams").glob("*.yml")),
    } <= names
    assert not any(name.startswith(("tests", "examples")) for name in names)


def test_wheel_registers_with_the_zoo_and_uninstalls_without_a_trace(source, fresh, tmp_path):
    install(fresh, str(build(source, tmp_path)))
    result = run(str(fresh), *TRAIN, *TINY, cwd=tmp_path)
    site_packages = next((tmp_path / "venv").glob("lib*/python*/site-packages"))
    assert f"Loading hyperparameters from: {site_packages}/sb3_mdpo/hyperparams/mdpo.yml" in result.stdout
    assert (tmp_path / "logs" / "mdpo" / "CartPole-v1_1" / "CartPole-v1.zip").exists()
    run(str(fresh), "-m", "pip", "uninstall", "-q", "-y", "sb3-mdpo", cwd=tmp_path)
    assert not list(site_packages.glob("sb3_mdpo*"))


def test_editable_install_registers_with_the_zoo(source, fresh, tmp_path):
    install(fresh, "-e", str(source))
    result = run(str(fresh), *TRAIN, *TINY, cwd=tmp_path)
    assert f"Loading hyperparameters from: {source}/hyperparams/mdpo.yml" in result.stdout
    assert (tmp_path / "logs" / "mdpo" / "CartPole-v1_1" / "CartPole-v1.zip").exists()


def test_source_distribution_has_everything_and_builds_the_same_wheel(source, tmp_path):
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
    with (
        zipfile.ZipFile(build(source, tmp_path)) as ours,
        zipfile.ZipFile(build(unpacked, tmp_path / "again")) as theirs,
    ):
        assert set(ours.namelist()) == set(theirs.namelist())
