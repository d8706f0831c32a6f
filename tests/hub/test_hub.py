"""sb3-mdpo push and pull, as real commands against a stand-in for the Hub, with runs of the real zoo."""

import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch as th
import yaml
from huggingface_hub import ModelCard
from stable_baselines3.common.vec_env import VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.cli.main import main
from sb3_mdpo.hub.evaluation import Evaluation, evaluate_run, levels_of
from sb3_mdpo.hub.model_card import CardFacts, make_card
from sb3_mdpo.hub.normalization import statistics_to_json
from sb3_mdpo.hub.redaction import plain, plain_command, without_places
from sb3_mdpo.lab.generalization.intervals import confidence_interval
from sb3_mdpo.lab.generalization.policies import acting_policies
from sb3_mdpo.zoo.run import read_run
from tests.support.hub_commands import BIN, command, files_in, refused
from tests.support.hub_server import HubServer

STARPILOT, CARTPOLE = "procgen-starpilot-easy-v0", "CartPole-v1"
TINY = ["--device", "cpu", "--seed", "3", "--num-threads", "1", "--eval-freq", "128", "--eval-episodes", "2"]
EVALUATION = ["--episodes", "5", "--n-envs", "2", "--seed", "7", "--device", "cpu"]


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def cartpole(hub, workdir) -> Path:
    """A run with statistics, frame stacking, a Python object in its YAML, and folders of this machine."""
    params = ["n_envs:4", "n_steps:32", "batch_size:64", "n_epochs:1", "normalize:True", "frame_stack:2"]
    params += ["policy_kwargs:dict(activation_fn=nn.ReLU, net_arch=[8])"]
    train = ["train", "--algo", "mdpo", "--env", CARTPOLE, "-n", "200", "-f", str(workdir / "logs"), *TINY]
    command(hub, workdir, "rl_zoo3", *train, "-params", *params)
    return workdir / "logs" / "mdpo" / f"{CARTPOLE}_1"


@pytest.fixture(scope="module")
def starpilot(hub, workdir) -> Path:
    params = ["n_envs:4", "n_steps:32", "batch_size:64", "n_epochs:1"]
    params += ["policy_kwargs:dict(features_extractor_kwargs=dict(channels=(4, 4)))"]
    train = ["train", "--algo", "mdpo", "--env", STARPILOT, "-n", "200", *TINY, "--eval-freq", "-1"]
    command(hub, workdir, "rl_zoo3", *train, "-params", *params)
    return workdir / "logs" / "mdpo" / f"{STARPILOT}_1"


@pytest.fixture(scope="module")
def pushed_cartpole(hub, workdir, cartpole):
    command(hub, workdir, "sb3-mdpo", "push", str(cartpole), "alice/cart", *EVALUATION, "--video", "20")
    return hub.repositories["alice/cart"]


@pytest.fixture(scope="module")
def pushed_starpilot(hub, workdir, starpilot):
    push = ["push", str(starpilot), "alice/pilot", *EVALUATION, "--private", "-m", "Second try"]
    command(hub, workdir, "sb3-mdpo", *push)
    return hub.repositories["alice/pilot"]


@pytest.fixture(scope="module")
def pushed_at_second_try(hub, workdir, cartpole):
    """The best model, with the zoo's pickles, after an upload that the Hub broke off."""
    push = ["sb3-mdpo", "push", str(cartpole), "alice/best", *EVALUATION, "--load-best", "--with-pickles"]
    hub.fail_commits = True
    assert "500" in refused(command(hub, workdir, *push, check=False), "push")
    hub.fail_commits = False
    assert [commit.message for commit in hub.repositories["alice/best"].commits] == ["initial commit"]
    command(hub, workdir, *push)
    return hub.repositories["alice/best"]


