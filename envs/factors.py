"""The environment factors: what differs between training and unseen environments, as data (numpy only).

Every factor has two sets of values that cannot meet: intervals whose magnitudes do not overlap, or disjoint lists. A
third set, `ELSEWHERE`, is what the action-free video and the image encoder's random renders are made of: other rooms,
wide around both training and unseen values, but with no value of the unseen set.
A `Look` is one draw of all factors, plain JSON, so that an episode can be written down and read back.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from wambench.interface import unknown_name

FACTORS = ("camera", "lighting", "background", "table", "object", "distractors", "robot")
# Values of what only tasks with a script have: how fast things move, and for how long something must be remembered.
SPEEDS = ("slow", "medium", "fast")
DELAYS = ("delay-2", "delay-4", "delay-8")
LEVELS = SPEEDS + DELAYS
LOOKALIKE = "lookalike"  # one more object of the named one's shape in another colour, see `envs.lookalikes`
Look = Mapping[str, Any]


@dataclass(frozen=True)
class Signed:
    """A number whose magnitude lies in [low, high], with a random sign; disjoint from another by magnitude."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return round(float(rng.uniform(self.low, self.high) * rng.choice((-1.0, 1.0))), 5)

    def contains(self, value: float) -> bool:
        return self.low <= abs(value) <= self.high


