"""Direct alignment finds the posture of robot and objects whose rendered picture is most like a given frame.

A posture is the value of every joint of the scene. A learned reading says roughly where the hand is. From there on
pictures are compared: the simulator shows a posture; what differs from the given frame, and how every pixel moves with
every joint, gives a better posture, which is shown again. How unlike the last picture is says how far the posture may
be trusted.

Letters: D degrees of freedom, P pieces (what moves as one), V views, n pixels.

Formulas: I is the picture shown, T the given one, both blurred; q is the posture, x the point that a pixel shows; a is
the gain and b the offset of each view. Gauss-Newton steps minimise the mean of r^2 / (r^2 + s^2) (Geman and McClure:
what is strange does not pull), where

    r = T - (1 + a) I - b,    dr/dq = grad I . dpixel/dx . dx/dq.

The gradient is the mean of that of both pictures, which doubles the order of convergence (S. Benhimane and E. Malis,
"Real-time image-based tracking of planes using efficient second-order minimization", IROS 2004). An edge moves with
what is in front. Blurred pictures first, then sharp ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from wambench.envs.scene_poser import ViewGeometry

# The limits of doubt (LIMIT, POOR, CARRIED) were chosen on other expert moments than those that docs/instrument.md
# reports. Where no reason is given, a value was chosen by hand and no derivation is recorded.
PRIOR = 1e-5  # cost of moving by the expected spread: so small that it decides only what the pictures leave open
GAIN = 0.1  # expected size of a
OFFSET = 0.04  # expected size of b
FINGERS_M = 0.01  # a degree of freedom of less spread is a finger's; the spread of other joints is 0.1 and more
LONGEST = 0.5  # of the spread, in one step
STRANGE = 0.3  # cost above which nothing that is here is in the frame
LIMIT = 0.03  # the robot is not found if its pixels are more unlike than this,
POOR = 5.0  # and than so many times as much as what rests is; 0.045 reads more and lets 19 to 29 mm pass (DECISIONS.md)
CARRIED = 0.1  # nor where what a camera in its hand sees is so unlike
CLOSE = 0.03  # a start whose cost is less begins with this level, without the more blurred ones
SEEN = 0.06  # so good a fit is a hint to other frames
FITS = 5e-4  # cost of what need not be refined
GOOD = 0.5  # at a doubt above this, half of what is believed, the search begins elsewhere
TRIES = 3  # starts that are refined in each turn, the most alike first
TURNS = 3  # turns: as given, with objects put back or driven to, and with the hand turned
TURNED_RAD = np.radians([-90, -60, -30, 30, 60, 90])  # about the vertical

Views = Sequence[np.ndarray]  # of a frame, (h, w, 3) each
MoreStarts = Callable[[np.ndarray], list[np.ndarray]]


class PosableScene(Protocol):
    """Shows postures, see `envs.scene_poser.ScenePoser`."""

    member: np.ndarray
    carriers: np.ndarray
    spread: np.ndarray
    objects: np.ndarray

    def posture(self) -> np.ndarray: ...
    def set(self, posture: np.ndarray) -> None: ...
    def move(self, posture: np.ndarray, step: np.ndarray) -> np.ndarray: ...
    def pose_difference(self, start: np.ndarray, posture: np.ndarray) -> np.ndarray: ...
    def reach(self, start: np.ndarray, position: np.ndarray, rotation: np.ndarray, width: float) -> np.ndarray: ...
    def poses_with_carried_object(self, start: np.ndarray, posture: np.ndarray) -> list[np.ndarray]: ...
    def with_objects_at_rest(self, start: np.ndarray, posture: np.ndarray) -> np.ndarray: ...
    def with_hand_turned(self, posture: np.ndarray, angle: float) -> np.ndarray: ...
    def twists(self) -> np.ndarray: ...
    def colours(self, posture: np.ndarray) -> list[np.ndarray]: ...
    def survey(self, posture: np.ndarray) -> list[ViewGeometry]: ...


@dataclass(frozen=True)
class Level:
    """How sharply pictures are compared; pairs are for cameras at rest and for those that the robot carries.

    Attributes:
        blur: Standard deviations in pixels.
        scale: Difference of colours, of 1, above which a pixel counts little.
        weights: Weight of a view.
        stride: Every so many pixels one is looked at for the direction to go.
        steps: Gauss-Newton steps at most.
        enough: A step that lowers the cost by a smaller share than this is the last one.
        still: Cost of an object's moving by the expected spread.
    """

    blur: tuple[float, float]
    scale: float
    weights: tuple[float, float] = (1.0, 0.25)
    stride: tuple[int, int] = (1, 2)
    steps: int = 6
    enough: float = 0.005
    still: float = PRIOR

    def share(self, carriers: np.ndarray, view: int) -> float:
        """Returns a view's share of the weights."""
        weights = [self.weights[int(carrier > 0)] for carrier in carriers]
        return weights[view] / sum(weights)


