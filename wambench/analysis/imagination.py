"""How good is imagined video? Recorded runs of world action models, frame by frame against what came.

Every imagined frame is compared with the real frame of its step, and beside it stand three that cost nothing: the
present frame kept, the present frame continued in a straight line (pixel by pixel, from the frame before), and, where
a policy's encoder is at hand, the real frame encoded and decoded, which no picture made of its latents can beat.

Skill = 1 - error / error of the present frame kept, in squares of block means (`pictures.block_means`): what is
imagined is blurred, and pixel by pixel a sharp picture of the past would be nearer to any real frame than a blurred one
of the future. 1 is perfect, 0 no better than a video that stands still, and below 0 worse.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wambench import policies
from wambench.analysis.intervals import Estimate, share_of, text
from wambench.conventions import LIBERO
from wambench.interface import Chunk, ControlConvention, Episode, Policy, canvas
from wambench.pictures import block_means, edge_strength, moving, psnr, ssim_map
from wambench.records import load_episode
from wambench.records.rows import RUN

MOVES_M = 0.02  # motion of the hand from which a frame counts as one in which something happens
RESTS_M = 0.005  # motion below which the robot stands still
Frames = NDArray[np.uint8]
Reconstruct = Callable[[Frames], Frames]


@dataclass(frozen=True)
class FrameScore:
    """One imagined frame.

    Attributes:
        task, episode_seed, step: The query.
        ahead: Control steps from the query to the frame.
        seconds: The same in s.
        hand_m: How far the hand really moved until then, in m.
        imagined, kept, linear, ceiling: Mean squares of the differences of block means from the real frame, in squared
            grey levels: of the imagined frame, the present one, the straight continuation, and the reconstructed real
            frame (NaN without an encoder).
        psnr_db, psnr_kept_db: Over the pixels that move, of the imagined and of the present frame.
        ssim, ssim_kept: Likewise, mean structural similarity.
        edges: Strength of edges where pixels move, as a share of the real frame's; NaN if nothing moves.
        added_grey: Root mean square difference of block means from the present frame: what a video adds.
    """

    task: str
    episode_seed: int
    step: int
    ahead: int
    seconds: float
    hand_m: float
    imagined: float
    kept: float
    linear: float
    ceiling: float
    psnr_db: float
    psnr_kept_db: float
    ssim: float
    ssim_kept: float
    edges: float
    added_grey: float


def score_episode(
    episode: Episode, reconstruct: Reconstruct | None = None, convention: ControlConvention = LIBERO
) -> list[FrameScore]:
    """Returns the scores of all imagined frames whose real ones were recorded.

    Args:
        episode: A recorded one.
        reconstruct: Encodes and decodes (N, h, w, 3) uint8 frames.
        convention: That it was played under.
    """
    seen = canvases(episode)
    hand = {o.step: o.state[convention.part_of_state("eef_pos")] for o in episode.observations}
    every = min((b - a for a, b in zip(sorted(seen), sorted(seen)[1:], strict=False)), default=1)
    found = []
    for step, frames, at in imagined_futures(episode):
        for frame, when in zip(frames, at.tolist(), strict=True):
            if step in seen and when in seen and when > step:
                past = seen.get(step - every, seen[step])
                moved = float(np.linalg.norm(hand[when] - hand[step]))
                about = (
                    episode.spec.task,
                    episode.spec.seed,
                    step,
                    when - step,
                    (when - step) / convention.control_hz,
                    moved,
                )
                found.append(_score(about, frame, seen[when], seen[step], past, every, reconstruct))
    return found


def canvases(episode: Episode) -> dict[int, Frames]:
    """Returns the recorded frames by env step."""
    return {o.step: canvas(o, list(o.images)) for o in episode.observations}


def imagined_futures(episode: Episode) -> list[tuple[int, Frames, NDArray[np.integer[Any]]]]:
    """Returns the env step of each query that imagined frames, the frames, and the steps that they are for."""
    plans = [(chunk.step, chunk.plan.frames, chunk.plan.frame_steps) for chunk in episode.chunks]
    return [(step, frames, at) for step, frames, at in plans if frames is not None and at is not None]


def _score(
    about: tuple[str, int, int, int, float, float],
    frame: Frames,
    real: Frames,
    now: Frames,
    past: Frames,
    every: int,
    reconstruct: Reconstruct | None,
) -> FrameScore:
    line = np.clip(now + (now.astype(float) - past) * (about[3] / every), 0, 255)
    where = moving(now, real)
    sharp = edge_strength(real, where)
    here = where.any()
    similarity = [float(ssim_map(x, real)[where].mean()) if here else math.nan for x in (frame, now)]
    noise = [psnr(x, real, where) if here else math.nan for x in (frame, now)]
    return FrameScore(
        *about,
        imagined=_error(frame, real),
        kept=_error(now, real),
        linear=_error(line, real),
        ceiling=_error(reconstruct(real[None])[0], real) if reconstruct else math.nan,
        psnr_db=noise[0],
        psnr_kept_db=noise[1],
        ssim=similarity[0],
        ssim_kept=similarity[1],
        edges=edge_strength(frame, where) / sharp if here and sharp > 0 else math.nan,
        added_grey=math.sqrt(_error(frame, now)),
    )


def _error(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    return float(((block_means(one) - block_means(other)) ** 2).mean())


def score_runs(runs: Sequence[Path], ceiling: bool = False) -> pd.DataFrame:
    """Returns the scores of all recorded episodes of some runs, a row a frame, as `FrameScore` has them.

    Args:
        runs: Folders of runs.
        ceiling: Also encode and decode the real frames with the policy of each run.

    Raises:
        ValueError: No run holds a recorded episode with imagined frames, or a policy cannot reconstruct.
    """
    rows = []
    for run in runs:
        reconstruct = _reconstruction(run) if ceiling else None
        convention = convention_of(run)
        for episode in recorded(run):
            rows += [vars(score) for score in score_episode(episode, reconstruct, convention)]
    if not rows:
        where = ", ".join(map(str, runs[:3])) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
        raise ValueError(
            f"no imagined frames at {where}: they lie in RUN/episodes, if the policy imagines video; published runs "
            "come without them"
        )
    return pd.DataFrame(rows)


def recorded(run: Path) -> Iterator[Episode]:
    """Yields the recorded episodes of a run."""
    for path in sorted((run / "episodes").glob("*.npz")):
        yield load_episode(path)


def draw_queries(episodes: Sequence[Episode], count: int, rng: np.random.Generator) -> Iterator[tuple[Episode, Chunk]]:
    """Yields `count` queries with imagined frames, drawn from recorded episodes, in the order of the episodes.

    Raises:
        ValueError: There are none.
    """
    usable = [episode for episode in episodes if imagined_futures(episode)]
    if not usable:
        raise ValueError("no recorded episode has imagined frames")
    for number in np.sort(rng.integers(len(usable), size=count)):
        chunks = [chunk for chunk in usable[number].chunks if chunk.plan.frames is not None]
        yield usable[number], chunks[int(rng.integers(len(chunks)))]


def convention_of(run: Path) -> ControlConvention:
    """Returns the control convention that a run was played under; LIBERO's if that was not recorded."""
    about = json.loads((run / RUN).read_text()) if (run / RUN).exists() else {}
    return ControlConvention(**about["convention"]) if "convention" in about else LIBERO