@dataclass(frozen=True)
class Range:
    """A number in [low, high]."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return round(float(rng.uniform(self.low, self.high)), 5)

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class OneOf:
    """One of a list of names."""

    values: tuple[str, ...]

    def draw(self, rng: np.random.Generator) -> str:
        return str(rng.choice(self.values))

    def contains(self, value: str) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Either:
    """A number from one of several domains, each as likely as it is wide."""

    parts: tuple[Signed | Range, ...]

    def draw(self, rng: np.random.Generator) -> float:
        widths = np.array([part.high - part.low for part in self.parts])
        return self.parts[int(rng.choice(len(self.parts), p=widths / widths.sum()))].draw(rng)

    def contains(self, value: float) -> bool:
        return any(part.contains(value) for part in self.parts)


Domain = Signed | Range | OneOf | Either

# camera: degrees around and above the table centre, relative distance. robot: joint offsets in rad (the wrist joints
# follow so that the hand keeps pointing down). object: relative size, relative brightness, hue shift in turns.
TRAIN: Mapping[str, Mapping[str, Domain]] = MappingProxyType(
    {
        "camera": {"azimuth": Signed(0, 3), "elevation": Signed(0, 2), "distance": Signed(0, 0.03)},
        "lighting": {"level": Range(0.75, 1.05), "azimuth": Signed(0, 60), "warmth": Signed(0, 0.05)},
        "background": {"floor": OneOf(("light-gray-floor-tile", "gray-plaster", "wood-tiles")),
                       "wall": OneOf(("light-gray-plaster", "cream-plaster", "white-plaster"))},
        "table": {"top": OneOf(("ceramic", "light-wood", "white-plaster", "gray-felt"))},
        "object": {"scale": Signed(0, 0.05), "value": Range(0.90, 1.05), "hue": Signed(0, 0.01)},
        "distractors": {"count": Range(0, 0)},
        "robot": {"pan": Signed(0, 0.04), "reach": Signed(0, 0.04), "elbow": Signed(0, 0.04)},
    }
)  # fmt: skip
UNSEEN: Mapping[str, Mapping[str, Domain]] = MappingProxyType(
    {
        "camera": {"azimuth": Signed(8, 14), "elevation": Signed(4, 7), "distance": Signed(0.06, 0.12)},
        "lighting": {"level": Range(0.40, 0.60), "azimuth": Signed(90, 150), "warmth": Signed(0.10, 0.18)},
        "background": {"floor": OneOf(("dark-wood", "pink-plaster", "dirt")),
                       "wall": OneOf(("white-bricks", "yellow-plaster", "wood-varnished-panels"))},
        "table": {"top": OneOf(("red-wood", "green-wood", "gray-woodgrain", "clay"))},
        "object": {"scale": Signed(0.08, 0.14), "value": Range(0.60, 0.78), "hue": Signed(0.02, 0.035)},
        "distractors": {"count": Range(2, 3)},
        "robot": {"pan": Signed(0.14, 0.26), "reach": Signed(0.06, 0.12), "elbow": Signed(0.06, 0.12)},
    }
)  # fmt: skip
# No texture of the unseen set appears here in any place; tints are hue, saturation and brightness of the whole surface.
_OTHER = ("blue-wood", "brass-ambra", "bread", "cereal", "metal", "steel-scratched")
_HUE, _SATURATION, _BRIGHTNESS = Range(0.0, 1.0), Range(0.0, 0.5), Range(0.45, 1.0)
ELSEWHERE: Mapping[str, Mapping[str, Domain]] = MappingProxyType(
    {
        "camera": {"azimuth": Either((Signed(0, 7.5), Signed(14.5, 22))),
                   "elevation": Either((Signed(0, 3.7), Signed(7.3, 11))),
                   "distance": Either((Signed(0, 0.055), Signed(0.125, 0.18)))},
        "lighting": {"level": Either((Range(0.22, 0.38), Range(0.62, 1.30))),
                     "azimuth": Either((Signed(0, 85), Signed(155, 180))),
                     "warmth": Either((Signed(0, 0.09), Signed(0.19, 0.28)))},
        "background": {"floor": OneOf(("light-gray-floor-tile", "gray-plaster", "wood-tiles", *_OTHER)),
                       "wall": OneOf(("light-gray-plaster", "cream-plaster", "white-plaster", *_OTHER)),
                       "floor_hue": _HUE, "floor_saturation": _SATURATION, "floor_brightness": _BRIGHTNESS,
                       "wall_hue": _HUE, "wall_saturation": _SATURATION, "wall_brightness": _BRIGHTNESS},
        "table": {"top": OneOf(("ceramic", "light-wood", "white-plaster", "gray-felt", *_OTHER)),
                  "top_hue": _HUE, "top_saturation": _SATURATION, "top_brightness": _BRIGHTNESS},
        "object": {"scale": Either((Signed(0, 0.075), Signed(0.145, 0.20))),
                   "value": Either((Range(0.42, 0.58), Range(0.80, 1.10))),
                   "hue": Either((Signed(0, 0.018), Signed(0.037, 0.05)))},
        "distractors": {"count": Range(0, 1)},
        "robot": {"pan": Either((Signed(0, 0.13), Signed(0.27, 0.36))),
                  "reach": Either((Signed(0, 0.055), Signed(0.125, 0.16))),
                  "elbow": Either((Signed(0, 0.055), Signed(0.125, 0.16)))},
    }
)  # fmt: skip

# Distractors stand beside the workspace, never on it: one slot each, filled in this order.
DISTRACTOR_SLOTS = ((0.05, 0.335), (0.08, -0.335), (-0.10, 0.335))


def _generator(seed: int, label: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(label.encode())])


def _draw_factor(factor: str, domain: Mapping[str, Domain], rng: np.random.Generator) -> dict[str, Any]:
    values: dict[str, Any] = {name: d.draw(rng) for name, d in domain.items()}
    if factor != "distractors":
        return values
    count = int(rng.integers(round(domain["count"].low), round(domain["count"].high) + 1))  # type: ignore[union-attr]
    kinds = rng.permutation(3)[:count]
    placed = []
    for kind, (x, y) in zip(kinds, DISTRACTOR_SLOTS, strict=False):
        dx, dy = rng.uniform(-0.03, 0.03, 2)
        placed.append(
            {
                "kind": int(kind),
                "x": round(x + dx, 5),
                "y": round(y + dy, 5),
                "yaw": round(float(rng.uniform(-3, 3)), 5),
            }
        )
    return {"count": count, "placed": placed}


def unseen_factors(factor: str) -> frozenset[str]:
    """Returns the factors that take unseen values for a `--factor` name: "all", "none" or one of `FACTORS`.

    A level of a script ("slow", "delay-2") is played in training environments, and so is `LOOKALIKE`.
    """
    if factor == "all":
        return frozenset(FACTORS)
    if factor in ("none", LOOKALIKE, *LEVELS):
        return frozenset()
    if factor in FACTORS:
        return frozenset((factor,))
    raise unknown_name("factor", factor, ("all", "none", *FACTORS, LOOKALIKE, *LEVELS))


def draw_look(seed: int, factor: str = "none") -> dict[str, Any]:
    """Returns one draw of all factors as JSON values.

    Every factor has its own random stream, so that changing one leaves the draws of the others as they are.

    Args:
        seed: Non-negative seed of the draw.
        factor: Which factors take unseen values, see `unseen_factors`.
    """
    unseen = unseen_factors(factor)
    return {
        name: _draw_factor(name, (UNSEEN if name in unseen else TRAIN)[name], _generator(seed, name))
        for name in FACTORS
    }


def draw_elsewhere(seed: int) -> dict[str, Any]:
    """Returns one draw of all factors from `ELSEWHERE`, as JSON values."""
    return {name: _draw_factor(name, ELSEWHERE[name], _generator(seed, f"elsewhere {name}")) for name in FACTORS}


def is_elsewhere(look: Look) -> bool:
    """Returns whether a look was drawn from `ELSEWHERE`, whose surfaces alone have colours of their own."""
    return "floor_hue" in look["background"]
