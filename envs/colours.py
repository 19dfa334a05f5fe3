"""Colours that instructions name: what an environment may do to a "red cube" without making a liar of the instruction.

The factor "object" darkens and turns the hue of all objects, the factor "lighting" dims and tints the light. Together
they made a yellow zone brown and a red cube near-black. An object whose words name a colour therefore keeps the hue,
and the brightness in this light, that its name asks for. Other objects, and looks within the bounds, stay as drawn.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np


@dataclass(frozen=True)
class NamedColour:
    """The bounds of a colour's name.

    Attributes:
        hue: Lowest and highest hue of the material in degrees; below 0 is beyond red. Tinted light moves what is seen
            by up to 9 degrees more.
        lit: Least brightness (HSV value in [0, 1]) of the material times the level of the light. Below it red, blue,
            green and purple are near black, and yellow is brown.
    """

    hue: tuple[float, float]
    lit: float


COLOURS: Mapping[str, NamedColour] = MappingProxyType(
    {
        "red": NamedColour((-15.0, 15.0), 0.28),
        "yellow": NamedColour((45.5, 60.0), 0.42),
        "green": NamedColour((100.0, 150.0), 0.24),
        "blue": NamedColour((212.0, 250.0), 0.28),
        "purple": NamedColour((270.0, 305.0), 0.24),
    }
)
LEAST_SATURATION = 0.4  # of a material that bears a name
# Object -> the colours that instructions give it or its parts, in short or as motion. Only those parts are meant that
# have such a colour to begin with: the cap of a button, not its grey box. Orange handles and dice are not here: dark
# orange is brown, and in the dimmest light an upright orange part is dark whatever its material.
NAMED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "red_cube": ("red",),
        "red_cube_2": ("red",),
        "red_tray": ("red",),
        "blue_cube": ("blue",),
        "blue_cube_2": ("blue",),
        "blue_tray": ("blue",),
        "green_cube": ("green",),
        "zone": ("yellow",),
        "mat": ("green",),
        "socket": ("purple",),
        "button": ("red",),
        "bell": ("blue",),
        "switch": ("green", "red"),
        "dial": ("purple",),
        "lever": ("green",),
        "chest": ("yellow", "red"),
    }
)


def shade(rgb: np.ndarray, value: float, hue: float) -> np.ndarray:
    """Returns a colour with its brightness multiplied by `value` and its hue turned by `hue` (in turns)."""
    h, s, v = colorsys.rgb_to_hsv(*(float(c) for c in rgb))
    return np.array(colorsys.hsv_to_rgb((h + hue) % 1.0, s, min(1.0, v * value)))


def named_colour(rgb: np.ndarray, words: Sequence[str]) -> NamedColour | None:
    """Returns which of the colours a (3,) material has, None if it has none of them or is too pale."""
    h, s, _ = colorsys.rgb_to_hsv(*(float(c) for c in rgb))
    for word in words:
        low, high = COLOURS[word].hue
        if s > LEAST_SATURATION and (360.0 * h - low) % 360.0 <= high - low:
            return COLOURS[word]
    return None


def keep_name(rgb: np.ndarray, colour: NamedColour, level: float) -> np.ndarray:
    """Returns the (3,) colour nearest to `rgb` in hue and brightness that still has its name.

    Args:
        rgb: (3,) in [0, 1], of a material.
        colour: The name's bounds.
        level: Of the light (1 is full), by which the brightness is multiplied when it is seen.
    """
    h, s, v = colorsys.rgb_to_hsv(*(float(c) for c in rgb))
    low, high = colour.hue
    degrees = (360.0 * h - low) % 360.0 + low  # in [low, low + 360)
    beyond = degrees - high
    brightness = min(1.0, max(v, colour.lit / level))
    if beyond <= 0 and brightness == v:
        return rgb
    if beyond > 0:
        degrees = high if beyond < (360.0 - (high - low)) / 2 else low
    return np.array(colorsys.hsv_to_rgb(degrees / 360.0 % 1.0, s, brightness))
