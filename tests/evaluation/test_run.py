from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TASKS
from tests.stubs import line_sim
from wambench import records
from wambench.evaluation import process_pool
from wambench.evaluation.config import RunConfig
from wambench.evaluation.process_pool import WorkerFailed
from wambench.evaluation.run import plan, run, summary
from wambench.records import Row, load_episode, read_rows

ROOT = Path(__file__).parents[2]
Maker = Callable[..., RunConfig]


def timeless(rows: list[Row]) -> list[Row]:
    """Returns the rows without what no two runs share, as a file holds them (there one NaN equals another)."""
    rows = [dataclasses.replace(row, latency_p50_s=0.0, latency_p95_s=0.0, wall_s=0.0) for row in rows]
    return [records.from_line(records.to_line(row)) for row in rows]


def recorded(folder: Path) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """Returns all that a run recorded, without times."""
    episodes = {}
    for path in sorted((folder / "episodes").iterdir()):
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name].tolist() for name in arrays.files if name not in ("latency_s", "meta")}
            meta = json.loads(arrays["meta"].tobytes())
        episodes[path.name] = content | {"meta": {k: v for k, v in meta.items() if k != "wall_s"}}
    return timeless(read_rows(folder / "episodes.csv")), episodes


# -- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"policy": "nop"}, "did you mean 'noop'?"),
        ({"policy": "missing.py:Mine"}, "no such file: missing.py"),
        ({"policy": "tests/speed/test_policy.py"}, "names a file without its class; the file has: "),
        ({"policy": "tests/stubs.py:Stedy"}, "did you mean 'Steady'?"),
        ({"policy": "no_such_module:Mine"}, "no module named 'no_such_module'"),
        ({"split": "unseen-task"}, "did you mean 'unseen-tasks'?"),
        ({"tasks": ("PresButton",)}, "did you mean 'PressButton'?"),
        ({"tasks": ("LiftCube", "LiftCube-v1")}, "a task is named twice"),
        ({"factors": ("camera",)}, "cannot be varied"),
        ({"split": "unseen-envs", "factors": ("none",)}, "'none'"),
        ({"split": "unseen-envs", "factors": ("camra",)}, "camera"),
        ({"episodes": 0}, "episodes must be positive, not 0"),
        ({"workers": -1}, "workers must be positive, not -1"),
        ({"time_limit_s": 0.0}, "time_limit_s must be positive"),
        ({"time_limit_s": float("nan")}, "time_limit_s must be positive"),
        ({"seed": -1}, "seed must not be negative, not -1"),
        ({"visual": "ful"}, "did you mean 'full'?"),
        ({"robot": "droit"}, "unknown robot 'droit'; did you mean 'droid'?"),
        ({"instruction_of": "OpenDrawr"}, "did you mean 'OpenDrawer'?"),
        ({"instruction_of": "LiftCube"}, "LiftCube is told its own instruction"),
        ({"execution": "asinc"}, "did you mean 'async'?"),
        ({"latency": "-1"}, "latency must be between 0 and 60 seconds, not -1"),
        ({"latency": "missing.csv"}, "cannot read a trace"),
        ({"replan": 0}, "replan must be at least 1 control step, not 0"),
        ({"clock": "wal"}, "did you mean 'wall'?"),
        ({"clock": "wall", "policy": "expert"}, "the expert reads the simulator"),
        ({"clock": "wall", "policy": "oracle-choice"}, "the oracle-choice reads the simulator"),
        ({"clock": "wall", "workers": 2}, "workers must be 1, not 2"),
    ],
)
def test_wrong_values_are_named_with_what_exists(config: Maker, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        config(**values)
    assert said in str(refused.value)


def test_default_folder_is_the_same_for_the_same_run_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_policy.py").write_text((ROOT / "tests" / "stubs.py").read_text())
    monkeypatch.chdir(tmp_path)

    def folder(policy: str = "noop", split: str = "seen", **values: Any) -> Path:
        return RunConfig.resolve(policy, split, **values).folder

    assert folder() == folder(workers=2) == folder(factors=("none",)) == Path("runs/noop-seen")
    assert folder(episodes=6) == folder(tasks=("LiftCube",)) == folder(), "a run may grow"
    assert folder(split="unseen-envs", factors=("camera",)) == Path("runs/noop-unseen-envs-camera")
    assert folder("my_policy.py:Steady") == Path("runs/my_policy-Steady-seen")
    assert folder("./my_policy.py:Steady", policy_args={"speed": 0.5}) == Path("runs/my_policy-Steady-speed=0.5-seen")
    assert folder("dreamzero", policy_args={"weights": "/a/b/mine.safetensors"}) == Path(
        "runs/dreamzero-weights=mine-seen"
    )
    plain = RunConfig.resolve("noop", "seen")
    assert RunConfig.resolve("noop", "seen", latency="0.0").recorded() == plain.recorded()
    assert "latency" not in plain.recorded()  # so that runs begun without clocks continue
    others = [
        folder(),
        folder(seed=1),
        folder(visual="full"),
        folder(policy_args={"chunk": 4}),
        folder(instruction_of="random"),
        folder(instruction_of="OpenDrawer"),
        folder("my_policy.py:Steady"),
        folder(execution="async"),
        folder(execution="async", latency="0.2"),
        folder(clock="wall"),
        folder(name="mine"),
    ]
    assert len(set(others)) == len(others)
    assert all(len(other.parts) == 2 for other in others)


def test_policies_in_files_of_one_name_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "q.py").write_text("from tests.stubs import Steady as Q\n" + f"NAME = {name!r}\n")
    first, second = (RunConfig.resolve(f"{name}/q.py:Q", "seen", TASKS, episodes=1) for name in ("a", "b"))
    assert first.folder == second.folder == Path("runs/q-Q-seen"), "nothing stands there yet"
    run(first, line_sim)
    assert first.folder == Path("runs/q-Q-seen") and second.folder == Path("runs/q-Q-seen-2")
    run(second, line_sim)
    assert second.folder == Path("runs/q-Q-seen-2") and first.folder == Path("runs/q-Q-seen")
    with pytest.raises(ValueError, match=r"'q\.py:Q', but one is a/q\.py:Q and the other b/q\.py:Q"):
        records.load([Path("runs/q-Q-seen"), Path("runs/q-Q-seen-2")])
    (tmp_path / "b" / "q.py").write_bytes((tmp_path / "a" / "q.py").read_bytes())
    run(dataclasses.replace(second, out=tmp_path / "copy"), line_sim)
    assert len(records.load([Path("runs/q-Q-seen"), tmp_path / "copy"])) == 2, (
        "the same file elsewhere is the same policy"
    )


