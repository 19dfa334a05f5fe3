"""Training data: demonstrations by the experts, and random layouts for the image encoder.

Every file is written whole or not at all (temporary name, then rename), and a file that exists is not made again, so
the same command resumes after any kill. Episodes come from the "train" stream and from training environments only.

Demonstrations, `DIR/<task>.<index>.npz`, one file an episode of T control steps (no pickles):
    frames (F, h, w * 2, 3) uint8: canvases (agentview | wrist) at `frame_steps` (F,) int32: every second, and the last
    actions (T, 7) float32: what the expert would do;  executed (T, 7) float32: what was done (with noise)
    states (T + 1, 8) float32;  points (F, C, 3) float32: world positions of `manifest["points"]`;  present (F, C) bool;
    pixels (F, C, V, 2) float32: where they appear in each view, right and down in [-1, 1], NaN out of view
    instruction, task, spec: strings;  attempt: how many tries failed before this one
Renders, `DIR/renders.<k>.npz`: frames (N, h, w * 2, 3), states (N, 8), points (N, C, 3), present (N, C), and
    pixels (N, C, 2, 2) float32: where each point lies in each view, right and down in [-1, 1], NaN if it is not in it
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wambench import tasks
from wambench.envs.episodes import TRAINING, episode_spec
from wambench.interface import Spec, canvas, unknown

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv

CORPORA = ("demos", "renders")
FRAME_EVERY = 2  # control steps between stored frames: anchors at 10 Hz
RENDERS_PER_FILE = 250
MAX_ATTEMPTS = 40


@dataclass(frozen=True)
class CollectConfig:
    """What to collect.

    Attributes:
        corpus: "demos" or "renders".
        tasks: Task names; for renders, whose scenes to draw.
        episodes: Demonstrations per task, or number of pictures in all.
        seed: Non-negative seed.
        workers: Processes.
        out: Folder; continued if it holds the same corpus.
    """

    corpus: str
    tasks: tuple[str, ...]
    episodes: int
    out: Path
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if self.corpus not in CORPORA:
            raise unknown("corpus", self.corpus, CORPORA)
        for name in self.tasks:
            tasks.find(name)
        if not self.tasks:
            raise ValueError("no tasks to collect")
        if self.episodes < 1 or self.workers < 1 or self.seed < 0:
            raise ValueError("--episodes and --workers must be at least 1, and --seed at least 0")


def collect(config: CollectConfig) -> Path:
    """Writes the corpus and returns its folder; raises ValueError if the folder holds another one."""
    from tqdm import tqdm

    _write_manifest(config)
    jobs = [job for job in _jobs(config) if not job.path.exists()]
    total = len(list(_jobs(config)))
    with tqdm(total=total, initial=total - len(jobs), desc=config.corpus, unit="file") as bar:
        for _ in _run(jobs, min(config.workers, max(1, len(jobs)))):
            bar.update()
    return config.out


@dataclass(frozen=True)
class _Job:
    corpus: str
    task: str
    index: int
    seed: int
    path: Path
    tasks: tuple[str, ...]
    count: int


def _jobs(config: CollectConfig) -> Iterator[_Job]:
    if config.corpus == "demos":
        for index in range(config.episodes):
            for task in config.tasks:
                yield _Job("demos", task, index, config.seed, config.out / f"{task}.{index}.npz", config.tasks, 1)
        return
    for k in range(-(-config.episodes // RENDERS_PER_FILE)):
        count = min(RENDERS_PER_FILE, config.episodes - k * RENDERS_PER_FILE)
        path = config.out / f"renders.{k}.npz"
        yield _Job("renders", "", k, config.seed, path, config.tasks, count)


def _run(jobs: list[_Job], workers: int) -> Iterator[Path]:
    if workers == 1:
        yield from map(_do, jobs)
        return
    # spawn: a forked child of a process that has rendered hangs
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_do, jobs)


def _write_manifest(config: CollectConfig) -> None:
    from wambench.envs.things import KEYPOINTS

    manifest = {
        "corpus": config.corpus,
        "seed": config.seed,
        "points": list(KEYPOINTS),
        "spec": asdict(Spec()),
        "frame_every": FRAME_EVERY,
    }
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "manifest.json"
    text = json.dumps(manifest, indent=1)
    if path.exists() and json.loads(path.read_text()) != json.loads(text):
        raise ValueError(f"{config.out} holds another corpus (see {path}); choose another --out")
    path.write_text(text)


_ENVS: dict[str, Any] = {}  # one environment per task and process: compiling a scene takes a second


def _env(task: str) -> TabletopEnv:
    from wambench.envs.tabletop import TabletopEnv

    if task not in _ENVS:
        _ENVS[task] = TabletopEnv(task)
    return _ENVS[task]


def _do(job: _Job) -> Path:
    arrays = _demonstration(job) if job.corpus == "demos" else _renders(job)
    temporary = job.path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
    temporary.rename(job.path)
    return job.path


@dataclass(frozen=True)
class Noise:
    """What disturbs a demonstration: the expert's answer to it is what teaches recovery.

    Attributes:
        sigma: Standard deviation of an Ornstein-Uhlenbeck process on the six motion numbers (0: none).
        wander: Steps of smooth random motion at the start.
        jolt: Probability per step of a shove of four steps.
    """

    sigma: float
    wander: int
    jolt: float


def draw_noise(rng: np.random.Generator) -> Noise:
    """Returns the disturbance of one episode: a quarter of them has none."""
    if rng.random() < 0.25:
        return Noise(0.0, 0, 0.0)
    wander = int(rng.integers(5, 40)) if rng.random() < 0.25 else 0
    return Noise(float(rng.uniform(0.1, 0.4)), wander, 0.01)


def disturbances(noise: Noise, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Returns (steps, 6) numbers to be added to the expert's motion."""
    drift, shove, out = np.zeros(6), np.zeros(6), np.zeros((steps, 6))
    left = 0
    for i in range(steps):
        drift = 0.85 * drift + noise.sigma * np.sqrt(1 - 0.85**2) * rng.normal(size=6)
        if left == 0 and rng.random() < noise.jolt:
            shove, left = rng.uniform(-0.8, 0.8, 6), 4
        out[i] = drift + (shove if left else 0)
        left = max(0, left - 1)
    out[:, 3:] *= 0.3  # a turned hand is no use for learning to recover
    return out