def test_push_is_one_commit_of_plain_data(pushed_cartpole, cartpole, tmp_path):
    assert [commit.message for commit in pushed_cartpole.commits] == ["initial commit", f"MDPO on {CARTPOLE}"]
    files = pushed_cartpole.files
    assert set(files) == {
        ".gitattributes", "README.md", "args.yml", "command.txt", "config.json", "config.yml", "env_kwargs.yml",
        "model.safetensors", "replay.mp4", "results.json", "train_eval_metrics.zip", "vec_normalize.json",
    }  # fmt: skip
    assert not pushed_cartpole.private
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes(files[name])
    assert_same_weights(MDPO.from_export(tmp_path), MDPO.load(cartpole / f"{CARTPOLE}.zip"))
    assert files["replay.mp4"][4:8] == b"ftyp"
    with zipfile.ZipFile(io.BytesIO(files["train_eval_metrics.zip"])) as archive:
        assert set(archive.namelist()) == {"evaluations.npz", *(f"{i}.monitor.csv" for i in range(4))}


def assert_same_weights(model: MDPO, other: MDPO) -> None:
    weights, others = model.policy.state_dict(), other.policy.state_dict()
    assert weights.keys() == others.keys()
    assert all(th.equal(weights[name], others[name]) for name in weights)


def test_published_settings_are_plain_yaml_without_folders_of_this_machine(pushed_cartpole, cartpole, workdir):
    assert b"!!python" in (cartpole / CARTPOLE / "config.yml").read_bytes()
    assert str(workdir).encode() in (cartpole / CARTPOLE / "args.yml").read_bytes()
    for name in pushed_cartpole.files.keys() - {"train_eval_metrics.zip"}:
        assert str(workdir.parent).encode() not in pushed_cartpole.files[name], name
        assert str(BIN).encode() not in pushed_cartpole.files[name], name
    args, config = (yaml.safe_load(pushed_cartpole.files[name]) for name in ("args.yml", "config.yml"))
    assert args["log_folder"] == "logs"
    assert config["policy_kwargs"] == {"activation_fn": "torch.nn.modules.activation.ReLU", "net_arch": [8]}
    assert pushed_cartpole.files["command.txt"].startswith(
        b"rl_zoo3 train --algo mdpo --env CartPole-v1 -n 200 -f logs"
    )


def test_card_of_a_procgen_run(pushed_starpilot):
    card = ModelCard(pushed_starpilot.files["README.md"].decode())
    results = json.loads(pushed_starpilot.files["results.json"])
    assert card.data.library_name == "stable-baselines3"
    assert {"reinforcement-learning", "deep-reinforcement-learning", "mdpo", "procgen", STARPILOT} <= set(
        card.data.tags
    )
    assert card.data.model_name == "MDPO"
    splits = [(result.dataset_name, result.dataset_split) for result in card.data.eval_results]
    assert splits == [(STARPILOT, "unseen levels"), (STARPILOT, "200 training levels")]
    of_policy_0 = [evaluation for evaluation in results["evaluations"] if evaluation["policy"] == "policy 0"]
    values = [f"{np.mean(e['returns']):.2f} +/- {np.std(e['returns']):.2f}" for e in of_policy_0]
    assert [result.metric_value for result in card.data.eval_results] == values
    # One row per member, one cell per set of levels
    rows = [line.strip("| ").split(" | ") for line in card.text.splitlines() if line.startswith("|")][2:]
    for name, row in zip(("policy 0", "policy 1"), rows, strict=True):
        expected = [e for e in results["evaluations"] if e["policy"] == name]
        assert row[1:] == [f"{e['mean']:.2f} [{e['interval'][0]:.2f}, {e['interval'][1]:.2f}]" for e in expected]
    for phrase in (
        "Procgen's starpilot, mode easy",
        "**policy 0** (acts)",
        "of 5 episodes per number",
        "Sampled actions, 2 environments",
        "seed 7",
        "2 policies; 256 environment steps of all of them together, 128 each",
        "200 levels, 0 to 199",
        "sb3-mdpo pull alice/pilot -f logs",
        f"rl_zoo3 enjoy --algo mdpo --env {STARPILOT} -f logs --stochastic",
        "no code of whoever shared them runs",
        'MDPO.from_export("pilot")',
        "`config.json`, `model.safetensors`: the model",
        f"rl_zoo3 train --algo mdpo --env {STARPILOT} -n 200",
        "distill_coef: 1.0",
        "- stable-baselines3 2.",
        "arXiv:2501.02481",
    ):
        assert phrase in card.text, phrase


def test_private_repository_with_a_message_of_ones_own(pushed_starpilot):
    assert pushed_starpilot.private
    assert pushed_starpilot.commits[-1].message == "Second try"