# From blurred to sharp. In blurred pictures objects are held to rest more than in sharp ones.
LEVELS = (
    Level((2.0, 5.0), 0.2, (1.0, 0.25), (2, 4), 5, 0.1, still=1e-2),
    Level((1.0, 2.2), 0.12, stride=(2, 3), steps=5, enough=0.08, still=3e-3),
    Level((0.5, 0.7), 0.08, steps=5, enough=0.02),
)
ROUGH = 2  # levels after which a fit is judged


@dataclass(frozen=True)
class Fit:
    """What was found in a frame.

    Attributes:
        posture: Of robot and objects.
        light: (2V,) gains and offsets of the views.
        cost: Mean of r^2 / (r^2 + s^2) over the sharp pictures.
        rough: The same over blurred pictures.
        doubt: The larger of two shares; above 1 the fit is not believed. One is the mean over the blurred pixels that
            show the robot to a camera at rest, as a share of `LIMIT` + `POOR` x the mean over the other pixels. The
            other is the mean over the view of a camera that the robot carries, as a share of `CARRIED`.
    """

    posture: np.ndarray
    light: np.ndarray
    cost: float
    rough: float = np.inf
    doubt: float = np.inf

    @property
    def sure(self) -> bool:
        """Whether it may be believed."""
        return self.cost < STRANGE and self.doubt < 1.0


@dataclass(frozen=True)
class Difference:
    """How a view differs from the given one.

    Attributes:
        shown: (h, w, 3) picture shown, blurred.
        r: (h, w, 3) what is left of the difference.
        cost: (h, w) cost of each pixel.
        push: (h, w) weight of each pixel in least squares.
    """

    shown: np.ndarray
    r: np.ndarray
    cost: np.ndarray
    push: np.ndarray