def test_a_name_stands_for_the_arguments_and_makes_another_run() -> None:
    plain = RunConfig.resolve("noop", "seen")
    named = RunConfig.resolve("dreamzero", "seen", name="wam-1.6e14", policy_args={"weights": "a.safetensors"})
    assert named.label == "wam-1.6e14" and named.recorded()["name"] == "wam-1.6e14"
    assert "name" not in plain.recorded() and named.folder.name.startswith("wam-1.6e14-seen")
    with pytest.raises(ValueError, match="letters, digits"):
        RunConfig.resolve("noop", "seen", name="a,b")


def test_every_policy_meets_the_same_episodes(config: Maker) -> None:
    assert plan(config("noop")) == plan(config("random"))
    assert [job.spec for job in plan(config())] != [job.spec for job in plan(config(seed=1))]
    assert len({job.spec.hash for job in plan(config())}) == 8


def test_another_instruction_changes_nothing_but_what_is_told(config: Maker) -> None:
    right, told, random = plan(config()), plan(config(instruction_of="TurnDial")), plan(config(instruction_of="random"))
    assert [job.spec for job in right] == [job.spec for job in told] == [job.spec for job in random]
    assert {job.prompt for job in told} == {"turn the dial"}
    assert all(job.prompt != job.spec.instruction for job in random) and len({job.prompt for job in random}) > 1
    assert random == plan(config(instruction_of="random"))
    assert "instruction_of" not in config().recorded()  # so that older runs can be continued
    assert "PressButton" not in RunConfig.resolve("noop", "seen", instruction_of="PressButton-v1").tasks


# -- playing ---------------------------------------------------------------------------------------------------------


def test_results_do_not_depend_on_the_number_of_workers(config: Maker) -> None:
    one, three = config(out="one"), config(out="three", workers=3)
    assert timeless(run(one, line_sim)) == timeless(run(three, line_sim))
    assert recorded(one.folder) == recorded(three.folder)


