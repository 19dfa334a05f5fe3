"""Success means what the words say: the cases in which it once did not, each with its kind."""

from collections.abc import Callable, Iterator, Mapping

import mujoco
import numpy as np
import pytest

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.objects import OBJECTS
from wambench.envs.tabletop import TabletopEnv
from wambench.envs.task import Stage, Task
from wambench.interface import Outcome
from wambench.suite import attacks
from wambench.tasks import predicates

pytestmark = pytest.mark.slow

SCENES = range(3)
STILL = np.array([0.0] * 6 + [-1.0])


@pytest.fixture(scope="module")
def envs() -> Iterator[Callable[[str], TabletopEnv]]:
    made: dict[str, TabletopEnv] = {}

    def get(name: str) -> TabletopEnv:
        if name not in made:
            made[name] = registration.make(name)
        return made[name]

    yield get
    for env in made.values():
        env.close()


def begin(env: TabletopEnv, index: int) -> Outcome:
    return env.begin(episode_spec(env.task, env.split, tasks.default_factor(env.split), index, 0), render=False)


def move(env: TabletopEnv, name: str, place: np.ndarray, upright: bool = True) -> None:
    """Puts a free object somewhere, at rest."""
    model, data = env.scene.model, env.scene.data
    joint = model.joint(f"{name}_free")
    quat = (1.0, 0.0, 0.0, 0.0) if upright else (0.70711, 0.70711, 0.0, 0.0)
    data.qpos[joint.qposadr[0] : joint.qposadr[0] + 7] = [*place, *quat]
    data.qvel[joint.dofadr[0] : joint.dofadr[0] + 6] = 0.0
    mujoco.mj_forward(model, data)


def wait(env: TabletopEnv, steps: int = 25) -> Outcome:
    for _ in range(steps):
        outcome = env.advance(STILL)
    return outcome


def at(env: TabletopEnv, below: str, offset: tuple[float, float], bottom: float, name: str) -> np.ndarray:
    """Returns a place beside or above another object: offset (m) in its frame, underside at a height over the table."""
    place = env.view.pos(below) + env.view.rot(below) @ [*offset, 0.0]
    return np.array([*place[:2], env.view.table_z + bottom + env.view.size(name)[2]])


# -- where an object is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", SCENES)
def test_a_cube_on_the_rim_is_not_in_the_bin(envs: Callable[[str], TabletopEnv], index: int) -> None:
    env = envs("PlaceInBin")
    begin(env, index)
    move(env, "red_cube", at(env, "bin", (0.055, 0.055), 0.044, "red_cube"))
    assert not env.task.success(env.view) and not predicates.within_bin(env.view, "red_cube")


@pytest.mark.parametrize("index", SCENES)
def test_a_cube_in_the_corner_of_the_bin_is(envs: Callable[[str], TabletopEnv], index: int) -> None:
    env = envs("PlaceInBin")
    begin(env, index)
    reach = 0.067 - float(env.view.size("red_cube")[0]) - 0.001
    move(env, "red_cube", at(env, "bin", (reach, reach), 0.008, "red_cube"))
    assert predicates.within_bin(env.view, "red_cube") and predicates.over_bin(env.view, "red_cube")


@pytest.mark.parametrize("index", SCENES)
def test_cubes_on_the_rim_do_not_clear_the_table(envs: Callable[[str], TabletopEnv], index: int) -> None:
    env = envs("BusTable")
    begin(env, index)
    corners = ((0.055, 0.055), (-0.055, 0.055), (0.055, -0.055))
    for cube, corner in zip(("red_cube", "blue_cube", "green_cube"), corners, strict=True):
        move(env, cube, at(env, "bin", corner, 0.044, cube))
    assert not env.task.success(env.view)
    outcome = wait(env)
    assert not outcome.success and outcome.progress == 0.0


FLOOR = -0.8  # of the room, below the table's top


@pytest.mark.parametrize("task", ["StackCubes", "Unstack", "PlaceOnPlate", "PushCube", "PushBottle", "PlaceInBin"])
def test_what_lies_on_the_floor_of_the_room_is_nowhere(envs: Callable[[str], TabletopEnv], task: str) -> None:
    env = envs(task)
    begin(env, 0)
    free = [name for name in env.task.objects if OBJECTS[name].free]
    for i, name in enumerate(free):
        height = FLOOR + (2 * i * env.view.size(name)[2] if task == "StackCubes" else 0.0)
        move(env, name, np.array([0.6 + (0 if task == "StackCubes" else 0.1 * i), 0.0, 0.8 + height + 0.03]))
    assert not env.task.success(env.view)
    assert not any(predicates.on_table(env.view, name) or predicates.slides(env.view, name) for name in free)