@functools.cache
def _kernel(size: int, sigma: float) -> np.ndarray:
    apart = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-(apart**2) / (2.0 * sigma * sigma))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Returns an (h, w, 3) image under a Gaussian that is cut off, and scaled up, at the edges."""
    h, w, channels = image.shape
    down = (_kernel(h, sigma) @ image.reshape(h, -1)).reshape(h, w, channels)
    return np.asarray(_kernel(w, sigma) @ down)


def _find_foremost(depth: np.ndarray, radius: int) -> np.ndarray:
    """Returns the flat index, for each pixel, of the frontmost pixel within about `radius` pixels."""
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
    """Normal equations of least squares: half of the second derivatives, and the slope, of what is minimised."""

    hessian: np.ndarray
    slope: np.ndarray

    def add(self, jacobian: np.ndarray, rows: np.ndarray, r: np.ndarray, weights: np.ndarray) -> None:
        """Adds differences.

        Args:
            jacobian: (8, D + 2V) how velocity, turn, gain and offset of a piece change with the unknowns.
            rows: (n, 8) how each difference changes with those eight numbers.
            r: (n,) the differences.
            weights: (n,) of each.
        """
        weighed = rows * weights[:, None]
        self.hessian += jacobian.T @ (weighed.T @ rows).astype(float) @ jacobian
        self.slope += jacobian.T @ (weighed.T @ r).astype(float)


class Aligner:
    """Finds the postures that frames show, starting from one that is known.

    Args:
        poser: Shows postures; it is in the known one now.
    """

    def __init__(self, poser: PosableScene) -> None:
        self.poser = poser
        self.start = poser.posture()
        self._shown: dict[bytes, list[np.ndarray]] = {}
        self._fingers = poser.spread <= FINGERS_M  # what was read of them counts; one step may open them

    def find(
        self,
        frame: np.ndarray,
        position: np.ndarray,
        rotation: np.ndarray,
        width: float,
        others: Sequence[np.ndarray] = (),
        hints: Sequence[Fit] = (),
        again: MoreStarts | None = None,
    ) -> Fit:
        """Returns the best fit to a frame.

        Args:
            frame: (h, w * V, 3) uint8.
            position: (3,) of the hand in m, as read.
            rotation: (3, 3) of the hand, as read.
            width: Opening of the fingers in m, as read.
            others: More postures to start from.
            hints: Fits to pictures that are probably similar; one that fits this frame nearly as well is only refined.
            again: Returns more postures to start from, given the best one so far, if that one is in doubt.
        """
        views = np.split(frame.astype(np.float32) / 255.0, len(self.poser.carriers), axis=1)
        seen = [self._blur(views, level) for level in LEVELS]
        read = self.poser.reach(self.start, position, rotation, width)
        dark = np.zeros(2 * len(views))
        # joints that are no degrees of freedom here stay as they are now
        hints = [replace(hint, posture=self.extrapolate(hint.posture, 1.0), light=dark) for hint in hints]
        best = next((x for x in hints if self._cost(x, seen[-1], LEVELS[-1]) < x.cost + CLOSE < SEEN + CLOSE), None)
        if best is None:
            starts = [self.start, *others, *(hint.posture for hint in hints), read]
            best = self._search(seen, [*starts, *self.poser.poses_with_carried_object(self.start, read)], read, again)
        return self._judge(self._descend(best, read, seen[-1], LEVELS[-1]), seen[ROUGH - 1])

    def _search(
        self, seen: Sequence[Views], starts: Sequence[np.ndarray], read: np.ndarray, again: MoreStarts | None
    ) -> Fit:
        """Returns the best fit to blurred pictures, from several postures."""
        dark = np.zeros(2 * len(seen[0]))
        best = Fit(read, dark, np.inf)
        for turn in range(TURNS):
            if turn:
                starts = self._start_elsewhere(turn, best.posture, read, again)
            fits = [Fit(posture, dark, np.inf) for posture in starts]
            for fit in sorted(fits, key=lambda fit: self._cost(fit, seen[0], LEVELS[0]))[:TRIES]:
                best = min(best, self._fit_blurred(fit, read, seen), key=lambda fit: fit.rough)
                if best.doubt < GOOD:
                    return best
            if best.doubt < 1.0:
                break
        return best

    def unlikeness(self, frame: np.ndarray, posture: np.ndarray) -> float:
        """Returns how unlike the blurred picture of a posture is to an (h, w * V, 3) uint8 frame: `Fit.rough`."""
        level = LEVELS[ROUGH - 1]
        views = self._blur(np.split(frame.astype(np.float32) / 255.0, len(self.poser.carriers), axis=1), level)
        return self._cost(Fit(posture, np.zeros(2 * len(views)), np.inf), views, level)

    def extrapolate(self, posture: np.ndarray, times: float) -> np.ndarray:
        """Returns the posture that lies `times` as far from the known one as a posture does."""
        return self.poser.move(self.start, times * self.poser.pose_difference(self.start, posture))

    def _fit_blurred(self, fit: Fit, read: np.ndarray, seen: Sequence[Views]) -> Fit:
        """Returns the fit to blurred pictures, without the most blurred ones where the start is close enough."""
        for number in range(ROUGH, 0, -1):
            if self._cost(fit, seen[number], LEVELS[number]) < CLOSE:
                break
        else:
            number = 0
        for level, target in zip(LEVELS[number:ROUGH], seen[number:ROUGH], strict=True):
            fit = self._descend(fit, read, target, level)
        return self._judge(fit, seen[ROUGH - 1])

    def _judge(self, fit: Fit, seen: Views) -> Fit:
        """Returns a fit with its cost and doubt in blurred pictures, which treat blurred frames fairly."""
        level = LEVELS[ROUGH - 1]
        poser = self.poser
        differences = self._compare(fit, seen, level)
        doubts = []
        for geometry, d, carrier in zip(poser.survey(fit.posture), differences, poser.carriers, strict=True):
            moves = (poser.member[geometry.piece] * ~poser.objects).any(axis=2)
            if carrier > 0:
                doubts.append(float(d.cost.mean()) / CARRIED)
            elif moves.any():
                rest = float(d.cost[~moves].mean()) if not moves.all() else 0.0
                doubts.append(float(d.cost[moves].mean()) / (LIMIT + POOR * rest))
        return replace(fit, rough=self._mean(differences, level), doubt=max(doubts, default=0.0))

    def _start_elsewhere(
        self, turn: int, found: np.ndarray, read: np.ndarray, again: MoreStarts | None
    ) -> list[np.ndarray]:
        """Returns other postures to start from: first with objects put back, then with the hand turned."""
        if turn == 1:
            alone = self.poser.with_objects_at_rest(self.start, found)
            return [alone, *self.poser.poses_with_carried_object(self.start, alone), *(again(found) if again else [])]
        return [self.poser.with_hand_turned(read, angle) for angle in TURNED_RAD]

    def _blur(self, views: Views, level: Level) -> list[np.ndarray]:
        return [blur(view, level.blur[int(c > 0)]) for view, c in zip(views, self.poser.carriers, strict=True)]

    def _colours(self, posture: np.ndarray) -> list[np.ndarray]:
        key = posture.tobytes()
        if key not in self._shown:
            self._shown[key] = self.poser.colours(posture)
        return self._shown[key]

    def _compare(self, fit: Fit, seen: Views, level: Level) -> list[Difference]:
        shown = self._blur(self._colours(fit.posture), level)
        light = fit.light.reshape(-1, 2).astype(np.float32)
        found = []
        for target, image, (gain, offset) in zip(seen, shown, light, strict=True):
            r = target - (1.0 + gain) * image - offset
            found.append(Difference(image, r, *_weigh_robustly(r, level.scale)))
        return found

    def _cost(self, fit: Fit, seen: Views, level: Level) -> float:
        return self._mean(self._compare(fit, seen, level), level)

    def _mean(self, differences: Sequence[Difference], level: Level) -> float:
        return sum(level.share(self.poser.carriers, v) * float(d.cost.mean()) for v, d in enumerate(differences))

    def _expected_sizes(self, views: int) -> np.ndarray:
        return np.concatenate([self.poser.spread, np.tile([GAIN, OFFSET], views)])

    def _descend(self, fit: Fit, read: np.ndarray, seen: Views, level: Level) -> Fit:
        """Returns a better fit (Levenberg and Marquardt)."""
        count = len(self.poser.spread)
        damping = 1e-3
        expected = self._expected_sizes(len(seen))
        differences = self._compare(fit, seen, level)
        cost = self._mean(differences, level)
        total = cost + self._prior(fit, read, level)[2]
        equations = None
        for _ in range(level.steps):
            if cost < FITS:
                break
            if equations is None:
                equations = self._build_equations(fit, differences, seen, level, read)
            step = np.linalg.solve(equations.hessian + damping * np.diag(np.diag(equations.hessian)), -equations.slope)
            far = np.where(self._fingers, 0.0, step[:count] / expected[:count])
            step *= min(1.0, LONGEST / max(1e-9, float(np.abs(far).max())))
            moved = Fit(self.poser.move(fit.posture, step[:count]), fit.light + step[count:], np.inf)
            there = self._compare(moved, seen, level)
            mean = self._mean(there, level)
            after = mean + self._prior(moved, read, level)[2]
            if after < total:
                gained = total - after
                fit = moved
                differences = there
                cost = mean
                total = after
                equations = None
                damping = max(damping / 5, 1e-5)
                if gained < level.enough * (total + gained):
                    break
            elif damping > 0.1:
                break
            else:
                damping *= 10
        return replace(fit, cost=cost)

    def _prior(self, fit: Fit, read: np.ndarray, level: Level) -> tuple[np.ndarray, np.ndarray, float]:
        """Returns curvature and slope (D + 2V,) and the cost of being far from what is expected."""
        poser = self.poser
        expected = self._expected_sizes(len(fit.light) // 2)
        away = np.concatenate([poser.pose_difference(self.start, fit.posture), fit.light])
        away[: len(poser.spread)][self._fingers] = poser.pose_difference(read, fit.posture)[self._fingers]
        stiff = np.full(len(away), PRIOR) / expected**2
        stiff[: len(poser.spread)][poser.objects] *= level.still / PRIOR
        return stiff, stiff * away, float(stiff @ (away * away))

    def _build_equations(
        self, fit: Fit, differences: Sequence[Difference], seen: Views, level: Level, read: np.ndarray
    ) -> Equations:
        """Returns the normal equations at a fit, for a step of (D + 2V,)."""
        poser = self.poser
        count = len(poser.spread)
        geometries = poser.survey(fit.posture)
        twists = poser.twists()
        stiff, slope, _ = self._prior(fit, read, level)
        found = Equations(np.diag(stiff), slope)
        for v, (geometry, d, target, carrier) in enumerate(
            zip(geometries, differences, seen, poser.carriers, strict=True)
        ):
            index = _find_foremost(geometry.depth, round(level.blur[int(carrier > 0)]) + 1)
            pieces = geometry.piece.ravel()[index]
            stride = level.stride[int(carrier > 0)]
            use = np.zeros(index.shape, bool)
            use[stride // 2 :: stride, stride // 2 :: stride] = True
            use &= (poser.member[pieces] != poser.member[carrier]).any(axis=2)
            rows = _pixel_rows(geometry, d.shown, target, index, use)
            weights = d.push[use] * (level.share(poser.carriers, v) * stride * stride / index.size / 3.0)
            for piece in np.unique(pieces[use]):
                mine = pieces[use] == piece
                jacobian = np.zeros((8, len(found.slope)))
                jacobian[:6, :count] = twists * (poser.member[piece] - poser.member[carrier])
                jacobian[6:, count + 2 * v : count + 2 * v + 2] = -np.eye(2)
                found.add(jacobian, rows[mine].reshape(-1, 8), d.r[use][mine].ravel(), np.repeat(weights[mine], 3))
        return found


def expected_m(doubt: float) -> float:
    """Returns the scale of the position error of a fit (mean of one coordinate, m); set by eye, docs/instrument.md."""
    return 0.0001 + 0.006 * doubt**2


def _weigh_robustly(r: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns (h, w) costs of differences (h, w, 3), and their weights in least squares."""
    squares = (r * r).mean(axis=2) / (scale * scale)
    return squares / (1.0 + squares), 1.0 / (scale * scale * (1.0 + squares) ** 2)


