"""`wambench bench sim`: what simulation costs, against stock robosuite, interleaved in one run.

Machines are noisy, so what counts is a ratio of rates measured in turns. Stock robosuite is `Lift` with the Panda,
OSC_POSE at 20 Hz and two 128 x 128 cameras, as its documentation sets it up.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from wambench import tasks
from wambench.envs.episodes import episode_spec
from wambench.interface import EpisodeSpec, Observation, Outcome, Plan, Spec

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv

SIZE = (128, 128)
TASK = "LiftCube"


@dataclass
class Clock:
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


def sim(rounds: int = 6, steps: int = 20, episodes: int = 8) -> dict[str, Any]:
    """Returns the measurements; keys as printed by `wambench bench sim --json`.

    Args:
        rounds: Turns each variant gets.
        steps: Control steps a turn.
        episodes: Expert episodes for the rates with one and with two workers.
    """
    result = _rates(rounds, steps)
    result.update(_shares())
    result.update(_workers(episodes))
    result["memory_per_worker_mb"] = round(_in_process(_memory), 1)
    return result


def _in_process(work: Callable[[], float]) -> float:
    """Returns what `work` returns in a fresh process: memory is counted from there."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work)


def _stock(cameras: bool) -> Any:
    import robosuite

    return robosuite.make(
        "Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=cameras, use_camera_obs=cameras,
        use_object_obs=True, camera_names=["agentview", "robot0_eye_in_hand"], camera_heights=SIZE[0],
        camera_widths=SIZE[1], control_freq=20, horizon=10**6, ignore_done=True,
    )  # fmt: skip


def _ours() -> TabletopEnv:
    from wambench.envs.tabletop import TabletopEnv

    return TabletopEnv(TASK, image_size=SIZE)


def _spec(env: TabletopEnv, index: int) -> EpisodeSpec:
    return episode_spec(env.task, "seen", "none", index, 0)


def _rates(rounds: int, steps: int) -> dict[str, Any]:
    """Steps per second with two views every step, with views at the policy's rate, without views; and resets."""
    stock, blind, env = _stock(True), _stock(False), _ours()
    stock.reset(), blind.reset(), env.begin(_spec(env, 0))
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.5, 0.5, (steps, 7))
    clocks = {name: Clock() for name in ("stock", "views", "chunk", "stock_state", "state", "stock_reset", "reset")}

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


