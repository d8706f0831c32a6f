"""Kill trainings of the zoo dozens of times: do they end like undisturbed ones?

python benchmarks/faults.py --kills 50

Every other kill (SIGKILL) hits a training while it writes a checkpoint, the others a random moment of its process, its
start and imports included. A killed training resumes with ``python -m sb3_mdpo.zoo train --resume``, or starts anew if
there is no checkpoint yet. After five kills it runs to its end, and its weights, optimizer, statistics, logs and
evaluations are compared with those of an undisturbed training. The trainings are those of tests/support/faults.py.

Complete trainings are recorded in the work folder; the same command continues with the others.
"""

import json
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from report import argument_parser, table, write
from tqdm import tqdm

from tests.support.faults import SCENARIOS, Training, differences, run_with_kills

KILLS_OF_ONE = 5
WRITING = "killed while writing"


@dataclass(frozen=True)
class Result:
    """
    :param env_id: the training's scenario
    :param attempts: how each of its processes except the last ended
    :param differences: results that differ from those of the undisturbed training
    """

    env_id: str
    attempts: list[str]
    differences: list[str]

    @property
    def kills(self) -> int:
        return sum(attempt.startswith("killed") for attempt in self.attempts)


def left_alone(env_id: str, work: Path) -> tuple[Training, float]:
    """The undisturbed training, and its duration in seconds."""
    training, took = Training(env_id, work / "alone" / env_id), work / "alone" / f"{env_id}.seconds"
    if not (training.is_complete and took.exists()):
        shutil.rmtree(training.folder, ignore_errors=True)
        start = time.monotonic()
        training.finish()
        took.write_text(str(time.monotonic() - start))
    return training, float(took.read_text())


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--kills", type=int, default=50, help="least number of kills (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--work", type=Path, default=Path("faults"), help="folder of the trainings (default: faults)")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    record = args.work / "results.jsonl"
    lines = record.read_text().splitlines() if record.exists() else []
    results = [Result(**json.loads(line)) for line in lines]
    references = {env_id: left_alone(env_id, args.work) for env_id in SCENARIOS}
    bar = tqdm(total=args.kills, initial=sum(result.kills for result in results), unit="kill")
    while sum(result.kills for result in results) < args.kills:
        env_id = list(SCENARIOS)[len(results) % len(SCENARIOS)]
        alone, seconds = references[env_id]
        killed = Training(env_id, args.work / "killed")
        shutil.rmtree(killed.folder, ignore_errors=True)
        attempts = run_with_kills(killed, KILLS_OF_ONE, random.Random(f"{args.seed} {len(results)}"), seconds)
        results.append(Result(env_id, attempts, differences(alone, killed)))
        with record.open("a") as file:
            file.write(json.dumps(asdict(results[-1])) + "\n")
        bar.update(results[-1].kills)
    bar.close()
    write("faults", summary(results), [asdict(result) for result in results], args.folder)
    if any(result.differences for result in results):
        sys.exit(1)


def summary(results: list[Result]) -> str:
    rows = []
    for env_id in SCENARIOS:
        own = [result for result in results if result.env_id == env_id]
        ends = Counter(attempt == WRITING for result in own for attempt in result.attempts if attempt != "complete")
        identical = sum(not result.differences for result in own)
        rows.append(
            [env_id, str(len(own)), str(ends[True] + ends[False]), str(ends[True]), f"{identical} of {len(own)}"]
        )
    kills = sum(result.kills for result in results)
    header = ["training", "trainings", "kills", "of these while a checkpoint was written", "identical in the end"]
    return f"Trainings of the zoo, {kills} times killed (SIGKILL) and resumed:\n\n{table(header, rows)}"


if __name__ == "__main__":
    main()
