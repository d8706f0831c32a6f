"""Studies on Ray: a real cluster of several nodes on this machine, one of which is killed in the middle."""

import tarfile
import tempfile
import threading
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from sb3_mdpo.lab.study.checkpoint_sync import CheckpointSync
from sb3_mdpo.lab.study.config import Resources, parse_study
from sb3_mdpo.lab.study.ray_engine import _check_resources, pack, unpack
from tests.support import tiny_studies
from tests.support.studies import ROOT, interrupted_study, results, study_command, wait_until
from tests.support.tiny_studies import GRID, TINY

SMALL_STORE = 80 * 2**20
CHECKPOINTS = "sb3_mdpo.callbacks.ResumableCheckpointCallback"
STUDY = {
    "methods": ["ppo", "ppo_l2"],
    "timesteps": 2048,
    "hyperparams": TINY["hyperparams"] | {"batch_size": 128, "callback": [{CHECKPOINTS: {"save_freq": 256}}]},
    "evaluation": {"freq": 1024, "episodes": 4, "n_envs": 4},
}
PATIENCE = 600


def write(folder: Path, **changes) -> Path:
    return tiny_studies.write(folder / "tiny.yml", **STUDY | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Folder of the study, trained without Ray, which nobody may change."""
    folder = tmp_path_factory.mktemp("here")
    assert study_command("run", write(folder), "-o", folder / "out") == 0
    return folder / "out"


def with_callback(save_freq: int, name: str, **arguments) -> dict:
    """Hyperparameters with checkpoints and one of our callbacks."""
    callbacks = [{CHECKPOINTS: {"save_freq": save_freq}}, {f"tests.support.studies.{name}": arguments}]
    return STUDY["hyperparams"] | {"callback": callbacks}


@pytest.fixture
def on_ray(monkeypatch) -> Iterator[None]:
    """In a folder with a short path, because of Ray's sockets. Trainings can import the tests."""
    with tempfile.TemporaryDirectory(prefix="ray_", dir="/tmp") as folder:
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's workers are polite, even to each other
        yield


@pytest.fixture
def cluster(on_ray) -> Iterator[Cluster]:
    """A head that runs nothing."""
    settings = {"num_cpus": 0, "object_store_memory": SMALL_STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=settings)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_study_survives_the_loss_of_a_node_and_the_failure_of_a_run(cluster, finished, tmp_path, capfd):
    """Two nodes train one run each when one of them is killed with all its processes. Runs wait for that."""
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=SMALL_STORE) for _ in range(2)]
    begun, opened, out = tmp_path / "storage", tmp_path / "opened", tmp_path / "out"
    hyperparams = with_callback(256, "Gate", reached=str(tmp_path / "reached"), at_step=512, opened=str(opened))
    bad = {"name": "bad", "method": "ppo", "hyperparams": {"batch_size": 4096}}

    def saved() -> set[Path]:
        return {Path(path).parents[1] for path in glob(f"{begun}/*/mdpo/*/checkpoints/*[1-9]*.zip")}

    def kill_one() -> None:
        wait_until(lambda: len(saved()) == 2, PATIENCE)
        cluster.remove_node(nodes[0], allow_graceful=False)
        opened.touch()

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    there = ["--engine", "ray", "--address", cluster.address, "--storage", f"file://{begun}"]
    file = write(tmp_path, hyperparams=hyperparams, methods=[*STUDY["methods"], bad])
    code = study_command("run", file, "-o", out, *there)
    killer.join()
    output, name = "".join(capfd.readouterr()), f"{GRID}_8_bad_0"
    assert code == 1, output
    for said in (f"{name} failed, the end of {out}/failed/{name}/run.log:", "batch_size", "2 of 3 runs are complete"):
        assert said in output
    assert opened.exists()
    assert results(out, ("seconds",)) == results(finished, ("seconds",))
    ours, theirs = ({path.name for path in folder.glob("Textured*")} for folder in (out, finished))
    assert ours == theirs
    assert sum("Resuming from step" in path.read_text() for path in out.glob("*/run.log")) == 1
    assert not list(begun.iterdir())
    assert not list((out / "unfinished").iterdir())
    assert not ray.is_initialized()


