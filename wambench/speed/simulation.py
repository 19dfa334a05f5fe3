"""`wambench bench sim`: what simulation costs, against stock robosuite, interleaved in one run.

Machines are noisy, so what counts is a ratio of rates measured in turns. Stock robosuite is `Lift` with the Panda,
OSC_POSE at 20 Hz and two 128 x 128 cameras, as its documentation sets it up. With `--robot droid` it is `Lift` with the
Panda and robosuite's Robotiq85Gripper, JOINT_POSITION with absolute targets at 15 Hz and the stiffness of ours, and
three 180 x 320 cameras; only the rates are measured then.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wambench import registration, tasks
from wambench.conventions import ROBOT, find
from wambench.envs.episodes import episode_spec
from wambench.interface import ControlConvention, EpisodeSpec, Plan

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv
    from wambench.evaluation.config import RunConfig

SIZE = (128, 128)
TASK = "LiftCube"
ROUNDS_OF_WORKERS = 3


@dataclass
class Stopwatch:
    """Seconds and counts of one thing that is measured in turns with others."""

    seconds: list[float] = field(default_factory=list)
    count: int = 0

    def time(self, work: Callable[[], Any], count: int) -> None:
        """Adds one round of `count` units."""
        start = time.perf_counter()
        work()
        self.seconds.append((time.perf_counter() - start) / count)
        self.count += count

    @property
    def median(self) -> float:
        """Median seconds per unit over the rounds."""
        return float(np.median(self.seconds))


def sim(rounds: int = 6, steps: int = 20, episodes: int = 24, robot: str = ROBOT) -> dict[str, Any]:
    """Returns the measurements; keys as printed by `wambench bench sim --json`.

    Args:
        robot: A name of `conventions.CONVENTIONS`; of any but the usual one only the rates are measured.
        rounds: Turns each variant gets.
        steps: Control steps a turn.
        episodes: Episodes for what is measured on whole episodes.
    """
    find(robot)
    logging.disable(logging.WARNING)  # robosuite has much to say at each of its resets
    try:
        result = _rates(rounds, steps, robot)
    finally:
        logging.disable(logging.NOTSET)
    if robot != ROBOT:
        return {"robot": robot, **result}
    result.update(_shares())
    result.update(_harness(episodes))
    result.update(_workers(episodes))
    result["memory_per_worker_mb"] = round(_in_process(_memory), 1)
    return result


def _in_process(work: Callable[[], float]) -> float:
    """Returns what `work` returns in a fresh process: memory is counted from there."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work)


def _stock(cameras: bool, robot: str = ROBOT) -> Any:
    import robosuite

    if robot != ROBOT:
        return _stock_joints(cameras, find(robot))
    return robosuite.make(
        "Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=cameras, use_camera_obs=cameras,
        use_object_obs=True, camera_names=["agentview", "robot0_eye_in_hand"], camera_heights=SIZE[0],
        camera_widths=SIZE[1], control_freq=20, horizon=10**6, ignore_done=True,
    )  # fmt: skip


def _stock_joints(cameras: bool, convention: ControlConvention) -> Any:
    """Returns robosuite with a Panda and a Robotiq gripper, told joint targets, and views of the convention's size."""
    import robosuite
    from robosuite.controllers import load_composite_controller_config

    from wambench.envs.joint_arm import STIFFNESS

    config = load_composite_controller_config(controller="BASIC", robot="Panda")
    config["body_parts"]["right"] = {
        "type": "JOINT_POSITION", "input_type": "absolute", "input_max": 1, "input_min": -1, "output_max": 0.05,
        "output_min": -0.05, "kp": STIFFNESS, "damping_ratio": 1, "impedance_mode": "fixed", "kp_limits": [0, 1000],
        "damping_ratio_limits": [0, 10], "qpos_limits": None, "interpolation": None, "ramp_ratio": 0.2,
        "gripper": {"type": "GRIP"},
    }  # fmt: skip
    height, width = convention.image_size
    return robosuite.make(
        "Lift", robots="Panda", gripper_types="Robotiq85Gripper", controller_configs=config, has_renderer=False,
        has_offscreen_renderer=cameras, use_camera_obs=cameras, use_object_obs=True, camera_heights=height,
        camera_names=["agentview", "frontview", "robot0_eye_in_hand"], camera_widths=width,
        control_freq=round(convention.control_hz), horizon=10**6, ignore_done=True,
    )  # fmt: skip