def test_rows_and_files_of_a_run(config: Maker) -> None:
    it = config(record_video=True)
    rows = run(it, line_sim)
    assert [row.key for row in rows] == [(f"{task}-v1", "none", i) for task in it.tasks for i in range(4)]
    assert timeless(rows) == timeless(read_rows(it.folder / "episodes.csv"))
    row, job = rows[0], plan(it)[0]
    assert (row.policy, row.split, row.verb, row.novelty) == ("tests.stubs:Steady", "seen", "lift", "seen")
    assert (row.prompt, row.seed, row.spec_hash) == (job.spec.instruction, job.spec.seed, job.spec.hash)
    assert (row.status, row.progress, row.stages, row.steps, row.queries) == ("ok", 1.0, "half;whole", 34, 5)
    assert 0 <= row.latency_p50_s <= row.latency_p95_s <= row.wall_s
    episode = load_episode(it.folder / "episodes" / "LiftCube-v1.none.0.npz")
    assert episode.spec == job.spec and episode.steps == 34
    assert (it.folder / "videos" / "LiftCube-v1.none.0.mp4").read_bytes()[4:8] == b"ftyp"
    origin = json.loads((it.folder / "run.json").read_text())
    assert origin["config"] == json.loads(json.dumps(it.recorded()))
    assert {"split_hash", "versions", "renderer", "device", "commit", "weights_hash", "corpus", "date"} <= set(origin)
    assert sorted(path.name for path in it.folder.iterdir() if path.name != ".lock") == [
        "episodes",
        "episodes.csv",
        "run.json",
        "videos",
    ]


def test_the_policy_hears_what_it_is_told_and_the_run_says_so(config: Maker) -> None:
    it = config("tests/stubs.py:Listener", instruction_of="TurnDial")
    rows = run(it, line_sim)
    assert {row.policy for row in rows} == {"stubs.py:Listener(instruction_of=TurnDial)"}
    assert {row.prompt for row in rows} == {"turn the dial"}
    assert all(row.error.startswith("RuntimeError: told to turn the dial") for row in rows)
    assert [row.spec_hash for row in rows] == [job.spec.hash for job in plan(config())]
    assert json.loads((it.folder / "run.json").read_text())["config"]["instruction_of"] == "TurnDial"


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("raise", "policy_error", "KeyError: 'no such object"),
        ("nan", "policy_error", "InvalidPlan: actions hold NaN"),
        ("shape", "policy_error", "InvalidPlan: actions have shape (8, 5)"),
        ("range", "policy_error", "InvalidPlan: an action of 6 is out of range"),
        ("no plan", "policy_error", "InvalidPlan: act returned ndarray, not a Plan"),
        ("exit", "env_error", "the worker process died: exit code 3"),
    ],
)
def test_a_fault_ends_its_episode_only(config: Maker, fault: str, status: str, said: str) -> None:
    rows = run(config("tests.stubs:Faulty", policy_args={"fault": fault}, workers=2), line_sim)
    bad = [row.seed % 3 == 0 for row in rows]
    assert 0 < sum(bad) < len(bad)
    assert [row.status for row in rows] == [status if wrong else "ok" for wrong in bad]
    assert all(said in row.error for row, wrong in zip(rows, bad, strict=True) if wrong)
    assert summary(rows) == f"progress 1.00, {sum(bad)} errors"


@pytest.mark.slow
def test_a_policy_that_hangs_is_killed(config: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "GRACE_S", 0.5)
    monkeypatch.setattr(process_pool, "TICK_S", 0.1)
    it = config("tests.stubs:Faulty", policy_args={"fault": "hang"}, time_limit_s=0.5)
    rows = run(it, line_sim)
    assert {row.status for row in rows} == {"ok", "timeout"}
    assert {row.error for row in rows} == {"", "no answer after 1 s"}


def test_an_own_policy_in_a_file(config: Maker, tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("SPEED = 0.9\n")
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from neighbour import SPEED\n"
        "from wambench.interface import ControlConvention, Plan\n"
        "class Mine:\n"
        "    convention = ControlConvention(image_size=(8, 8))\n"
        "    def reset(self, instruction, seed):\n"
        "        self.steps = 0\n"
        "    def act(self, history):\n"
        "        return Plan(np.full((4, 7), SPEED))\n"
    )
    rows = run(config(f"{tmp_path}/mine.py:Mine", workers=2), line_sim)
    assert {(row.policy, row.status, row.progress) for row in rows} == {("mine.py:Mine", "ok", 1.0)}


