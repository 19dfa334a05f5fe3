"""Direct alignment: the posture of robot and things whose picture is most like a given one.

A learned reading says about where the hand is. From there on pictures are compared: the simulator, which the instrument
may ask anything, shows a posture; what differs from the given frame, and how every pixel moves with every joint, gives
a better posture, which is shown again. How unlike the last picture is says how far it may be trusted.

Letters: D degrees of freedom, P pieces (what moves as one), V views, n pixels.

Formulas: with I the picture shown, T the given one, both blurred, q the posture, x the point that a pixel shows, gain a
and offset b of each view, Gauss-Newton steps minimise the mean of r^2 / (r^2 + s^2) (Geman and McClure: what is strange
does not pull), where

    r = T - (1 + a) I - b,    dr/dq = grad I . dpixel/dx . dx/dq.

The gradient is the mean of that of both pictures, which doubles the order of convergence (S. Benhimane and E. Malis,
"Real-time image-based tracking of planes using efficient second-order minimization", IROS 2004). An edge moves with
what is in front. Blurred pictures first, then sharp ones.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

PRIOR = 1e-5  # cost of moving by the expected spread: decides only what the pictures leave open
GAIN, OFFSET = 0.1, 0.04  # expected size of a and b
FINGERS_M = 0.01  # a degree of freedom of less spread is a finger's
LONGEST = 0.5  # of the spread, in one step
LIMIT, STRANGE = 0.2, 0.3  # cost above which a fit says less than what was read; nothing that is here is in the frame
SAME = 0.01  # two fits whose costs differ by a smaller share are one, found twice
GOOD, TRIES, TURNS = 0.03, 3, 2  # a rough fit worse than this: begin elsewhere, so often


class Stage(Protocol):
    """Shows postures, see `envs.stage.Stage`."""

    member: np.ndarray
    carriers: np.ndarray
    spread: np.ndarray

    def posture(self) -> np.ndarray: ...
    def move(self, posture: np.ndarray, step: np.ndarray) -> np.ndarray: ...
    def apart(self, start: np.ndarray, posture: np.ndarray) -> np.ndarray: ...
    def reach(self, start: np.ndarray, position: np.ndarray, rotation: np.ndarray, width: float) -> np.ndarray: ...
    def carried(self, start: np.ndarray, posture: np.ndarray) -> list[np.ndarray]: ...
    def alone(self, start: np.ndarray, posture: np.ndarray) -> np.ndarray: ...
    def twists(self) -> np.ndarray: ...
    def colours(self, posture: np.ndarray) -> list[np.ndarray]: ...
    def show(self, posture: np.ndarray) -> list[Any]: ...


@dataclass(frozen=True)
class Level:
    """How sharply to look; pairs are for cameras at rest and for those that the robot carries.

    Attributes:
        blur: Standard deviations in pixels.
        scale: Difference of colours, of 1, above which a pixel counts little.
        weights: Of a view.
        stride: Every so many pixels are looked at for the direction to go.
        steps: At most.
        enough: A step that lowers the cost by a smaller share is the last one.
    """

    blur: tuple[float, float]
    scale: float
    weights: tuple[float, float] = (1.0, 1.0)
    stride: tuple[int, int] = (1, 2)
    steps: int = 6
    enough: float = 0.005

    def share(self, carriers: np.ndarray, view: int) -> float:
        """Returns a view's share of the weights."""
        weights = [self.weights[int(carrier > 0)] for carrier in carriers]
        return weights[view] / sum(weights)


LEVELS = (
    Level((2.0, 5.0), 0.2, (1.0, 0.5), (2, 4), 5, 0.1),
    Level((1.0, 2.2), 0.12, steps=5, enough=0.08),
    Level((0.5, 0.7), 0.08, steps=6, enough=0.01),
)
ROUGH = 2  # levels after which a fit is judged


@dataclass(frozen=True)
class Fit:
    """A posture, the gains and offsets of the views (2V,), and the mean of r^2 / (r^2 + s^2)."""

    posture: np.ndarray
    light: np.ndarray
    cost: float


@functools.cache
def _kernel(size: int, sigma: float) -> np.ndarray:
    apart = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-(apart**2) / (2.0 * sigma * sigma))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """Returns an (h, w, 3) image under a Gaussian that is cut off, and scaled up, at the edges."""
    h, w, channels = image.shape
    down = (_kernel(h, sigma) @ image.reshape(h, -1)).reshape(h, w, channels)
    return np.asarray(_kernel(w, sigma) @ down)


