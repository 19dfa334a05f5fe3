"""The worker's side of a run: one policy, the simulator of the task at hand, one episode after another."""

from __future__ import annotations

import dataclasses
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wambench import conventions, policies, registration, tasks
from wambench.envs.naming import named_object
from wambench.evaluation import latency
from wambench.evaluation.clock import Clock, Virtual
from wambench.evaluation.executors import find, timing
from wambench.evaluation.frame_recorder import FrameRecorder
from wambench.evaluation.imagined_video import video_errors
from wambench.evaluation.process_pool import LostJob, begun
from wambench.evaluation.rollout import Observer, rollout
from wambench.evaluation.video import VideoRecorder
from wambench.evaluation.viewer import Viewer
from wambench.interface import (
    Chunk,
    ControlConvention,
    Episode,
    EpisodeSpec,
    Guided,
    Outcome,
    Policy,
    Simulator,
    mismatches,
)
from wambench.records import Key, Row, encode_episode, episode_stem

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv
    from wambench.evaluation.config import RunConfig
    from wambench.evaluation.wall_clock import Inference

MakeSim = Callable[[str, "RunConfig", ControlConvention], Simulator]
Connect = Callable[[], Policy]  # makes the client of a policy that answers elsewhere, picklable
Result = tuple[Row, Mapping[str, bytes]]


@dataclass(frozen=True)
class EpisodeJob:
    """An episode to be played, its number among those of its task and factor, and what the policy is told.

    Attributes:
        spec: The episode.
        index: Its number.
        prompt: Told to the policy instead of the episode's own instruction, if not empty.
    """

    spec: EpisodeSpec
    index: int
    prompt: str = ""

    @property
    def key(self) -> Key:
        return self.spec.task, self.spec.factor, self.index


def tabletop(task: str, config: RunConfig, convention: ControlConvention) -> TabletopEnv:
    """Returns the simulator of a task as the policy asks for it: robot, image size, video rate, rotation, and cameras.

    What the simulator does not have stays as it is, and is told with all other mismatches before the first episode.
    """
    robot = config.robot or conventions.robot_of(convention)
    own, usual = conventions.find(robot), robot == conventions.ROBOT
    return registration.make(
        task,
        split=config.split,
        robot=robot,
        image_size=convention.image_size,
        visual=config.visual,
        video_hz=convention.video_hz,
        cameras=convention.cameras if set(convention.cameras) <= set(own.cameras) else own.cameras,
        rotation=convention.rotation if usual and convention.rotation != "none" else own.rotation,
    )


@dataclass(frozen=True)
class Make:
    """Makes the policy of a run, in whatever process it is called.

    Attributes:
        name, arguments: As of `policies.load`.
        smooth: Filter its chunks.
        device: Given to it as its argument `device`; "" for none. A policy without that argument computes on a CPU.
    """

    name: str
    arguments: Mapping[str, Any]
    smooth: bool = False
    robot: str = ""
    device: str = ""

    def __call__(self, **given: Any) -> Policy:
        if self.device and policies.takes(self.name, "device"):
            given["device"] = self.device
        elif self.device not in ("", "cpu"):
            raise ValueError(f"policy {self.name!r} has no argument device: it cannot be put on {self.device!r}")
        policy = policies.load(self.name, self.arguments, self.robot, **given)
        return smoothed(policy) if self.smooth else policy


def smoothed(policy: Policy) -> Policy:
    """Returns a policy whose chunks are filtered."""
    from wambench.policies.actions.smoothing import SmoothedPolicy

    return SmoothedPolicy(policy)


def set_up(
    payload: tuple[RunConfig, MakeSim, Connect | None, str],
) -> tuple[dict[str, Any], Callable[[EpisodeJob], Result]]:
    """Returns what the run should know about policy and simulator, and the function that plays a job."""
    config, make_sim, connect, task = payload
    player = Player(config, make_sim, connect)
    return player.describe(task), player.play