@pytest.mark.parametrize(
    ("policy", "arguments", "said"),
    [
        ("tests.stubs:Unfit", {}, "gripper: the environment has 'close_positive', the policy expects 'open_positive'"),
        ("tests.stubs:Stedy", {}, "did you mean 'Steady'?"),
        ("tests.stubs:Steady", {"sped": 1}, "'sped'; did you mean 'speed'?"),
        ("tests.stubs:ControlConvention", {}, "needs a `convention`"),
        ("tests.nothing:Mine", {}, "no module named 'tests.nothing'"),
    ],
)
def test_a_policy_that_cannot_play_stops_the_run_at_once(
    config: Maker, policy: str, arguments: dict[str, Any], said: str
) -> None:
    it = config(policy, policy_args=arguments, workers=2)
    with pytest.raises(WorkerFailed) as refused:
        run(it, line_sim)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert not it.folder.exists()


# -- continuing ------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_played_again(config: Maker) -> None:
    rows = run(config(), line_sim)
    assert run(config(workers=2), line_sim) == [records.from_line(records.to_line(row)) for row in rows]


def test_a_torn_row_is_played_again(config: Maker) -> None:
    whole = config(out="whole")
    run(whole, line_sim)
    rows, episodes = recorded(whole.folder)
    text = (whole.folder / "episodes.csv").read_bytes()
    for size in np.linspace(0, len(text) - 1, 6).astype(int):
        (whole.folder / "episodes.csv").write_bytes(text[:size])
        run(whole, line_sim)
        assert recorded(whole.folder) == (rows, episodes)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: [*lines[:2], lines[2][:40], *lines[3:]], "line 3: expected 35 fields, found"),
        (lambda lines: [*lines[:3], lines[3].replace(",ok,", ",okay,"), *lines[4:]], "line 4: status: 'okay'"),
        (lambda lines: [*lines[:4], lines[2], *lines[4:]], "line 5: LiftCube-v1, none, 1 is there twice"),
        (lambda lines: [lines[0], lines[1].replace("LiftCube-v1", "OpenDrawer-v1"), *lines[2:]], "is not of this run"),
        (lambda lines: [lines[0] + "x", *lines[1:]], "line 1: not the header"),
        (lambda lines: [*lines[:2], '"' + lines[2], *lines[3:]], "line 3: "),
    ],
)
def test_a_damaged_row_is_named_and_nothing_is_touched(config: Maker, damage: Callable[..., Any], said: str) -> None:
    it = config()
    run(it, line_sim)
    path = it.folder / "episodes.csv"
    damaged = "\n".join(damage(path.read_text().split("\n")))
    path.write_text(damaged)
    with pytest.raises(ValueError, match=r"episodes\.csv") as refused:
        run(it, line_sim)
    assert said in str(refused.value) and str(path) in str(refused.value)
    assert path.read_text() == damaged