def _foremost(depth: np.ndarray, radius: int) -> np.ndarray:
    """Returns, for each pixel, the flat index of what is in front of all else within about so many pixels."""
    near, index = depth.copy(), np.arange(depth.size).reshape(depth.shape)
    reach = 1
    while radius > 0:
        for axis in (0, 1):
            for shift in (reach, -reach):
                there, place = np.roll(near, shift, axis), np.roll(index, shift, axis)
                edge = slice(0, shift) if shift > 0 else slice(shift, None)
                there[(edge, slice(None)) if axis == 0 else (slice(None), edge)] = np.inf
                nearer = there < 0.97 * near
                near, index = np.where(nearer, there, near), np.where(nearer, place, index)
        radius -= reach
        reach = min(reach + 1, max(1, radius))
    return index


@dataclass
class Equations:
    """Least squares: half of second derivatives and slope; what is minimised, and the pictures' part of it."""

    hessian: np.ndarray
    slope: np.ndarray
    total: float
    cost: float = 0.0

    def add(self, jacobian: np.ndarray, rows: np.ndarray, r: np.ndarray, weights: np.ndarray) -> None:
        """Adds differences r (n,) that change by rows (n, 8) of a few numbers, and those by jacobian (8, D + 2V)."""
        weighed = rows * weights[:, None]
        self.hessian += jacobian.T @ (weighed.T @ rows).astype(float) @ jacobian
        self.slope += jacobian.T @ (weighed.T @ r).astype(float)