def test_resources_that_this_machine_does_not_have(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    _check_resources(parse_study(TINY | {"resources": {"cpus": 2}}, "x"))
    with pytest.raises(ValueError, match="a run wants 1000 GPUs, but Ray finds 0 on this machine"):
        _check_resources(parse_study(TINY | {"resources": {"gpus": 1000}}, "x"))


def test_an_interrupted_study_on_ray_writes_a_newer_checkpoint(on_ray, tmp_path):
    """On this machine alone, with half-done runs in the study's own folder."""
    reached = tmp_path / "reached"
    hyperparams = with_callback(10**9, "Unwritten", reached=str(reached)) | {"n_timesteps": 10**9}
    variant = {"name": "long", "method": "ppo", "hyperparams": hyperparams}
    file = write(tmp_path, methods=[variant], evaluation={"freq": 10**9, "episodes": 2})

    def steps() -> list[int]:
        files = (tmp_path / "out" / "unfinished").glob("*/mdpo/*/checkpoints/checkpoint_*.zip")
        return [int(path.stem.removeprefix("checkpoint_")) for path in files]

    before: list[int] = []

    def meanwhile() -> None:
        wait_until(lambda: reached.exists() and steps(), PATIENCE)
        before.extend(steps())

    code, output = interrupted_study(meanwhile, "run", file, "-o", tmp_path / "out", "--engine", "ray")
    assert code == 130, output
    assert "the same command continues" in output
    assert before == [0]  # the only one that save_freq asks for
    assert max(steps()) > max(before)


def make_work(folder: Path, *steps: int) -> Path:
    """A working folder as a training leaves it, with checkpoints of these steps."""
    run = folder / "mdpo" / f"{GRID}_1"
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "monitor.csv").write_text(f"after {max(steps)} steps")
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    for step in steps:
        (run / "checkpoints" / f"checkpoint_{step:012d}.zip").write_text(str(step))
    return folder


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("protocol", ["", "file://", "memory://"])
def test_another_machine_resumes_from_the_copy(protocol, tmp_path):
    url = f"{protocol}{tmp_path}/storage/run"
    work = make_work(tmp_path / "here", 1, 2)
    sync = CheckpointSync(url, work)
    sync.update()
    CheckpointSync(url, tmp_path / "there").fetch()
    assert content(tmp_path / "there") == content(work)

    make_work(work, 2, 3)  # as with keep=2
    (work / ".run.yml.1.tmp").write_text("half written")
    sync.update()
    CheckpointSync(url, tmp_path / "elsewhere").fetch()
    assert content(tmp_path / "elsewhere") == {key: text for key, text in content(work).items() if "tmp" not in key}

    sync.remove()
    sync.remove()
    CheckpointSync(url, tmp_path / "nowhere").fetch()
    assert not (tmp_path / "nowhere").exists()


def test_checkpoints_are_copied_after_what_belongs_to_them(tmp_path, monkeypatch):
    work = make_work(tmp_path / "here", 1, 2)
    (work / "zzz").write_text("last by name")
    sync = CheckpointSync(str(tmp_path / "storage"), work)
    put = sync.fs.mv
    order: list[str] = []
    monkeypatch.setattr(sync.fs, "mv", lambda part, target: (order.append(Path(target).name), put(part, target)))
    sync.update()
    assert order[-2:] == ["checkpoint_000000000001.zip", "checkpoint_000000000002.zip"]
    assert set(order[:-2]) == {"monitor.csv", "zzz"}
    sync.update()  # no new checkpoint
    assert len(order) == 4


def test_a_storage_that_fails_later_is_a_warning_and_tried_again(tmp_path):
    work = make_work(tmp_path / "here", 1)
    sync = CheckpointSync(str(tmp_path / "storage" / "run"), work)
    (tmp_path / "storage").write_text("no folder")
    with pytest.warns(UserWarning, match=r"checkpoint_000000000001.zip could not be copied"):
        sync.update()
    sync.update()  # waits for the next checkpoint
    (tmp_path / "storage").unlink()
    make_work(work, 1, 2)
    sync.update()
    CheckpointSync(sync.root, tmp_path / "there").fetch()
    assert content(tmp_path / "there") == content(work)


def test_folders_come_home_whole_or_not_at_all(tmp_path):
    work = make_work(tmp_path / "here", 1, 2)
    packed = pack(work)
    unpack(packed, tmp_path / "new" / "run")
    assert content(tmp_path / "new" / "run") == content(work)
    with pytest.raises(tarfile.ReadError):
        unpack(packed[:1000], tmp_path / "new" / "other")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run"]


def test_resources_of_a_run():
    assert parse_study(TINY, "x").resources == Resources(cpus=None, gpus=0, retries=3)
    given = {"cpus": 0.5, "gpus": 0.25, "retries": 0}
    assert parse_study(TINY | {"resources": given}, "x").resources == Resources(**given)


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (["--storage", "nothing://x"], {}, "Protocol not known: nothing"),
        ([], {"device": "cuda:0"}, "Ray hides GPUs from runs that ask for none"),
    ],
)
def test_what_ray_cannot_do(options, changes, message, tmp_path, capsys):
    file = write(tmp_path, **changes)
    assert study_command("run", file, "-o", tmp_path / "out", "--engine", "ray", *options) == 2
    assert message in capsys.readouterr().err
    assert not ray.is_initialized()
