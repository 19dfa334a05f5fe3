"""Reading of imagined frames: which poses of hand and objects they show, and how a servo follows them.

The tracker gives a learned reading of each frame, and alignment refines it: the simulator shows postures until its
picture is the frame (`pose_alignment`). Where that may not be believed, a policy that says itself where it places the
hand is taken at its word if the frame agrees: it must be more like the simulator's picture of that pose than like those
of the hand a little beside it. A frame whose reading may not be believed is unread: the instrument abstains.
What was read is followed by a servo, along the way that hands usually take between such poses (`paths`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from wambench.attribution import pose_alignment
from wambench.attribution.oracle import KeyPoints, Oracle, OracleSim
from wambench.attribution.pose_servo import Pose, Servo, interpolate_rotations, pose_of
from wambench.interface import Observation

if TYPE_CHECKING:
    from wambench.attribution.tracker import Readings

BESIDE_M = 0.025  # how far beside a declared hand the frame is compared, too
# Directions to the six sides and eight corners of a cube, as unit vectors.
AROUND = np.array([way for way in itertools.product((-1.0, 0.0, 1.0), repeat=3) if sum(map(abs, way)) in (1.0, 3.0)])
AROUND /= np.linalg.norm(AROUND, axis=1, keepdims=True)
DECLARED_SCALE_M = 0.012  # scale of the position error of a declared hand that the frame shows; half of `BESIDE_M`
HINTS = 2  # the latest postures found at the same env step are tried first; more would cost a rendering each


class LearnedReader(Protocol):
    """Reads poses out of frames at one glance, see `tracker.FrameReader`."""

    @property
    def points(self) -> tuple[str, ...]:
        """Names of all key points, those of the hand last."""

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects it follows: the first of `points`."""

    def read(self, now: np.ndarray, state: np.ndarray, known: KeyPoints, frames: np.ndarray) -> Readings:
        """Returns what (T, h, w, 3) frames show, given a frame `now`, the (8,) state and the key points there."""