def policy_of(run: Path) -> Policy:
    """Returns a new policy as the one that a run was played by."""
    about = json.loads((run / RUN).read_text())["config"]
    return policies.load(about["policy"], about["policy_args"])


def _reconstruction(run: Path) -> Reconstruct:
    """Returns the encoding and decoding of a run's policy."""
    policy = policy_of(run)
    reconstruct: Reconstruct | None = getattr(policy, "reconstruct", None)
    if reconstruct is None:
        raise ValueError(f"{run}: its policy has no reconstruct(frames), which the ceiling needs")
    return reconstruct


def skill(scores: pd.DataFrame, error: str = "imagined") -> Estimate:
    """Returns 1 - error / error of the present frame kept, with its interval; an episode of a task is one draw."""
    sums = scores.groupby(["task", "episode_seed"])[[error, "kept"]].sum().reset_index()
    parts, wholes = ([group[name].to_numpy(float) for _, group in sums.groupby("task")] for name in (error, "kept"))
    mean, low, high = share_of(parts, wholes)
    return Estimate(1.0 - mean, 1.0 - high, 1.0 - low)


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per horizon: the skill where the hand moves and of all frames, and the other measures.

    Columns: `seconds`, `n` frames, `moving` of them with a hand that moves `MOVES_M` or more; over these `skill`,
    `skill_low`, `skill_high`, `linear_skill`, `ceiling_skill`, `nearer` (share of frames nearer to the real one than
    the kept frame), `psnr_db`, `psnr_kept_db`, `ssim`, `ssim_kept`, `edges`; `all_skill` over all frames; `still` and
    `still_grey`, the number of frames in which the robot stands still and what the video adds there, in grey levels.
    """
    rows = []
    for seconds, group in scores.groupby("seconds"):
        busy = group[group["hand_m"] >= MOVES_M]
        still = group[group["hand_m"] < RESTS_M]
        estimate = skill(busy)
        rows.append(
            {
                "seconds": seconds,
                "n": len(group),
                "moving": len(busy),
                "skill": estimate.mean,
                "skill_low": estimate.low,
                "skill_high": estimate.high,
                "linear_skill": skill(busy, "linear").mean,
                "ceiling_skill": skill(busy, "ceiling").mean if busy["ceiling"].notna().all() else math.nan,
                "nearer": float((busy["imagined"] < busy["kept"]).mean()) if len(busy) else math.nan,
                **{name: float(busy[name].mean()) for name in MEANS},
                "all_skill": skill(group).mean,
                "still": len(still),
                "still_grey": float(still["added_grey"].mean()) if len(still) else math.nan,
            }
        )
    return pd.DataFrame(rows)


MEANS = ("psnr_db", "psnr_kept_db", "ssim", "ssim_kept", "edges")


def to_text(table: pd.DataFrame) -> str:
    """Returns the table of `summarise` for people."""
    lines = []
    for row in table.to_dict("records"):
        estimate = text((row["skill"], row["skill_low"], row["skill_high"]), 2)
        lines += [
            f"{row['seconds']:.1f} s ahead: {row['n']} frames, {row['moving']} with a hand that moves 20 mm or more",
            f"  skill {estimate} (kept frame 0, straight line {row['linear_skill']:.2f}"
            + (f", tokenizer {row['ceiling_skill']:.2f})" if math.isfinite(row["ceiling_skill"]) else ")"),
            f"  nearer than the kept frame in {row['nearer']:.0%}; skill of all frames {row['all_skill']:.2f}",
            f"  moving pixels: PSNR {row['psnr_db']:.1f} dB (kept {row['psnr_kept_db']:.1f}), SSIM {row['ssim']:.2f} "
            f"(kept {row['ssim_kept']:.2f}), edges {row['edges']:.2f} of the real ones",
            f"  at rest it adds {row['still_grey']:.1f} grey levels (n = {row['still']})",
        ]
    return "\n".join(lines)
