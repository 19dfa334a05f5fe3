"""Every look keeps the colour that its instruction names, in the picture and not only in the table."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator

import numpy as np
import pytest

from wambench import registration, tasks
from wambench.envs.colours import COLOURS, NAMED, keep_name, named_colour
from wambench.envs.episodes import TRAINING, VIDEO, episode_spec
from wambench.envs.factors import FACTORS
from wambench.envs.objects import OBJECTS
from wambench.envs.tabletop import TabletopEnv

pytestmark = pytest.mark.slow

LOOKS = 12  # of every factor and family
SIZE = (96, 96)
# Colour word -> hues in degrees and least brightness (HSV value) of what is seen. Brown is orange or yellow below half
# brightness.
SEEN = {
    "red": (-20, 20, 0.23),
    "yellow": (40, 68, 0.55),
    "green": (90, 160, 0.20),
    "blue": (205, 255, 0.23),
    "purple": (260, 315, 0.20),
}
# What is large enough in the picture to be judged there; a die or a chest's yellow bar is a dozen pixels.
FAMILIES = {
    "BusTable": (("red_cube", "red"), ("blue_cube", "blue"), ("green_cube", "green")),
    "PushCube": (("red_cube", "red"), ("zone", "yellow")),
    "SortCubes": (("red_tray", "red"), ("blue_tray", "blue")),
    "InsertPeg": (("socket", "purple"),),
    "OpenDrawer": (("button", "red"),),
    "SweepDice": (("mat", "green"),),
    "TurnDial": (("dial", "purple"), ("lever", "green")),
    "OpenChest": (("chest", "red"),),
    "SwitchOn": (("switch", "green"), ("switch", "red")),
}


@pytest.fixture(scope="module", params=FAMILIES)
def env(request: pytest.FixtureRequest) -> Iterator[TabletopEnv]:
    made = registration.make(request.param, image_size=SIZE)
    yield made
    made.close()


def parts(env: TabletopEnv, name: str, colour: str) -> list[int]:
    """Returns the geoms of an object that have a colour before anything is changed."""
    pristine = env.scene._pristine["geom_rgba"]
    return [int(geom) for geom in env.scene.geoms(name) if named_colour(pristine[geom, :3], (colour,))]


def seen_colour(env: TabletopEnv, name: str, colour: str) -> tuple[float, float] | None:
    """Returns hue in degrees and HSV value of the median pixel of these parts in the agentview, None if hidden."""
    image = env.observe().images["agentview"]
    _, geoms = env.renderer.survey(env.scene.data, "agentview", SIZE)
    pixels = image[np.isin(geoms, parts(env, name, colour))]
    if len(pixels) < 8:
        return None
    hue, _, value = colorsys.rgb_to_hsv(*(np.median(pixels, axis=0) / 255))
    return 360 * hue, value


def has_its_name(colour: str, hue: float, value: float) -> bool:
    low, high, least = SEEN[colour]
    return (hue - low) % 360 <= high - low and value >= least


@pytest.mark.parametrize("factor", ["none", "all", *FACTORS])
def test_every_look_keeps_the_colour_that_its_instruction_names(env: TabletopEnv, factor: str) -> None:
    wrong, seen = [], 0
    for index in range(LOOKS):
        env.begin(episode_spec(env.task, env.split, factor, index, 0), render=False)
        for name, word in FAMILIES[env.task.name]:
            colour = seen_colour(env, name, word)
            seen += colour is not None
            if colour is not None and not has_its_name(word, *colour):
                wrong.append(f"{word} {name} at {index}: hue {colour[0]:.0f}, value {colour[1]:.2f}")
    assert not wrong
    assert seen > LOOKS * len(FAMILIES[env.task.name]) // 2


def test_the_test_sees_what_is_not_its_colour(env: TabletopEnv) -> None:
    env.begin(episode_spec(env.task, env.split, "all", 0, 0), render=False)
    for name, word in FAMILIES[env.task.name]:
        env.scene.model.geom_rgba[parts(env, name, word), :3] = (0.20, 0.10, 0.02)  # brown
    for name, word in FAMILIES[env.task.name]:
        colour = seen_colour(env, name, word)
        assert colour is None or not has_its_name(word, *colour)


def test_every_colour_word_of_an_unseen_split_is_in_the_table() -> None:
    for split in tasks.SPLITS.values():
        for task in (tasks.TASKS[name] for name in split.tasks if split.environments == "unseen"):
            for colour, noun in re.findall(rf"\b({'|'.join(SEEN)}) (\w+)", f"{task.instruction} {task.motion}"):
                named = [name for name in task.objects if colour in NAMED.get(name, ())]
                assert named, f"{task.id} says {colour!r} {noun}, but envs.colours.NAMED has none of {task.objects}"
    assert set(NAMED) <= set(OBJECTS)


@pytest.mark.parametrize("split", [TRAINING, VIDEO])
def test_training_looks_stay_as_they_were_drawn(env: TabletopEnv, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(50):
        spec = episode_spec(env.task, split, "none", index, 0)
        env.begin(spec, render=False)
        kept = env.scene.model.geom_rgba.copy()
        with monkeypatch.context() as patch:
            patch.setattr("wambench.envs.scene.keep_name", lambda rgb, *_: rgb)
            env.begin(spec, render=False)
        assert np.array_equal(kept, env.scene.model.geom_rgba)


def test_the_nearest_colour_with_the_name_is_taken() -> None:
    yellow = COLOURS["yellow"]
    inside = np.array(colorsys.hsv_to_rgb(50 / 360, 0.9, 0.9))
    assert keep_name(inside, yellow, 0.5) is inside
    for hue, nearest in ((30, 45.5), (80, 60.0), (359, 45.5)):
        kept = colorsys.rgb_to_hsv(*keep_name(np.array(colorsys.hsv_to_rgb(hue / 360, 0.9, 0.5)), yellow, 0.6))
        np.testing.assert_allclose((360 * kept[0], *kept[1:]), (nearest, 0.9, 0.7), atol=1e-9)
    red = colorsys.rgb_to_hsv(*keep_name(np.array(colorsys.hsv_to_rgb(350 / 360, 0.9, 0.1)), COLOURS["red"], 1.0))
    np.testing.assert_allclose((360 * red[0], red[2]), (350, 0.28), atol=1e-9)
