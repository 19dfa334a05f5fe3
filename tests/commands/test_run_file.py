"""Files of several runs: what they ask for, and what they are refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

from wambench import cli
from wambench.commands import several
from wambench.evaluation.config import RunConfig

TOML = """
episodes = 2
splits = ["seen", "unseen-tasks"]
out = "runs/night"
[[policies]]
policy = "noop"
[[policies]]
policy = "random"
policy-args = {chunk = 4}
splits = ["seen"]
tasks = ["LiftCube", "PressButton"]
record-video = true
time_limit = 30
"""
YAML = """
episodes: 2
splits: [seen, unseen-tasks]
out: runs/night
policies:
  - noop
  - policy: random
    policy-args: {chunk: 4}
    splits: [seen]
    tasks: [LiftCube, PressButton]
    record-video: true
    time_limit: 30
"""


def asked(folder: Path, text: str, *words: str, name: str = "night.toml") -> tuple[list[RunConfig], Path | None]:
    """Returns the runs of a file, as the command line would play them, and the folder of their folders."""
    (folder / name).write_text(text)
    return several._asked(cli.parser().parse_args(["run", "--config", str(folder / name), *words]))


@pytest.mark.parametrize(("name", "text"), [("night.toml", TOML), ("night.yaml", YAML)])
def test_each_pair_of_policy_and_split_is_a_run(name: str, text: str, tmp_path: Path) -> None:
    configs, parent = asked(tmp_path, text, name=name)
    assert [(one.policy, one.split) for one in configs] == [
        ("noop", "seen"),
        ("noop", "unseen-tasks"),
        ("random", "seen"),
    ]
    assert parent == Path("runs/night")
    assert {one.episodes for one in configs} == {2}
    last = configs[-1]
    assert (last.policy_args, last.tasks, last.record_video, last.time_limit_s) == (
        {"chunk": 4},
        ("LiftCube", "PressButton"),
        True,
        30.0,
    )
    assert several._placed(last, parent).folder == Path("runs/night/random-chunk=4-seen")


def test_a_file_of_one_run_needs_no_list(tmp_path: Path) -> None:
    (config,), parent = asked(tmp_path, 'policy = "noop"\nsplit = "seen"\nseed = 3\n')
    assert config == RunConfig.resolve("noop", "seen", seed=3, workers=config.workers)
    assert parent is None


def test_the_command_line_wins_also_with_a_default(tmp_path: Path) -> None:
    configs, parent = asked(tmp_path, TOML, "--episodes", "5", "--out", "here", "--workers=1")
    assert {(one.episodes, one.workers) for one in configs} == {(5, 1)}
    assert parent == Path("here")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TOML.replace("episodes", "episode"), "unknown key in .*: 'episode'; did you mean 'episodes'"),
        (TOML.replace("tasks =", "taks ="), "'taks'; did you mean 'tasks'"),
        (TOML + 'out = "elsewhere"', "unknown key in .*: 'out'"),
        (TOML + "config = 3", "unknown key in .*: 'config'"),
        (TOML.replace("noop", "nop"), "did you mean 'noop'"),
        (TOML.replace("unseen-tasks", "unseen-task"), "did you mean 'unseen-tasks'"),
        (TOML.replace("record-video = true", "record-video = 1"), "record-video is true or false, not 1"),
        ('splits = ["seen"]', "names no policy"),
        ('policies = ["noop"]', "names no split"),
        ('policies = ["noop"]\nsplits = [3]', "names no split"),
        ('splits = ["seen"]\n[[policies]]\nname = "mine"', "an entry of policies has no policy"),
        ('policies = ["noop", "noop"]\nsplit = "seen"', "asks twice for noop on seen"),
        ("policies = [", "is not TOML"),
    ],
)
def test_what_a_file_is_refused_for(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        asked(tmp_path, text)


def test_a_value_that_the_option_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        asked(tmp_path, TOML.replace("episodes = 2", 'episodes = "few"'))
    assert capsys.readouterr().err == "wambench: error: argument --episodes: invalid int value: 'few'\n"


def test_yaml_is_never_unpickled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not YAML: could not determine a constructor"):
        asked(tmp_path, "policies: !!python/object/apply:os.getcwd []", name="night.yml")


@pytest.mark.parametrize("option", ["--policy=noop", "--split=seen"])
def test_policy_and_split_stand_in_the_file(option: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give one of the two"):
        asked(tmp_path, TOML, option)
