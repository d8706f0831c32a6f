"""The command itself, whatever it is asked to do."""

import pytest

from sb3_mdpo import __version__
from tests.support.commands import run

WAYS = ("sb3-mdpo", "python -m sb3_mdpo")


@pytest.mark.parametrize("way", WAYS)
def test_version(way, tmp_path):
    assert run(f"{way} --version", cwd=tmp_path, check=True).stdout == f"sb3-mdpo {__version__}\n"


@pytest.mark.parametrize("arguments", ["--help", "evaluate --help", "evaluate nothing", "nonsense"])
def test_the_module_is_the_same_command(arguments, tmp_path):
    script, module = (run(f"{way} {arguments}", cwd=tmp_path) for way in WAYS)
    assert script.stdout + script.stderr
    assert (module.returncode, module.stdout, module.stderr) == (script.returncode, script.stdout, script.stderr)