def _ours(robot: str = ROBOT) -> TabletopEnv:
    return registration.make(TASK, image_size=SIZE if robot == ROBOT else None, robot=robot)


def _spec(env: TabletopEnv, index: int) -> EpisodeSpec:
    return episode_spec(env.task, "seen", "none", index, 0, robot=env.robot)


def _actions(env: TabletopEnv, steps: int) -> np.ndarray:
    """Returns (steps, A) small random motions: of the hand, or of joints about the start of the first episode."""
    rng, size = np.random.default_rng(0), env.convention.action_dim
    drawn = rng.uniform(-0.5, 0.5, (steps, size))
    if env.convention.action == "joint_position":
        drawn = env.proprioception()[:size] + 0.1 * drawn
    return drawn.clip(*env.convention.limits())


def _rates(rounds: int, steps: int, robot: str) -> dict[str, Any]:
    """Steps per second with all views every step, with views at the policy's rate, without views; and resets."""
    stock = _stock(True, robot)
    blind = _stock(False, robot)
    env = _ours(robot)
    stock.reset(), blind.reset(), env.begin(_spec(env, 0))
    actions = _actions(env, steps)
    clocks = {name: Stopwatch() for name in ("stock", "views", "chunk", "stock_state", "state", "stock_reset", "reset")}

    def each(step: Callable[[np.ndarray], Any]) -> Callable[[], Any]:
        return lambda: [step(action) for action in actions]

    for index in range(rounds):
        clocks["stock_reset"].time(stock.reset, 1)
        clocks["reset"].time(lambda index=index: env.begin(_spec(env, index), render=False), 1)  # type: ignore[misc]
        blind.reset()
        clocks["stock"].time(each(stock.step), steps)
        clocks["views"].time(each(env.step), steps)
        clocks["stock_state"].time(each(blind.step), steps)
        clocks["state"].time(each(env.advance), steps)
        clocks["chunk"].time(lambda: env.step_chunk(actions), steps)
    rate = {name: 1 / clock.median for name, clock in clocks.items()}
    env.close()
    return {
        "stock_steps_per_s": round(rate["stock"], 2),
        "two_views_steps_per_s": round(rate["views"], 1),
        "policy_rate_steps_per_s": round(rate["chunk"], 1),
        "stock_state_steps_per_s": round(rate["stock_state"], 1),
        "state_steps_per_s": round(rate["state"], 1),
        "ratio_two_views": round(rate["views"] / rate["stock"], 2),
        "ratio_policy_rate": round(rate["chunk"] / rate["stock"], 2),
        "ratio_state": round(rate["state"] / rate["stock_state"], 2),
        "stock_reset_ms": round(1e3 * clocks["stock_reset"].median, 1),
        "reset_ms": round(1e3 * clocks["reset"].median, 2),
    }


def _shares() -> dict[str, Any]:
    """Where the time of a control step with two views goes, in ms; copying is from the frame buffer to the caller."""
    import mujoco

    env = _ours()
    env.begin(_spec(env, 0))
    scene = env.scene
    action = np.zeros(7)
    physics = Stopwatch()
    control = Stopwatch()
    rendering = Stopwatch()
    copying = Stopwatch()

    def substeps() -> None:
        for _ in range(scene.arm.substeps):
            mujoco.mj_step(scene.model, scene.data)

    def copies() -> None:
        for _ in env.convention.cameras:
            env.renderer.read(SIZE)  # of a picture that is drawn

    for _ in range(40):
        control.time(lambda: scene.arm.step(scene.data, action), 1)
        physics.time(substeps, 1)
        rendering.time(env.observe, 1)
        copying.time(copies, 1)
    env.close()
    return {
        "physics_ms": round(1e3 * physics.median, 3),
        "control_ms": round(1e3 * max(0.0, control.median - physics.median), 3),
        "rendering_ms": round(1e3 * (rendering.median - copying.median), 3),
        "copying_ms": round(1e3 * copying.median, 3),
    }