def test_card_of_settings_that_name_code(starpilot):
    run = read_run(starpilot)
    facts = CardFacts(
        repo_id="alice/pilot",
        evaluations=[Evaluation("policy 0", "", {}, [1.0, 2.0])],
        n_envs=1,
        deterministic=False,
        seed=0,
        hyperparams={},
        command="",
        versions={},
        with_pickles=False,
        refused="env_wrapper: 'mine.Wrapper' could run code",
    )
    text = make_card(run, MDPO.load(run.model_path, device="cpu"), facts).text
    assert "these settings name code: env_wrapper: 'mine.Wrapper' could run code" in text
    assert "sb3-mdpo pull alice/pilot -f logs --trust\n" in text


def test_results_are_those_of_the_members_on_both_sets_of_levels(pushed_starpilot, starpilot):
    results = json.loads(pushed_starpilot.files["results.json"])
    run = read_run(starpilot)
    again = evaluate_run(run, MDPO.load(run.model_path, device="cpu"), 5, 2, seed=7)
    assert [(e.policy, e.levels, e.returns) for e in again] == [
        (e["policy"], e["levels"], e["returns"]) for e in results["evaluations"]
    ]
    assert [e.env_kwargs["num_levels"] for e in again] == [0, 0, 200, 200]
    assert results["seed"] == 7
    assert results["versions"]["sb3-mdpo"]


@pytest.mark.parametrize(("repo_id", "env_id"), [("alice/cart", CARTPOLE), ("alice/pilot", STARPILOT)])
def test_pulled_run_is_a_run_of_the_zoo(hub, tmp_path, pushed_cartpole, pushed_starpilot, workdir, repo_id, env_id):
    result = command(hub, tmp_path, "sb3-mdpo", "pull", repo_id, "-f", "got")
    assert "pickle" not in result.stdout
    original, pulled = (folder / "mdpo" / f"{env_id}_1" for folder in (workdir / "logs", tmp_path / "got"))
    kept = {name for name in files_in(original) if name != "best_model.zip" and not name.startswith("checkpoints/")}
    names = kept | {f"{env_id}/env_kwargs.yml"}
    assert files_in(tmp_path / "got") == {f"mdpo/{env_id}_1/{name}" for name in names}
    for name in names:
        if name.endswith(("monitor.csv", "evaluations.npz")):
            assert (pulled / name).read_bytes() == (original / name).read_bytes(), name
    assert_same_weights(*(MDPO.load(folder / f"{env_id}.zip") for folder in (original, pulled)))
    if env_id == CARTPOLE:
        ours, theirs = (read_statistics(folder / env_id / "vecnormalize.pkl") for folder in (original, pulled))
        assert ours.obs_rms.mean.tolist() == theirs.obs_rms.mean.tolist()
        assert statistics_to_json(ours) == statistics_to_json(theirs)
    # The line that it says to type
    enjoy = result.stdout.splitlines()[-1].split()
    assert enjoy[0] == "rl_zoo3"
    shown = command(hub, tmp_path, *enjoy, "--no-render", "--stochastic", "-n", "300")
    assert "Mean reward" in shown.stdout


def read_statistics(path: Path) -> VecNormalize:
    return pickle.loads(path.read_bytes())  # of this test


def test_zoo_fetches_a_run_with_pickles_by_itself(hub, tmp_path, pushed_at_second_try, cartpole):
    fetch = ["--algo", "mdpo", "--env", CARTPOLE, "-orga", "alice", "-name", "best", "-f", "zoo"]
    # It refuses to fetch pickles unless told that they can be trusted: this one was trained by this test
    command(hub, tmp_path, "python", "-m", "rl_zoo3.load_from_hub", *fetch, TRUST_REMOTE_CODE="True")
    fetched = tmp_path / "zoo" / "mdpo" / f"{CARTPOLE}_1"
    expected = files_in(cartpole) - {"best_model.zip", f"{CARTPOLE}/command.txt"}
    assert files_in(fetched) == expected | {f"{CARTPOLE}/env_kwargs.yml"}


