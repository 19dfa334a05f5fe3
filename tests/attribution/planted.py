"""Experts that fail in one known way each, so that types of failure can be tested on real episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from wambench import registration, tasks
from wambench.attribution.planted_faults import MisplacedView
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import Chunk, Episode, Plan
from wambench.tasks import predicates, skills

Act = Callable[[TabletopEnv, int], np.ndarray]
CHUNK = 8
SLIPPERY = 0.0005


def expert(
    task: str, named: Mapping[str, str] | None = None, shift: Mapping[str, Sequence[float]] | None = None
) -> Act:
    """Returns the expert of a task, in whatever scene, who takes objects for others or sees them elsewhere.

    Args:
        task: Name of the task.
        named: Name -> the object that is meant.
        shift: Object -> displacement in m.
    """
    act = tasks.find(task).expert
    moved = {name: np.array(displacement) for name, displacement in (shift or {}).items()}
    return lambda sim, step: act(MisplacedView(sim.view, named or {}, moved))


def until(step: int, first: Act, then: Act) -> Act:
    """Returns who does as `first` and from a control step on as `then`."""
    return lambda sim, now: (first if now < step else then)(sim, now)


def stand(sim: TabletopEnv, step: int) -> np.ndarray:
    """Stays where it is, fingers open."""
    return np.array([0.0] * 6 + [skills.OPEN])


def late_gripper(steps: int) -> Act:
    """Returns who plays the expert's actions from memory, those of the fingers later than those of the hand."""
    memory: list[np.ndarray] = []

    def act(sim: TabletopEnv, step: int) -> np.ndarray:
        if step == 0:
            memory[:] = foreseen(sim)
        now = memory[min(step, len(memory) - 1)]
        return np.array([*now[:6], memory[min(max(0, step - steps), len(memory) - 1)][6]])

    return act


def foreseen(sim: TabletopEnv) -> list[np.ndarray]:
    """Returns the actions with which the expert succeeds from here; the simulator is put back."""
    state, actions, ended = sim.snapshot(), [], False
    while not ended:
        actions.append(sim.expert_action())
        outcome = sim.advance(actions[-1])
        ended = outcome.terminated or outcome.truncated
    sim.restore(state)
    return actions


def slowed(share: float) -> Act:
    """Returns an expert that moves too slowly."""
    return lambda sim, step: sim.expert_action() * np.array([share] * 6 + [1.0])


def greasy(item: str) -> Act:
    """Returns an expert from whose fingers an object slips once it is raised, and who does not notice."""

    def act(sim: TabletopEnv, step: int) -> np.ndarray:
        friction = sim.scene.model.geom_friction
        if predicates.height(sim.view, item) > 0.03:
            friction[...] = SLIPPERY
        lost = friction[0, 0] == SLIPPERY
        return np.array([0, 0, 0.2, 0, 0, 0, skills.CLOSE]) if lost else sim.expert_action()

    return act


def empty_handed(goal: str) -> Act:
    """Returns who goes straight to the goal, and does there what should be done with the object."""
    return lambda sim, step: skills.funnel(sim.view, sim.view.pos(goal) + [0, 0, 0.05], skills.OPEN)


# type of failure -> (task, who fails)
PLANTED: dict[str, tuple[tuple[str, Act], ...]] = {
    "wrong object": (
        ("LiftCube", expert("LiftCube", named={"red_cube": "blue_cube", "blue_cube": "red_cube"})),
        ("PlaceInBin", expert("PlaceInBin", named={"red_cube": "blue_cube", "blue_cube": "red_cube"})),
        ("OpenDrawer", expert("PressButton")),
        ("PressButton", expert("OpenDrawer")),
        ("TurnDial", expert("FlipLever")),
        ("FlipLever", expert("TurnDial")),
        ("WipeSpot", expert("LiftCube", named={"red_cube": "blue_cube", "bin": "spot"})),
    ),
    "wrong verb": (
        ("CloseDrawer", expert("OpenDrawer")),
        ("PushCube", until(200, expert("LiftCube", named={"blue_cube": "plate", "bin": "plate"}), stand)),
        ("PullBlock", expert("PushCube", shift={"zone": [0.35, 0.0, 0.0]})),
        ("PlaceOnPlate", expert("PushCube")),
    ),
    "missed grasp": (
        ("LiftCube", expert("LiftCube", shift={"red_cube": [0.0, 0.0, 0.035]})),
        ("StackCubes", expert("StackCubes", shift={"red_cube": [0.0, 0.0, 0.035]})),
        ("PlaceInBin", expert("PlaceInBin", shift={"red_cube": [0.045, 0.0, 0.0]})),
    ),
    "position": (
        ("PushCube", expert("PushCube", shift={"zone": [0.0, 0.09, 0.0]})),
        ("PlaceInBin", expert("PlaceInBin", shift={"bin": [0.0, 0.16, 0.0]})),
        ("PlaceOnPlate", expert("PlaceOnPlate", shift={"plate": [0.10, 0.0, 0.0]})),
        ("PressButton", expert("PressButton", shift={"button": [0.09, 0.0, 0.0]})),
        ("TurnDial", expert("TurnDial", shift={"dial": [0.12, 0.0, 0.0]})),
    ),
    "slip": tuple((task, greasy("red_cube")) for task in ("PlaceInBin", "LiftCube", "PlaceOnPlate")),
    "timing": (
        ("PushCube", slowed(0.13)), ("TurnDial", slowed(0.13)),
        ("LiftCube", late_gripper(16)), ("StackCubes", late_gripper(16)),
    ),
    "stall": tuple(
        (task, until(10, expert(task), stand)) for task in ("PushCube", "LiftCube", "OpenDrawer", "TurnDial")
    ),
    "step omitted": (
        ("PlaceInBin", empty_handed("bin")), ("PlaceOnPlate", empty_handed("plate")),
    ),
}  # fmt: skip


def play(task: str, act: Act, index: int = 0, sim: TabletopEnv | None = None) -> tuple[TabletopEnv, Episode]:
    """Returns the simulator and episode `index` of a task as somebody played it, without frames."""
    sim, split = sim or registration.make(task), tasks.default_split(task)
    spec = episode_spec(tasks.find(task), split, tasks.default_factor(split), index, 7)
    outcome, chunks = sim.begin(spec, render=False), []
    friction = sim.scene.model.geom_friction.copy()
    while not (outcome.terminated or outcome.truncated):
        state, start = sim.snapshot(), outcome.steps
        actions: list[np.ndarray] = []
        while len(actions) < CHUNK and not (outcome.terminated or outcome.truncated):
            actions.append(np.clip(act(sim, outcome.steps), -1.0, 1.0))
            outcome = sim.advance(actions[-1])
        executed = np.array(actions)
        chunks.append(Chunk(start, state, Plan(executed), executed, 0.0))
    sim.scene.model.geom_friction[...] = friction
    result = (outcome.progress, outcome.success, outcome.success_ever, outcome.stages, outcome.steps)
    return sim, Episode(spec, "ok", "", *result, 0.0, tuple(chunks), ())
