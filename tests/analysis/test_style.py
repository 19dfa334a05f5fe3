"""One colour and one label for each policy, the same in every figure."""

from __future__ import annotations

import matplotlib
import pytest
from matplotlib.figure import Figure

from wambench.analysis import style
from wambench.attribution import plots as attribution_plots
from wambench.policies import POLICIES


def test_every_shipped_policy_has_a_label_and_a_colour_of_its_own() -> None:
    assert set(POLICIES) <= set(style.FAMILIES) <= set(style.LABELS)
    assert len(set(style.FAMILIES.values())) == len(style.FAMILIES)
    assert set(style.ABLATIONS) <= set(style.LABELS)


def test_a_colour_means_a_policy_or_a_part_and_never_both() -> None:
    policies = {*style.FAMILIES.values(), *style.OTHERS}
    parts = {colour for _, colour in attribution_plots.PARTS.values()} | {*attribution_plots.VERDICTS.values()}
    assert not policies & parts and not policies & {*style.KINDS}


def test_ablations_are_shades_of_their_parent() -> None:
    found = style.colours(["dreamzero", "dreamzero-1.6e14", "separate-1.6e14", "no_video_loss"])
    assert len(set(found.values())) == 4
    for policy, colour in found.items():
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert red < green < blue, policy


def test_a_policy_keeps_its_colour_whoever_stands_beside_it() -> None:
    alone = style.colours(["pi0(steps=2)"])["pi0(steps=2)"]
    assert alone == style.colours(["dreamzero", "mine.py:Mine", "pi0", "pi0(steps=2)"])["pi0"] == style.FAMILIES["pi0"]
    assert len(set(style.colours(["a", "b", "c"]).values())) == 3


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("dreamzero", "DreamZero"),
        ("dreamzero-1.6e14", "DreamZero (1.6e14 FLOPs)"),
        ("no_video_loss-1.6e14", "DreamZero, no video loss (1.6e14 FLOPs)"),
        ("pi05-2", "π0.5"),
        ("pi0(steps=2)@execution=async,latency=0.1", "π0 (steps=2, execution=async,latency=0.1)"),
        ("path/to/mine.py:Mine", "mine.py:Mine"),
        ("dz-0", "dz-0"),
    ],
)
def test_labels_say_names_and_not_codes(policy: str, said: str) -> None:
    assert style.label(policy) == said


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (6, [6]), (7, [4, 3]), (13, [5, 5, 3])])
def test_panels_are_spread_over_as_few_figures_as_possible(count: int, sizes: list[int]) -> None:
    assert [len(page) for page in style.pages(range(count))] == sizes


def test_the_style_ends_with_its_block() -> None:
    before = matplotlib.rcParams["font.size"]
    with style.paper():
        assert matplotlib.rcParams["font.size"] == 8.0
    assert matplotlib.rcParams["font.size"] == before


def test_long_titles_are_wrapped_to_the_figure() -> None:
    figure = Figure(figsize=(style.WIDTH, 2.0))
    style.title(figure, "one word after another " * 8)
    lines = figure.get_suptitle().split("\n")
    assert len(lines) > 1 and max(map(len, lines)) <= style.WIDTH * style.LETTERS_PER_INCH