def test_trusted_pickles_are_taken_as_they_are(hub, tmp_path, pushed_at_second_try, cartpole):
    result = command(hub, tmp_path, "sb3-mdpo", "pull", "alice/best", "--trust")
    assert "the author's pickles" in result.stdout
    pulled = tmp_path / "logs" / "mdpo" / f"{CARTPOLE}_1"
    assert (pulled / f"{CARTPOLE}.zip").read_bytes() == (cartpole / "best_model.zip").read_bytes()
    statistics = f"{CARTPOLE}/vecnormalize.pkl"
    assert (pulled / statistics).read_bytes() == (cartpole / statistics).read_bytes()
    # Without trust the same repository gives what was made of plain data, and no pickle is asked for
    hub.requests.clear()
    assert "pickle" not in command(hub, tmp_path, "sb3-mdpo", "pull", "alice/best").stdout
    again = pulled.with_name(f"{CARTPOLE}_2")
    assert_same_weights(MDPO.load(again / f"{CARTPOLE}.zip"), MDPO.load(cartpole / "best_model.zip"))
    assert not [request for request in hub.requests if request.endswith((f"{CARTPOLE}.zip", ".pkl"))]


def test_push_of_a_pulled_run_that_lost_its_video_and_next_pull(hub, tmp_path, pushed_cartpole):
    hub.repositories["bob/cart"] = type(pushed_cartpole)(commits=list(pushed_cartpole.commits))
    older = {"notes.md": b"mine", "mdpo-CartPole-v1.zip": b"of an older push"}
    hub.add("bob/cart", {**pushed_cartpole.files, **older})
    command(hub, tmp_path, "sb3-mdpo", "pull", "bob/cart")
    pulled = tmp_path / "logs" / "mdpo" / f"{CARTPOLE}_1"
    command(hub, tmp_path, "sb3-mdpo", "push", str(pulled), "bob/cart", *EVALUATION, "--deterministic")
    files = hub.repositories["bob/cart"].files
    assert "replay.mp4" not in files  # of another evaluation
    assert "mdpo-CartPole-v1.zip" not in files  # other weights
    assert files["notes.md"] == b"mine"
    assert "The most probable actions" in files["README.md"].decode()
    run = read_run(pulled)
    model = MDPO.load(run.model_path, device="cpu")
    shared = [evaluation["returns"] for evaluation in json.loads(files["results.json"])["evaluations"]]
    assert shared == [e.returns for e in evaluate_run(run, model, 5, 2, deterministic=True, seed=7)]
    assert shared != [e.returns for e in evaluate_run(run, model, 5, 2, deterministic=False, seed=7)]
    first = hub.repositories["bob/cart"].commits[1].sha
    hub.add("bob/cart", {**files, "command.txt": b"later"})
    command(hub, tmp_path, "sb3-mdpo", "pull", "bob/cart", "--revision", first)
    assert {path.name for path in pulled.parent.iterdir()} == {f"{CARTPOLE}_1", f"{CARTPOLE}_2"}
    earlier = pulled.with_name(f"{CARTPOLE}_2") / CARTPOLE / "command.txt"
    assert earlier.read_bytes() == (pulled / CARTPOLE / "command.txt").read_bytes()


def test_best_model(pushed_at_second_try, cartpole):
    files = pushed_at_second_try.files
    best = (cartpole / "best_model.zip").read_bytes()
    assert best != (cartpole / f"{CARTPOLE}.zip").read_bytes()
    assert files["mdpo-CartPole-v1.zip"] == best
    assert json.loads(files["results.json"])["model"] == "best"
    assert files["vec_normalize.pkl"] == (cartpole / CARTPOLE / "vecnormalize.pkl").read_bytes()
    assert "Load them only if you trust who shared them" in files["README.md"].decode()
    assert "not the last model but the best one" in files["README.md"].decode()


def test_interrupted_upload_leaves_no_commit_and_can_be_repeated(pushed_at_second_try):
    assert [commit.message for commit in pushed_at_second_try.commits] == ["initial commit", f"MDPO on {CARTPOLE}"]