def _demonstration(job: _Job) -> dict[str, np.ndarray]:
    for attempt in range(MAX_ATTEMPTS):
        recorded = _attempt(job, attempt)
        if recorded is not None:
            return {**recorded, "attempt": np.array(attempt)}
    raise RuntimeError(f"{job.task}: the expert failed {MAX_ATTEMPTS} times in a row at index {job.index}")


def _attempt(job: _Job, attempt: int) -> dict[str, np.ndarray] | None:
    """Returns the arrays of one episode, or None if the expert did not succeed."""
    env = _env(job.task)
    index = job.index + attempt * 1_000_000
    episode = episode_spec(env.task, TRAINING, "none", index, job.seed)
    rng = np.random.default_rng([job.seed, index, len(job.task)])
    noise = draw_noise(rng)
    added = disturbances(noise, episode.horizon, rng)
    outcome = env.begin(episode)
    seen = [outcome.observations[-1]]
    labels = [_labels(env)]
    states = [env.proprioception()]
    actions: list[np.ndarray] = []
    executed: list[np.ndarray] = []
    wander = rng.uniform(-0.6, 0.6, 6) * [1, 1, 0.6, 0.3, 0.3, 0.3]
    while not (outcome.terminated or outcome.truncated):
        wanted = env.expert_action()
        done = wanted.copy()
        step = len(actions)
        done[:6] = wander if step < noise.wander else done[:6] + added[step]
        done = np.clip(done, -1, 1)
        actions.append(wanted)
        executed.append(done)
        outcome = env.advance(done)
        states.append(env.proprioception())
        if len(actions) % FRAME_EVERY == 0 or outcome.terminated or outcome.truncated:
            seen.append(env.observe())
            labels.append(_labels(env))
    if not outcome.success:
        return None
    return {
        "frames": np.stack([canvas(o, env.convention.cameras) for o in seen]),
        "frame_steps": np.array([o.step for o in seen], np.int32),
        "actions": np.array(actions, np.float32),
        "executed": np.array(executed, np.float32),
        "states": np.array(states, np.float32),
        **_stacked(labels),
        "instruction": np.array(episode.instruction),
        "task": np.array(job.task),
        "spec": np.array(episode.to_json()),
    }


def _labels(env: TabletopEnv) -> dict[str, np.ndarray]:
    """Returns the key points now: world position (C, 3), presence (C,), and place in every view (C, V, 2)."""
    from wambench.envs.things import KEYPOINTS

    present = np.array([name.split("/")[0] in env.task.things for name in KEYPOINTS])
    points = np.zeros((len(KEYPOINTS), 3))
    pixels = np.full((len(KEYPOINTS), len(env.convention.cameras), 2), np.nan)
    for i in np.flatnonzero(present):
        points[i] = env.view.pos(KEYPOINTS[i])
    for v, camera in enumerate(env.convention.cameras):
        pixels[present, v] = env.view.project(camera, points[present])
    return {"points": points.astype(np.float32), "present": present, "pixels": pixels.astype(np.float32)}


def _stacked(labels: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([label[name] for label in labels]) for name in labels[0]}


def _renders(job: _Job) -> dict[str, np.ndarray]:
    from wambench.envs.randomise import random_layout

    rng = np.random.default_rng([job.seed, job.index])
    frames, states, labels = [], [], []
    # by scene family, not by task, or what stands in one task's scene only is rarely seen; and one family for a run of
    # pictures, because switching costs more than a picture
    families = sorted({tasks.find(name).things: name for name in job.tasks}.values())
    for block in range(-(-job.count // 25)):
        env = _env(str(rng.choice(families)))
        for i in range(min(25, job.count - 25 * block)):
            index = (job.index * RENDERS_PER_FILE + 25 * block + i) + 500_000_000
            env.begin(episode_spec(env.task, TRAINING, "none", index, job.seed), render=False)
            random_layout(env.scene, env.view, rng)
            observation = env.observe()
            frames.append(canvas(observation, env.convention.cameras))
            states.append(observation.state)
            labels.append(_labels(env))
    return {
        "frames": np.stack(frames),
        "states": np.array(states, np.float32),
        **_stacked(labels),
    }
