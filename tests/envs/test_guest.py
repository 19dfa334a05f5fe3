"""A good guest in somebody's process: OpenGL is left as it was found, copies go on, and forks get an error."""

from __future__ import annotations

import copy
import dataclasses
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from wambench import registration, tasks
from wambench.envs.tabletop import TabletopEnv

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
ID = f"wambench/{tasks.TASKS['PushCube'].id}"

STOCK = """
import gc, logging
logging.disable(logging.WARNING)
import numpy as np, robosuite
from wambench import registration, tasks

def stock():  # a hard reset leaves a context behind, and robosuite loses its own when that one is collected
    env = robosuite.make("Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=True, use_camera_obs=True,
                         camera_names="agentview", camera_heights=64, camera_widths=64, control_freq=20, seed=0,
                         hard_reset=False)
    env.reset()
    return env

def frame(env):
    return env.sim.render(width=64, height=64, camera_name="agentview").copy()

first = stock()
gc.collect()
expected, wrong, frames = frame(first), 0, 0
assert expected.std() > 5, "the stock picture is empty"
ours = registration.make("PushCube")
seen = ours.reset(seed=0)[0]["agentview"]
def check():
    global wrong, frames
    frames += 1
    wrong += not np.array_equal(frame(first), expected)
check()                                   # after our first picture
ours.step(np.zeros(7)); check()
ours.renderer.survey(ours.scene.data, "agentview", (32, 32)); check()
ours.renderer.upload_textures(); check()
assert np.array_equal(ours.reset(seed=0)[0]["agentview"], seen), "ours is disturbed by theirs"
ours.close(); check()
other = registration.make("PushCube"); other.reset(seed=1); del other; check()
from wambench.envs.rendering import gl_backend
gl_backend(); check()
gc.collect(); check()
print(f"{wrong} of {frames} wrong")
"""


@pytest.fixture
def env() -> Iterator[TabletopEnv]:
    made = registration.make("PushCube")
    yield made
    made.close()


def run_python(code: str, timeout_s: float = 300.0, **variables: str) -> str:
    """Returns what a fresh interpreter prints."""
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, env=surroundings
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_a_stock_environment_gets_the_same_pictures_after_ours() -> None:
    assert run_python(STOCK).splitlines()[-1] == "0 of 8 wrong"


CONTEXTS = """
import numpy as np
from wambench import registration
from wambench.envs import opengl
one, other = registration.make("PushCube"), registration.make("PushCube")
assert opengl.current_handle() is None
one.reset(seed=0)
kept = opengl.current_handle()
other.reset(seed=0)
assert kept is not None and opengl.current_handle() == kept, "the other one has not put it back"
other.close()
assert opengl.current_handle() == kept
again = one.observe().images["wrist"]
assert np.array_equal(again, one.observe().images["wrist"]) and again.std() > 5
one.close()
assert opengl.current_handle() is None
print("fine")
"""


def test_no_context_stays_current_after_the_last_is_closed() -> None:
    """In a process of its own: a context of some earlier test may still be current here."""
    assert run_python(CONTEXTS).splitlines()[-1] == "fine"


# -- copies -------------------------------------------------------------------------------------------------------


def play(env: Any, steps: int, seed: int) -> list[Any]:
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, 7))
    return [env.step(action) for action in actions]


def assert_same(one: list[Any], other: list[Any]) -> None:
    for (seen, *rest), (same, *others) in zip(one, other, strict=True):
        assert rest == others
        assert seen.keys() == same.keys() and all(np.array_equal(seen[key], same[key]) for key in seen)


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_a_copy_goes_on_bitwise_equal(env: TabletopEnv, how: str) -> None:
    def copied(value: Any) -> Any:
        return pickle.loads(pickle.dumps(value)) if how == "pickle" else copy.deepcopy(value)

    env.reset(seed=3)
    for _ in range(25):
        env.step(env.expert_action())
    twin = copied(env)
    assert twin.task is env.task
    assert_same(play(env, 10, 0), play(twin, 10, 0))
    assert env.snapshot() == twin.snapshot()
    first, same = env.reset(), twin.reset()  # the generator of seeds goes on, too
    assert first[1]["spec"] == same[1]["spec"]
    twin.close()
    fresh = copied(registration.make("PushCube", image_size=(32, 48), rotation="rotation_6d"))
    assert fresh.episode is None and fresh.reset(seed=0)[0]["wrist"].shape == (32, 48, 3)
    fresh.close()


def test_a_wrapped_environment_can_be_copied() -> None:
    made = gymnasium.make(ID)
    made.reset(seed=0)
    play(made, 5, 0)
    twin = copy.deepcopy(made)
    assert_same(play(made, 3, 1), play(twin, 3, 1))
    made.close()
    twin.close()


def test_a_task_that_no_module_holds_says_so() -> None:
    task = dataclasses.replace(tasks.TASKS["PushCube"], name="Loose")
    with pytest.raises(pickle.PicklingError, match=r"Loose-v\d cannot be pickled: no module variable"):
        pickle.dumps(task)


# -- vector environments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_async_vector_environments_reset_themselves_in_every_mode(mode: AutoresetMode) -> None:
    horizon, actions = tasks.TASKS["PushCube"].horizon, np.zeros((2, 7), np.float32)
    vector = gymnasium.make_vec(
        ID, num_envs=2, vectorization_mode="async", image_size=(8, 8),
        vector_kwargs={"context": "spawn", "autoreset_mode": mode},
    )  # fmt: skip
    try:
        seen, info = vector.reset(seed=0)
        assert seen["agentview"].shape == (2, 8, 8, 3) and list(info["instruction"]) == [info["instruction"][0]] * 2
        for step in range(horizon):
            seen, _, terminated, truncated, info = vector.step(actions)
            assert truncated.tolist() == [step == horizon - 1] * 2 and not terminated.any()
        if mode == AutoresetMode.SAME_STEP:
            assert info["final_obs"][0]["state"].shape == (8,) and "spec" in info
        elif mode == AutoresetMode.NEXT_STEP:
            _, reward, _, truncated, info = vector.step(actions)
            assert "spec" in info and not truncated.any() and not reward.any()
        else:
            vector.reset(options={"reset_mask": np.array([True, True])})
        assert not vector.step(actions)[3].any()
    finally:
        vector.close()
    assert multiprocessing.active_children() == []


FORK = f"""
import gymnasium, multiprocessing, wambench
env = gymnasium.make("{ID}"); env.reset(seed=0)
vector = gymnasium.make_vec("{ID}", num_envs=2, vectorization_mode="async", vector_kwargs={{"context": "fork"}})
try:
    vector.reset(seed=0)
    print("it worked")
except Exception as error:
    print("spawn" in str(error), type(error).__name__)
vector.close(terminate=True)
print(len(multiprocessing.active_children()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_fork_after_rendering_is_told_to_spawn_at_once() -> None:
    assert run_python(FORK, timeout_s=120).splitlines()[-2:] == ["True RuntimeError", "0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_fork_before_any_rendering_works() -> None:
    code = FORK.replace(f'env = gymnasium.make("{ID}"); env.reset(seed=0)', "")
    assert run_python(code, timeout_s=120).splitlines()[-2:] == ["it worked", "0"]


def test_async_by_default_works_where_nothing_was_rendered() -> None:
    vector = AsyncVectorEnv([lambda: registration.make("PushCube", image_size=(8, 8))] * 2, context="spawn")
    seen, _ = vector.reset(seed=0)
    vector.close()
    assert seen["wrist"].shape == (2, 8, 8, 3)