def _pixel_rows(
    geometry: ViewGeometry, shown: np.ndarray, target: np.ndarray, index: np.ndarray, use: np.ndarray
) -> np.ndarray:
    """Returns (n, 3, 8): how the difference changes with velocity and turn about the world's origin, gain, offset."""
    height, width = geometry.depth.shape
    across, down = (0.5 * (np.gradient(shown, axis=a) + np.gradient(target, axis=a))[use] for a in (1, 0))
    place = index[use]
    z = geometry.depth.ravel()[place]
    row, column = np.divmod(place, width)
    x, y = (column + 0.5 - width / 2) / geometry.focal, -(row + 0.5 - height / 2) / geometry.focal
    points = (np.stack([x, y, -np.ones_like(x)], axis=1) * z[:, None]) @ geometry.rotation.T + geometry.position
    right, up = across * (geometry.focal / z)[:, None], -down * (geometry.focal / z)[:, None]
    local = np.stack([right, up, right * x[:, None] + up * y[:, None]], axis=2)
    rows = np.empty((len(z), 3, 8), np.float32)
    rows[..., :3] = in_world = local @ geometry.rotation.T
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):  # points x in_world
        rows[..., 3 + axis] = points[:, i, None] * in_world[..., j] - points[:, j, None] * in_world[..., i]
    rows[..., 6] = shown[use]
    rows[..., 7] = 1.0
    return rows