def test_a_cube_beside_the_table_at_its_height_is_not_on_it(envs: Callable[[str], TabletopEnv]) -> None:
    env = envs("LiftCube")
    begin(env, 0)
    move(env, "red_cube", np.array([0.0, 0.45, env.view.table_z + env.view.size("red_cube")[2]]))
    assert not predicates.on_table(env.view, "red_cube")


# -- who moved it, and how -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", SCENES)
def test_shoving_the_upper_cube_off_the_table_does_not_unstack(envs: Callable[[str], TabletopEnv], index: int) -> None:
    env = envs("Unstack")
    begin(env, index)
    red = env.view.pos("red_cube")
    side = 1.0 if red[1] >= 0 else -1.0
    for action in attacks._sweep(env.view, red - [0, 0.10 * side, 0], np.array([red[0], side * 0.5, red[2]])):
        outcome = env.advance(np.clip(action, -1, 1))
    assert not outcome.success_ever and outcome.progress == 0.0, outcome.stages


@pytest.mark.parametrize("index", SCENES)
def test_cubes_that_come_apart_by_themselves_do_not_unstack(envs: Callable[[str], TabletopEnv], index: int) -> None:
    """As when the blue cube is pulled out from under the red one, which was never held."""
    env = envs("Unstack")
    begin(env, index)
    blue = env.view.pos("blue_cube")
    move(env, "red_cube", blue + [0.0, 0.09, 0.0])
    assert env.task.success(env.view)  # the end state is right
    outcome = wait(env)
    assert not outcome.success and outcome.progress == 0.0


@pytest.mark.parametrize("index", SCENES)
def test_a_brick_set_down_upright_has_not_been_toppled(envs: Callable[[str], TabletopEnv], index: int) -> None:
    env = envs("ToppleTower")
    begin(env, index)
    low = at(env, "brick_1", (0.0, 0.09), 0.0, "brick_3")
    move(env, "brick_3", low)
    outcome = wait(env)
    assert not outcome.success and outcome.progress == 0.0


@pytest.mark.parametrize("index", SCENES)
def test_a_tower_taken_down_brick_by_brick_has_not_been_toppled(envs: Callable[[str], TabletopEnv], index: int) -> None:
    env = envs("ToppleTower")
    begin(env, index)
    for y, brick in ((0.09, "brick_3"), (-0.09, "brick_2")):
        move(env, brick, at(env, "brick_1", (0.0, y), 0.0, brick))
    outcome = wait(env)
    assert not outcome.success and outcome.progress == 0.0


@pytest.mark.parametrize("index", SCENES)
def test_a_cube_carried_to_the_zone_was_not_pushed(envs: Callable[[str], TabletopEnv], index: int) -> None:
    env = envs("PushCube")
    begin(env, index)
    for action in attacks._pick(env, "red_cube"):
        env.advance(np.clip(action, -1, 1))
    assert predicates.held(env.view, "red_cube")
    goal = env.view.pos("zone") + [0, 0, env.view.size("red_cube")[2] + 0.005]
    for part in (attacks._bring(env, "red_cube", goal), attacks._leave(env.view)):
        for action in part:
            env.advance(np.clip(action, -1, 1))
    outcome = wait(env)
    assert predicates.distance(env.view, "red_cube", "zone") < 0.04
    assert not outcome.success_ever and outcome.progress <= 0.5


def test_a_bottle_that_lies_in_the_zone_was_knocked_over(envs: Callable[[str], TabletopEnv]) -> None:
    env = envs("PushBottle")
    begin(env, 0)
    zone = env.view.pos("zone")
    standing = np.array([*zone[:2], env.view.table_z + env.view.size("bottle")[2]])
    move(env, "bottle", standing)
    assert env.task.success(env.view)
    move(env, "bottle", np.array([*zone[:2], env.view.table_z + env.view.size("bottle")[0]]), upright=False)
    assert not env.task.success(env.view)


def test_a_spot_that_is_dabbed_is_not_wiped(envs: Callable[[str], TabletopEnv]) -> None:
    env = envs("WipeSpot")
    begin(env, 0)
    model, data = env.scene.model, env.scene.data
    for joint in ("spot", *(f"spot/{i}" for i in range(1, 5))):
        data.qpos[model.joint(joint).qposadr[0]] = 0.006
    mujoco.mj_forward(model, data)
    outcome = wait(env)
    assert env.task.success(env.view)  # the spot is gone
    assert not outcome.success and outcome.progress == 0.0


def test_a_closed_fist_holds_nothing(envs: Callable[[str], TabletopEnv]) -> None:
    """Both fingers touch the cube that a closed fist shoves: that was once a grasp."""
    env = envs("LiftCube")
    begin(env, 0)
    red = env.view.pos("red_cube")
    seen = 0
    for action in attacks._sweep(env.view, red - [0.10, 0, 0], red + [0.10, 0, 0]):
        env.advance(np.clip(action, -1, 1))
        seen += env.view.grasped("red_cube")
        assert not predicates.held(env.view, "red_cube")
    assert seen > 0


