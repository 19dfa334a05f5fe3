"""The rollouts of attribution: one episode again and again, with the expert's video or the tracker's actions put in.

A policy's video is what it imagines at each query; the oracle's is the expert's future, played in a branch of the
simulator from the state at hand, rendered at the same env steps by the same cameras, and undone. A policy's actions for
the oracle's video are its `extract`; the oracle's actions for any video are a servo along the poses that the tracker
reads out of its frames. Everything random is a function of (episode seed, env step), so cells are paired.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from wambench.attribution import pose_alignment
from wambench.attribution.pose_servo import Pose, Servo, bend_path, interpolate_rotations, pose_of
from wambench.attribution.verdicts import Fatal
from wambench.evaluation.plan_validation import validate_plan
from wambench.interface import Chunk, Episode, EpisodeSpec, Observation, Outcome, Plan, Policy, canvas
from wambench.policies.expert import ExpertWorld
from wambench.policies.perception.encoder import HAND

FULL = 1.0 - 1e-9
UNREADABLE = 0.5  # a cell in which the tracker abstains more often than this says nothing
LOOK = 8  # control steps that the servo follows a video for at least, before it looks at the next one
HINTS = 2  # postures found in other frames of the same env step that are tried first
SLACK = 0.25  # of a chunk: a way that costs the expert no more time than this, over the oracle's way, is not fatal


class OracleSim(ExpertWorld, Protocol):
    """A simulator that can be branched, rendered and asked."""

    @property
    def view(self) -> Any:
        """What the simulator knows (`envs.privileged_view.View`)."""

    def observe(self) -> Observation:
        """Renders now."""

    def proprioception(self) -> np.ndarray:
        """Returns the (8,) state vector."""

    def scene_poser(self) -> Any:
        """Returns what shows postures (`envs.scene_poser.Stage`)."""


class Imagining(Policy, Protocol):
    """A world action model whose actions for a given future can be asked for."""

    def extract(self, history: Sequence[Observation], frames: np.ndarray) -> np.ndarray:
        """Returns its own actions (H, A) for (K, h, w, 3) frames."""


@dataclass(frozen=True)
class ChunkTiming:
    """How a policy answers: env steps from a query to its frames, actions carried out before the next query."""

    offsets: tuple[int, ...]
    execute: int


@dataclass(frozen=True)
class Place:
    """Where objects are: position of the hand (3,) in m, distance of the fingers in m, (N, 3) positions of objects."""

    hand: np.ndarray
    width: float
    objects: np.ndarray


@dataclass(frozen=True)
class Future:
    """What an expert does: (T, h, w, 3) frames, and the place and the posture that each shows."""

    frames: np.ndarray
    places: list[Place]
    postures: list[np.ndarray]


@dataclass
class RolloutResult:
    """A rollout: its progress, frames read and frames that the tracker would not read, difference to own actions."""

    progress: float = 0.0
    read: int = 0
    unread: int = 0
    difference: float = 0.0
    steps: int = 0

    @property
    def value(self) -> float:
        """Progress, NaN if too little could be read."""
        return float("nan") if self.read and self.unread > UNREADABLE * self.read else self.progress


@dataclass
class Instrument:
    """What an episode of a simulator is attributed with.

    Args:
        sim: A simulator of the episode's task.
        reader: `policies.tracker.Reader`.
        paths: `policies.paths.Paths`.
        precise: Whether what the reader says is refined by alignment: far more exact, several times slower.

    Attributes:
        known: What was found in frames of each env step: what another rollout shows then is often much alike.
    """

    sim: OracleSim
    reader: Any
    paths: Any
    precise: bool = True
    known: dict[int, list[pose_alignment.Fit]] = field(default_factory=dict)

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns where the reader's key points are now (all of `token_encoder.points`, the hand's last).

        (C, 3) true positions, zero for those that are not in the scene; (C,) whether they are; and (C, V, 2) where they
        appear in each view, NaN out of view.
        """
        sim: Any = self.sim
        names, cameras = self.reader.points, sim.convention.cameras
        present = np.array([name in HAND or name.split("/")[0] in sim.task.objects for name in names])
        points, pixels = np.zeros((len(names), 3)), np.full((len(names), len(cameras), 2), np.nan)
        points[present] = [sim.view.point(name) for name, there in zip(names, present, strict=True) if there]
        for v, camera in enumerate(cameras):
            pixels[present, v] = sim.view.project(camera, points[present])
        return points, present, pixels

    def place(self) -> Place:
        """Returns where hand, fingers and the objects that the reader knows are now."""
        view, (points, present, _) = self.sim.view, self.places()
        count = len(self.reader.objects)
        return Place(view.eef(), float(view.width()), points[:count][present[:count]])

    def oracle(self, offsets: Sequence[int]) -> Future:
        """Returns the expert's future; the simulator is left as it was."""
        state, stage, frames, places, postures = self.sim.snapshot(), self.sim.scene_poser(), [], [], []
        for step in range(1, offsets[-1] + 1):
            self.sim.advance(self.sim.expert_action())
            if step in offsets:
                frames.append(self.canvas(self.sim.observe()))
                places.append(self.place())
                postures.append(stage.posture())
        self.sim.restore(state)
        return Future(np.stack(frames), places, postures)

    def oracle_video(self, offsets: Sequence[int]) -> np.ndarray:
        """Returns (T, h, w, 3) frames of the expert's future; the simulator is left as it was."""
        return self.oracle(offsets).frames

    def canvas(self, observation: Observation) -> np.ndarray:
        """Returns the frame of an observation."""
        return canvas(observation, self.sim.convention.cameras)

    def read(
        self, observation: Observation, frames: np.ndarray, ahead: Sequence[int], guesses: Sequence[np.ndarray] = ()
    ) -> Any:
        """Returns the tracker's `Readings` of frames that follow what is seen now; the simulator is left as it was.

        Args:
            observation: Now.
            frames: (T, h, w, 3).
            ahead: (T,) env steps from now to each.
            guesses: Postures that the frames may show, for each one.
        """
        learned = self.reader.read(self.canvas(observation), observation.state, *self.places(), frames)
        if not self.precise:
            return learned
        state, stage = self.sim.snapshot(), self.sim.scene_poser()
        aligner, others = pose_alignment.Aligner(stage), list[np.ndarray]()

        def look(i: int, starts: Sequence[np.ndarray]) -> pose_alignment.Fit:
            read = learned.positions[i].copy(), learned.rotations[i].copy(), float(learned.widths[i])

            def again(posture: np.ndarray) -> list[np.ndarray]:
                self._take(stage, posture, learned, i)
                return self._driven(state, observation, learned, ahead)[i : i + 1]

            known = self.known.setdefault(observation.step + ahead[i], [])
            fit = aligner.find(frames[i], *read, starts, known[-HINTS:], again)
            known.append(fit)
            learned.sure[i] = fit.sure
            if fit.sure:
                self._take(stage, fit.posture, learned, i)
                learned.scale_m[i] = pose_alignment.expected_m(fit.doubt)
            else:  # as read
                learned.positions[i], learned.rotations[i], learned.widths[i] = read
            return fit

        driven = self._driven(state, observation, learned, ahead)
        for i, step in enumerate(ahead):
            fit = look(i, [*guesses[i : i + 1], *driven[i : i + 1], *others])
            others = [fit.posture, *(aligner.further(fit.posture, later / step) for later in ahead[i + 1 : i + 2])]
        for i in reversed(range(len(ahead) - 1)):  # where it is later says where it came through
            if learned.sure[i + 1] and not learned.sure[i]:
                _halfway(pose_of(observation.state), learned, ahead, i)
                look(i, self._driven(state, observation, learned, ahead)[i : i + 1])
        self.sim.restore(state)
        return learned

    def _take(self, stage: Any, posture: np.ndarray, readings: Any, i: int) -> None:
        """Writes a posture down as the i-th reading."""
        stage.set(posture)
        view, (points, present, _) = self.sim.view, self.places()
        readings.positions[i], readings.rotations[i], readings.widths[i] = view.eef(), view.eef_rot(), view.width()
        readings.objects[i] = np.where(present[:, None], points, np.nan)[: len(self.reader.objects)]

    def _driven(self, state: bytes, observation: Observation, readings: Any, ahead: Sequence[int]) -> list[np.ndarray]:
        """Returns the posture at each reading of a simulator in which the servo drives there.

        Only its dynamics say how an arm of seven joints is bent by then, and what the hand takes along or pushes.
        """
        steps, servo, found = self.paths.config.steps, Servo(), list[np.ndarray]()
        if not set(steps) <= set(ahead):
            return found
        self.sim.restore(state)
        stage, servo.grip = self.sim.scene_poser(), self._grip()
        ends = [list(ahead).index(step) for step in steps]
        here = pose_of(observation.state)
        self._lead(servo, here, here, *(x[ends] for x in (readings.positions, readings.rotations, readings.widths)))
        for step in range(1, ahead[-1] + 1):
            self.sim.advance(servo.act(self.sim.proprioception()))
            if step in ahead:
                found.append(stage.posture())
        return found

    def _lead(self, servo: Servo, last: Pose, here: Pose, positions: Any, rotations: Any, widths: Any) -> None:
        """Sets the servo on the way through the poses at the steps that the paths know."""
        from wambench.attribution.paths import complete

        before, now = (np.append(pose.position, pose.width) for pose in (last, here))
        way, grips = complete(self.paths, before, now, servo.grip, positions, widths)
        servo.begin(way, interpolate_rotations(here.rotation, self.paths.config.steps, list(rotations)), grips)

    def aim(self, servo: Servo, observation: Observation, frames: np.ndarray, offsets: tuple[int, ...]) -> int:
        """Sets the servo on the way that frames show, unless they cannot be read; returns how many could not."""
        steps = self.paths.config.steps
        shown = [step for step in offsets if step <= steps[-1]]
        readings = self.read(observation, frames[[offsets.index(step) for step in shown]], shown)
        here, ends = pose_of(observation.state), [shown.index(step) for step in steps]
        unread = int((~readings.sure[ends]).sum())
        if not readings.sure[ends].any():
            if servo.idle:  # nothing to go on with: stay
                still = (np.tile(x, (steps[-1], *[1] * np.ndim(x))) for x in (here.position, here.rotation, servo.grip))
                servo.begin(*still)
            return unread
        poses = [x[ends] for x in (readings.positions, readings.rotations, readings.widths)]
        if not readings.sure[ends[-1]]:  # what cannot be read is taken to stay where the first frame was
            poses = [x[[0] * len(x)] for x in poses]
        self._lead(servo, servo.before or here, here, *poses)
        if readings.sure.all():  # frames between those that the paths know say more
            between = readings.positions.copy()
            between[ends] = servo.way[np.array(steps) - 1]
            servo.way = bend_path(servo.way, shown, between)
        return unread

    def follow(self, servo: Servo, steps: int, beyond: bool = False) -> Outcome:
        """Lets the servo drive for some steps, `beyond` the episode's end or not; observations as of `step_chunk`."""
        seen, stride = [], self.sim.convention.frame_stride
        for i in range(steps):
            outcome = self.sim.advance(servo.act(self.sim.proprioception()))
            over = (outcome.terminated or outcome.truncated) and not beyond
            if over or i == steps - 1 or outcome.steps % stride == 0:
                seen.append(self.sim.observe())
            if over:
                break
        return dataclasses.replace(outcome, observations=tuple(seen))

    def play(self, spec: EpisodeSpec, policy: Any, layout: ChunkTiming, video: str, actions: str) -> RolloutResult:
        """Returns a rollout.

        Args:
            spec: The episode.
            policy: The policy; may be None if neither part is its own.
            layout: How it answers.
            video: "own", "oracle", or "placebo": its own, put in by `extract`.
            actions: "own" or "oracle".
        """
        played, servo = RolloutResult(), Servo()
        outcome = self.sim.begin(spec)
        if policy is not None:
            policy.reset(spec.instruction, spec.seed)
        while not (outcome.terminated or outcome.truncated):
            history, plan = outcome.observations, None
            if video != "oracle":
                plan = validate_plan(policy.act(history), self.sim.convention)
            frames = self.oracle_video(layout.offsets) if plan is None else plan.frames
            if frames is None:
                raise ValueError(f"the policy imagined nothing at step {history[-1].step}, though it did in the run")
            if actions == "oracle":
                played.unread += self.aim(servo, history[-1], frames, layout.offsets)
                played.read += len(self.paths.config.steps)
                outcome = self.follow(servo, max(layout.execute, LOOK))
                continue
            chosen = plan.actions if video == "own" and plan is not None else policy.extract(history, frames)
            if plan is not None:
                played.difference = max(played.difference, float(np.abs(chosen - plan.actions).max()))
            outcome = self.sim.step_chunk(np.clip(chosen[: layout.execute], -1.0, 1.0))
        played.progress, played.steps = outcome.progress, outcome.steps
        return played

    def to_go(self, budget: int) -> int | None:
        """Returns how many steps the expert needs from here to full progress; None: more than the budget."""
        for step in range(1, budget + 1):
            if self.sim.advance(self.sim.expert_action()).progress >= FULL:
                return step
        return None

    def fatal(self, episode: Episode, policy: Any, layout: ChunkTiming, prompt: Any = None) -> tuple[Fatal, int]:
        """Returns what D3 rests on, and the chunk of no return (-1: none).

        The chunk of no return is the last one from whose start the expert still finishes before the horizon. It is
        played again from there for as long as its video reaches: along the recorded video, along the expert's, by the
        policy's actions for the expert's video, and (`prompt`) by its actions without latency. A way is fatal if the
        expert then needs longer than `SLACK` of the chunk more than after the oracle's way.
        """
        spec, chunks, sim = episode.spec, episode.chunks, self.sim
        sim.begin(spec, render=False)  # type: ignore[call-arg]
        for number in range(len(chunks) - 1, -1, -1):
            sim.restore(chunks[number].state)
            needs = self.to_go(spec.horizon - chunks[number].step)
            if needs is not None:
                break
        else:
            return Fatal(solvable_start=False, solvable_end=False), -1
        return self._ways(spec, chunks[number], policy, layout, prompt, needs), number

    def _ways(
        self, spec: EpisodeSpec, chunk: Chunk, policy: Any, layout: ChunkTiming, prompt: Any, needs: int
    ) -> Fatal:
        sim, length, frames = self.sim, layout.offsets[-1], chunk.plan.frames
        budget = spec.horizon  # beyond the episode's end: how much longer, not whether, is the question
        sim.restore(chunk.state)
        now, oracle = sim.observe(), self.oracle_video(layout.offsets)

        def by_frames(shown: np.ndarray) -> tuple[int | None, bool]:
            sim.restore(chunk.state)
            servo = Servo()
            servo.grip = self._grip()
            if self.aim(servo, now, shown, layout.offsets) == len(self.paths.config.steps):
                return None, False
            self.follow(servo, length, beyond=True)
            return self.to_go(budget), True

        def by_actions(actions: np.ndarray) -> int | None:
            sim.restore(chunk.state)
            for action in np.clip(actions[:length], -1.0, 1.0):
                sim.advance(action)
            return self.to_go(budget)

        oracle_way, _ = by_frames(oracle)
        least = max(0, needs - length)
        allowed = max(least, least if oracle_way is None else oracle_way) + SLACK * length

        def fatal(way: int | None) -> bool:
            return way is None or way > allowed

        alone = late = None
        if hasattr(policy, "extract"):
            sim.restore(chunk.state)
            alone = fatal(self._extracted(spec, policy, layout, now, budget))
        if prompt is not None:
            prompt.reset(spec.instruction, spec.seed)
            sim.restore(chunk.state)
            late = fatal(by_actions(prompt.act((now,)).actions))
        right = frames is not None and np.array_equal(frames, oracle)  # whatever the tracker makes of it
        own_way, readable = (None, right) if right or frames is None else by_frames(frames)
        return Fatal(
            solvable_start=True,
            solvable_end=False,
            readable=readable,
            by_video=not right and fatal(own_way),
            by_action=True,  # after it, or after those that follow it, the expert is too late
            by_action_prompt=True if late is None else late,
            oracle_video=oracle_way is None or oracle_way > least + 2 * SLACK * length,
            action_alone=alone,
        )

    def _extracted(
        self, spec: EpisodeSpec, policy: Any, layout: ChunkTiming, now: Observation, budget: int
    ) -> int | None:
        """Returns how long the expert needs after a chunk of the policy's actions for the expert's video."""
        policy.reset(spec.instruction, spec.seed)
        seen = now
        for _ in range(0, layout.offsets[-1], layout.execute):
            actions = policy.extract((seen,), self.oracle_video(layout.offsets))
            for action in np.clip(actions[: layout.execute], -1.0, 1.0):
                if self.sim.advance(action).progress >= FULL:
                    return 0
            seen = self.sim.observe()
        return self.to_go(budget)

    def _grip(self) -> float:
        """Returns what the fingers of a restored simulator are told now: +1 if nearer to shut than to open."""
        arm = self.sim.scene.arm  # type: ignore[attr-defined]
        return 1.0 if arm.fingers[1] > arm.fingers[0] else -1.0


def _halfway(here: Pose, readings: Any, ahead: Sequence[int], i: int) -> None:
    """Takes the i-th reading to lie on the straight way to the next one."""
    share = ahead[i] / ahead[i + 1]
    way = interpolate_rotations(here.rotation, [ahead[i + 1]], [readings.rotations[i + 1]])
    readings.positions[i] = here.position + share * (readings.positions[i + 1] - here.position)
    readings.rotations[i] = way[ahead[i] - 1]
    readings.widths[i] = here.width + share * (readings.widths[i + 1] - here.width)


def layout_of(episode: Episode) -> ChunkTiming | None:
    """Returns how the policy of a recorded episode answered; None if it imagined nothing."""
    for chunk in episode.chunks:
        plan: Plan = chunk.plan
        if plan.frames is not None and plan.frame_steps is not None:
            offsets = tuple(int(step) - chunk.step for step in plan.frame_steps)
            return ChunkTiming(offsets, int(plan.execute or len(plan.actions)))
    return None