def test_a_folder_of_another_run_is_refused(config: Maker) -> None:
    run(config(), line_sim)
    with pytest.raises(ValueError, match=r"holds another run \(seed is 0 there, not 1\)"):
        run(config(seed=1), line_sim)
    (config().folder / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json: damaged"):
        run(config(), line_sim)


def test_the_visual_profile_is_part_of_run_and_episodes(config: Maker) -> None:
    fast, full = config(), config(visual="full")
    specs = [[job.spec for job in plan(it)] for it in (fast, full)]
    assert [spec.visual for spec in specs[1]] == ["full"] * 8
    assert not {spec.hash for spec in specs[0]} & {spec.hash for spec in specs[1]}
    assert [dataclasses.replace(spec, visual="fast") for spec in specs[1]] == specs[0]  # the same scenes otherwise
    assert dataclasses.replace(fast, out=None).folder != dataclasses.replace(full, out=None).folder
    rows = run(full, line_sim)
    assert json.loads((full.folder / "run.json").read_text())["config"]["visual"] == "full"
    assert [row.spec_hash for row in rows] == [spec.hash for spec in specs[1]]
    with pytest.raises(ValueError, match=r"holds another run \(visual is 'full' there, not 'fast'\)"):
        run(fast, line_sim)


def test_the_robot_is_part_of_run_and_episodes(config: Maker) -> None:
    usual, droid = config(), config(robot="droid")
    assert "robot" not in usual.recorded() and droid.recorded()["robot"] == "droid"  # older runs know nothing of it
    assert (usual.label, droid.label) == ("tests.stubs:Steady", "tests.stubs:Steady(robot=droid)")
    specs = [[job.spec for job in plan(it)] for it in (usual, droid)]
    assert {(spec.robot, spec.control_hz) for spec in specs[1]} == {("droid", 15.0)}
    assert [(a.poses, a.look, a.seed) for a in specs[0]] == [(b.poses, b.look, b.seed) for b in specs[1]]
    assert dataclasses.replace(usual, out=None).folder != dataclasses.replace(droid, out=None).folder


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["noop", "random"])
def test_a_robot_that_is_asked_for_plays(tmp_path: Path, policy: str) -> None:
    asked: dict[str, Any] = {"tasks": ("PressButton",), "episodes": 1, "robot": "droid", "out": tmp_path / "run"}
    config = RunConfig.resolve(policy, "seen", **asked, execution="async", latency="0.4")
    (row,) = run(config)
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert row.status == "ok" and row.steps == 82 and row.holds > 0 and row.policy.startswith(f"{policy}(robot=droid)")
    assert told["robot"] == told["config"]["robot"] == "droid" and told["convention"]["action"] == "joint_position"
    episode = load_episode(tmp_path / "run" / "episodes" / "PressButton-v1.none.0.npz")
    assert episode.spec == plan(config)[0].spec and row.spec_hash == episode.spec.hash
    held = np.concatenate([chunk.executed for chunk in episode.chunks])[:6]  # 0.4 s, before the first answer
    np.testing.assert_allclose(held, np.tile([*episode.observations[0].state[:7], 0.0], (6, 1)), atol=1e-12)


def test_a_policy_of_another_robot_is_refused(config: Maker) -> None:
    with pytest.raises(WorkerFailed, match=r"control_hz: the environment has 15\.0, the policy expects 20\.0"):
        run(config(robot="droid"))


def test_a_run_is_not_continued_with_other_weights(config: Maker) -> None:
    it = config()
    run(it, line_sim)
    path = it.folder / "run.json"
    path.write_text(path.read_text().replace('"weights_hash": null', '"weights_hash": "abc"'))
    rows = (it.folder / "episodes.csv").read_text().splitlines(keepends=True)
    (it.folder / "episodes.csv").write_text("".join(rows[:-1]))
    with pytest.raises(ValueError, match="was begun with weights_hash 'abc', now it is None"):
        run(it, line_sim)


def test_two_runs_cannot_write_to_one_folder(config: Maker) -> None:
    it = config()
    with (
        records.RunFolder(it.folder, it.recorded()),
        pytest.raises(ValueError, match="another run is writing to"),
    ):
        run(it, line_sim)


@pytest.mark.parametrize(
    "grown", [{"episodes": 6}, {"tasks": (*TASKS, "OpenDrawer")}, {"episodes": 5, "tasks": TASKS[:1]}]
)
def test_a_run_may_grow(config: Maker, grown: dict[str, Any]) -> None:
    small = config(tasks=TASKS, episodes=4)
    before = run(small, line_sim)
    larger = config(**{"tasks": TASKS, "episodes": 4, **grown})
    after = run(larger, line_sim)
    assert timeless([row for row in after if row.key in {b.key for b in before}]) == timeless(before)
    assert {row.key for row in after} == {job.key for job in plan(larger)} | {row.key for row in before}
    assert timeless(after) == timeless(read_rows(small.folder / "episodes.csv"))
    covered = json.loads((small.folder / "run.json").read_text())["config"]
    assert set(covered["tasks"]) == {*small.tasks, *larger.tasks}
    assert covered["episodes"] == larger.episodes
    if grown.get("tasks") != TASKS[:1]:
        whole = dataclasses.replace(larger, out=small.folder.parent / "whole")
        run(whole, line_sim)
        assert recorded(small.folder) == recorded(whole.folder), "as if it had been asked for at once"


