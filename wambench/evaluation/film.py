"""Films for talks and papers: an episode as a spectator sees it, beside what the policy saw and what it imagined.

A film is made from a recorded episode. A simulator of its own restores the state at every query, carries out the
recorded actions, and draws them with shadows from a camera that shows the arm and the table, in 512 pixels (profile
"show"). So nothing that the policy sees, and nothing that is scored, depends on whether an episode is filmed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wambench.conventions import ROBOT
from wambench.evaluation.video import Frame, encode_mp4, newest, predictions_of
from wambench.interface import Episode, EpisodeSpec, canvas
from wambench.records import ROWS, RUN, episode_stem, load_episode, read_rows, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from wambench.envs.tabletop import TabletopEnv

FOLDER = "films"
SHOW = "show"  # visual profile
SIDE = 512  # pixels of the spectator's view
ASIDE = 320  # width of what the policy saw
MARGIN, LINE = 12, 20  # pixels
STAGES = 5 * LINE  # kept free for the stages at the side
WIDEST = 4.0  # width of a canvas over its height, beyond which its views are hard to see in `ASIDE` pixels
FPS = 10
STILL_S = 1.5  # how long the end stays
INK, PAPER, FAINT, GREEN, ORANGE = "#1a1a1a", "#ffffff", "#d9d9d9", "#009e73", "#d55e00"


@dataclass(frozen=True)
class Moment:
    """What a film shows at a control step.

    Attributes:
        step: The control step.
        view: (512, 512, 3) the spectator's view.
        progress: So far.
        stages: Reached so far.
    """

    step: int
    view: NDArray[np.uint8]
    progress: float
    stages: tuple[str, ...]


def spectator(spec: EpisodeSpec, robot: str = ROBOT) -> TabletopEnv:
    """Returns a simulator that draws episodes of the task of a spec for spectators.

    Args:
        spec: Of an episode.
        robot: A name of `conventions.CONVENTIONS`, that it was played under.
    """
    from wambench import registration

    return registration.make(spec.task, split=spec.split, factor=spec.factor, visual=SHOW, robot=robot)


def robot_of_run(run: Path) -> str:
    """Returns the convention that a run was played under; a run that does not say it is libero's.

    One that was played in a world model raises ValueError: there is no state of the simulator to draw.
    """
    about = json.loads((run / RUN).read_text()) if (run / RUN).is_file() else {}
    if about.get("world_model"):
        raise ValueError(f"{run}: played in a world model, so that there is no state of the simulator to draw")
    return str(about.get("robot", ROBOT))


def film(episode: Episode, sim: TabletopEnv, told: str = "") -> bytes:
    """Returns the film of a recorded episode as an mp4, empty if no query was recorded.

    Args:
        episode: As recorded.
        sim: What `spectator` returns for it; it is left in the middle of the episode.
        told: The instruction that the policy was given, if not the episode's own.
    """
    frames = [compose(episode, moment, told) for moment in moments(episode, sim)]
    return encode_mp4(frames + frames[-1:] * round(STILL_S * FPS), FPS)


def moments(episode: Episode, sim: TabletopEnv) -> Iterator[Moment]:
    """Yields what a spectator sees, ten times a second; every chunk begins with its recorded state."""
    from wambench.envs.appearance import FILM

    stride = max(1, round(episode.spec.control_hz / FPS))
    outcome = sim.begin(dataclasses.replace(episode.spec, visual=SHOW), render=False)
    shown = -1
    for chunk in episode.chunks:
        sim.restore(chunk.state)
        for action in (None, *chunk.executed):
            outcome = outcome if action is None else sim.advance(action)
            step = chunk.step if action is None else outcome.steps
            if step > shown and (step % stride == 0 or step == episode.steps):
                view = sim.renderer.render(sim.scene.data, [FILM], (SIDE, SIDE))[FILM]
                shown = step
                yield Moment(step, view, outcome.progress, outcome.stages)


def compose(episode: Episode, moment: Moment, told: str = "") -> Frame:
    """Returns a frame: the spectator's view, its caption, and at its side what the policy saw and imagined."""
    from PIL import Image, ImageDraw

    predictions = predictions_of(episode.chunks)
    width = SIDE + ASIDE + 2 * MARGIN
    height = SIDE + 4 * LINE
    sheet = Image.new("RGB", (width // 2 * 2, height), PAPER)
    sheet.paste(Image.fromarray(moment.view), (0, 0))
    pen = ImageDraw.Draw(sheet)
    seen = [o for o in episode.observations if o.step <= moment.step]
    place = MARGIN
    if seen:
        now = canvas(seen[-1], list(seen[-1].images))
        shown = [("what the policy sees", now)]
        if predictions:
            imagined = newest(predictions, seen[-1].step)
            text = "what it imagined for this moment" if imagined is not None else "nothing imagined yet"
            shown.append((text, imagined if imagined is not None else np.full_like(now, 217)))
        for title, picture in _below_each_other(shown, len(seen[-1].images)):
            place = _paste(sheet, pen, title, picture, place)
    _write_stages(pen, moment, place)
    _write_caption(pen, episode, moment, told, sheet.width)
    return np.asarray(sheet)


def _below_each_other(shown: list[tuple[str, Frame]], views: int) -> list[tuple[str, Frame]]:
    """Returns titled canvases of views as they are; wide ones as one picture, a column each, a row for each view."""
    height, width = shown[0][1].shape[:2]
    if width <= WIDEST * height:
        return shown
    columns = [np.concatenate(np.split(picture, views, axis=1), axis=0) for _, picture in shown]
    return [(" | ".join(title for title, _ in shown), np.concatenate(columns, axis=1))]


def _paste(sheet: Image, pen: ImageDraw, title: str, picture: Frame, top: int) -> int:
    """Puts a picture under its title at the side and returns where the next one may begin."""
    from PIL import Image

    left = SIDE + MARGIN
    pen.text((left, top), title, INK, _font(14))
    scale = min(ASIDE / picture.shape[1], (SIDE - STAGES - top - LINE) / picture.shape[0])
    width, height = round(scale * picture.shape[1]), round(scale * picture.shape[0])
    filtered = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    sheet.paste(Image.fromarray(picture).resize((width, height), filtered), (left, top + LINE))
    return top + LINE + height + MARGIN


def _write_stages(pen: ImageDraw, moment: Moment, top: int) -> None:
    left = SIDE + MARGIN
    pen.text((left, top), "stages reached", INK, _font(14))
    for i, stage in enumerate(moment.stages or ("none yet",)):
        pen.text((left, top + (i + 1) * LINE), stage, GREEN if moment.stages else INK, _font(14))


def _write_caption(pen: ImageDraw, episode: Episode, moment: Moment, told: str, width: int) -> None:
    """Writes the instruction, the time, and progress as a bar, below the pictures."""
    top = SIDE + MARGIN // 2
    pen.text((MARGIN, top), f"“{told or episode.spec.instruction}”", INK, _font(18))
    over = moment.step >= episode.steps
    end = ("  solved" if episode.success_end else "  not solved") if over and episode.status == "ok" else ""
    seconds = moment.step / episode.spec.control_hz
    text = f"{seconds:.1f} s   progress {moment.progress:.2f}{end}"
    pen.text((MARGIN, top + LINE + 6), text, ORANGE if end == "  not solved" else INK, _font(14))
    left, right, line = MARGIN, width - MARGIN, top + 2 * LINE + 12
    pen.rectangle((left, line, right, line + 8), FAINT)
    if moment.progress > 0:
        pen.rectangle((left, line, left + round((right - left) * min(moment.progress, 1.0)), line + 8), GREEN)


def _font(points: int):  # type: ignore[no-untyped-def]  # Pillow has two kinds of font
    from PIL import ImageFont

    return ImageFont.load_default(points)


def film_runs(runs: list[Path], names: tuple[str, ...], count: int | None) -> Iterator[Path]:
    """Films recorded episodes into RUN/films, and yields each film when it is there.

    Args:
        runs: Folders of runs.
        names: Episodes, e.g. "PressButton-v1.all.0"; none for all.
        count: Of each task at most; None for all.

    Raises:
        ValueError: An episode is not there.
    """
    asked = [(run, row) for run in runs for row in read_rows(run / ROWS)]
    stems = {episode_stem(row.key) for _, row in asked}
    for name in names:
        if name not in stems:
            raise ValueError(f"no episode {name!r} in {', '.join(map(str, runs))}; there are such as {min(stems)}")
    sim: TabletopEnv | None = None
    for run, row in asked:
        stem = episode_stem(row.key)
        source = run / "episodes" / f"{stem}.npz"
        if (names and stem not in names) or (count is not None and row.episode >= count) or not source.is_file():
            continue
        episode = load_episode(source)
        if not episode.chunks:
            continue
        robot = robot_of_run(run)
        if sim is None or (sim.task.id, sim.robot) != (episode.spec.task, robot):
            if sim is not None:
                sim.close()
            sim = spectator(episode.spec, robot)
        path = run / FOLDER / f"{stem}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, film(episode, sim, row.prompt))
        yield path
    if sim is not None:
        sim.close()
