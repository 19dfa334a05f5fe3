"""The environment type in LeRobot's own code: its rollout, its evaluation, its hub; skipped where lerobot is absent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.lerobot.test_environment import expert_actions
from tests.lerobot.tiny_act import SIZE, save_act

pytest.importorskip("lerobot", minversion="0.6.1", reason="needs lerobot 0.6.1 or later: docs/lerobot.md")

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs import factory
from lerobot.envs import utils as hub
from lerobot.envs.configs import EnvConfig
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot.processor import PolicyProcessorPipeline
from lerobot.scripts.lerobot_eval import eval_policy_all, rollout

from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run
from wambench.lerobot.config import WambenchEnv
from wambench.records import load_episode, read_rows

pytestmark = pytest.mark.slow

TASKS = ("PressButton", "CloseDrawer")
SMALL: dict[str, Any] = {"observation_height": SIZE, "observation_width": SIZE}
HUB_FILE = Path(__file__).parents[2] / "integrations" / "lerobot_env_wambench" / "env.py"
NOTHING: Any = PolicyProcessorPipeline(steps=[])


def unchanged(action: torch.Tensor) -> torch.Tensor:
    """A post-processor of actions that does nothing."""
    return action


class Replayed(torch.nn.Module):
    """Plays (n, B, 7) actions, and still afterwards."""

    def __init__(self, actions: np.ndarray) -> None:
        super().__init__()
        self.actions, self.step = torch.from_numpy(actions), 0

    def reset(self) -> None:
        self.step = 0

    def select_action(self, batch: dict[str, Any]) -> torch.Tensor:
        self.told = batch["task"]
        self.step += 1
        done = self.step > len(self.actions)
        return torch.zeros_like(self.actions[0]) if done else self.actions[self.step - 1]


def test_the_type_is_registered_and_its_features_have_lerobots_names() -> None:
    config = EnvConfig.get_choice_class("wambench")(task="PressButton", rotation="rotation_6d", **SMALL)
    assert isinstance(config, WambenchEnv) and config.type == "wambench" and config.fps == 20
    found = {name: feature.shape for name, feature in hub.env_to_policy_features(config).items()}
    assert found == {
        "action": (7,),
        "observation.state": (11,),
        "observation.images.agentview": (3, SIZE, SIZE),
        "observation.images.wrist": (3, SIZE, SIZE),
    }
    assert len(WambenchEnv(split="dynamic", factor=None).names) == 6


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"task": "PresButton"}, "did you mean 'PressButton'"),
        ({"split": "sen"}, "did you mean 'seen'"),
        ({"task": "FlipLever"}, "not in split 'seen'"),
        ({"task": "PressButton", "factor": "camera"}, "cannot be varied"),
        ({"task": "PressButton", "fps": 10}, "fps is that of the simulator, 20, not 10"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WambenchEnv(**values)


def test_lerobots_rollout_sees_success_and_progress_of_each_environment() -> None:
    actions = expert_actions("PressButton", 0)
    both = np.stack([np.stack([action, np.zeros_like(action)]) for action in actions])
    vector = WambenchEnv(task="PressButton", **SMALL).create_envs(2)["PressButton"][0]
    policy: Any = Replayed(both)
    done = rollout(vector, policy, NOTHING, NOTHING, NOTHING, unchanged, seeds=[0, 1])
    vector.close()
    assert policy.told == ["press the button"] * 2
    assert done["success"].any(dim=1).tolist() == [True, False]
    assert done["reward"].sum(dim=1).tolist() == pytest.approx([1.0, 0.0])
    success = done["success"][0].tolist()
    assert success.index(True) == len(actions) - 1  # not while the predicate holds before the end


def test_after_its_end_an_environment_stays_where_it_is() -> None:
    """LeRobot counts the step after the end, too: it must give no reward."""
    actions = np.stack(expert_actions("PressButton", 0))[:, None]
    vector = WambenchEnv(task="PressButton", **SMALL).create_envs(1)["PressButton"][0]
    vector.reset(seed=[0], options={hub.NEW_ROLLOUT_OPTION: True})
    for action in actions:
        last = vector.step(action)
    after = vector.step(actions[0])
    assert np.array_equal(last[0]["pixels"]["wrist"], after[0]["pixels"]["wrist"])
    assert after[1].tolist() == [0.0] and after[2].tolist() == [True] and after[4]["final_info"]["is_success"][0]
    seen, _ = vector.reset(seed=[1], options={hub.NEW_ROLLOUT_OPTION: True})
    assert not np.array_equal(seen["pixels"]["wrist"], last[0]["pixels"]["wrist"])
    vector.close()


def evaluated(folder: Path, episodes: int) -> dict[str, Any]:
    """Returns what LeRobot's evaluation says of a policy on two tasks, made as `lerobot-eval` makes it."""
    config = WambenchEnv(task=",".join(TASKS), **SMALL)
    chosen = PreTrainedConfig.from_pretrained(folder)
    chosen.pretrained_path = folder
    before, after = make_pre_post_processors(chosen, str(folder))
    policy = make_policy(chosen, env_cfg=config)
    with torch.no_grad():
        return eval_policy_all(
            factory.make_env(config, n_envs=1), policy, NOTHING, NOTHING, before, after, episodes, start_seed=0
        )


