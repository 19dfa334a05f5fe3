"""The values that environments, policies and the harness hand to each other (numpy only).

Everything here is plain data plus two protocols. `ControlConvention` is a control convention: an environment and a
policy each declare one, and `mismatches` compares them before a run, because a flipped gripper sign or a wrong rotation
format otherwise shows up only as a low score.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

STATUSES = ("ok", "env_error", "policy_error", "timeout")
# Rotation format -> what the state vector holds unless a convention says otherwise.
STATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "axis_angle": ("eef_pos", "eef_axis_angle", "gripper_qpos"),
        "rotation_6d": ("eef_pos", "eef_rotation_6d", "gripper_qpos"),
        "none": (),
    }
)

# Part of a state vector -> how many numbers it has.
STATE_SIZES: Mapping[str, int] = MappingProxyType(
    {
        "eef_pos": 3,
        "eef_axis_angle": 3,
        "eef_rotation_6d": 6,
        "gripper_qpos": 2,
        "joint_position": 7,
        "gripper_position": 1,
    }
)


# Joint limits of a Panda in rad, as in robosuite's model of it.
PANDA_LIMITS = (
    (-2.8973, 2.8973), (-1.7628, 1.7628), (-2.8973, 2.8973), (-3.0718, -0.0698),
    (-2.8973, 2.8973), (-0.0175, 3.7525), (-2.8973, 2.8973),
)  # fmt: skip
HOLDS = ("osc_pose_delta", "joint_position", "joint_velocity")  # actions with a hold action
OPEN_GRIPPER: Mapping[str, float] = MappingProxyType({"close_positive": -1.0, "closed_is_1": 0.0})


@dataclass(frozen=True)
class ControlConvention:
    """A control convention. Every field must agree between an environment and the policy that acts in it.

    Attributes:
        cameras: Camera names, in the order in which `canvas` tiles them left to right.
        image_size: (height, width) of every camera in pixels; images are upright (row 0 is the top).
        control_hz: Actions per second.
        video_hz: Observations per second handed to the policy; divides `control_hz`.
        action: Meaning of the action numbers before the last, which is the gripper's. "osc_pose_delta" is robosuite's
            OSC_POSE: a displacement of the end effector, [-1, 1] scaled to +-0.05 m per axis and +-0.5 rad
            (axis-angle). "joint_position": absolute targets of the joints in rad. "joint_velocity": DROID's, [-1, 1]:
            the target is the present joints plus 0.2 rad times the number, all of them scaled down together where the
            largest exceeds 1.
        action_frame: Frame of the displacement: "base" (for the shipped scenes parallel to the simulator).
        rotation: Rotation format of the state, a key of `STATES`; that of the action belongs to `action`.
            "axis_angle": the rotation vector (3, rad), with an angle in [0, pi]. The hand of these scenes hangs at
            half a turn, where the vectors of neighbouring rotations have opposite signs: all three numbers jump
            several times in an episode. "rotation_6d": the first two columns of the rotation matrix, hand to world,
            one after the other (6, in [-1, 1]); it has no jumps (Zhou et al., arXiv 1812.07035). "none": no rotation.
        gripper: "close_positive": +1 closes, -1 opens (robosuite's convention). "closed_is_1": the position itself, 0
            open to 1 closed (DROID's).
        action_dim: Length of an action.
        state: What the state vector holds, in order; () stands for what `STATES` has for `rotation`: eef position
            (3, m), rotation (3 or 6), finger qpos (2, m). "joint_position" are the arm's joints (7, rad), and
            "gripper_position" is 0 open to 1 closed.

    Raises:
        ValueError: A field makes no sense by itself or beside the others; the message names it. Words that this suite
            does not know are allowed, because simulators and robots elsewhere have conventions of their own, and
            `mismatches` compares them; only `rotation` is one of a list.
    """

    cameras: tuple[str, ...] = ("agentview", "wrist")
    image_size: tuple[int, int] = (96, 96)
    control_hz: float = 20.0
    video_hz: float = 5.0
    action: str = "osc_pose_delta"
    action_frame: str = "base"
    rotation: str = "axis_angle"
    gripper: str = "close_positive"
    action_dim: int = 7
    state: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("cameras", "image_size", "state"):  # JSON has lists where a convention has tuples
            value = getattr(self, name)
            if not isinstance(value, (tuple, list)):
                raise ValueError(f"{name} must be a tuple, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        self._check_numbers()
        self._check_words()

    def _check_numbers(self) -> None:
        """Raises ValueError unless sizes are positive integers and the video rate divides the control rate."""
        if len(self.image_size) != 2 or not all(_is_positive_integer(size) for size in self.image_size):
            raise ValueError(f"image_size must be (height, width), two positive integers, not {self.image_size!r}")
        object.__setattr__(self, "image_size", tuple(int(size) for size in self.image_size))
        if not _is_positive_integer(self.action_dim):
            raise ValueError(f"action_dim must be a positive integer, not {self.action_dim!r}")
        for name in ("control_hz", "video_hz"):
            rate = getattr(self, name)
            if not (_is_number(rate) and 0 < rate < math.inf):
                raise ValueError(f"{name} must be a positive number, not {rate!r}")
        ratio = self.control_hz / self.video_hz
        if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6:
            raise ValueError(
                f"video_hz must divide control_hz: {self.video_hz:g} does not divide {self.control_hz:g}; "
                f"the nearest rate that does is {self.control_hz / max(1, round(ratio)):g}"
            )

    def _check_words(self) -> None:
        """Raises ValueError unless names are words and rotation and state agree; fills in the state."""
        for name in ("action", "action_frame", "rotation", "gripper"):
            if not _is_word(getattr(self, name)):
                raise ValueError(f"{name} must be a word, not {getattr(self, name)!r}")
        for name in ("cameras", "state"):
            words = getattr(self, name)
            if not all(_is_word(word) for word in words) or len(set(words)) < len(words):
                raise ValueError(f"{name} must be different words, not {words!r}")
        if not self.cameras:
            raise ValueError("cameras must name at least one camera")
        if self.rotation not in STATES:
            raise unknown_name("rotation", self.rotation, STATES)
        object.__setattr__(self, "state", self.state or STATES[self.rotation])
        for rotation in ("axis_angle", "rotation_6d"):
            if rotation != self.rotation and f"eef_{rotation}" in self.state:
                raise ValueError(f"rotation is {self.rotation!r}, but state holds 'eef_{rotation}'")

    @property
    def frame_stride(self) -> int:
        """Control steps between two video frames."""
        return round(self.control_hz / self.video_hz)

    def part_of_state(self, name: str) -> slice:
        """Returns where a part of the state vector stands in it; one that is not there raises ValueError."""
        if name not in self.state:
            raise unknown_name("part of the state", name, self.state)
        sizes = [STATE_SIZES[part] for part in self.state[: self.state.index(name) + 1]]
        return slice(sum(sizes[:-1]), sum(sizes))

    def hold_action(
        self, last: NDArray[np.floating[Any]] | None, state: NDArray[np.floating[Any]] | None = None
    ) -> NDArray[np.float64]:
        """Returns the (A,) action that keeps this embodiment where it is while no policy's action is ready.

        For displacements and velocities: none, and the gripper's last command; before any command the gripper is open.
        For joint positions: the last target, and before any the joints as they are.

        Args:
            last: The action carried out before, None at the start of an episode.
            state: State vector of the newest observation; only joint positions need it, and only without `last`.

        Raises:
            ValueError: No hold action is declared for this convention, or the joints are not known.
        """
        if self.action not in HOLDS:
            raise ValueError(f"no hold action is declared for {self.action!r}; there is one for {', '.join(HOLDS)}")
        hold = np.zeros(self.action_dim)
        hold[-1] = last[-1] if last is not None else OPEN_GRIPPER.get(self.gripper, 1.0)
        if self.action == "joint_position":
            joints = last if last is not None else state
            if joints is None or (last is None and self.state[:1] != ("joint_position",)):
                raise ValueError("the hold action of joint positions needs the last action, or a state of joints")
            hold[:-1] = joints[: self.action_dim - 1]
        return hold

    def limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the (A,) least and the (A,) largest value of the numbers of an action.

        Joint positions are limited as a Panda's joints are, where there are seven; of any other arm nothing is known.
        """
        low, high = np.full(self.action_dim, -1.0), np.ones(self.action_dim)
        if self.action == "joint_position":
            low[:-1], high[:-1] = -np.inf, np.inf
            if self.action_dim == len(PANDA_LIMITS) + 1:
                low[:-1], high[:-1] = np.transpose(PANDA_LIMITS)
        if self.gripper == "closed_is_1":
            low[-1] = 0.0
        return low, high


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value > 0)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def mismatches(environment: ControlConvention, policy: ControlConvention) -> list[str]:
    """Returns one line per field in which the two conventions differ, naming both sides."""
    lines = []
    for f in dataclasses.fields(ControlConvention):
        ours, theirs = getattr(environment, f.name), getattr(policy, f.name)
        if ours != theirs:
            lines.append(f"{f.name}: the environment has {ours!r}, the policy expects {theirs!r}")
    return lines


def fields_of_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of a JSON object with lists as tuples, as the fields of a frozen dataclass hold them."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def unknown_name(kind: str, asked: str, known: Iterable[str]) -> ValueError:
    """Returns the error for a name that does not exist: what was asked, what exists, and the nearest match."""
    names = list(known)
    near = difflib.get_close_matches(asked, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ValueError(f"unknown {kind} {asked!r}; {hint}there are: {', '.join(names)}")


@dataclass(frozen=True)
class Observation:
    """What a policy sees at one control step. It is also what is recorded, so nobody can write into it.

    Attributes:
        step: Control steps since reset (0 for the first observation).
        images: Camera name -> (h, w, 3) uint8, upright RGB; a read-only mapping of read-only arrays.
        state: (8,) float64, read-only: eef position (m), axis-angle (rad, see `ControlConvention.rotation` for its
            jumps), finger positions (m); (11,) with rotation "rotation_6d".
    """

    step: int
    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", MappingProxyType({name: read_only(i) for name, i in self.images.items()}))
        object.__setattr__(self, "state", read_only(self.state))

    def __reduce__(self) -> tuple[type[Observation], tuple[int, dict[str, NDArray[np.uint8]], NDArray[np.float64]]]:
        return Observation, (self.step, dict(self.images), self.state)  # a mapping proxy cannot be pickled


def read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Returns a view of an array that cannot be written through; no element is copied."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def canvas(observation: Observation, cameras: Sequence[str]) -> NDArray[np.uint8]:
    """Returns the views tiled left to right, (h, w * len(cameras), 3) uint8: the frame a world model imagines."""
    return np.concatenate([observation.images[camera] for camera in cameras], axis=1)


@dataclass(frozen=True)
class Plan:
    """What a policy answers.

    Attributes:
        actions: (H, A) float, within `ControlConvention.limits`; action i is for control step `now + i`.
        execute: How many of the H actions to carry out before the next query (None: all of them).
        frames: (T, h, w * n_cameras, 3) uint8 imagined canvases, or None for a policy without video.
        frame_steps: (T,) int: the env step (`Observation.step` count) each imagined frame is for.
        timings: Seconds spent, by stage name.
        frame_hands: (T, 4) where the policy itself places the hand in each imagined frame: position as in the state (m)
            and opening of the fingers (m); None if it does not say. Attribution believes it where the frame shows it.
    """

    actions: NDArray[np.floating[Any]]
    execute: int | None = None
    frames: NDArray[np.uint8] | None = None
    frame_steps: NDArray[np.integer[Any]] | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    frame_hands: NDArray[np.floating[Any]] | None = None


@runtime_checkable
class Policy(Protocol):
    """What is compared. `history` is everything seen since the last call, at the video rate; its last entry is now."""

    convention: ControlConvention

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the next actions and, for a world action model, the frames it imagines."""


@runtime_checkable
class Guided(Policy, Protocol):
    """A policy that can continue a chunk that is still being played (real-time chunking)."""

    def act_guided(self, history: Sequence[Observation], previous: NDArray[np.floating[Any]], delay: int) -> Plan:
        """Returns a plan that agrees with what will be carried out while it is computed.

        Args:
            history: As for `act`.
            previous: (n, A) actions that will be carried out from now on if no new plan comes, n at most the plan's
                length (the paper's H - s); row i is for control step `now + i`.
            delay: How many of them will have been carried out when this plan is ready, as far as known.
        """


@runtime_checkable
class Batched(Policy, Protocol):
    """A policy that plays several episodes at once, each with a session: whatever it remembers of that episode.

    Its answers are those of `act`. Where a batch rounds otherwise than a single call does (on a GPU it usually will),
    rows depend in their last digits on who asked at the same time.
    """

    def session(self, instruction: str, seed: int) -> Any:
        """Returns the state of a new episode."""

    def resume(self, session: Any) -> None:
        """Makes an episode that `session` began the one that `act` and `act_guided` speak of."""

    def act_batch(self, sessions: Sequence[Any], histories: Sequence[Sequence[Observation]]) -> list[Plan]:
        """Returns the plans of several episodes, each what `act` would answer.

        If it raises, whoever called asks again for one episode after the other, to find out whose fault it was: until
        then no session may have changed in a way that changes its next answer.
        """


@dataclass(frozen=True)
class EpisodeSpec:
    """One episode as a value: the same spec gives the same first frame and, for the same actions, the same trajectory.

    Attributes:
        task: Task id with version, e.g. "PressButton-v1".
        split: Split it belongs to.
        factor: Environment factor that is varied ("all", "none", or one of `FACTORS`).
        seed: Episode seed; also seeds the policy.
        instruction: Short command given to the policy.
        motion: Motion-level paraphrase of the instruction.
        horizon: Control steps until truncation.
        control_hz: Control rate.
        visual: Visual profile ("fast" or "full").
        poses: Object name -> JSON placement (x, y, yaw, joint; metres and radians), see `envs.task.Placement`.
        look: JSON values of the environment factors, see `envs.factors.Look`.
        robot: Which robot acts, a value of `conventions.BODIES`. "libero" is not written down, so that the specs and
            hashes of before there was another one stay as they are.
    """

    task: str
    split: str
    factor: str
    seed: int
    instruction: str
    motion: str
    horizon: int
    control_hz: float
    visual: str
    poses: Mapping[str, Mapping[str, float]]
    look: Mapping[str, Any]
    robot: str = "libero"

    def to_json(self) -> str:
        """Returns canonical JSON (sorted keys, no spaces)."""
        values = dataclasses.asdict(self)
        if self.robot == EpisodeSpec.robot:
            del values["robot"]
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> EpisodeSpec:
        """Returns the spec that `to_json` wrote; a missing or unknown field raises ValueError."""
        values = json.loads(text)
        names = {f.name for f in dataclasses.fields(EpisodeSpec)}
        odd = sorted(names.symmetric_difference({"robot": EpisodeSpec.robot, **values}))
        if odd:
            raise ValueError(f"not an episode spec: fields missing or unknown: {', '.join(odd)}")
        return EpisodeSpec(**values)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What a simulator reports after some control steps.

    Attributes:
        observations: Observations at video-rate steps since the last report; the last one is the current step.
        steps: Control steps since reset.
        progress: Weight of the stages reached so far, in [0, 1].
        stages: Names of the stages reached so far, in the order of the task.
        success: The success predicate holds now.
        success_ever: It has held for half a second at some time.
        terminated: It has held long enough to end the episode.
        truncated: The horizon is reached.
        first_touched: Name of the object that the robot has touched first, "" if none or if nobody looks. Privileged:
            it is recorded, and no policy sees it.
        nearest: Likewise, the object that the hand has come nearest to.
    """

    observations: tuple[Observation, ...]
    steps: int
    progress: float
    stages: tuple[str, ...]
    success: bool
    success_ever: bool
    terminated: bool
    truncated: bool
    first_touched: str = ""
    nearest: str = ""


class Simulator(Protocol):
    """The part of an environment that a rollout uses: chunks in, video-rate observations out."""

    convention: ControlConvention

    def begin(self, episode: EpisodeSpec) -> Outcome:
        """Resets to the episode and returns its first observation."""

    def step_chunk(self, actions: NDArray[np.floating[Any]]) -> Outcome:
        """Carries out (n, A) actions, stopping early at the episode's end; same result as n single steps."""

    def snapshot(self) -> bytes:
        """Returns the exact state of the episode, stage latches included."""

    def restore(self, state: bytes) -> None:
        """Continues from a snapshot, bitwise equal to the original."""


class SimulationDiverged(RuntimeError):
    """The simulator left the range of sane states (NaN, huge velocities); an `env_error`, never a policy's fault."""


class InvalidPlan(ValueError):
    """A policy returned something that is no plan: wrong shape, NaN, or actions out of range."""


@dataclass(frozen=True)
class Chunk:
    """One query of a policy and what followed.

    Attributes:
        step: Env step of the query.
        state: `Simulator.snapshot()` at that step.
        plan: The policy's answer.
        executed: (n, A) actions carried out from `step` on, by this plan, an older one, or held (see `execution`).
        latency_s: Seconds the policy took.
        delay: Control steps that the answer took on the clock of the run.
        progress: Of the episode after these actions; NaN in recordings that did not keep it.
    """

    step: int
    state: bytes
    plan: Plan
    executed: NDArray[np.floating[Any]]
    latency_s: float
    delay: int = 0
    progress: float = math.nan


@dataclass(frozen=True)
class Episode:
    """A finished rollout: the result, and everything needed to score and attribute it again.

    `traceback` is that of an error; it is kept as a text file of its own and not in the episode's file. `first_touched`
    and `nearest` are those of the last `Outcome`.
    """

    spec: EpisodeSpec
    status: str
    error: str
    progress: float
    success_end: bool
    success_ever: bool
    stages: tuple[str, ...]
    steps: int
    wall_s: float
    chunks: tuple[Chunk, ...]
    observations: tuple[Observation, ...]
    traceback: str = ""
    first_touched: str = ""
    nearest: str = ""