def test_asking_for_less_reports_what_is_there(config: Maker) -> None:
    rows = run(config(), line_sim)
    text = (config().folder / "run.json").read_text()
    assert timeless(run(config(episodes=2, tasks=TASKS[:1]), line_sim)) == timeless(rows)
    assert (config().folder / "run.json").read_text() == text


def test_what_has_no_influence_on_a_row_may_change(config: Maker) -> None:
    rows = run(config(), line_sim)
    again = run(config(record_video=True, time_limit_s=9.0), line_sim)
    assert timeless(again) == timeless(rows)


# -- errors ----------------------------------------------------------------------------------------------------------


class Ear:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


def test_a_traceback_is_kept_and_the_first_error_said(config: Maker) -> None:
    ear, it = Ear(), config("tests.stubs:Faulty", policy_args={"fault": "raise"})
    rows = run(it, line_sim, ear)
    wrong = [row for row in rows if row.status != "ok"]
    files = {path.stem for path in (it.folder / "errors").iterdir()}
    assert files == {records.episode_stem(row.key) for row in wrong}
    text = (it.folder / "errors" / f"{records.episode_stem(wrong[0].key)}.txt").read_text()
    assert text.startswith("Traceback") and "in _raise" in text and "KeyError" in text and "PolicyFailed" not in text
    said = [line for line in ear.lines if line.startswith("first error: ")]
    assert len(said) == 1 and "policy_error: KeyError" in said[0] and said[0].endswith(".txt")


def test_errors_stay_until_they_are_asked_for_again(config: Maker, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from tests.stubs import Faulty as Mine\n")
    it = config(f"{file}:Mine")
    broken = run(it, line_sim, Ear())
    errors = [row for row in broken if row.status != "ok"]
    assert errors and {row.status for row in errors} == {"policy_error"}
    file.write_text("from tests.stubs import Steady as Mine\n")  # mended
    ear = Ear()
    assert timeless(run(it, line_sim, ear)) == timeless(broken)
    assert ear.lines == [f"{len(errors)} of 8 recorded episodes are errors; --retry-errors plays them again"]
    ear = Ear()
    mended = run(dataclasses.replace(it, retry_errors=True), line_sim, ear)
    assert {row.status for row in mended} == {"ok"} and [row.key for row in mended] == [row.key for row in broken]
    assert f"{len(errors)} of 8 recorded episodes are errors that are played again" == ear.lines[0]
    assert "has changed since" in ear.lines[1]
    origin = json.loads((it.folder / "run.json").read_text())
    assert origin["policy_hash"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert not list((it.folder / "errors").iterdir())
    assert timeless(read_rows(it.folder / "episodes.csv")) == timeless(mended)


def test_errors_of_the_machine_are_played_again_by_themselves(config: Maker) -> None:
    ear, it = Ear(), config("tests.stubs:Faulty", policy_args={"fault": "exit"})
    first = run(it, line_sim, ear)
    died = [row for row in first if row.status != "ok"]
    assert died and all(row.of_machine and row.error == "machine: the worker process died: exit code 3" for row in died)
    assert (it.folder / "errors" / f"{records.episode_stem(died[0].key)}.txt").read_text() == died[0].error + "\n"
    ear = Ear()
    again = run(it, line_sim, ear)  # it dies again
    n = len(died)
    assert ear.lines[0].startswith(
        f"{n} of 8 recorded episodes are errors that are played again, {n} of them errors of"
    )
    assert timeless(again) == timeless(first) == timeless(read_rows(it.folder / "episodes.csv"))


def test_an_error_keeps_its_row_until_the_new_one_is_there(config: Maker) -> None:
    it = config("tests.stubs:Faulty", policy_args={"fault": "exit"})
    rows = run(it, line_sim, Ear())
    path = it.folder / "episodes.csv"
    wrong = next(row for row in rows if row.status != "ok")
    mended = dataclasses.replace(wrong, status="ok", error="", progress=1.0)
    before = path.read_text()
    path.write_text(before + records.to_line(mended))  # a kill right after the retry was recorded
    assert [row for row in read_rows(path) if row.key == wrong.key] == [records.from_line(records.to_line(mended))]
    assert len(records.load([it.folder])) == 8
    path.write_text(before + records.to_line(mended)[:60])  # or while it was being written
    assert [row.status for row in read_rows(path, torn=True) if row.key == wrong.key] == ["env_error"]
