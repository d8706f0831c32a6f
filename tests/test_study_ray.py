"""Studies on Ray: a real cluster of several nodes on this machine, one of which is killed in the middle."""

import csv
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import yaml
from ray.cluster_utils import Cluster

from sb3_mdpo.cli import main

GRID = "TexturedGrid-v0"
SMALL_STORE = 80 * 2**20
STUDY = {
    "name": "tiny",
    "environments": [GRID],
    "num_levels": [8],
    "methods": ["ppo"],
    "seeds": [0, 1, 2],
    "timesteps": 8192,
    "hyperparams": {
        "n_envs": 8,
        "n_steps": 32,
        "batch_size": 128,
        "n_epochs": 1,
        "callback": [{"sb3_mdpo.checkpoints.ResumableCheckpointCallback": {"save_freq": 512}}],
    },
    "evaluation": {"freq": 4096, "episodes": 4, "n_envs": 4},
    "device": "cpu",
}
NOT_TIMES = ("seconds",)


def write(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump(STUDY | changes))
    return path


def study_command(*arguments: object) -> int:
    """Exit code of ``sb3-mdpo study ...``, in this process."""
    try:
        main(["study", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def results(folder: Path) -> list[dict[str, str]]:
    """The table of a study, but for times."""
    with (folder / "results.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in NOT_TIMES} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Folder of the study, trained without Ray, which nobody may change."""
    folder = tmp_path_factory.mktemp("here")
    assert study_command("run", write(folder / "tiny.yml", jobs=2), "-o", folder / "out") == 0
    return folder / "out"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """What Ray writes: the paths of sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="ray_", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def cluster(short_folder, monkeypatch) -> Iterator[Cluster]:
    """A head that runs nothing."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's workers are polite, even to each other
    settings = {"num_cpus": 0, "object_store_memory": SMALL_STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=settings)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def wait_until(condition, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_study_survives_the_loss_of_a_node(cluster, finished, tmp_path, capfd):
    """Two nodes train one run each when one of them is killed with all its processes."""
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=SMALL_STORE) for _ in range(2)]
    begun = tmp_path / "storage"
    killed = threading.Event()

    def kill_one() -> None:
        wait_until(lambda: len({path.parents[1] for path in begun.glob("*/mdpo/*/checkpoints/*[1-9]*.zip")}) == 2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        killed.set()

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    on_ray = ["--engine", "ray", "--address", cluster.address, "--storage", f"file://{begun}"]
    code = study_command("run", write(tmp_path / "tiny.yml"), "-o", tmp_path / "out", *on_ray)
    killer.join()
    print(capfd.readouterr())
    assert code == 0
    assert killed.is_set()
    assert results(tmp_path / "out") == results(finished)
    assert sorted(path.name for path in (tmp_path / "out").glob("Textured*")) == sorted(
        path.name for path in finished.glob("Textured*")
    )
    logs = [path.read_text() for path in (tmp_path / "out").glob("*/run.log")]
    assert sum("Going on from step" in log for log in logs) == 1
    assert not list(begun.iterdir())
    assert not list((tmp_path / "out" / "unfinished").iterdir())