class PathModel(Protocol):
    """Knows what a hand does between poses, see `paths.Paths`."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Control steps from now to each pose that a path goes through; it ends at the last one."""

    def complete(
        self, before: np.ndarray, now: np.ndarray, grip: float, positions: np.ndarray, widths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the positions (N, 3) in m and grips (N,) on the way through (K, 3) positions and (K,) openings."""


@dataclass(frozen=True)
class FrameInterpreter:
    """Reads imagined frames in a simulator that is at the moment of the query.

    Args:
        oracle: Of the simulator, with the key points of the reader.
        reader: Gives the learned readings.
        paths: Complete the way between two readings.
        precise: Whether learned readings are refined by alignment: far more exact, several times slower.

    Attributes:
        known: The fits found in frames of each env step so far: another rollout often shows much the same then.
    """

    oracle: Oracle
    reader: LearnedReader
    paths: PathModel
    precise: bool = True
    known: dict[int, list[pose_alignment.Fit]] = field(default_factory=dict)

    @classmethod
    def of(cls, sim: OracleSim, reader: LearnedReader, paths: PathModel, precise: bool = True) -> FrameInterpreter:
        """Returns the interpreter of one episode's frames in a simulator of its task."""
        return cls(Oracle(sim, reader.points, reader.objects), reader, paths, precise)

    @property
    def sim(self) -> OracleSim:
        """The simulator."""
        return self.oracle.sim

    def read(
        self,
        now: Observation,
        frames: np.ndarray,
        ahead: Sequence[int],
        guesses: Sequence[np.ndarray] = (),
        hands: np.ndarray | None = None,
    ) -> Readings:
        """Returns what is read out of frames that follow what is seen now; the simulator is left as it was.

        Args:
            now: The observation at the query.
            frames: (T, h, w, 3).
            ahead: (T,) env steps from now to each.
            guesses: Postures that the frames may show, for each one.
            hands: (T, 4) where the policy itself places the hand in them (`Plan.frame_hands`).
        """
        learned = self.reader.read(self.oracle.frame(now), now.state, self.oracle.key_points(), frames)
        if not self.precise:
            return learned
        state = self.sim.snapshot()
        poser = self.sim.scene_poser()
        alignment = _Alignment(self, now, frames, tuple(ahead), state, poser, pose_alignment.Aligner(poser))
        readings = alignment.refine_all(learned, guesses)
        if hands is not None:
            readings = alignment.believe_shown(readings, hands)
        self.sim.restore(state)
        return readings

    def aim(
        self,
        servo: Servo,
        now: Observation,
        frames: np.ndarray,
        offsets: Sequence[int],
        hands: np.ndarray | None = None,
    ) -> int:
        """Sets a servo on the way that frames show, unless they cannot be read; returns how many could not.

        Args:
            servo: Keeps its path if nothing can be read, and stays where it is if it has none.
            now: The observation at the query.
            frames: (T, h, w, 3).
            offsets: (T,) env steps from now to each; those of the paths must be among them.
            hands: (T, 4) as for `read`.
        """
        steps = self.paths.steps
        shown = [step for step in offsets if step <= steps[-1]]
        rows = [offsets.index(step) for step in shown]
        readings = self.read(now, frames[rows], shown, hands=None if hands is None else hands[rows])
        here = pose_of(now.state)
        ends = [shown.index(step) for step in steps]
        unread = int((~readings.sure[ends]).sum())
        if not readings.sure[ends].any():
            if servo.idle:
                servo.stay(here, steps[-1])
            return unread
        # where the last frame cannot be read, the hand is taken to stay where the first one shows it
        used = ends if readings.sure[ends[-1]] else [ends[0]] * len(ends)
        self.lead(servo, servo.before or here, here, readings, used)
        if readings.sure.all():  # frames between those that the paths know say more
            between = readings.positions.copy()
            between[ends] = servo.way[np.array(steps) - 1]
            servo.bend(shown, between)
        return unread

    def lead(self, servo: Servo, last: Pose, here: Pose, readings: Readings, ends: Sequence[int]) -> None:
        """Sets a servo on the way through some of the readings.

        Args:
            servo: Is given the path.
            last: The pose one control step ago.
            here: The pose now.
            readings: What was read.
            ends: Which of the readings to go through at the steps of the paths.
        """
        ends = list(ends)
        before = np.append(last.position, last.width)
        now = np.append(here.position, here.width)
        way, grips = self.paths.complete(before, now, servo.grip, readings.positions[ends], readings.widths[ends])
        rotations = interpolate_rotations(here.rotation, self.paths.steps, list(readings.rotations[ends]))
        servo.begin(way, rotations, grips)


@dataclass(frozen=True)
class _Alignment:
    """Refines the readings of the frames of one query; moves the simulator about, which `state` undoes.

    Args:
        interpreter: Whose frames they are.
        now: The observation at the query.
        frames: (T, h, w, 3).
        ahead: (T,) env steps from now to each.
        state: Snapshot of the simulator now.
        poser: Shows postures in the simulator.
        aligner: Finds postures, starting from the one at `now`.
    """

    interpreter: FrameInterpreter
    now: Observation
    frames: np.ndarray
    ahead: tuple[int, ...]
    state: bytes
    poser: pose_alignment.PosableScene
    aligner: pose_alignment.Aligner

    def refine_all(self, readings: Readings, guesses: Sequence[np.ndarray]) -> Readings:
        """Returns the refined readings: every frame in turn, then once more those before one that could be read."""
        driven = self._drive(readings)
        others: list[np.ndarray] = []
        for i, step in enumerate(self.ahead):
            starts = [*guesses[i : i + 1], *driven[i : i + 1], *others]
            readings, fit = self._refine(readings, i, starts)
            onward = [self.aligner.extrapolate(fit.posture, later / step) for later in self.ahead[i + 1 : i + 2]]
            others = [fit.posture, *onward]
        here = pose_of(self.now.state)
        for i in reversed(range(len(self.ahead) - 1)):
            if readings.sure[i + 1] and not readings.sure[i]:  # where the hand is later says where it came through
                readings = put_halfway(here, readings, self.ahead, i)
                readings, _ = self._refine(readings, i, self._drive(readings)[i : i + 1])
        return readings

    def _refine(self, readings: Readings, i: int, starts: Sequence[np.ndarray]) -> tuple[Readings, pose_alignment.Fit]:
        """Returns the readings with the i-th one refined, and the fit; one that may not be believed stays as read."""

        def drive_to(posture: np.ndarray) -> list[np.ndarray]:
            return self._drive(self._put(readings, i, posture))[i : i + 1]

        known = self.interpreter.known.setdefault(self.now.step + self.ahead[i], [])
        fit = self.aligner.find(
            self.frames[i],
            readings.positions[i],
            readings.rotations[i],
            float(readings.widths[i]),
            starts,
            known[-HINTS:],
            drive_to,
        )
        known.append(fit)
        if not fit.sure:
            return readings.with_frame(i, sure=False), fit
        scale_m = pose_alignment.expected_m(fit.doubt)
        return self._put(readings, i, fit.posture).with_frame(i, sure=True, scale_m=scale_m), fit

    def believe_shown(self, readings: Readings, hands: np.ndarray) -> Readings:
        """Returns the readings with the declared (T, 4) hands in the place of what could not be read, where shown."""
        declared = readings
        for i in np.flatnonzero(~readings.sure).tolist():
            declared = declared.with_frame(i, positions=hands[i, :3], widths=hands[i, 3])
        driven = self._drive(declared)
        for i in np.flatnonzero(~readings.sure).tolist():
            there = self._most_alike(declared, i, driven[i : i + 1])
            beside = [
                self._most_alike(declared.with_frame(i, positions=hands[i, :3] + step), i, driven[i : i + 1])[0]
                for step in BESIDE_M * AROUND
            ]
            moved = np.linalg.norm(hands[i, :3] - pose_of(self.now.state).position)
            if moved > BESIDE_M:
                beside.append(self.aligner.unlikeness(self.frames[i], self.aligner.start))
            if there[0] < min(beside):
                found = self._put(readings, i, there[1])
                readings = found.with_frame(i, sure=True, scale_m=DECLARED_SCALE_M)
        return readings

    def _most_alike(self, readings: Readings, i: int, driven: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
        """Returns the posture with the hand as in the i-th reading that is most like the frame, and how unlike it is.

        Objects rest, or go with the hand, or are where the servo leaves them (`driven`).
        """
        pose = readings.positions[i], readings.rotations[i], float(readings.widths[i])
        reached = self.poser.reach(self.aligner.start, *pose)
        postures = [reached, *self.poser.poses_with_carried_object(self.aligner.start, reached)]
        postures += [self.poser.reach(posture, *pose) for posture in driven]
        unlike = [self.aligner.unlikeness(self.frames[i], posture) for posture in postures]
        best = int(np.argmin(unlike))
        return unlike[best], postures[best]

    def _put(self, readings: Readings, i: int, posture: np.ndarray) -> Readings:
        """Returns the readings with the poses of a posture as the i-th one; the simulator then shows the posture."""
        self.poser.set(posture)
        view = self.interpreter.sim.view
        return readings.with_frame(
            i,
            positions=view.eef(),
            rotations=view.eef_rot(),
            widths=view.width(),
            objects=self.interpreter.oracle.object_positions(),
        )

    def _drive(self, readings: Readings) -> list[np.ndarray]:
        """Returns the posture at each reading of a simulator in which the servo drives there.

        Only its dynamics say how an arm of seven joints is bent by then, and what the hand takes along or pushes.
        """
        sim = self.interpreter.sim
        steps = self.interpreter.paths.steps
        if not set(steps) <= set(self.ahead):
            return []
        sim.restore(self.state)
        poser = sim.scene_poser()
        servo = Servo(self.interpreter.oracle.grip())
        here = pose_of(self.now.state)
        self.interpreter.lead(servo, here, here, readings, [self.ahead.index(step) for step in steps])
        found: list[np.ndarray] = []
        for step in range(1, self.ahead[-1] + 1):
            sim.advance(servo.act(sim.proprioception()))
            if step in self.ahead:
                found.append(poser.posture())
        return found


def put_halfway(here: Pose, readings: Readings, ahead: Sequence[int], i: int) -> Readings:
    """Returns the readings with the i-th one on the straight way from here to the next one."""
    share = ahead[i] / ahead[i + 1]
    way = interpolate_rotations(here.rotation, [ahead[i + 1]], [readings.rotations[i + 1]])
    return readings.with_frame(
        i,
        positions=here.position + share * (readings.positions[i + 1] - here.position),
        rotations=way[ahead[i] - 1],
        widths=here.width + share * (readings.widths[i + 1] - here.width),
    )
