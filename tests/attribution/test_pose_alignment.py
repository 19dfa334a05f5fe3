"""Direct alignment in a simulator that fits in a page: a plate slides over a floor, seen from above and from itself."""

import numpy as np
import pytest

from wambench.attribution import pose_alignment
from wambench.envs.scene_poser import ViewGeometry

SIZE, HEIGHT_M, PLATE_M, FOCAL = 48, 0.12, 0.08, 60.0
EYE = np.array([0.0, 0.0, 0.6])  # of the camera at rest; the other one hangs beside the plate
BESIDE = np.array([0.15, 0.0, 0.02])


def colour(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Returns a smooth pattern (..., 3)."""
    rng = np.random.default_rng(seed)
    waves = [np.sin(x * rng.uniform(20, 60) + y * rng.uniform(-60, 60) + rng.uniform(0, 6)) for _ in range(9)]
    return np.stack([0.5 + 0.16 * sum(waves[c::3]) for c in range(3)], axis=-1)


class Plate:
    """A hand with three slides; pieces: the floor and the plate."""

    member = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    carriers = np.array([0, 1])
    spread = np.full(3, 0.1)
    objects = np.zeros(3, bool)

    def posture(self) -> np.ndarray:
        return np.zeros(3)

    def move(self, posture: np.ndarray, step: np.ndarray) -> np.ndarray:
        return posture + step

    def pose_difference(self, start: np.ndarray, posture: np.ndarray) -> np.ndarray:
        return posture - start

    def reach(self, start: np.ndarray, position: np.ndarray, rotation: np.ndarray, width: float) -> np.ndarray:
        return position.copy()

    def poses_with_carried_object(self, start: np.ndarray, posture: np.ndarray) -> list[np.ndarray]:
        return []

    def with_objects_at_rest(self, start: np.ndarray, posture: np.ndarray) -> np.ndarray:
        return posture

    def with_hand_turned(self, posture: np.ndarray, angle: float) -> np.ndarray:
        return posture

    def twists(self) -> np.ndarray:
        return np.eye(6, 3)

    def set(self, posture: np.ndarray) -> None:
        pass

    def survey(self, posture: np.ndarray) -> list[ViewGeometry]:
        return [geometry for geometry, _ in self._views(posture)]

    def colours(self, posture: np.ndarray) -> list[np.ndarray]:
        return [rgb for _, rgb in self._views(posture)]

    def _views(self, posture: np.ndarray) -> list[tuple[ViewGeometry, np.ndarray]]:
        plate = posture + [0.0, 0.0, HEIGHT_M]
        return [look(eye, plate) for eye in (EYE, plate + BESIDE)]


def look(eye: np.ndarray, plate: np.ndarray) -> tuple[ViewGeometry, np.ndarray]:
    """Returns what a camera sees: what is where, and the colours (h, w, 3) in [0, 1]."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    x, y = (columns + 0.5 - SIZE / 2) / FOCAL, -(rows + 0.5 - SIZE / 2) / FOCAL
    high = eye[2] - plate[2]
    on = (np.abs(eye[0] + x * high - plate[0]) < PLATE_M) & (np.abs(eye[1] + y * high - plate[1]) < PLATE_M)
    depth = np.where(on, high, eye[2])
    across, along = eye[0] + x * depth, eye[1] + y * depth
    rgb = np.where(on[..., None], colour(across - plate[0], along - plate[1], 1), colour(across, along, 2))
    return ViewGeometry(depth, on.astype(int), eye, np.eye(3), FOCAL), rgb.astype(np.float32)


def frame(posture: np.ndarray) -> np.ndarray:
    return (np.concatenate(Plate().colours(posture), axis=1).clip(0, 1) * 255).round().astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_a_misread_hand_is_put_where_it_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    there = rng.uniform(-0.03, 0.03, 3)
    read = there + 0.02 * rng.standard_normal(3) / np.sqrt(3)
    fit = pose_alignment.Aligner(Plate()).find(frame(there), read, np.eye(3), 0.0)
    assert np.abs(fit.posture - there).max() < 0.0005 < np.abs(read - there).max()
    assert fit.cost < 0.001 and fit.sure


def test_a_darker_picture_is_no_other_posture() -> None:
    there = np.array([0.02, -0.01, 0.01])
    dark = (frame(there) * 0.9 + 8).astype(np.uint8)
    fit = pose_alignment.Aligner(Plate()).find(dark, there + 0.01, np.eye(3), 0.0)
    assert np.abs(fit.posture - there).max() < 0.001
    assert fit.light[::2] == pytest.approx([-0.1, -0.1], abs=0.03)


def test_what_fits_nothing_is_not_believed() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, 2 * SIZE, 3), dtype=np.uint8)
    fit = pose_alignment.Aligner(Plate()).find(noise, np.zeros(3), np.eye(3), 0.0)
    assert fit.cost > pose_alignment.STRANGE and not fit.sure