class Aligner:
    """Finds the postures that frames show, starting from one that is known.

    Args:
        stage: In the known posture.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage, self.start = stage, stage.posture()
        self._fingers = stage.spread <= FINGERS_M  # what was read of them counts; one step may open them

    def find(
        self, frame: np.ndarray, position: np.ndarray, rotation: np.ndarray, width: float, others: Sequence[Any] = ()
    ) -> Fit:
        """Returns the best fit to a frame.

        Args:
            frame: (h, w * V, 3) uint8.
            position: (3,) of the hand as read, with its (3, 3)
            rotation, and the opening
            width: in m.
            others: More postures to start from.
        """
        views = np.split(frame.astype(np.float32) / 255.0, len(self.stage.carriers), axis=1)
        read = self.stage.reach(self.start, position, rotation, width)
        starts = [self.start, *others, read, *self.stage.carried(self.start, read)]
        seen = [self._blur(views, level) for level in LEVELS]
        best = Fit(read, np.zeros(2 * len(views)), np.inf)
        for _ in range(TURNS):
            costs = [self._cost(posture, seen[0], LEVELS[0]) for posture in starts]
            for place in np.argsort(costs)[:TRIES]:
                fit = Fit(starts[place], np.zeros(2 * len(views)), np.inf)
                for level, target in zip(LEVELS[:ROUGH], seen, strict=False):
                    fit = self._descend(fit, read, target, level)
                again = abs(fit.cost - best.cost) < SAME * fit.cost
                best = min(best, fit, key=lambda fit: fit.cost)
                if best.cost < GOOD or again:
                    break
            else:  # perhaps the hand was found, and a thing was not
                alone = self.stage.alone(self.start, best.posture)
                starts = [alone, *self.stage.carried(self.start, alone)]
                continue
            break
        for level, target in zip(LEVELS[ROUGH:], seen[ROUGH:], strict=True):
            best = self._descend(best, read, target, level)
        return best

    def _blur(self, views: Sequence[np.ndarray], level: Level) -> list[np.ndarray]:
        return [blurred(view, level.blur[int(c > 0)]) for view, c in zip(views, self.stage.carriers, strict=True)]

    def _cost(self, posture: np.ndarray, seen: Sequence[np.ndarray], level: Level) -> float:
        shown = self._blur(self.stage.colours(posture), level)
        costs = [_robust(t - i, level.scale)[0].mean() for t, i in zip(seen, shown, strict=True)]
        return sum(level.share(self.stage.carriers, v) * float(cost) for v, cost in enumerate(costs))

    def _expected(self, views: int) -> np.ndarray:
        return np.concatenate([self.stage.spread, np.tile([GAIN, OFFSET], views)])

    def _descend(self, fit: Fit, read: np.ndarray, seen: Sequence[np.ndarray], level: Level) -> Fit:
        """Returns a better fit (Levenberg and Marquardt)."""
        count, damping, expected = len(self.stage.spread), 1e-3, self._expected(len(seen))
        here = self._equations(fit, seen, level, read)
        for _ in range(level.steps):
            step = np.linalg.solve(here.hessian + damping * np.diag(np.diag(here.hessian)), -here.slope)
            far = np.where(self._fingers, 0.0, step[:count] / expected[:count])
            step *= min(1.0, LONGEST / max(1e-9, float(np.abs(far).max())))
            moved = Fit(self.stage.move(fit.posture, step[:count]), fit.light + step[count:], np.inf)
            there = self._equations(moved, seen, level, read)
            if there.total < here.total:
                gained = here.total - there.total
                fit, here, damping = moved, there, max(damping / 5, 1e-5)
                if gained < level.enough * (here.total + gained):
                    break
            elif damping > 0.1:
                break
            else:
                damping *= 10
        return Fit(fit.posture, fit.light, here.cost)

    def _equations(self, fit: Fit, seen: Sequence[np.ndarray], level: Level, read: np.ndarray) -> Equations:
        """Returns the normal equations at a fit, for a step of (D + 2V,)."""
        stage = self.stage
        sights, twists = stage.show(fit.posture), stage.twists()
        away = np.concatenate([stage.apart(self.start, fit.posture), fit.light])
        away[: len(stage.spread)][self._fingers] = stage.apart(read, fit.posture)[self._fingers]
        expected = self._expected(len(seen))
        found = Equations(
            np.diag(PRIOR / expected**2),
            PRIOR * away / expected**2,
            PRIOR * float((away / expected) @ (away / expected)),
        )
        for v, (sight, target, carrier) in enumerate(zip(sights, seen, stage.carriers, strict=True)):
            gain, offset = fit.light[2 * v : 2 * v + 2]
            shown = blurred(sight.rgb, level.blur[int(carrier > 0)])
            r = np.asarray(target - (1.0 + gain) * shown - offset, np.float32)
            each, push = _robust(r, level.scale)
            found.cost += level.share(stage.carriers, v) * float(each.mean())
            index = _foremost(sight.depth, round(level.blur[int(carrier > 0)]) + 1)
            pieces = sight.piece.ravel()[index]
            stride = level.stride[int(carrier > 0)]
            use = np.zeros(index.shape, bool)
            use[stride // 2 :: stride, stride // 2 :: stride] = True
            use &= (stage.member[pieces] != stage.member[carrier]).any(axis=2)
            rows = _pixel_rows(sight, shown, target, index, use)
            weights = push[use] * (level.share(stage.carriers, v) * stride * stride / each.size / 3.0)
            for piece in np.unique(pieces[use]):
                mine = pieces[use] == piece
                jacobian = np.zeros((8, len(away)))
                jacobian[:6, : len(stage.spread)] = twists * (stage.member[piece] - stage.member[carrier])
                jacobian[6:, len(stage.spread) + 2 * v : len(stage.spread) + 2 * v + 2] = -np.eye(2)
                found.add(jacobian, rows[mine].reshape(-1, 8), r[use][mine].ravel(), np.repeat(weights[mine], 3))
        found.total += found.cost
        return found


def expected_m(cost: float) -> float:
    """Returns the scale of the position error of a fit (mean of one coordinate, m), see docs/instrument.md."""
    return 0.0002 + 0.02 * cost


def _robust(r: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns (h, w) costs of differences (h, w, 3), and their weights in least squares."""
    squares = (r * r).mean(axis=2) / (scale * scale)
    return squares / (1.0 + squares), 1.0 / (scale * scale * (1.0 + squares) ** 2)


def _pixel_rows(sight: Any, shown: np.ndarray, target: np.ndarray, index: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Returns (n, 3, 8): how the difference changes with velocity and turn about the world's origin, gain, offset."""
    height, width = sight.depth.shape
    across, down = (0.5 * (np.gradient(shown, axis=a) + np.gradient(target, axis=a))[use] for a in (1, 0))
    place = index[use]
    z, (row, column) = sight.depth.ravel()[place], np.divmod(place, width)
    x, y = (column + 0.5 - width / 2) / sight.focal, -(row + 0.5 - height / 2) / sight.focal
    points = (np.stack([x, y, -np.ones_like(x)], axis=1) * z[:, None]) @ sight.rotation.T + sight.position
    right, up = across * (sight.focal / z)[:, None], -down * (sight.focal / z)[:, None]
    local = np.stack([right, up, right * x[:, None] + up * y[:, None]], axis=2)
    rows = np.empty((len(z), 3, 8), np.float32)
    rows[..., :3] = world = local @ sight.rotation.T
    rows[..., 3:6] = np.cross(points[:, None], world)
    rows[..., 6], rows[..., 7] = shown[use], 1.0
    return rows
