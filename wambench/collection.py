"""Training data: demonstrations by the experts, action-free video, and random layouts for the image encoder.

Every file is written whole or not at all (temporary name, then rename), and a file that exists is not made again, so
the same command resumes after any kill. Episodes come from streams of their own, never those of an evaluation:
demonstrations from "train" and the training environments, video from "video" and the auxiliary environment set
(`envs.factors.ELSEWHERE`), which shares no value with the training or the unseen environments.

Demonstrations, `DIR/<task>.<index>.npz`, one file an episode of T control steps (no pickles):
    frames (F, h, w * 2, 3) uint8: canvases (agentview | wrist) at `frame_steps` (F,) int32: every second, and the last
    actions (T, 7) float32: what the expert would do;  executed (T, 7) float32: what was done (with noise)
    states (T + 1, 8) float32;  points (F, C, 3) float32: world positions of `manifest["points"]`;  present (F, C) bool;
    pixels (F, C, V, 2) float32: where they appear in each view, right and down in [-1, 1], NaN out of view
    instruction, task, arm, spec: strings;  attempt: how many tries failed before this one
    With a learner (DAgger) a policy and the expert drive by turns; `executed` holds what the policy did in its own.
Action-free video, `DIR/<task>.<arm>.<index>.npz`: the same without actions, executed and states. Other arms, moved by
    the same experts through the same controller (true physics); the instruction is the short command in one half and
    the motion paraphrase in the other. points, present and pixels are for the image encoder alone, as with renders.
Renders, `DIR/renders.<k>.npz`: frames (N, h, w * 2, 3), states (N, 8), points (N, C, 3), present (N, C), arm (N,), and
    pixels (N, C, 2, 2) float32: where each point lies in each view, right and down in [-1, 1], NaN if it is not in it.
    States of other arms than the Panda are NaN: unknown, as they would be of a video.
Tracks, `DIR/<task>.<index>.npz`: episodes like demonstrations, for the tracker of `wambench attribute` alone and for no
    policy: every environment takes its turn, the unseen ones too, noise is strong, the fingers sometimes close or open
    at the wrong time, the end does not matter, and a frame is kept every fourth step.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wambench import policies, registration, tasks
from wambench.disturbances import (
    ActionNoise,
    disturbances,
    draw_bursts,
    draw_mild_noise,
    draw_noise,
    draw_turns,
    draw_wander,
    recovery_perturbations,
)
from wambench.envs.episodes import TRAINING, VIDEO, episode_spec
from wambench.evaluation.plan_validation import validate_plan
from wambench.interface import (
    ControlConvention,
    EpisodeSpec,
    Policy,
    SimulationDiverged,
    canvas,
    mismatches,
    unknown_name,
)
from wambench.progress_bar import progress_bar

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv

CORPORA = ("demos", "video", "renders", "tracks")
ENVIRONMENT_SETS = {"train": TRAINING, "elsewhere": VIDEO}  # name on the command line -> stream of the episodes
TRACK_ENVIRONMENTS = ((TRAINING, "none"), (VIDEO, "none"), (TRAINING, "all"))  # streams and factors that take turns
TRACK_EVERY = 4  # control steps between frames of tracks
TRACK_FIRST = 900_000_000  # number of their first episode, far from those of demonstrations
FRAME_EVERY = 2  # control steps between stored frames: anchors at 10 Hz
RENDERS_PER_FILE = 250
MAX_ATTEMPTS = 40
PATIENCE = 1.6  # longer horizon of demonstrations that lose time by a wander or by recovery perturbations
# A worker keeps this many environments (about 60 MB each), enough for all scenes of one arm. Making one takes half a
# second, so jobs come in rounds of so many videos of a task, within which those of one environment follow each other.
MAX_ENVS = 9
ROUND = 25


@dataclass(frozen=True)
class CollectConfig:
    """What to collect.

    Attributes:
        corpus: "demos", "video", "renders" or "tracks".
        tasks: Task names; for renders, whose scenes to draw.
        episodes: Demonstrations or videos per task, or number of pictures in all.
        seed: Non-negative seed.
        workers: Processes.
        out: Folder; continued if it holds the same corpus.
        rooms: Environment set that renders are made in: "train" (the training environments) or "elsewhere" (the
            auxiliary set, `envs.factors.ELSEWHERE`). Demonstrations are always made in "train", videos "elsewhere".
        arms: Names of `envs.robot.ARMS`, which take turns. Demonstrations are made by the Panda alone.
        learner: Of demonstrations: a policy that drives in turns with the expert, so that the expert shows how to
            go on from where that policy gets to (DAgger, Ross et al. 2011); empty: the expert alone.
        learner_args: Arguments of its class, as (name, value) pairs.
    """

    corpus: str
    tasks: tuple[str, ...]
    episodes: int
    out: Path
    seed: int = 0
    workers: int = 1
    rooms: str = "train"
    arms: tuple[str, ...] = ("Panda",)
    learner: str = ""
    learner_args: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def resolve(
        cls,
        corpus: str,
        tasks: Sequence[str],
        episodes: int,
        out: Path,
        seed: int = 0,
        workers: int = 1,
        rooms: str = "",
        arms: Sequence[str] = (),
        learner: str = "",
        learner_args: Mapping[str, Any] | None = None,
    ) -> CollectConfig:
        """Returns the configuration of what a user says; what is not named is what is usual for the corpus."""
        from wambench.envs.robot import OTHER_ARMS

        if corpus == "tracks" and rooms:
            raise ValueError("tracks are made in all rooms by turns: --rooms is for renders")
        rooms = rooms or _usual_environment_set(corpus)
        arms = tuple(dict.fromkeys(arms)) or (OTHER_ARMS if corpus == "video" else ("Panda",))
        pairs = tuple((learner_args or {}).items())
        return cls(corpus, tuple(tasks), episodes, out, seed, workers, rooms, arms, learner, pairs)

    def __post_init__(self) -> None:
        if self.corpus not in CORPORA:
            raise unknown_name("corpus", self.corpus, CORPORA)
        self._check_environment_set()
        self._check_arms()
        for name in self.tasks:
            tasks.find(name)
        if not self.tasks:
            raise ValueError("no tasks to collect")
        if self.episodes < 1 or self.workers < 1 or self.seed < 0:
            raise ValueError("--episodes and --workers must be at least 1, and --seed at least 0")
        if self.learner_args and not self.learner:
            raise ValueError("--learner-args are of a --learner, and none is named")
        if self.learner:
            if self.corpus != "demos":
                raise ValueError(f"a learner drives in demonstrations alone, not in {self.corpus}")
            policies.check_name(self.learner)

    def _check_environment_set(self) -> None:
        usual = _usual_environment_set(self.corpus)
        if self.rooms not in ENVIRONMENT_SETS:
            raise unknown_name("rooms", self.rooms, ENVIRONMENT_SETS)
        if self.corpus != "renders" and self.rooms != usual:
            raise ValueError(f"{self.corpus} are made in rooms {usual!r}, not {self.rooms!r}: --rooms is for renders")

    def _check_arms(self) -> None:
        from wambench.envs.robot import find_arm

        for name in self.arms:
            find_arm(name)
        if self.corpus in ("demos", "tracks") and self.arms != ("Panda",):
            raise ValueError(f"{self.corpus} are made by the Panda, not by {', '.join(self.arms)}")


def _usual_environment_set(corpus: str) -> str:
    return "elsewhere" if corpus == "video" else "train"


def collect(config: CollectConfig) -> Path:
    """Writes the corpus and returns its folder; raises ValueError if the folder holds another one."""
    if config.learner:
        _learner(config.learner, config.learner_args)  # what does not fit fails before anything is made
    _write_manifest(config)
    jobs = [job for job in _jobs(config) if not job.path.exists()]
    total = len(list(_jobs(config)))
    with progress_bar(total=total, initial=total - len(jobs), desc=config.corpus, unit="file") as bar:
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
    environment_set: str
    arm: str
    paraphrase: bool = False
    learner: str = ""
    learner_args: tuple[tuple[str, Any], ...] = ()


def _jobs(config: CollectConfig) -> Iterator[_Job]:
    """Yields the jobs of a corpus in an order in which a worker rarely needs another environment."""
    if config.corpus in ("demos", "tracks"):
        for index in range(config.episodes):
            for task in config.tasks:
                yield _job(config, index, f"{task}.{index}.npz", "Panda", task)
    elif config.corpus == "video":
        for start in range(0, config.episodes, ROUND):
            yield from _video_round(config, range(start, min(start + ROUND, config.episodes)))
    else:
        arms = config.arms
        for first, arm in enumerate(arms):
            for k in range(first, -(-config.episodes // RENDERS_PER_FILE), len(arms)):
                count = min(RENDERS_PER_FILE, config.episodes - k * RENDERS_PER_FILE)
                yield _job(config, k, f"renders.{k}.npz", arm, count=count)


def _video_round(config: CollectConfig, indices: range) -> Iterator[_Job]:
    """Yields the videos of some indices; arms and kinds of caption take turns, so that each goes with each."""
    arms = config.arms
    jobs = []
    for number, task in enumerate(config.tasks):
        for index in indices:
            turn = index + number
            arm = arms[turn % len(arms)]
            paraphrase = turn // len(arms) % 2 == 1
            jobs.append(_job(config, index, f"{task}.{arm}.{index}.npz", arm, task, paraphrase=paraphrase))
    yield from sorted(jobs, key=lambda job: (job.arm, tasks.find(job.task).objects))


def _job(
    config: CollectConfig, index: int, file: str, arm: str, task: str = "", count: int = 1, paraphrase: bool = False
) -> _Job:
    path = config.out / file
    scene = (config.corpus, task, index, config.seed, path, config.tasks, count, config.rooms, arm, paraphrase)
    return _Job(*scene, config.learner, config.learner_args)


def _run(jobs: list[_Job], workers: int) -> Iterator[Path]:
    if workers == 1:
        try:
            yield from map(_do, jobs)
        finally:  # at exit the display is gone before the simulators are
            while _ENVS:
                _ENVS.popitem()[1].close()
        return
    # spawn: a forked child of a process that has rendered hangs
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_do, jobs)


def _write_manifest(config: CollectConfig) -> None:
    from wambench.envs.objects import KEYPOINTS

    manifest = {
        "corpus": config.corpus,
        "seed": config.seed,
        "points": list(KEYPOINTS),
        "spec": asdict(ControlConvention()),
        "frame_every": FRAME_EVERY,
        "rooms": config.rooms,
        "arms": list(config.arms),
        "disturbances": _law_of_disturbances(config),
    }
    if config.learner:
        manifest["learner"] = {"policy": config.learner, "arguments": dict(config.learner_args)}
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "manifest.json"
    text = json.dumps(manifest, indent=1)
    if path.exists() and json.loads(path.read_text()) != json.loads(text):
        raise ValueError(f"{config.out} holds another corpus (see {path}); choose another --out")
    path.write_text(text)


def _law_of_disturbances(config: CollectConfig) -> str:
    """Returns the name of what disturbs the expert: a folder is continued only under the law it was begun with."""
    if config.learner:
        return f"turns of {config.learner}"
    return "wander and bursts" if config.corpus in ("demos", "video") else "bursts"


_ENVS: OrderedDict[tuple[Any, ...], TabletopEnv] = OrderedDict()  # of this process, those used last at the end


def _env(task: str, arm: str) -> TabletopEnv:
    """Returns an environment that plays a task; tasks with the same objects share one."""
    from wambench.envs.scene import compile_family

    wanted = tasks.find(task)
    key = (wanted.objects, arm)
    if key not in _ENVS:
        if len(_ENVS) >= MAX_ENVS:
            _ENVS.popitem(last=False)[1].close()
        compile_family.cache_clear()  # each environment has its own copy of the model
        _ENVS[key] = registration.make(task, arm=arm)
    _ENVS.move_to_end(key)
    _ENVS[key].task = wanted
    return _ENVS[key]


_LEARNERS: dict[str, Policy] = {}  # of this process


def _learner(name: str, arguments: tuple[tuple[str, Any], ...]) -> Policy:
    """Returns the policy that drives by turns; one of another convention raises ValueError."""
    key = repr((name, arguments))
    if key not in _LEARNERS:
        import torch

        torch.set_num_threads(1)  # one process per core: more threads than that only get in each other's way
        learner = policies.load(name, dict(arguments))
        lines = mismatches(ControlConvention(), learner.convention)
        if lines:
            raise ValueError(f"learner {name!r} does not fit the robot of demonstrations: {'; '.join(lines)}")
        _LEARNERS[key] = learner
    return _LEARNERS[key]


def _do(job: _Job) -> Path:
    arrays = {"renders": _renders, "tracks": _track}.get(job.corpus, _episode)(job)
    temporary = job.path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
    temporary.rename(job.path)
    return job.path


class _Turns:
    """A learner that drives in some control steps of an episode; it begins anew in each of its turns."""

    def __init__(self, learner: Policy, env: TabletopEnv, episode: EpisodeSpec, rng: np.random.Generator) -> None:
        self._learner = learner
        self._env = env
        self._episode = episode
        self._drives = draw_turns(episode.horizon, rng)
        self._left: list[np.ndarray] = []
        self._next = -1  # the step in which its turn goes on, if it does

    def action(self, step: int) -> np.ndarray | None:
        """Returns what the learner does in a step, or None where the expert drives."""
        if not self._drives[step]:
            return None
        if step != self._next:  # the last turn ended before
            self._learner.reset(self._episode.instruction, self._episode.seed)
            self._left = []
        self._next = step + 1
        if not self._left:
            plan = validate_plan(self._learner.act([self._env.observe()]), self._env.convention)
            self._left = list(plan.actions[: plan.execute])
        return self._left.pop(0)


def _episode(job: _Job) -> dict[str, np.ndarray]:
    for attempt in range(MAX_ATTEMPTS):
        recorded = _attempt(job, attempt)
        if recorded is not None:
            return {**recorded, "attempt": np.array(attempt)}
    raise RuntimeError(f"{job.task}: the expert failed {MAX_ATTEMPTS} times in a row at index {job.index}")


def _attempt(job: _Job, attempt: int) -> dict[str, np.ndarray] | None:
    """Returns the arrays of one episode, or None if the expert did not succeed."""
    env = _env(job.task, job.arm)
    index = job.index + attempt * 1_000_000
    episode = episode_spec(
        env.task, ENVIRONMENT_SETS[job.environment_set], "none", index, job.seed, paraphrase=job.paraphrase
    )
    rng = np.random.default_rng([job.seed, index, zlib.crc32(job.task.encode())])
    learner = _learner(job.learner, job.learner_args) if job.learner else None
    noise = draw_noise(rng) if job.corpus == "demos" else draw_mild_noise(rng)
    if learner is not None:
        noise = replace(noise, sigma=0.0, jolt=0.0, recovery=0.0)
    try:
        played = _play(env, episode, noise, rng, learner)
    except SimulationDiverged:
        return None
    if played is None:
        return None
    if job.corpus == "video":
        for name in ("actions", "executed", "states"):
            del played[name]
    about = {"instruction": episode.instruction, "task": job.task, "arm": job.arm, "spec": episode.to_json()}
    return {**played, **{name: np.array(text) for name, text in about.items()}}


def _play(
    env: TabletopEnv, episode: EpisodeSpec, noise: ActionNoise, rng: np.random.Generator, learner: Policy | None = None
) -> dict[str, np.ndarray] | None:
    """Returns what was seen and done while the expert played an episode, or None if it did not succeed."""
    slow = bool(noise.recovery or noise.wander or learner)
    episode = replace(episode, horizon=round(episode.horizon * PATIENCE)) if slow else episode
    bursts = draw_bursts(episode.horizon, rng)
    added = disturbances(noise, episode.horizon, rng, bursts)
    instead = recovery_perturbations(noise, episode.horizon, rng, bursts)
    outcome = env.begin(episode)
    seen = [outcome.observations[-1]]
    labels = [_labels(env)]
    states = [env.proprioception()]
    actions: list[np.ndarray] = []
    executed: list[np.ndarray] = []
    wander = draw_wander(rng)
    turns = None if learner is None else _Turns(learner, env, episode, rng)
    while not (outcome.terminated or outcome.truncated):
        wanted = env.expert_action()
        done = wanted.copy()
        step = len(actions)
        done[:6] = wander if step < noise.wander else done[:6] + added[step]
        done = np.where(np.isnan(instead[step]), done, instead[step])
        done[6] = wanted[6] * instead[step, 6]
        driven = None if turns is None or step < noise.wander else turns.action(step)
        done = done if driven is None else driven
        done = np.clip(done, -1, 1).astype(np.float32)  # as it is stored, so that playing it again is exact
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
    }


def _track(job: _Job) -> dict[str, np.ndarray]:
    """Returns what was seen while strong noise disturbed the expert, whether the episode succeeded or not."""
    env = _env(job.task, job.arm)
    stream, factor = TRACK_ENVIRONMENTS[job.index % len(TRACK_ENVIRONMENTS)]
    episode = episode_spec(env.task, stream, factor, TRACK_FIRST + job.index, job.seed)
    rng = np.random.default_rng([job.seed, job.index, zlib.crc32(job.task.encode())])
    added = disturbances(ActionNoise(float(rng.uniform(0.0, 0.5)), 0, 0.0), episode.horizon, rng)
    added += disturbances(ActionNoise(0.0, 0, 1.0), episode.horizon, rng, draw_bursts(episode.horizon, rng))
    outcome = env.begin(episode)
    seen = [outcome.observations[-1]]
    labels = [_labels(env)]
    states = [env.proprioception()]
    wrong = 0
    try:
        while not (outcome.terminated or outcome.truncated):
            action = env.expert_action()
            action[:6] += added[len(states) - 1]
            wrong = 12 if rng.random() < 0.01 else max(0, wrong - 1)
            action[6] *= -1.0 if wrong else 1.0
            outcome = env.advance(np.clip(action, -1, 1))
            states.append(env.proprioception())
            if outcome.steps % TRACK_EVERY == 0:
                seen.append(env.observe())
                labels.append(_labels(env))
    except SimulationDiverged:
        pass  # the frames before the simulation diverged are as good as any
    return {
        "frames": np.stack([canvas(o, env.convention.cameras) for o in seen]),
        "frame_steps": np.array([o.step for o in seen], np.int32),
        "states": np.array(states, np.float32),
        **_stacked(labels),
        **{"task": np.array(job.task), "spec": np.array(episode.to_json())},
    }


def _labels(env: TabletopEnv) -> dict[str, np.ndarray]:
    """Returns the key points now: world position (C, 3), presence (C,), and place in every view (C, V, 2)."""
    from wambench.envs.objects import HAND_POINTS, KEYPOINTS

    present = np.array([name in HAND_POINTS or name.split("/")[0] in env.task.objects for name in KEYPOINTS])
    points = np.zeros((len(KEYPOINTS), 3))
    pixels = np.full((len(KEYPOINTS), len(env.convention.cameras), 2), np.nan)
    for i in np.flatnonzero(present):
        points[i] = env.view.point(KEYPOINTS[i])
    for v, camera in enumerate(env.convention.cameras):
        pixels[present, v] = env.view.project(camera, points[present])
    return {"points": points.astype(np.float32), "present": present, "pixels": pixels.astype(np.float32)}


def _stacked(labels: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([label[name] for label in labels]) for name in labels[0]}


def _renders(job: _Job) -> dict[str, np.ndarray]:
    from wambench.envs.random_layouts import random_layout

    rng = np.random.default_rng([job.seed, job.index])
    frames = []
    states = []
    labels = []
    # by scene family, not by task, or what stands in one task's scene only is rarely seen; and one family for a run of
    # pictures, because switching costs more than a picture
    families = sorted({tasks.find(name).objects: name for name in job.tasks}.values())
    for block in range(-(-job.count // 25)):
        env = _env(str(rng.choice(families)), job.arm)
        for i in range(min(25, job.count - 25 * block)):
            index = (job.index * RENDERS_PER_FILE + 25 * block + i) + 500_000_000
            env.begin(
                episode_spec(env.task, ENVIRONMENT_SETS[job.environment_set], "none", index, job.seed), render=False
            )
            random_layout(env.scene, env.view, rng)
            observation = env.observe()
            frames.append(canvas(observation, env.convention.cameras))
            states.append(observation.state if job.arm == "Panda" else np.full(8, np.nan))
            labels.append(_labels(env))
    return {
        "frames": np.stack(frames),
        "arm": np.array([job.arm] * job.count),
        "states": np.array(states, np.float32),
        **_stacked(labels),
    }