class Player:
    """Plays episodes of one policy.

    Only one simulator is kept: a run goes through its tasks in order.

    Args:
        config: The run.
        make_sim: Makes the simulator of a task.
        connect: Makes a client of the policy, which answers elsewhere; None: it answers here.
    """

    def __init__(self, config: RunConfig, make_sim: MakeSim, connect: Connect | None = None) -> None:
        self._config, self._make_sim, self._elsewhere = config, make_sim, connect is not None
        self._make = Make(config.policy, config.policy_args, config.smooth, config.robot, config.policy_device)
        if connect is not None:
            self._policy: Policy | None = smoothed(connect()) if config.smooth else connect()
        else:
            self._policy = None if config.policy in policies.PRIVILEGED else self._make()
        self._executor, self._latency = find(config.execution), latency.parse(config.latency)
        self._stage: tuple[str, Simulator, Policy] | None = None
        self._tape: FrameRecorder | None = None
        self._inference: Inference | None = None
        self._spectator: TabletopEnv | None = None
        self._viewer: Viewer | None = None

    def enter(self, task: str) -> tuple[Simulator, Policy]:
        """Returns the simulator of a task and who acts in it; raises ValueError if their conventions differ."""
        if self._stage is not None:
            name, sim, policy = self._stage
            if name == task:
                return sim, policy
            self._stage = None
            if hasattr(sim, "close"):
                sim.close()
        asked = self._policy.convention if self._policy else conventions.find(self._config.robot or conventions.ROBOT)
        sim = self._make_sim(task, self._config, asked)
        policy = self._policy or self._make(sim=sim)
        sessions = getattr(policy, "sessions", 0)  # that a policy behind a socket keeps apart; 0 for any number
        if 0 < sessions < self._config.workers:
            raise ValueError(f"{self._config.policy} keeps {sessions} episode at a time: --workers {sessions}")
        lines = mismatches(sim.convention, policy.convention)
        if lines:
            raise ValueError(f"policy {self._config.label!r} does not fit {task}: {'; '.join(lines)}")
        if not self._executor.waits:
            sim.convention.hold_action(np.zeros(sim.convention.action_dim))  # one without is found out now
        if self._executor.guided and not isinstance(policy, Guided):
            raise ValueError(
                f"policy {self._config.policy!r} cannot be played by rtc: it has no act_guided (interface.Guided); "
                "sync, async and ensemble play any policy"
            )
        if self._config.view and self._viewer is None:
            self._viewer = Viewer(sim.convention)
        self._stage = task, sim, policy
        return sim, policy

    def _clock(self, job: EpisodeJob, policy: Policy) -> Clock:
        """Returns the clock of an episode."""
        stem = episode_stem(job.key)

        def seconds(query: int, measured_s: float) -> float:
            return self._latency.seconds(stem, query, measured_s)

        if self._config.clock == "virtual":
            return Virtual(self._executor, seconds, self._config.replan)
        from wambench.evaluation.wall_clock import Inference, Wall, inference_of

        if self._inference is None:
            self._inference = Inference(policy) if self._elsewhere else inference_of(policy, self._make)
        return Wall(self._inference, self._executor, seconds, self._config.replan)

    def describe(self, task: str) -> dict[str, Any]:
        """Returns where the numbers of a task come from, as JSON values."""
        sim, policy = self.enter(task)
        robot = conventions.robot_of(policy.convention)
        rendering = sys.modules.get("wambench.envs.rendering")
        return {
            "renderer": rendering.gl_backend() if rendering else "none",
            "device": str(getattr(policy, "device", "cpu")),
            "weights_hash": getattr(policy, "weights_hash", None),
            "corpus": short_corpus(getattr(policy, "corpus", None)),
            "convention": dataclasses.asdict(policy.convention),
            **{name: getattr(policy, name) for name in ("server", "server_hash") if hasattr(policy, name)},
            # not told of the usual ones: older runs know nothing of them
            **({"world_model": sim.world_model} if hasattr(sim, "world_model") else {}),
            **({} if robot == conventions.ROBOT else {"robot": robot}),
        }

    def _tape_of(self, cameras: tuple[str, ...]) -> FrameRecorder:
        """Returns an empty tape; simulators of one run have the same cameras."""
        if self._tape is None:
            self._tape = FrameRecorder(cameras)
        self._tape.begin()
        return self._tape

    def play(self, job: EpisodeJob) -> Result:
        """Returns the row of an episode and its files by path within the run's folder."""
        sim, policy = self.enter(job.spec.task)
        cameras = sim.convention.cameras
        film, tape = VideoRecorder(sim.convention) if self._config.record_video else None, self._tape_of(cameras)
        observers: list[Observer] = [count_from_here, tape, film] if film else [count_from_here, tape]
        if self._viewer is not None:
            observers.append(self._viewer)
        time_limit, clock = self._config.time_limit_s, self._clock(job, policy)
        episode = rollout(sim, policy, job.spec, observers, time_limit, job.prompt or None, clock)
        frames = tape.packed(len(episode.observations))
        stem = episode_stem(job.key)
        files = {f"episodes/{stem}.npz": encode_episode(episode, cameras, frames)}
        if film:
            files[f"videos/{stem}.mp4"] = film.mp4()
        if self._config.film:
            begun()  # what is drawn for spectators takes none of the episode's time
            try:
                files[f"films/{stem}.mp4"] = self._film(episode, job.prompt, conventions.robot_of(sim.convention))
            except Exception:  # a picture for people costs no episode
                files[f"errors/{stem}.film.txt"] = traceback.format_exc().encode(errors="replace")
        if episode.traceback:
            files[f"errors/{stem}.txt"] = episode.traceback.encode(errors="replace")
        return to_row(self._config, job, episode, sim.convention), files

    def _film(self, episode: Episode, told: str, robot: str) -> bytes:
        """Returns the film of an episode, empty if it was over before the first query."""
        from wambench.evaluation import film

        if not episode.chunks:
            return b""
        if self._spectator is None or self._spectator.task.id != episode.spec.task:
            if self._spectator is not None:
                self._spectator.close()
            self._spectator = film.spectator(episode.spec, robot)
        return film.film(episode, self._spectator, told)