# -- how long it holds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["PressButton", "DepressButton", "LiftCube"])
@pytest.mark.parametrize("index", SCENES)
def test_leaving_at_the_first_step_of_success_is_no_success(
    envs: Callable[[str], TabletopEnv], task: str, index: int
) -> None:
    outcome = attacks.attack_once(envs(task), "touch and go", index)
    assert not outcome.success and not outcome.success_ever and 0.0 < outcome.progress <= 0.5


@pytest.mark.parametrize("index", SCENES)
def test_a_stack_off_centre_succeeds_and_has_full_progress_or_neither(
    envs: Callable[[str], TabletopEnv], index: int
) -> None:
    env = envs("StackCubes")
    for offset in (0.010, 0.016, 0.020, 0.024, 0.030):
        begin(env, index)
        top = 2 * float(env.view.size("blue_cube")[2])
        while "lower" not in env.advance(env.expert_action()).stages:
            pass
        for _ in range(30):
            env.advance(np.array([0, 0, 0.3, 0, 0, 0, -1.0]))
        move(env, "red_cube", at(env, "blue_cube", (offset, 0.0), top, "red_cube"))
        outcome = wait(env)
        assert outcome.success == (outcome.progress == 1.0)
        assert outcome.success == (offset < float(env.view.size("red_cube")[2])), offset


@pytest.mark.parametrize("task", tasks.TASKS)
def test_success_and_full_progress_are_one(envs: Callable[[str], TabletopEnv], task: str) -> None:
    """At every step of a disturbed expert, which passes through states on both sides of success."""
    env, rng = envs(task), np.random.default_rng(0)
    for index in range(2):
        begin(env, index)
        noise = 0.0
        for step in range(min(env.task.horizon, 240)):
            if step % 20 == 0:
                noise = float(rng.choice((0.0, 0.0, 0.4, 1.0)))
            action = (1 - noise) * env.expert_action() + noise * rng.uniform(-1, 1, 7)
            outcome = env.advance(np.clip(action, -1, 1))
            assert outcome.success == (outcome.progress == 1.0)
            assert not outcome.success or env.task.success(env.view)
            assert not outcome.success or outcome.stages == tuple(stage.name for stage in env.task.stages)


# -- attacks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", tasks.TASKS)
def test_attacks_earn_at_most_half(envs: Callable[[str], TabletopEnv], task: str) -> None:
    """One scene of each; `wambench experts --attack` plays ten."""
    env = envs(task)
    for attack in (*attacks.ATTACKS, *attacks.others(env.task)):
        if attacks.why_allowed(env.task, attack) is None:
            outcome = attacks.attack_once(env, attack, 1)
            said = f"{attack} earned {outcome.progress} ({', '.join(outcome.stages)}), ever {outcome.success_ever}"
            assert not attacks.is_breach(env.task, attack, outcome.progress, outcome.success_ever), said


def test_only_attacks_that_exist_are_allowed() -> None:
    for task in tasks.TASKS.values():
        unknown = set(task.allowed_attacks) - set(attacks.ATTACKS) - set(tasks.TASKS)
        assert not unknown, f"{task.name} allows what does not exist: {unknown}"


def test_an_attack_on_a_hole_is_found(envs: Callable[[str], TabletopEnv], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test itself can fail: with a predicate that only asks whether the cube has moved, a shove succeeds."""
    env = envs("LiftCube")
    begin(env, 0)
    start = env.view.pos("red_cube")
    hole = Stage("moved", 1.0, lambda view: bool(np.linalg.norm(view.pos("red_cube") - start) > 0.05))
    holed = Task(**{**vars(env.task), "stages": (hole,), "success": hole.reached})
    monkeypatch.setattr(env, "task", holed)
    assert attacks.attack_once(env, "shove", 0).success


# -- what a task must say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stages": (Stage("lift", 1.0, lambda view: True),)}, "the last stage must be success itself"),
        ({"stages": ()}, "weights"),
    ],
)
def test_a_task_whose_progress_can_disagree_with_success_is_refused(changed: Mapping[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Task(**{**vars(tasks.TASKS["LiftCube"]), **changed})


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=list(tasks.TASKS))
def test_every_task_says_what_is_hard_and_what_is_near(task: Task) -> None:
    assert task.about.endswith(".") and len(task.about) > 30
    assert task.nearest != task.name and tasks.TASKS[task.nearest].novelty == "seen"
    assert set(task.hidden) <= set(task.objects)