class _Timed:
    """A world that counts the seconds spent inside it."""

    def __init__(self, world: TabletopEnv) -> None:
        self.world, self.convention, self.seconds = world, world.convention, 0.0

    def _time(self, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        answer = work()
        self.seconds += time.perf_counter() - start
        return answer

    def begin(self, episode: EpisodeSpec) -> Outcome:
        return self._time(lambda: self.world.begin(episode))

    def step_chunk(self, actions: np.ndarray) -> Outcome:
        return self._time(lambda: self.world.step_chunk(actions))

    # exact snapshots are the harness's own wish, so they count as its cost
    def snapshot(self) -> bytes:
        return self.world.snapshot()

    def restore(self, state: bytes) -> None:
        self.world.restore(state)


class _Drift:
    """A policy that costs nothing: a slow constant motion, in chunks of eight."""

    spec = Spec(image_size=SIZE)

    def reset(self, instruction: str, seed: int) -> None:
        """Keeps no memory."""

    def act(self, history: Any) -> Plan:
        """Returns eight small motions."""
        return Plan(np.tile([0.05, 0.02, -0.05, 0, 0, 0, -1.0], (8, 1)))


def _shares() -> dict[str, Any]:
    """Where a control step's time goes, and what the harness adds to an episode it records."""
    import mujoco

    from wambench.records import encode_episode
    from wambench.rollout import rollout

    env = _ours()
    world = _Timed(env)
    rollout(world, _Drift(), _spec(env, 0))
    world.seconds = 0.0
    start = time.perf_counter()
    episode = rollout(world, _Drift(), _spec(env, 1))
    encode_episode(episode, world.convention.cameras)
    wall = time.perf_counter() - start
    physics, control, rendering, copying = Clock(), Clock(), Clock(), Clock()
    scene = env.scene
    action = np.zeros(7)

    def substeps() -> None:
        for _ in range(scene.arm.substeps):
            mujoco.mj_step(scene.model, scene.data)

    for _ in range(40):
        control.time(lambda: scene.arm.step(scene.data, action), 1)
        physics.time(substeps, 1)
        observation: list[Observation] = []
        rendering.time(lambda seen=observation: seen.append(env.observe()), 1)  # type: ignore[misc]
        copying.time(lambda seen=observation: [image.copy() for image in seen[0].images.values()], 1)  # type: ignore[misc]
    env.close()
    return {
        "physics_ms": round(1e3 * physics.median, 3),
        "control_ms": round(1e3 * max(0.0, control.median - physics.median), 3),
        "rendering_ms": round(1e3 * (rendering.median - copying.median), 3),
        "copying_ms": round(1e3 * copying.median, 3),
        "harness_share": round((wall - world.seconds) / wall, 4),
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
    return time.perf_counter() - start


def _workers(episodes: int) -> dict[str, Any]:
    """Expert episodes per hour with one worker and with two at once, same episodes per worker."""
    context = multiprocessing.get_context("spawn")
    indices = list(range(episodes))
    with context.Pool(1) as pool:
        alone = pool.apply(_expert_episodes, (indices,))
    with context.Pool(2) as pool:
        together = max(pool.map(_expert_episodes, [indices, indices], chunksize=1))
    return {
        "episodes_per_hour": round(3600 * episodes / alone),
        "episodes_per_hour_two_workers": round(3600 * 2 * episodes / together),
        "ratio_two_workers": round(2 * alone / together, 3),
    }


def _memory() -> float:
    """Returns the resident memory in MB of a process that has played episodes of two scene families, one after another.

    Not its peak: on Linux that begins with the peak of the process that started it.
    """
    from wambench.doctor import resident
    from wambench.envs.tabletop import TabletopEnv

    for name in (TASK, next(name for name in tasks.TASKS if tasks.TASKS[name].things != tasks.TASKS[TASK].things)):
        env = TabletopEnv(name, image_size=SIZE)
        for index in range(3):
            env.begin(episode_spec(env.task, env.split, env.factor, index, 0))
            env.step_chunk(np.zeros((20, 7)))
        env.close()
    return resident() / 2**20


def text(result: dict[str, Any]) -> str:
    """Returns the table for people."""
    r = result
    views = f"two {SIZE[0]}x{SIZE[1]} views every step"
    resets = (r["stock_reset_ms"], r["reset_ms"], r["stock_reset_ms"] / r["reset_ms"])
    rows = [
        (views, r["stock_steps_per_s"], r["two_views_steps_per_s"], r["ratio_two_views"]),
        ("views at the policy's 5 Hz", r["stock_steps_per_s"], r["policy_rate_steps_per_s"], r["ratio_policy_rate"]),
        ("state only", r["stock_state_steps_per_s"], r["state_steps_per_s"], r["ratio_state"]),
        ("reset, ms", *resets),
    ]
    lines = [f"{'control steps/s':32s}{'stock':>10s}{'wambench':>10s}{'ratio':>8s}"]
    lines += [f"{name:32s}{stock:10.1f}{ours:10.1f}{ratio:8.1f}" for name, stock, ours, ratio in rows]
    one, two = r["episodes_per_hour"], r["episodes_per_hour_two_workers"]
    lines.append(f"expert episodes/hour: {one} with 1 worker, {two} with 2 ({r['ratio_two_workers']:.2f}x)")
    lines.append(f"a control step, ms: physics {r['physics_ms']}, control {r['control_ms']}")
    lines.append(f"two views, ms: rendering {r['rendering_ms']}, copying {r['copying_ms']}")
    lines.append(f"harness: {100 * r['harness_share']:.1f}% of an episode; a worker: {r['memory_per_worker_mb']} MB")
    return "\n".join(lines)