def test_a_policy_of_lerobot_does_the_same_in_lerobot_and_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same actions to the last bit, in the same episodes; so are progress and success."""
    from wambench.lerobot.environment import LeRobotEnv

    folder = save_act(tmp_path / "act")
    played: list[list[np.ndarray]] = []
    begin, carry_out = LeRobotEnv.reset, LeRobotEnv.step

    def reset(env: LeRobotEnv, **values: Any) -> Any:
        played.append([])
        return begin(env, **values)

    def step(env: LeRobotEnv, action: np.ndarray) -> Any:
        played[-1].append(action)
        return carry_out(env, action)

    monkeypatch.setattr(LeRobotEnv, "reset", reset)
    monkeypatch.setattr(LeRobotEnv, "step", step)
    theirs = evaluated(folder, episodes=2)
    out = tmp_path / "run"
    run(RunConfig.resolve(f"lerobot:{folder}", "seen", TASKS, episodes=2, workers=1, out=out))
    rows = read_rows(out / "episodes.csv")
    assert [row.status for row in rows] == ["ok"] * 4 and {row.policy for row in rows} == {"lerobot:act"}
    groups = [one["metrics"] for one in theirs["per_task"]]
    assert [r for group in groups for r in group["sum_rewards"]] == pytest.approx([row.progress for row in rows])
    assert [s for group in groups for s in group["successes"]] == [row.success_end for row in rows]
    for row, actions in zip(rows, played, strict=True):
        episode = load_episode(out / "episodes" / f"{row.task}.{row.factor}.{row.episode}.npz")
        mine = np.concatenate([chunk.executed for chunk in episode.chunks])
        assert np.array_equal(mine, np.clip(np.stack(actions), -1, 1)) and np.abs(np.stack(actions)).max() > 1
        assert {len(chunk.executed) for chunk in episode.chunks[:-1]} == {8}


def test_lerobot_eval_finds_the_type_by_package_path(tmp_path: Path) -> None:
    folder = save_act(tmp_path / "act")
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_eval", f"--policy.path={folder}", "--env.type=wambench"]
    command += ["--env.discover_packages_path=wambench.lerobot", "--env.task=PressButton,CloseDrawer", "--seed=0"]
    command += [f"--env.observation_height={SIZE}", f"--env.observation_width={SIZE}", "--eval.n_episodes=1"]
    done = subprocess.run([*command, f"--output_dir={tmp_path / 'out'}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((tmp_path / "out" / "eval_info.json").read_text())
    assert set(told["per_group"]) == set(TASKS) and told["overall"]["n_episodes"] == 2
    assert all(Path(film).stat().st_size > 1000 for film in told["overall"]["video_paths"])


def test_the_file_for_the_hub() -> None:
    module = hub._load_module_from_path(str(HUB_FILE))
    made = hub._normalize_hub_result(hub._call_make_env(module, n_envs=1, use_async_envs=False, cfg=None))
    assert len(made) > 10 and "PressButton" in made
    cfg = WambenchEnv(task="PressButton")
    one = hub._normalize_hub_result(hub._call_make_env(module, n_envs=2, use_async_envs=False, cfg=cfg))
    vector: Any = one["PressButton"][0]
    seen, _ = vector.reset(seed=[0, 1])
    assert list(one) == ["PressButton"] and seen["agent_pos"].shape == (2, 8)
    vector.close()