def count_from_here(chunk: Chunk | None, outcome: Outcome) -> None:
    """An observer that lets the time limit count from the first observation: a scene is compiled before it."""
    if chunk is None:
        begun()


def short_corpus(corpus: str | None) -> str | None:
    """Returns the corpora that weights were trained on, each once: "demos+video" of "demos+demos+video".

    Weights name a corpus once for every folder of it that they were trained on.
    """
    return corpus and "+".join(dict.fromkeys(corpus.split("+")))


def to_row(config: RunConfig, job: EpisodeJob, episode: Episode, convention: ControlConvention | None = None) -> Row:
    """Returns the row of an episode, its times and its video in the convention of its simulator."""
    task, progress = tasks.find(job.spec.task), float(episode.progress)
    convention = convention or ControlConvention()
    times = timing(episode.chunks, config.execution, convention, job.spec.horizon, progress)
    latencies = [chunk.latency_s for chunk in episode.chunks]
    prompt = job.prompt or job.spec.instruction
    return Row(
        policy=config.label,
        split=job.spec.split,
        task=job.spec.task,
        verb=task.verb,
        novelty=task.novelty,
        factor=job.spec.factor,
        episode=job.index,
        seed=job.spec.seed,
        spec_hash=job.spec.hash,
        prompt=prompt,
        status=episode.status,
        progress=progress,
        success_end=bool(episode.success_end),
        success_ever=bool(episode.success_ever),
        stages=";".join(episode.stages),
        steps=int(episode.steps),
        queries=len(latencies),
        latency_p50_s=float(np.percentile(latencies, 50)) if latencies else math.nan,
        latency_p95_s=float(np.percentile(latencies, 95)) if latencies else math.nan,
        wall_s=episode.wall_s,
        error=episode.error,
        execution=config.execution,
        latency=latency.parse(config.latency).label,
        **dataclasses.asdict(times),
        **dataclasses.asdict(video_errors(episode, convention)),
        named=named_object(task.objects, prompt),
        first_touched=episode.first_touched,
        nearest=episode.nearest,
    )


def lost_result(config: RunConfig, job: EpisodeJob, lost: LostJob) -> Result:
    """Returns row and files of an episode whose worker died or failed: nothing is known of how far it had come."""
    status = "timeout" if lost.timeout else "env_error"
    episode = Episode(job.spec, status, lost.reason, math.nan, False, False, (), 0, math.nan, (), ())
    said = lost.traceback or lost.reason + "\n"
    return to_row(config, job, episode), {f"errors/{episode_stem(job.key)}.txt": said.encode(errors="replace")}