def test_pull_replaces_a_run_only_with_force(hub, tmp_path, pushed_cartpole):
    run = tmp_path / "logs" / "mdpo" / f"{CARTPOLE}_4"
    run.mkdir(parents=True)
    (run / "mine.txt").write_text("keep")
    pull = ["sb3-mdpo", "pull", "alice/cart", "--exp-id", "4"]
    assert "use --force" in refused(command(hub, tmp_path, *pull, check=False), "pull")
    assert files_in(run) == {"mine.txt"}
    command(hub, tmp_path, *pull, "--force")
    assert not (run / "mine.txt").exists()
    assert (run / f"{CARTPOLE}.zip").exists()
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def test_push_refuses_another_environments_repository_and_public_ones_for_private(
    hub, workdir, cartpole, pushed_starpilot, pushed_cartpole
):
    before = {name: len(repository.commits) for name, repository in hub.repositories.items()}
    result = command(hub, workdir, "sb3-mdpo", "push", str(cartpole), "alice/pilot", check=False)
    assert f"alice/pilot holds a model of {STARPILOT}" in refused(result, "push")
    result = command(hub, workdir, "sb3-mdpo", "push", str(cartpole), "alice/cart", "--private", check=False)
    assert "exists and is public" in refused(result, "push")
    for files, message in (
        ({"mdpo-Other-v1.zip": b""}, "holds a model of Other-v1"),
        ({"model.safetensors": b""}, "holds a model that sb3-mdpo push did not make"),
    ):
        hub.repositories.pop("alice/other", None)
        hub.add("alice/other", files)
        result = command(hub, workdir, "sb3-mdpo", "push", str(cartpole), "alice/other", check=False)
        assert message in refused(result, "push")
    del hub.repositories["alice/other"]
    assert {name: len(repository.commits) for name, repository in hub.repositories.items()} == before


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["alice/nothing"], {}, "Repository Not Found"),
        (["alice/cart", "--revision", "nowhere"], {}, "Revision Not Found"),
        (["alice/cart"], {"HF_HUB_OFFLINE": "1"}, "offline mode"),
        (["alice/cart"], {"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
        (["alice/cart/x"], {}, "Repo id must"),
        (["alice/cart", "--force"], {}, "say which"),
        (["alice/cart", "--exp-id", "-1"], {}, "must not be negative"),
    ],
)
def test_pull_that_cannot_be(hub, tmp_path, pushed_cartpole, arguments, env, message):
    line = refused(command(hub, tmp_path, "sb3-mdpo", "pull", *arguments, check=False, **env), "pull")
    assert message.lower() in line.lower()
    assert not (tmp_path / "logs").exists()


