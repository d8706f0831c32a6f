"""sb3-mdpo push and pull, as commands against a stand-in for the Hub, with runs of the real zoo."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from sb3_mdpo import MDPO
from sb3_mdpo.cli.main import main
from sb3_mdpo.hub.evaluation import evaluate_run, training_levels
from sb3_mdpo.hub.normalization import statistics_to_json
from sb3_mdpo.hub.redaction import plain, plain_command, without_places
from sb3_mdpo.lab.generalization.evaluation import evaluate_generalization
from sb3_mdpo.lab.generalization.results import confidence_interval
from sb3_mdpo.zoo.run import Run, read_run
from tests.support.helpers import assert_same_parameters, refusal
from tests.support.hub_commands import command, files_in, refused

FRUITBOT, CARTPOLE = "procgen-fruitbot-easy-v0", "CartPole-v1"
TINY = ["n_envs:4", "n_steps:32", "batch_size:64", "n_epochs:1"]
EVALUATION = ["--episodes", "3", "--n-envs", "3", "--seed", "7", "--device", "cpu"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hub")


def train(hub, workdir: Path, env_id: str, options: str, *params: str) -> Path:
    words = f"rl_zoo3 train --algo mdpo --env {env_id} -n 200 --device cpu --seed 3 --num-threads 1 {options}"
    command(hub, workdir, *words.split(), "-params", *TINY, *params)
    return workdir / "logs" / "mdpo" / f"{env_id}_1"


@pytest.fixture(scope="module")
def cartpole(hub, workdir) -> Path:
    """A run with statistics, frame stacking, a Python object in its YAML, and folders of this machine."""
    kwargs = "policy_kwargs:dict(activation_fn=nn.ReLU, net_arch=[8])"
    options = f"-f {workdir}/logs --eval-freq 128 --eval-episodes 2"
    return train(hub, workdir, CARTPOLE, options, "normalize:True", "frame_stack:2", kwargs)


@pytest.fixture(scope="module")
def fruitbot(hub, workdir) -> Path:
    kwargs = "policy_kwargs:dict(features_extractor_kwargs=dict(channels=(4, 4)))"
    return train(hub, workdir, FRUITBOT, "--eval-freq -1", kwargs)


@pytest.fixture(scope="module")
def pushed_cartpole(hub, workdir, cartpole):
    command(hub, workdir, "sb3-mdpo", "push", str(cartpole), "alice/cart", *EVALUATION, "--video", "20")
    return hub.repositories["alice/cart"]


@pytest.fixture(scope="module")
def pushed_fruitbot(hub, workdir, fruitbot):
    options = [*EVALUATION, "--private", "-m", "Second try"]
    command(hub, workdir, "sb3-mdpo", "push", str(fruitbot), "alice/fruit", *options)
    return hub.repositories["alice/fruit"]


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


def assert_same_weights(path: Path, other: Path) -> None:
    assert_same_parameters(*(MDPO.load(file, device="cpu").policy for file in (path, other)))


def test_push_is_one_commit_of_plain_data(pushed_cartpole, cartpole, tmp_path):
    assert [commit.message for commit in pushed_cartpole.commits] == ["initial commit", f"MDPO on {CARTPOLE}"]
    files = pushed_cartpole.files
    assert set(files) == {
        ".gitattributes", "README.md", "args.yml", "config.json", "config.yml", "model.safetensors", "replay.mp4",
        "results.json", "vec_normalize.json",
    }  # fmt: skip
    assert not pushed_cartpole.private
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes(files[name])
    assert_same_parameters(MDPO.from_export(tmp_path).policy, MDPO.load(cartpole / f"{CARTPOLE}.zip").policy)
    assert files["replay.mp4"][4:8] == b"ftyp"
    assert yaml.safe_load(files["config.yml"]) == {"frame_stack": 2, "normalize": True}
    args = {"algo": "mdpo", "env": CARTPOLE, "env_kwargs": {}, "gym_packages": [], "seed": 3}
    assert yaml.safe_load(files["args.yml"]) == args


def test_nothing_published_names_folders_of_this_machine(pushed_cartpole, cartpole, workdir):
    assert b"!!python" in (cartpole / CARTPOLE / "config.yml").read_bytes()
    for name in ("args.yml", "command.txt"):
        assert str(workdir).encode() in (cartpole / CARTPOLE / name).read_bytes()
    for name, content in pushed_cartpole.files.items():
        assert str(workdir.parent).encode() not in content, name
        assert str(Path(sys.executable).parent).encode() not in content, name
    card = pushed_cartpole.files["README.md"].decode()
    hyperparams = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert hyperparams["policy_kwargs"] == {"activation_fn": "torch.nn.modules.activation.ReLU", "net_arch": [8]}
    assert hyperparams["normalize"] is True
    assert f"rl_zoo3 train --algo mdpo --env {CARTPOLE} -n 200 --device cpu --seed 3 --num-threads 1 -f logs" in card


def test_private_repository_and_card_of_a_procgen_run(pushed_fruitbot):
    assert pushed_fruitbot.private
    assert pushed_fruitbot.commits[-1].message == "Second try"
    card = ModelCard(pushed_fruitbot.files["README.md"].decode())
    results = json.loads(pushed_fruitbot.files["results.json"])
    assert card.data.library_name == "stable-baselines3"
    expected = {"reinforcement-learning", "deep-reinforcement-learning", "mdpo", "procgen", FRUITBOT}
    assert expected <= set(card.data.tags)
    assert card.data.model_name == "MDPO"
    splits = [(result.dataset_name, result.dataset_split) for result in card.data.eval_results]
    assert splits == [(FRUITBOT, "unseen levels"), (FRUITBOT, "200 training levels")]
    acting = [evaluation for evaluation in results["evaluations"] if evaluation["policy"] == "policy 0"]
    values = [f"{np.mean(e['returns']):.2f} +/- {np.std(e['returns']):.2f}" for e in acting]
    assert [result.metric_value for result in card.data.eval_results] == values
    # One row per policy, one cell per set of levels
    header, _, *rows = [line.strip("| ").split(" | ") for line in card.text.splitlines() if line.startswith("|")]
    assert header == ["unseen levels", "200 training levels"]
    policies = {"**policy 0** (acts)": "policy 0", "policy 1": "policy 1", "ensemble": "ensemble"}
    for (shown, name), row in zip(policies.items(), rows, strict=True):
        assert row[0] == shown
        expected = [e for e in results["evaluations"] if e["policy"] == name]
        assert row[1:] == [f"{e['mean']:.2f} [{e['interval'][0]:.2f}, {e['interval'][1]:.2f}]" for e in expected]
    for phrase in (
        *("Procgen's fruitbot, mode easy", "of 3 episodes per number", "95 % confidence interval", "seed 7"),
        "Sampled actions; 3 environments",
        "2 policies; 256 environment steps of all of them together, 128 each",
        "200 levels, 0 to 199",
        'pip install "sb3-mdpo[hub,procgen]"',
        "sb3-mdpo pull alice/fruit -f logs\n",
        f"rl_zoo3 enjoy --algo mdpo --env {FRUITBOT} -f logs --stochastic\n",
        *("loading them runs no code", 'MDPO.from_export("fruit")', "arXiv:2501.02481", "distill_coef: 1.0\n"),
        "`config.json`, `model.safetensors`: the model",
        f"rl_zoo3 train --algo mdpo --env {FRUITBOT} -n 200",
        "\n- stable-baselines3 2.",
    ):
        assert phrase in card.text, phrase
    assert "{{" not in card.text


def test_push_warns_of_settings_that_need_trust(hub, cartpole, tmp_path):
    run = Path(shutil.copytree(cartpole, tmp_path / "run"))
    wrapper = "stable_baselines3.common.vec_env.VecMonitor"  # writes files
    config = {"normalize": True, "frame_stack": 2, "vec_env_wrapper": wrapper}
    (run / CARTPOLE / "config.yml").write_text(yaml.safe_dump(config))
    result = command(hub, tmp_path, "sb3-mdpo", "push", str(run), "alice/monitor", *EVALUATION)
    assert "sb3-mdpo pull will only take this run with --trust" in result.stderr
    card = hub.repositories["alice/monitor"].files["README.md"].decode()
    assert f"`sb3-mdpo pull` needs `--trust` for them: config.yml: vec_env_wrapper: '{wrapper}' could run code" in card
    assert "sb3-mdpo pull alice/monitor -f logs --trust\n" in card
    line = refused(command(hub, tmp_path, "sb3-mdpo", "pull", "alice/monitor", check=False), "pull")
    assert f"'{wrapper}' could run code" in line
    command(hub, tmp_path, "sb3-mdpo", "pull", "alice/monitor", "--trust")
    config = (tmp_path / "logs" / "mdpo" / f"{CARTPOLE}_1" / CARTPOLE / "config.yml").read_text()
    assert yaml.safe_load(config)["vec_env_wrapper"] == wrapper


def test_results_are_those_of_the_generalization_evaluation(pushed_fruitbot, fruitbot):
    results = json.loads(pushed_fruitbot.files["results.json"])
    run = read_run(fruitbot)
    again = evaluate_generalization(MDPO.load(run.model_path), FRUITBOT, 200, 3, seed=7, n_envs=3)
    expected = [(one.policy, "unseen levels", list(one.unseen.returns)) for one in again.policies]
    expected += [(one.policy, "200 training levels", list(one.training.returns)) for one in again.policies]
    assert [(e["policy"], e["levels"], e["returns"]) for e in results["evaluations"]] == expected
    assert len({returns for *_, e in expected for returns in e}) > 4
    assert results["env_kwargs"] == {"num_levels": 200, "start_level": 0}
    assert results["seed"] == 7
    assert results["versions"]["sb3-mdpo"]


def test_best_model_is_pushed_with_results_on_other_levels_than_those_that_chose_it(hub, fruitbot, tmp_path):
    shutil.copytree(fruitbot, run := tmp_path / fruitbot.name)
    shutil.copy(run / f"{FRUITBOT}.zip", run / "best_model.zip")
    config = run / FRUITBOT / "config.yml"
    callback = {"sb3_mdpo.callbacks.GeneralizationEvalCallback": {"eval_freq": 64}}
    config.write_text(yaml.dump(dict(yaml.unsafe_load(config.read_text())) | {"callback": callback}))
    push = f"sb3-mdpo push {run} alice/chosen --load-best --episodes 3 --n-envs 3 --device cpu".split()
    line = refused(command(hub, tmp_path, *push, "--seed", "0", check=False), "push")
    assert "was chosen by its return on the levels of seed 0" in line
    assert "alice/chosen" not in hub.repositories
    command(hub, tmp_path, *push)
    assert json.loads(hub.repositories["alice/chosen"].files["results.json"])["seed"] == 1


@pytest.mark.parametrize(("repo_id", "env_id"), [("alice/cart", CARTPOLE), ("alice/fruit", FRUITBOT)])
def test_pulled_run_is_a_run_of_the_zoo(hub, tmp_path, pushed_cartpole, pushed_fruitbot, workdir, repo_id, env_id):
    result = command(hub, tmp_path, "sb3-mdpo", "pull", repo_id, "-f", "got")
    assert "pickle" not in result.stdout
    original, pulled = (folder / "mdpo" / f"{env_id}_1" for folder in (workdir / "logs", tmp_path / "got"))
    names = {f"{env_id}/{name}" for name in ("args.yml", "command.txt", "config.yml", "vecnormalize.pkl")}
    assert files_in(tmp_path / "got") == {f"mdpo/{env_id}_1/{name}" for name in names | {f"{env_id}.zip"}}
    assert_same_weights(*(folder / f"{env_id}.zip" for folder in (original, pulled)))
    ours, theirs = (
        statistics_to_json(pickle.loads((folder / env_id / "vecnormalize.pkl").read_bytes()))
        for folder in (original, pulled)
    )
    assert ours == theirs
    # The same environments
    runs = (read_run(folder) for folder in (original, pulled))
    np.testing.assert_array_equal(*(run.make_env(run.env_kwargs, 2, 5).reset() for run in runs))
    # The line that it says to type
    enjoy = result.stdout.splitlines()[-1].split()
    assert enjoy[0] == "rl_zoo3"
    shown = command(hub, tmp_path, *enjoy, "--no-render", "--stochastic", "-n", "200")
    assert "Mean reward" in shown.stdout


def test_best_model_and_upload_that_was_broken_off(pushed_at_second_try, cartpole):
    assert [commit.message for commit in pushed_at_second_try.commits] == ["initial commit", f"MDPO on {CARTPOLE}"]
    files = pushed_at_second_try.files
    best = (cartpole / "best_model.zip").read_bytes()
    assert best != (cartpole / f"{CARTPOLE}.zip").read_bytes()
    assert files["mdpo-CartPole-v1.zip"] == best
    assert json.loads(files["results.json"])["model"] == "best"
    assert files["vec_normalize.pkl"] == (cartpole / CARTPOLE / "vecnormalize.pkl").read_bytes()
    card = files["README.md"].decode()
    assert "Load them only if you trust who\nshared them" in card
    assert "not the last model but the best one" in card


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
    assert_same_weights(again / f"{CARTPOLE}.zip", cartpole / "best_model.zip")
    assert not [request for request in hub.requests if request.endswith((f"{CARTPOLE}.zip", ".pkl"))]


def test_push_of_a_pulled_run_that_lost_its_video_and_next_pull(hub, tmp_path, pushed_cartpole):
    hub.repositories["bob/cart"] = type(pushed_cartpole)(commits=list(pushed_cartpole.commits))
    older = {"notes.md": b"mine", "mdpo-CartPole-v1.zip": b"of an older push"}
    hub.add("bob/cart", {**pushed_cartpole.files, **older})
    command(hub, tmp_path, "sb3-mdpo", "pull", "bob/cart")
    pulled = tmp_path / "logs" / "mdpo" / f"{CARTPOLE}_1"
    command(hub, tmp_path, "sb3-mdpo", "push", str(pulled), "bob/cart", *EVALUATION, "--deterministic")
    files = hub.repositories["bob/cart"].files
    assert set(files) == {*pushed_cartpole.files, "notes.md"} - {"replay.mp4"}  # of another evaluation
    assert "The most probable actions" in files["README.md"].decode()
    run = read_run(pulled)
    model = MDPO.load(run.model_path)
    shared = [evaluation["returns"] for evaluation in json.loads(files["results.json"])["evaluations"]]
    sampled, probable = (
        [list(result.returns) for *_, result in evaluate_run(run, model, 3, 3, deterministic, seed=7)]
        for deterministic in (False, True)
    )
    assert shared == probable != sampled
    # An earlier commit
    first = hub.repositories["bob/cart"].commits[1].sha
    hub.add("bob/cart", {**files, "config.yml": b"later"})
    command(hub, tmp_path, "sb3-mdpo", "pull", "bob/cart", "--revision", first)
    assert {path.name for path in pulled.parent.iterdir()} == {f"{CARTPOLE}_1", f"{CARTPOLE}_2"}


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


@pytest.mark.parametrize(
    ("repo_id", "files", "options", "message"),
    [
        ("alice/fruit", None, [], f"alice/fruit holds a model of {FRUITBOT}"),
        ("alice/cart", None, ["--private"], "exists and is public"),
        ("alice/zip", {"mdpo-Other-v1.zip": b""}, [], "holds a model that sb3-mdpo push did not make"),
        ("alice/tensors", {"model.safetensors": b""}, [], "holds a model that sb3-mdpo push did not make"),
    ],
)
@pytest.mark.usefixtures("pushed_fruitbot", "pushed_cartpole")
def test_push_refuses_repositories(hub, workdir, cartpole, repo_id, files, options, message):
    if files is not None:
        hub.add(repo_id, files)
    before = len(hub.repositories[repo_id].commits)
    result = command(hub, workdir, "sb3-mdpo", "push", str(cartpole), repo_id, *options, check=False)
    assert message in refused(result, "push")
    assert len(hub.repositories[repo_id].commits) == before


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["alice/nothing"], {}, "Repository Not Found"),
        (["alice/cart", "--revision", "nowhere"], {}, "Revision Not Found"),
        (["alice/cart"], {"HF_HUB_OFFLINE": "1"}, "offline mode"),
        (["alice/cart"], {"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
        (["alice/cart/x"], {}, "Repo id must"),
        (["alice/cart", "--force"], {}, "given with --exp-id"),
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
        (lambda run: (run / f"{CARTPOLE}.zip").unlink(), "the training has not finished"),
        (lambda run: (run / CARTPOLE).rename(run / "Other-v1"), "not what its folder is named after"),
        (lambda run: rewrite(run, algo="ppo"), "is a run of ppo"),
        (lambda run: rewrite(run, gym_packages=["no_such_package"]), "cannot be made here"),
    ],
)
def test_push_of_what_is_not_a_run(cartpole, tmp_path, capsys, damage, message):
    run = Path(shutil.copytree(cartpole, tmp_path / "run"))
    damage(run)
    assert message in refusal(capsys, main, "push", str(run), "alice/never")


def rewrite(run: Path, **changes: object) -> None:
    args = yaml.unsafe_load((run / CARTPOLE / "args.yml").read_text())
    (run / CARTPOLE / "args.yml").write_text(yaml.dump({**args, **changes}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("alice/never --load-best", "train with --eval-freq"),
        ("alice/never --video 0", "A video of 0 steps"),
        ("alice/never --device gpu", "PyTorch knows no device gpu"),
        ("never", "add its owner, e.g. alice/never"),
    ],
)
def test_push_with_arguments_that_cannot_be(fruitbot, capsys, arguments, message):
    assert message in refusal(capsys, main, "push", str(fruitbot), *arguments.split())


@pytest.mark.parametrize(
    ("returns", "confidence", "quantile"),
    [([1, 2, 3, 4], 0.95, 3.182446), ([0, 2], 0.9, 6.313752), ([7, 7], 0.95, 12.7062)],
)
def test_confidence_interval_with_quantiles_from_a_table(returns, confidence, quantile):
    half = quantile * np.std(returns, ddof=1) / np.sqrt(len(returns))
    expected = (np.mean(returns) - half, np.mean(returns) + half)
    assert confidence_interval(returns, confidence) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        confidence_interval(returns[:1])


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "n_levels"),
    [
        ("procgen-heist-hard-v0", {"num_levels": 50, "start_level": 9}, 50),
        ("procgen-heist-hard-v0", {}, 0),
        ("procgen-heist-exploration-v0", {"num_levels": 50}, 0),
        (CARTPOLE, {"sutton_barto_reward": True}, 0),
    ],
)
def test_training_levels(env_id, env_kwargs, n_levels):
    assert training_levels(Run(Path(), Path(), {"env": env_id}, {}, env_kwargs)) == n_levels


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
def test_folders_and_logins_are_not_published(text, published):
    assert without_places(text) == published


def test_commands_are_published_as_typed():
    recorded = "/opt/my env/bin/python /opt/bin/rl_zoo3 train --algo mdpo -f /home/alice/logs -params n_envs:8"
    assert plain_command("/opt/bin/python3.11 " + recorded.split("python ")[1]) == (
        "rl_zoo3 train --algo mdpo -f logs -params n_envs:8"
    )
    assert plain_command("/opt/bin/python -m sb3_mdpo.zoo train\n") == "python -m sb3_mdpo.zoo train"


def test_settings_become_plain_data():
    numbers = (np.float32(1.5), np.int64(2), np.True_)
    found = yaml.safe_load(yaml.safe_dump(plain({"net": numbers, "fn": np.mean, "cls": Path, 3: {"path": "/a/b/c"}})))
    assert found == {"net": [1.5, 2, True], "fn": "numpy.mean", "cls": "pathlib.Path", 3: {"path": "c"}}


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
    line = refusal(capsys, main, "pull", "alice/cart")
    assert line == "sb3-mdpo pull: huggingface_hub is not installed: run pip install 'sb3-mdpo[hub]'."


def test_bugs_are_not_hidden(monkeypatch):
    monkeypatch.setattr("sb3_mdpo.hub.pull.pull_run", lambda: None)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        main(["pull", "alice/cart"])
