"""How all figures look: sizes, fonts, labels, and one colour for each policy family (docs/figures.md).

Colours of policies are Okabe and Ito's, those of parts and kinds Paul Tol's ("muted" and "light"), so that no colour
means a policy in one figure and something else in the next.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")

WIDTH = 7.2  # inches: two columns of a paper; text then prints at the sizes below
LETTERS_PER_INCH = 13.0  # of a title
PANELS = 6  # of a figure at most
SETTINGS: Any = {  # Matplotlib's type is a list of all its settings
    "font.size": 8.0, "axes.titlesize": 8.5, "axes.labelsize": 8.0, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5, "legend.title_fontsize": 9.0, "figure.titlesize": 9.0, "figure.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "lines.linewidth": 1.4, "legend.frameon": False,
    "svg.hashsalt": "wambench",
}  # fmt: skip

FAMILIES = MappingProxyType(
    {
        "dreamzero": "#0072b2", "pi0": "#e69f00", "pi05": "#d55e00", "ki": "#cc79a7", "groot": "#009e73",
        "l1": "#56b4e9", "cem": "#1f4e79", "oracle-choice": "#666699", "expert": "#4d4d4d", "random": "#8c8c8c",
        "noop": "#bfbfbf",
    }
)  # fmt: skip
# Ablation -> its parent, and how far its colour is mixed with white.
ABLATIONS = MappingProxyType(
    {
        "bidirectional": ("dreamzero", 0.15), "no_test_time_video": ("dreamzero", 0.30),
        "no_video_loss": ("dreamzero", 0.45), "separate": ("dreamzero", 0.60), "no_key_points": ("dreamzero", 0.75),
    }
)  # fmt: skip
LESS_COMPUTE = 0.25  # how far a family trained with stated compute is mixed with white
OTHERS = ("#882255", "#ddcc77", "#44aa99", "#aa7744", "#7f7f00", "#b09cd8")  # of policies that are not listed, in turn
KINDS = ("#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#99ddff", "#44bb99", "#bbcc33", "#aaaa00")  # Tol's "light"

LABELS = MappingProxyType(
    {
        "dreamzero": "DreamZero", "pi0": "π0", "pi05": "π0.5", "ki": "KI", "groot": "GR00T", "l1": "L1 regression",
        "cem": "DreamZero, planned by CEM", "oracle-choice": "DreamZero, chosen by the simulator",
        "expert": "scripted expert", "random": "random actions", "noop": "no action",
        "bidirectional": "DreamZero, bidirectional", "no_test_time_video": "DreamZero, no test-time video",
        "no_video_loss": "DreamZero, no video loss", "separate": "DreamZero, separate models",
        "no_key_points": "DreamZero, no key points",
    }
)  # fmt: skip
SPLITS = MappingProxyType(
    {
        "seen": "seen tasks and environments", "unseen-envs": "unseen environments", "unseen-tasks": "unseen tasks",
        "memory": "memory", "dynamic": "moving scenes",
    }
)  # fmt: skip
NOVELTIES = MappingProxyType(
    {
        "word": "a new word for a seen motion", "pairing": "a seen verb on another object",
        "motion": "a motion never acted out", "composition": "two seen verbs in sequence",
    }
)  # fmt: skip
_COMPUTE = re.compile(r"-(\d+(?:\.\d+)?e\d+)$")
_SEED = re.compile(r"-\d+$")


@contextmanager
def paper() -> Iterator[None]:
    """Draws what is made inside in the style of a paper."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        yield


def family(policy: str) -> tuple[str, str]:
    """Returns the name of a policy in the tables above, and what follows it: its compute, arguments, and executor.

    "dreamzero-1.6e14" is ("dreamzero", "1.6e14 FLOPs"), "pi0(steps=2)@latency=0.1" ("pi0", "steps=2, latency=0.1").
    """
    name, _, played = policy.partition("@")
    name, _, arguments = name.partition("(")
    compute = _COMPUTE.search(name)
    name = _COMPUTE.sub("", name)
    known = name if name in LABELS else _SEED.sub("", name)  # a training seed is no policy of its own
    details = [f"{compute[1]} FLOPs"] if compute else []
    details += [text for text in (arguments.rstrip(")"), played) if text]
    return (known if known in LABELS else name), ", ".join(details)


def label(policy: str) -> str:
    """Returns how a policy is called in figures."""
    name, details = family(policy)
    said = LABELS.get(name, name.rsplit("/", 1)[-1])
    return f"{said} ({details})" if details else said


def colours(policies: Sequence[str]) -> dict[str, str]:
    """Returns the colour of each policy: that of its family, shades of it for ablations and for stated compute.

    Policies that are not listed get the other colours in the order of their names.
    """
    found, unlisted = {}, 0
    for policy in sorted(set(policies)):
        name, details = family(policy)
        if name in FAMILIES:
            found[policy] = mixed(FAMILIES[name], LESS_COMPUTE if details.endswith("FLOPs") else 0.0)
        elif name in ABLATIONS:
            parent, share = ABLATIONS[name]
            found[policy] = mixed(FAMILIES[parent], share)
        else:
            found[policy] = OTHERS[unlisted % len(OTHERS)]
            unlisted += 1
    return found


def wrapped(text: str, letters: int) -> str:
    """Returns a text in lines of at most so many letters, where its words allow it."""
    return "\n".join(textwrap.wrap(text, letters)) or text


def title(figure: Figure, text: str) -> None:
    """Gives a figure its title: what it says, at the left, in as many lines as it needs."""
    figure.suptitle(wrapped(text, round(figure.get_figwidth() * LETTERS_PER_INCH)), x=0.005, ha="left")


def mixed(colour: str, share: float) -> str:
    """Returns a colour of which a share is replaced by white, as "#rrggbb"."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def pages(panels: Sequence[T], most: int = PANELS) -> list[Sequence[T]]:
    """Returns the panels of each figure: as few figures as possible, of about equally many panels."""
    count = max(1, -(-len(panels) // most))
    size = -(-len(panels) // count)
    return [panels[i : i + size] for i in range(0, len(panels), size)] if panels else []