def test_push_offline_uploads_nothing(hub, workdir, cartpole):
    requests = len(hub.requests)
    push = ["sb3-mdpo", "push", str(cartpole), "alice/offline"]
    assert "offline" in refused(command(hub, workdir, *push, check=False, HF_HUB_OFFLINE="1"), "push")
    assert len(hub.requests) == requests


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: run.rename(run.with_name("elsewhere")), "There is no folder"),
        (lambda run: (run / CARTPOLE / "config.yml").unlink(), "is no run folder of rl_zoo3 train"),
        (lambda run: (run / f"{CARTPOLE}.zip").unlink(), "the training has not finished"),
        (lambda run: (run / CARTPOLE).rename(run / "Other-v1"), "not what its folder is named after"),
        (lambda run: rewrite(run, algo="ppo"), "is a run of ppo"),
        (lambda run: rewrite(run, gym_packages=["no_such_package"]), "cannot be made here"),
    ],
)
def test_push_of_what_is_no_run(cartpole, tmp_path, capsys, damage, message):
    run = tmp_path / f"{CARTPOLE}_1"
    for name in files_in(cartpole):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes((cartpole / name).read_bytes())
    damage(run)
    with pytest.raises(SystemExit) as ended:
        main(["push", str(run), "alice/never"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sb3-mdpo push: ")
    assert message in line


def rewrite(run: Path, **changes: object) -> None:
    args = yaml.unsafe_load((run / CARTPOLE / "args.yml").read_text())
    (run / CARTPOLE / "args.yml").write_text(yaml.dump({**args, **changes}))


def test_best_model_that_is_not_there_and_numbers_out_of_range(starpilot, capsys):
    for arguments, message in (
        (["--load-best"], "train with --eval-freq"),
        (["--video", "0"], "A video of 0 steps"),
        (["--device", "gpu"], "PyTorch knows no device gpu"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["push", str(starpilot), "alice/never", *arguments])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    run = read_run(starpilot)
    for numbers in ((1, 1), (2, 0)):
        with pytest.raises(ValueError, match="at least"):
            evaluate_run(run, MDPO.load(run.model_path, device="cpu"), *numbers)


def test_confidence_interval_by_hand():
    # Mean 2.5, standard deviation sqrt(5/3), t quantile 3.182446 for 3 degrees of freedom
    half = 3.182446 * np.sqrt(5 / 3) / 2
    assert confidence_interval([1, 2, 3, 4]) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-5)
    assert confidence_interval([7, 7]) == (7, 7)
    # t quantile 6.313752 for 1 degree of freedom and 90 %
    assert confidence_interval([0, 2], 0.9) == pytest.approx((1 - 6.313752, 1 + 6.313752), abs=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        confidence_interval([1])


def test_what_is_evaluated():
    trained_on = {"num_levels": 50, "start_level": 9, "use_backgrounds": False}
    assert levels_of("procgen-heist-hard-v0", trained_on) == {
        "unseen levels": {"num_levels": 0, "start_level": 0, "use_backgrounds": False},
        "50 training levels": trained_on,
    }
    assert levels_of("procgen-heist-exploration-v0", {}) == {"levels of training": {}}
    assert levels_of(CARTPOLE, {"sutton_barto_reward": True}) == {"": {"sutton_barto_reward": True}}
    model = MDPO("MlpPolicy", CARTPOLE, n_policies=3, predict_with="ensemble", n_steps=2, batch_size=2)
    assert list(acting_policies(model)) == ["policy 0", "policy 1", "policy 2", "ensemble"]


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("/home/alice/logs", "logs"),
        ("/home/alice smith/my logs", "my logs"),
        ("C:\\Users\\alice\\logs", "logs"),
        ("logs/mdpo", "logs/mdpo"),
        ("../logs", "../logs"),
        ("https://wandb.ai/alice/run", "https://wandb.ai/alice/run"),
        ("sqlite:////home/alice/study.db", "sqlite:///study.db"),
        ("mysql://alice:secret@host/study", "mysql://host/study"),
        ("dict(xml='/home/alice/ant.xml', rate=1/2)", "dict(xml='ant.xml', rate=1/2)"),
        ("xml:/home/alice/ant.xml", "xml:ant.xml"),
    ],
)
def test_folders_and_logins_stay_at_home(text, published):
    assert without_places(text) == published


def test_commands_as_one_would_type_them():
    recorded = "/opt/my env/bin/python /opt/bin/rl_zoo3 train --algo mdpo -f /home/alice/logs -params n_envs:8"
    assert plain_command("/opt/bin/python3.11 " + recorded.split("python ")[1]) == (
        "rl_zoo3 train --algo mdpo -f logs -params n_envs:8"
    )
    assert plain_command("/opt/bin/python -m sb3_mdpo.zoo train\n") == "python -m sb3_mdpo.zoo train"


def test_plain_data_can_be_read_by_anyone():
    settings = {
        "net": (np.float32(1.5), np.int64(2)),
        "fn": np.mean,
        "cls": Path,
        "on": np.True_,
        3: {"path": "/a/b/c"},
    }
    expected = {"net": [1.5, 2], "fn": "numpy.mean", "cls": "pathlib.Path", "on": True, 3: {"path": "c"}}
    assert plain(settings) == expected
    assert yaml.safe_load(yaml.safe_dump(plain(settings))) == expected


def test_help_needs_neither_torch_nor_the_hub(tmp_path):
    code = (
        "import sys; from sb3_mdpo.cli.main import make_parser; print(make_parser().format_help());"
        "print(sorted({'torch', 'rl_zoo3', 'huggingface_hub', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "push" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_without_the_extra_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("sb3_mdpo.utils.optional_dependencies.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main(["pull", "alice/cart"])
    assert ended.value.code == 2
    expected = "sb3-mdpo pull: huggingface_hub is not installed: run pip install 'sb3-mdpo[hub]'.\n"
    assert capsys.readouterr().err == expected


def test_bugs_are_not_hidden(monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr("sb3_mdpo.hub.pull.pull_run", broken)
    with pytest.raises(TypeError, match="a bug"):
        main(["pull", "alice/cart"])