MOTION = np.tile([0.05, 0.02, -0.05, 0, 0, 0, -1.0], (8, 1))
SPENT = {"control": 0.0, "rendering": 0.0}  # seconds, of this process


class Drift:
    """A policy that costs nothing: a slow constant motion in chunks of eight; notes the time, and where it went."""

    convention = ControlConvention(image_size=SIZE)

    def reset(self, instruction: str, seed: int) -> None:
        """Keeps no memory."""

    def act(self, history: Any) -> Plan:
        """Returns eight small motions."""
        return Plan(MOTION, timings={"clock": time.perf_counter(), **SPENT})


def counting_sim(task: str, config: RunConfig, convention: ControlConvention) -> TabletopEnv:
    """Returns the simulator of a run, in a process that from now on counts what physics, control and rendering take."""
    from wambench.envs.arm import Arm
    from wambench.envs.rendering import Renderer

    Arm.step = _counting("control", Arm.step)  # type: ignore[method-assign]
    Renderer.render = _counting("rendering", Renderer.render)  # type: ignore[method-assign]
    return registration.make(task, image_size=convention.image_size, video_hz=convention.video_hz)


def _counting(what: str, work: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(work)
    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return work(*arguments)
        finally:
            SPENT[what] += time.perf_counter() - start

    return timed


def _harness(episodes: int) -> dict[str, Any]:
    """What a recorded episode takes in a run with one worker, and the share that is no physics, control or rendering.

    That is everything between the first query of an episode and the first query of the next: scoring, snapshots,
    encoding, handing over to the parent, waiting for the next job, and setting the next scene. Medians over episodes.
    """
    from wambench.evaluation.config import RunConfig
    from wambench.evaluation.run import run
    from wambench.records import load_episode

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        out = Path(folder) / "run"
        config = RunConfig.resolve("wambench.speed.simulation:Drift", "seen", (TASK,), episodes=episodes + 2, out=out)
        rows = run(config, counting_sim)
        recorded = [load_episode(out / "episodes" / f"{row.task}.{row.factor}.{row.episode}.npz") for row in rows]
    begun = [episode.chunks[0].plan.timings for episode in recorded[1:]]  # the first warms up
    took = {name: np.diff([timings[name] for timings in begun]) for name in begun[0]}
    ms = {name: 1e3 * float(np.median(seconds)) for name, seconds in took.items()}
    return {
        "episode_steps": recorded[1].steps,
        "episode_ms": round(ms["clock"], 1),
        "episode_physics_control_ms": round(ms["control"], 1),
        "episode_rendering_ms": round(ms["rendering"], 1),
        "harness_share": round(float(np.median(1 - (took["control"] + took["rendering"]) / took["clock"])), 4),
    }


def _expert_episodes(indices: list[int]) -> float:
    """Plays expert episodes, two views at the policy's rate, and returns the seconds they took after a warm-up."""
    env = _ours()
    env.begin(_spec(env, 0))
    start = time.perf_counter()
    for index in indices:
        outcome = env.begin(_spec(env, index))
        while not (outcome.terminated or outcome.truncated):
            outcome = env.advance(env.expert_action())
            if outcome.steps % env.convention.frame_stride == 0:
                env.observe()
    seconds = time.perf_counter() - start
    env.close()
    return seconds


def _workers(episodes: int) -> dict[str, Any]:
    """Expert episodes per hour with one worker and with two at once, in turns; same episodes for each worker."""
    indices = list(range(episodes))
    alone = Stopwatch()
    together = []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_expert_episodes, [indices[:1]] * 2, chunksize=1)  # compiles the scene in both
        for _ in range(ROUNDS_OF_WORKERS):
            alone.seconds.append(pool.apply(_expert_episodes, (indices,)))
            together.append(max(pool.map(_expert_episodes, [indices] * 2, chunksize=1)))
    one, two = alone.median, float(np.median(together))
    return {
        "episodes_per_hour": round(3600 * episodes / one),
        "episodes_per_hour_two_workers": round(3600 * 2 * episodes / two),
        "ratio_two_workers": round(2 * one / two, 3),
    }


