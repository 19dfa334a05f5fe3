"""Slide the hatch to the right: the opposite of `slide_hatch_left`, in the same scene."""

from __future__ import annotations

from wambench.tasks import slide_hatch_left

TASK = slide_hatch_left.task("SlideHatchRight", 1.0, "right")
