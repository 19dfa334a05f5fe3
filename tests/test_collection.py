"""Corpora: what is collected, in which order, and what the files hold."""

from __future__ import annotations

import collections
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wambench import collection as module
from wambench import disturbances as law
from wambench import tasks
from wambench.collection import CollectConfig, collect
from wambench.disturbances import disturbances, draw_mild_noise, draw_noise
from wambench.envs.factors import ELSEWHERE, TRAIN
from wambench.envs.objects import HAND_POINTS, KEYPOINTS
from wambench.envs.robot import OTHER_ARMS

pytestmark = pytest.mark.slow

ALL = tuple(tasks.TASKS)


def config(corpus: str, names: tuple[str, ...] = ALL, episodes: int = 16, **values: Any) -> CollectConfig:
    return CollectConfig.resolve(corpus, names, episodes, Path("never written"), **values)


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as saved:
        return dict(saved)


@pytest.mark.parametrize(
    ("corpus", "values", "said"),
    [
        ("vido", {}, "did you mean 'video'"),
        ("video", {"arms": ("UR5",)}, "did you mean 'UR5e'"),
        ("renders", {"rooms": "elswhere"}, "did you mean 'elsewhere'"),
        ("demos", {"rooms": "elsewhere"}, "made in rooms 'train'"),
        ("video", {"rooms": "train"}, "made in rooms 'elsewhere'"),
        ("demos", {"arms": ("UR5e",)}, "made by the Panda, not by UR5e"),
        ("video", {"names": ()}, "no tasks"),
        ("video", {"episodes": 0}, "at least 1"),
    ],
)
def test_bad_values_are_named(corpus: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(corpus, **values)


def test_environment_set_and_arms_follow_from_the_corpus() -> None:
    assert (config("demos").rooms, config("demos").arms) == ("train", ("Panda",))
    assert (config("renders").rooms, config("renders").arms) == ("train", ("Panda",))
    assert (config("video").rooms, config("video").arms) == ("elsewhere", OTHER_ARMS)


def test_every_arm_and_both_captions_go_with_every_task() -> None:
    jobs = list(module._jobs(config("video", episodes=40)))
    assert len({job.path for job in jobs}) == len(jobs) == 40 * len(ALL)
    counts = collections.Counter((job.task, job.arm, job.paraphrase) for job in jobs)
    assert len(counts) == len(ALL) * len(OTHER_ARMS) * 2 and set(counts.values()) == {5}
    # one environment after the other, so that a worker makes each of them once a round
    places = [(job.arm, tasks.find(job.task).objects) for job in jobs]
    switches = sum(a != b for a, b in itertools.pairwise(places))
    assert switches < 2 * len(set(places))


def test_renders_take_turns_among_arms() -> None:
    jobs = list(module._jobs(config("renders", episodes=1300, arms=("Panda", "UR5e"))))
    assert sorted(job.path.name for job in jobs) == [f"renders.{k}.npz" for k in range(6)]
    assert [job.arm for job in jobs] == ["Panda"] * 3 + ["UR5e"] * 3
    assert sum(job.count for job in jobs) == 1300


def test_noise_of_videos_is_milder() -> None:
    rng = np.random.default_rng(0)
    mild = [draw_mild_noise(rng) for _ in range(200)]
    rough = [draw_noise(rng) for _ in range(200)]
    assert max(n.sigma for n in mild) <= 0.3 < max(n.sigma for n in rough)
    assert {n.jolt for n in mild} == {0.0} and 0.3 < np.mean([n.sigma == 0 for n in mild]) < 0.7
    assert not disturbances(law.ActionNoise(0.0, 0, 0.0), 20, rng).any()


def test_disturbances_come_in_bursts_with_quiet_between() -> None:
    rng = np.random.default_rng(0)
    bursts = law.draw_bursts(4000, rng)
    added = disturbances(law.ActionNoise(0.3, 0, 0.5), 4000, rng, bursts)
    disturbed = (added != 0).any(axis=1)
    begins, ends = (np.flatnonzero(np.diff(disturbed.astype(int)) == way) for way in (1, -1))
    pauses = begins[1:] - ends[: len(begins) - 1]
    assert pauses.min() >= law.QUIET[0] and pauses.max() < law.QUIET[1]
    assert 0.2 < disturbed.mean() < 0.35
    shoved = [np.abs(added[start : start + 4, :3]).mean() for start, _ in bursts]
    calm = [np.abs(added[start + 4 : stop, :3]).mean() for start, stop in bursts if stop > start + 4]
    assert np.mean(shoved) > 1.2 * np.mean(calm)  # some bursts begin with a shove


def test_recovery_perturbations_raise_the_hand_in_whole_bursts() -> None:
    rng = np.random.default_rng(0)
    bursts = law.draw_bursts(4000, rng)
    assert np.isnan(law.recovery_perturbations(law.ActionNoise(0.0, 0, 0.0), 4000, rng, bursts)[:, :6]).all()
    instead = law.recovery_perturbations(law.ActionNoise(0.0, 0, 0.0, 0.4), 4000, rng, bursts)
    raised = ~np.isnan(instead[:, 0])
    share = [raised[start:stop].mean() for start, stop in bursts]
    assert set(share) == {0.0, 1.0} and 0.2 < np.mean(share) < 0.6
    assert (instead[raised, 2] > 0).all()
    assert set(instead[raised, 6]) == {-1.0, 1.0} and set(instead[~raised, 6]) == {1.0}
    assert 0.3 < np.mean([draw_noise(rng).recovery > 0 for _ in range(200)]) < 0.6


def test_three_demonstrations_of_four_set_out_from_another_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    assert 0.65 < np.mean([draw_noise(rng).wander > 0 for _ in range(400)]) < 0.85
    collect(CollectConfig.resolve("demos", ("PressButton",), 6, tmp_path))
    moved = []
    for path in sorted(tmp_path.glob("*.npz")):
        found = arrays(path)
        disturbed = np.abs(found["actions"] - found["executed"]).max(axis=1) > 1e-3
        wander = int(np.argmin(disturbed))
        if wander >= law.WANDER[0]:
            moved.append(np.linalg.norm(found["states"][wander, :3] - found["states"][0, :3]))
    assert len(moved) >= 3 and max(moved) > 0.08


def test_a_learner_and_the_expert_drive_by_turns(tmp_path: Path) -> None:
    drives = law.draw_turns(4000, np.random.default_rng(0))
    ends = np.flatnonzero(np.diff(drives.astype(int)))
    lengths = np.diff(np.concatenate([[-1], ends]))
    assert drives[0]
    assert law.LEARNER_TURN[0] <= lengths[::2].min() and lengths[::2].max() < law.LEARNER_TURN[1]
    assert law.EXPERT_TURN[0] <= lengths[1::2].min() and lengths[1::2].max() < law.EXPERT_TURN[1]
    collect(CollectConfig.resolve("demos", ("PressButton",), 2, tmp_path, learner="noop"))
    still = 0
    for path in sorted(tmp_path.glob("*.npz")):
        found = arrays(path)
        still += int((found["executed"][:, :6] == 0).all(axis=1).sum())
        assert (np.abs(found["actions"][:, :6]).max(axis=1) > 0).mean() > 0.5  # the label is the expert's all the same
    assert still >= law.LEARNER_TURN[0]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["learner"] == {"policy": "noop", "arguments": {}}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"learner": "dreamzro"}, "did you mean 'dreamzero'"),
        ({"corpus": "video", "learner": "noop"}, "demonstrations alone"),
        ({"learner_args": {"weights": "x"}}, "none is named"),
        ({"learner": "noop", "learner_args": {"robot": "droid"}}, "does not fit the robot"),
    ],
)
def test_a_learner_that_does_not_fit_is_refused(tmp_path: Path, wrong: dict[str, Any], says: str) -> None:
    usual = {"corpus": "demos", "tasks": ("PressButton",), "episodes": 1, "out": tmp_path / "x"}
    with pytest.raises(ValueError, match=says):
        collect(CollectConfig.resolve(**{**usual, **wrong}))
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Two videos of one task by one arm: the short command, and the paraphrase; returns the folder and the second."""
    out = tmp_path_factory.mktemp("video")
    collect(CollectConfig.resolve("video", ("PressButton",), 2, out, arms=("UR5e",)))
    return out, arrays(out / "PressButton.UR5e.1.npz")


def test_video_holds_no_actions_and_no_states(video: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, second = video
    for found in (arrays(folder / "PressButton.UR5e.0.npz"), second):
        assert set(found) == {
            "frames", "frame_steps", "points", "present", "pixels", "instruction", "task", "arm", "spec", "attempt",
        }  # fmt: skip
        assert (str(found["task"]), str(found["arm"])) == ("PressButton", "UR5e")
        steps = found["frame_steps"]
        assert found["frames"].shape == (len(steps), 96, 192, 3) and found["frames"].dtype == np.uint8
        assert steps[0] == 0 and (np.diff(steps)[:-1] == module.FRAME_EVERY).all()
        assert (found["frames"][0] != found["frames"][len(steps) // 2]).mean() > 0.02  # something moves
    assert sorted(path.name for path in folder.iterdir()) == [
        "PressButton.UR5e.0.npz", "PressButton.UR5e.1.npz", "manifest.json",
    ]  # fmt: skip


def test_captions_and_environments_of_videos(video: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, second = video
    task = tasks.find("PressButton")
    first = arrays(folder / "PressButton.UR5e.0.npz")
    assert (str(first["instruction"]), str(second["instruction"])) == (task.instruction, task.motion)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["corpus"], manifest["rooms"], manifest["arms"]) == ("video", "elsewhere", ["UR5e"])
    look = json.loads(str(second["spec"]))["look"]
    assert set(look["background"]) == set(ELSEWHERE["background"]) != set(TRAIN["background"])


def test_hand_is_labelled_in_every_frame(video: tuple[Path, dict[str, np.ndarray]]) -> None:
    _, found = video
    assert KEYPOINTS[-3:] == HAND_POINTS == ("hand", "finger_left", "finger_right")
    assert found["present"][:, -3:].all() and found["present"].shape[1] == len(KEYPOINTS)
    hand, left, right = np.moveaxis(found["points"][:, -3:], 1, 0)
    assert np.abs((left + right) / 2 - hand).max() < 0.02
    gap = np.linalg.norm(left - right, axis=1)
    assert gap[0] > 0.07 and gap[-1] < 0.03  # the button is pressed with closed fingers
    assert np.isfinite(found["pixels"][:, -3:, 1]).all()  # the wrist camera always sees the finger tips


def test_pictures_of_other_arms_have_no_states(tmp_path: Path) -> None:
    collect(CollectConfig.resolve("renders", ("TurnDial",), 30, tmp_path, rooms="elsewhere", arms=("IIWA",)))
    found = arrays(tmp_path / "renders.0.npz")
    assert np.isnan(found["states"]).all() and found["states"].shape == (30, 8)
    assert set(found["arm"]) == {"IIWA"}
    hands = found["points"][:, KEYPOINTS.index("hand")]
    assert np.ptp(hands, axis=0).min() > 0.1  # the hand gets about


def test_environments_are_shared_and_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENVS", 2)
    monkeypatch.setattr(module, "_ENVS", collections.OrderedDict())
    first = module._env("LiftCube", "Panda")
    assert module._env("StackCubes", "Panda") is first and first.task.name == "StackCubes"
    second = module._env("TurnDial", "Panda")
    assert module._env("LiftCube", "Panda") is first
    module._env("TurnDial", "UR5e")
    assert len(module._ENVS) == 2 and first in module._ENVS.values() and second not in module._ENVS.values()
