"""Definition 3, the first divergence: the chunk after which even the expert is too late, and what made it so.

At every recorded state the expert takes over. The chunk of no return is the last one from whose start it still finishes
before the horizon. That chunk is played again from there in several ways, for as long as its video reaches: along the
expert's video, along the recorded one, by the policy's actions for the expert's video, and by its actions without
latency. A way is fatal if the expert needs noticeably longer afterwards than after the way along its own video. So time
is a resource, a stall has a chunk of no return, too, and the slowness of the servo cancels.

What follows from which way was fatal is `verdicts.first_divergence_verdict`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wambench.attribution.counterfactuals import ChunkTiming, Imagining, can_extract, follow
from wambench.attribution.frame_reading import FrameInterpreter
from wambench.attribution.oracle import OracleSim
from wambench.attribution.pose_servo import Servo
from wambench.attribution.verdicts import Fatal
from wambench.interface import Chunk, Episode, EpisodeSpec, Observation, Policy

FULL = 1.0 - 1e-9  # progress that counts as success
SLACK = 0.25  # of a chunk: a way that costs the expert no more time than this, over the oracle's way, is not fatal


def find_fatal_chunk(
    interpreter: FrameInterpreter, episode: Episode, policy: Policy, timing: ChunkTiming, was_late: bool = False
) -> tuple[Fatal, int]:
    """Returns what the verdict rests on, and the number of the chunk of no return (-1: there is none).

    Args:
        interpreter: Of a simulator of the episode's task.
        episode: As recorded, failed.
        policy: Who played it; answers without latency here.
        timing: When it answered.
        was_late: Whether latency delayed its actions, so that they are played in time, too.
    """
    number, needs = find_no_return(interpreter.sim, episode)
    if number < 0:
        return Fatal(solvable_start=False, solvable_end=False), -1
    replay = ChunkReplay.at(interpreter, episode.spec, episode.chunks[number], timing)
    return replay.compare(policy, needs, was_late), number


def find_no_return(sim: OracleSim, episode: Episode) -> tuple[int, int]:
    """Returns the number of the chunk of no return and the steps that the expert needs from its start; -1, 0: none."""
    spec = episode.spec
    sim.begin(spec, render=False)
    for number in reversed(range(len(episode.chunks))):
        chunk = episode.chunks[number]
        sim.restore(chunk.state)
        needs = steps_to_success(sim, spec.horizon - chunk.step)
        if needs is not None:
            return number, needs
    return -1, 0


def steps_to_success(sim: OracleSim, budget: int) -> int | None:
    """Returns how many steps the expert needs from here to full progress; None if it needs more than the budget."""
    for step in range(1, budget + 1):
        if sim.advance(sim.expert_action()).progress >= FULL:
            return step
    return None


@dataclass(frozen=True)
class ChunkReplay:
    """Plays one chunk again in different ways, and says how long the expert needs after each.

    A way leads beyond the episode's end if need be: the question is how much longer it takes, not if it is in time.

    Args:
        interpreter: Of a simulator of the episode's task.
        spec: The episode.
        chunk: As recorded, with the state at its start.
        timing: When the policy answered.
        now: The observation at the start of the chunk.
        oracle: (T, h, w, 3) the expert's video from there.
    """

    interpreter: FrameInterpreter
    spec: EpisodeSpec
    chunk: Chunk
    timing: ChunkTiming
    now: Observation
    oracle: np.ndarray

    @classmethod
    def at(cls, interpreter: FrameInterpreter, spec: EpisodeSpec, chunk: Chunk, timing: ChunkTiming) -> ChunkReplay:
        """Returns the replay of a chunk; the simulator is left at its start."""
        interpreter.sim.restore(chunk.state)
        now = interpreter.sim.observe()
        return cls(interpreter, spec, chunk, timing, now, interpreter.oracle.video(timing.offsets))

    @property
    def length(self) -> int:
        """Control steps that are played: up to the last imagined frame."""
        return self.timing.offsets[-1]

    def compare(self, policy: Policy, needs: int, was_late: bool) -> Fatal:
        """Returns which ways are fatal.

        Args:
            policy: Who played the chunk.
            needs: Steps that the expert needs from the start of the chunk.
            was_late: Whether to play the policy's actions in time, too.
        """
        oracle_way, _ = self.follow_video(self.oracle)
        least = max(0, needs - self.length)
        allowed = max(least, least if oracle_way is None else oracle_way) + SLACK * self.length

        def is_fatal(way: int | None) -> bool:
            return way is None or way > allowed

        action_alone = is_fatal(self.extract_actions(policy)) if can_extract(policy) else None
        by_action_prompt = is_fatal(self.act_in_time(policy)) if was_late else True
        frames = self.chunk.plan.frames
        is_right = frames is not None and np.array_equal(frames, self.oracle)  # whatever the tracker makes of it
        own_way, readable = (
            (None, is_right) if is_right or frames is None else self.follow_video(frames, self.chunk.plan.frame_hands)
        )
        return Fatal(
            solvable_start=True,
            solvable_end=False,
            readable=readable,
            by_video=not is_right and is_fatal(own_way),
            by_action=True,  # after it, or after those that follow it, the expert is too late
            by_action_prompt=by_action_prompt,
            oracle_video=oracle_way is None or oracle_way > least + 2 * SLACK * self.length,
            action_alone=action_alone,
        )

    def follow_video(self, frames: np.ndarray, hands: np.ndarray | None = None) -> tuple[int | None, bool]:
        """Returns how long the expert needs after frames were followed, and whether any of them could be read."""
        self._restore()
        servo = Servo(self.interpreter.oracle.grip())
        unread = self.interpreter.aim(servo, self.now, frames, self.timing.offsets, hands)
        if unread == len(self.interpreter.paths.steps):
            return None, False
        follow(self.interpreter.sim, servo, self.length, beyond=True)
        return self._steps_left(), True

    def extract_actions(self, policy: Imagining) -> int | None:
        """Returns how long the expert needs after the policy's actions for the expert's video."""
        sim = self.interpreter.sim
        self._restore()
        policy.reset(self.spec.instruction, self.spec.seed)
        seen = self.now
        for _ in range(0, self.length, self.timing.execute):
            actions = policy.extract((seen,), self.interpreter.oracle.video(self.timing.offsets))
            for action in np.clip(actions[: self.timing.execute], *sim.convention.limits()):
                if sim.advance(action).progress >= FULL:
                    return 0
            seen = sim.observe()
        return self._steps_left()

    def act_in_time(self, policy: Policy) -> int | None:
        """Returns how long the expert needs after the actions that the policy gives without latency."""
        policy.reset(self.spec.instruction, self.spec.seed)
        self._restore()
        actions = policy.act((self.now,)).actions
        self._restore()
        for action in np.clip(actions[: self.length], *self.interpreter.sim.convention.limits()):
            self.interpreter.sim.advance(action)
        return self._steps_left()

    def _restore(self) -> None:
        self.interpreter.sim.restore(self.chunk.state)

    def _steps_left(self) -> int | None:
        return steps_to_success(self.interpreter.sim, self.spec.horizon)
