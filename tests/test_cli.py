from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wambench import cli
from wambench.policies import POLICIES
from wambench.tasks import SPLITS, TASKS

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
STUBS = ROOT / "tests" / "stubs.py"
OF_RESULTS = (
    "run",
    "watch",
    "sweep",
    "leaderboard",
    "compare",
    "selectivity",
    "imagine",
    "attribute",
    "plot",
    "report",
    "submit",
)
OF_DATA = ("collect", "train", "export", "score")
COMMANDS = (*OF_RESULTS, "rank", "list", "doctor", "bench", *OF_DATA, "experts", "serve", "film", "init")


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Returns the one line that a command says about an error of its user."""
    try:
        code = cli.main(arguments)
    except SystemExit as exited:  # argparse
        code = exited.code  # type: ignore[assignment]
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("wambench: error: ") and said.count("\n") == 1 and said.endswith("\n")
    return said


def test_golden_help(golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    golden("help.txt", cli.parser().format_help())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main([name, "--help"])
    assert exited.value.code == 0
    example = " ".join(capsys.readouterr().out.rsplit("e.g. ", 1)[1].split())
    assert example.startswith(f"wambench {name}")
    arguments = cli.parser().parse_args(example.split()[1:])  # an example that would be refused is none
    assert callable(arguments.command)


@pytest.mark.parametrize(
    ("name", "config", "besides"),
    [
        ("run", "wambench.evaluation.config:RunConfig", {"config", "dry_run", "quiet"}),
        ("sweep", "wambench.analysis.latency_sweep:SweepConfig", set()),
        ("rank", "wambench.world_model.ranking:RankConfig", {"json"}),
        ("collect", "wambench.collection:CollectConfig", set()),
        ("train", "wambench.policies.training.config:TrainConfig", {"evaluate", "episodes"}),
        ("export", "wambench.datasets.export:ExportConfig", set()),
        (
            "bench",
            "wambench.speed.policy:BenchConfig",
            {"what", "json", "random_weights", "robot", "rounds", "episodes", "workers"},
        ),
        ("serve", "wambench.serving.service:ServeConfig", set()),
    ],
)
def test_every_option_is_a_field_of_its_configuration(name: str, config: str, besides: set[str]) -> None:
    """Configurations are made by name: an option that no field takes would be lost without a word."""
    module, _, cls = config.partition(":")
    fields = {field.name for field in dataclasses.fields(getattr(importlib.import_module(module), cls))}
    (commands,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    options = {action.dest for action in commands.choices[name]._actions}
    assert options - {"help", "task_module"} - besides <= fields


def test_files_of_the_command_line_stay_small() -> None:
    files = [ROOT / "wambench" / "cli.py", *(ROOT / "wambench" / "commands").glob("*.py")]
    assert max(len(file.read_text().splitlines()) for file in files) < 600


def test_every_command_is_tested() -> None:
    groups = [a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction)]
    assert tuple(groups[0].choices) == COMMANDS


def test_list_shows_what_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    said = capsys.readouterr().out
    for name in (*(task.id for task in TASKS.values()), *SPLITS, *POLICIES):
        assert name in said
    assert cli.main(["list", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert [line["id"] for line in tables["tasks"]] == [task.id for task in TASKS.values()]
    assert cli.main(["list", "splits", "--json"]) == 0
    assert [line["split"] for line in json.loads(capsys.readouterr().out)] == list(SPLITS)
    assert cli.main(["list", "policies"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(POLICIES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("rum", "invalid choice: 'rum'"),
        ("", "required: COMMAND"),
        ("run --split seen", "required: --policy"),
        ("run --policy nop --split seen", "did you mean 'noop'?"),
        ("run --policy noop", "required: --split"),
        ("run --config night.toml", "night.toml: No such file"),
        ("run --config night.txt", "a configuration is a file .toml, .yaml or .yml"),
        ("run --policy noop --split unseen", "did you mean 'seen'?"),
        ("run --policy noop --split seen --tasks LiftCub", "did you mean 'LiftCube'?"),
        ("run --policy noop --split seen --factor camera", "cannot be varied"),
        ("run --policy noop --split seen --episodes 0", "episodes must be positive, not 0"),
        ("run --policy noop --split seen --episodes -3", "episodes must be positive, not -3"),
        ("run --policy noop --split seen --episodes few", "invalid int value: 'few'"),
        ("run --policy noop --split seen --workers 0", "workers must be positive, not 0"),
        ("run --policy noop --split seen --policy-batch 0", "policy_batch must be at least 1, not 0"),
        ("run --policy noop --split seen --policy-device gpu", "policy_device must be cpu, cuda or cuda:NUMBER"),
        ("run --policy noop --split seen --cluster nowhere", "unknown cluster 'nowhere'; "),
        ("run --policy noop --split seen --policy-args chunk", "'chunk' is not of the form name=value"),
        ("run --policy noop --split seen --execution asinc", "did you mean 'async'?"),
        ("run --policy noop --split seen --latency -0.1", "latency must be between 0 and 60 seconds"),
        ("run --policy noop --split seen --latency long", "unknown latency 'long'"),
        ("sweep --policy noop --split seen --latency 0,fast --out s", "'0,fast' is not of the form 0,0.1,0.4"),
        ("sweep --policy noop --split seen --latency 0,99 --out s", "latency must be between 0 and 60 seconds"),
        ("sweep --policy noop noop --split seen --out s", "policies must be given, each once"),
        (
            f"sweep --policy {STUBS}:Steady {STUBS.parent}/../tests/stubs.py:Steady --split seen --out s",
            "would have one folder",
        ),
        ("sweep --policy noop --split seen --execution sink --out s", "did you mean 'sync'?"),
        ("leaderboard nowhere", "no run at nowhere"),
        ("plot nowhere --out figures", "no run at nowhere"),
        ("film nowhere", "no run at nowhere"),
        ("film nowhere --count 0", "count must be positive, not 0"),
        ("imagine nowhere", "no run at nowhere"),
        ("imagine", "give folders of runs, or --policy with --split"),
        ("imagine nowhere --poses -1", "--poses must be at least 0, not -1"),
        ("imagine --policy dreamzero", "give folders of runs, or --policy with --split"),
        ("imagine somewhere --policy dreamzero --split seen", "give folders of runs, or --policy with --split"),
        ("export nowhere --out d", "no data at nowhere: there is no such folder"),
        ("export . --out d", "neither manifest.json nor episodes.csv"),
        ("export nowhere --out d --format lerobot", "did you mean 'lerobot-v3.0'?"),
        ("export nowhere --out d --image-size big", "'big' is not of the form 256 or 256x320"),
        ("export nowhere --out d --workers 0", "workers and episodes must be at least 1"),
        ("score nowhere", "no run at nowhere"),
        ("experts --episodes 0", "episodes must be positive, not 0"),
        ("experts --tasks LiftCub", "did you mean 'LiftCube'?"),
        ("run --policy my_policy.py --split seen", "no such file: my_policy.py"),
        ("list --task-module my_tasks.py", "no such file"),
        ("run --policy opnpi://127.0.0.1:8000 --split seen", "did you mean 'openpi'?"),
        ("run --policy openpi://127.0.0.1 --split seen", "is not of the form openpi://HOST:PORT"),
        ("run --policy openpi://127.0.0.1:1/x --split seen", "is not of the form openpi://HOST:PORT"),
        ("run --policy openpi://127.0.0.1:80000 --split seen", "is not of the form openpi://HOST:PORT"),
        ("serve --policy pi0", "required: --protocol"),
        ("serve --policy p0 --protocol openpi", "did you mean 'pi0'?"),
        ("serve --policy expert --protocol openpi", "the expert reads the simulator"),
        ("serve --policy noop --protocol opnpi", "did you mean 'openpi'?"),
        ("serve --policy noop --protocol openpi --adapter libro", "did you mean 'libero'?"),
        ("serve --policy noop --protocol openpi --port 99999", "port must be 0 to 65535"),
        ("serve --policy noop --protocol openpi --port 0 --adapter droid-position", "no adapter of openpi carries"),
    ],
)
def test_errors_are_one_line(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in failed(capsys, *arguments.split())
    assert not list(tmp_path.iterdir())


def test_leaderboard_writes_what_it_shows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "leaderboard.csv"
    assert cli.main(["leaderboard", str(GOLDEN / "episodes.csv"), "--out", str(out)]) == 0
    assert out.read_bytes() == (GOLDEN / "leaderboard.csv").read_bytes()
    assert capsys.readouterr().out.splitlines()[-1] == str(out)


def test_policy_arguments_are_json_or_text() -> None:
    given = ["run", "--policy", "p", "--split", "s", "--policy-args", "a=1", "b=0.5", "c=true", "d=text", "e=null"]
    assert cli.parser().parse_args(given).policy_args == {"a": 1, "b": 0.5, "c": True, "d": "text", "e": None}


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        ("--help", "torch mujoco robosuite pandas matplotlib"),
        ("list", "torch mujoco robosuite pandas matplotlib"),
        ("leaderboard GOLDEN", "torch mujoco robosuite matplotlib"),
        ("plot GOLDEN --out OUT", "torch mujoco robosuite"),
        ("run --policy dreamzero --split unseen", "torch mujoco robosuite pandas matplotlib"),
        ("run --policy dreamzero --split unseen-tasks --dry-run", "torch mujoco robosuite pandas matplotlib"),
    ],
)
def test_light_commands_import_nothing_heavy(arguments: str, unwanted: str, tmp_path: Path) -> None:
    script = (
        "import sys; from wambench.cli import main\n"
        "try: main(sys.argv[2:])\n"
        "except SystemExit: pass\n"
        "print('heavy:', *set(sys.argv[1].split()) & set(sys.modules))"
    )
    given = arguments.replace("GOLDEN", str(GOLDEN / "episodes.csv")).replace("OUT", str(tmp_path)).split()
    done = subprocess.run([sys.executable, "-c", script, unwanted, *given], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "heavy:", done