def test_a_wrong_posture_in_a_clear_picture_is_doubted_and_a_blurred_picture_is_not() -> None:
    aligner, there = pose_alignment.Aligner(Plate()), np.array([0.02, -0.01, 0.01])
    views = [x.astype(np.float32) / 255.0 for x in np.split(frame(there), 2, axis=1)]
    dull = [pose_alignment.blur(view, 1.5) for view in views]

    def judged(posture: np.ndarray, seen: list[np.ndarray]) -> pose_alignment.Fit:
        fit = pose_alignment.Fit(posture, np.zeros(4), 0.0)
        return aligner._judge(fit, aligner._blur(seen, pose_alignment.LEVELS[pose_alignment.ROUGH - 1]))

    assert judged(there, views).doubt < 0.01 and judged(there, dull).sure
    assert not judged(there + [0.02, 0.0, 0.0], views).sure


def test_a_hint_that_fits_is_only_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    aligner, there = pose_alignment.Aligner(Plate()), np.array([0.02, -0.01, 0.01])
    hint = pose_alignment.Fit(there + 0.0005, np.zeros(4), 0.0)
    monkeypatch.setattr(aligner, "_search", lambda *_: pytest.fail("searched"))
    fit = aligner.find(frame(there), there + 0.02, np.eye(3), 0.0, hints=[hint])
    assert np.abs(fit.posture - there).max() < 0.0005
    with pytest.raises(pytest.fail.Exception):
        aligner.find(frame(there), there + 0.02, np.eye(3), 0.0, hints=[pose_alignment.Fit(-there, np.zeros(4), 0.0)])


def test_slope_is_that_of_the_cost() -> None:
    """Weights are held while differentiating, as iteratively reweighted least squares do, so only about."""
    aligner, level = pose_alignment.Aligner(Plate()), pose_alignment.Level((1.0, 1.0), 5.0, stride=(1, 1))
    seen = [pose_alignment.blur(x, 1.0) for x in Plate().colours(np.array([0.004, -0.003, 0.002]))]
    at = np.zeros(3)
    fit = pose_alignment.Fit(at, np.zeros(4), np.inf)
    slope = aligner._build_equations(fit, aligner._compare(fit, seen, level), seen, level, at).slope[:3]
    ends = [
        [aligner._cost(pose_alignment.Fit(at + e, fit.light, 0.0), seen, level) for e in (step, -step)]
        for step in 1e-3 * np.eye(3)
    ]
    numeric = np.array([(a - b) / 4e-3 for a, b in ends])  # half the slope
    assert np.dot(slope, numeric) / np.linalg.norm(slope) / np.linalg.norm(numeric) > 0.98
    assert np.linalg.norm(slope) == pytest.approx(np.linalg.norm(numeric), rel=0.3)


def test_what_is_in_front_owns_the_edge() -> None:
    depth = np.ones((7, 9))
    depth[3, 4] = 0.5
    index = pose_alignment._find_foremost(depth, 2)
    assert (index == 3 * 9 + 4).sum() == 25  # all within two pixels
    assert index[0, 0] == 0


def test_what_the_hand_sees_is_doubted_too() -> None:
    aligner, there = pose_alignment.Aligner(Plate()), np.array([0.02, -0.01, 0.01])
    rest, carried = (x.astype(np.float32) / 255.0 for x in np.split(frame(there), 2, axis=1))
    level, fit = pose_alignment.LEVELS[pose_alignment.ROUGH - 1], pose_alignment.Fit(there, np.zeros(4), 0.0)
    assert aligner._judge(fit, aligner._blur([rest, carried], level)).sure
    assert not aligner._judge(fit, aligner._blur([rest, carried[::-1]], level)).sure


def test_more_starts_are_asked_for_where_none_will_do() -> None:
    there, asked = np.array([0.13, -0.12, 0.02]), list[np.ndarray]()

    def again(posture: np.ndarray) -> list[np.ndarray]:
        asked.append(posture)
        return [there]

    aligner = pose_alignment.Aligner(Plate())
    fit = aligner.find(frame(there), np.full(3, 0.25), np.eye(3), 0.0, again=again)
    assert asked and np.abs(fit.posture - there).max() < 0.0005 and fit.sure
    assert not aligner.find(frame(there), np.full(3, 0.25), np.eye(3), 0.0).sure