def _memory() -> float:
    """Returns the resident memory in MB of a process that has played episodes of two scene families, one after another.

    Not its peak: on Linux that begins with the peak of the process that started it.
    """
    from wambench.suite.doctor import resident

    for name in (TASK, next(name for name in tasks.TASKS if tasks.TASKS[name].objects != tasks.TASKS[TASK].objects)):
        env = registration.make(name, image_size=SIZE)
        for index in range(3):
            env.begin(episode_spec(env.task, env.split, env.factor, index, 0))
            env.step_chunk(np.zeros((20, 7)))
        env.close()
    return resident() / 2**20


def text(result: dict[str, Any]) -> str:
    """Returns the tables for people."""
    r = result
    robot = find(r.get("robot", ROBOT))
    size, views = (SIZE, "two") if "robot" not in r else (robot.image_size, "three")
    every = f"{views} {size[0]}x{size[1]} views every step"
    rates = [
        (every, "stock_steps_per_s", "two_views_steps_per_s", "ratio_two_views"),
        (f"{views} views at the policy's 5 Hz", "stock_steps_per_s", "policy_rate_steps_per_s", "ratio_policy_rate"),
        ("state only", "stock_state_steps_per_s", "state_steps_per_s", "ratio_state"),
    ]
    lines = [f"{'control steps/s':36s}{'stock':>10s}{'wambench':>10s}{'ratio':>8s}"]
    lines += [f"{name:36s}{r[stock]:10.1f}{r[ours]:10.1f}{r[ratio]:8.1f}" for name, stock, ours, ratio in rates]
    stock = r["stock_reset_ms"]
    ours = r["reset_ms"]
    lines.append(f"{'reset, ms':36s}{stock:10.0f}{ours:10.1f}{stock / ours:8.0f}")
    if "robot" in r:
        return "\n".join(lines)
    one, two = r["episodes_per_hour"], r["episodes_per_hour_two_workers"]
    lines += ["", f"{'expert episodes/hour':36s}{'1 worker':>10s}{'2 workers':>10s}{'ratio':>8s}"]
    lines.append(f"{TASK + ', views at 5 Hz':36s}{one:10d}{two:10d}{r['ratio_two_workers']:8.2f}")
    parts = ("physics", "control", "rendering", "copying")
    whole = sum(r[f"{part}_ms"] for part in parts)
    lines += ["", f"{'a control step with two views':36s}{'ms':>10s}{'share':>10s}"]
    lines += [f"{part:36s}{r[f'{part}_ms']:10.3f}{r[f'{part}_ms'] / whole:10.1%}" for part in parts]
    whole = r["episode_ms"]
    spent = {"physics and control": r["episode_physics_control_ms"], "rendering": r["episode_rendering_ms"]}
    spent["harness: all the rest"] = whole * r["harness_share"]
    lines += ["", f"{'a recorded episode, ' + str(r['episode_steps']) + ' steps':36s}{'ms':>10s}{'share':>10s}"]
    lines += [f"{part:36s}{ms:10.1f}{ms / whole:10.1%}" for part, ms in spent.items()]
    lines += ["", f"{'memory of a worker, MB':36s}{r['memory_per_worker_mb']:10.0f}"]
    return "\n".join(lines)
