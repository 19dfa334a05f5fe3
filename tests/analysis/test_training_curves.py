from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from wambench.analysis import training_curves

HEADER = "step,samples,minutes,samples_per_s,lr,video,points,action,val_action_mse,val_copy_mse"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of 40 rows with a validation every tenth."""
    rng, lines = np.random.default_rng(0), [HEADER]
    for i in range(1, 41):
        losses = [np.exp(-i / 15) * scale + 0.1 + 0.02 * rng.random() for scale in (1.0, 0.5, 2.0)]
        metrics = [f"{1 / i:.6g}", "0.25"] if i % 10 == 0 else ["", ""]
        values = [i * 50, i * 3200, i / 2, 130.5, 1e-3, *losses]
        lines.append(",".join([*(f"{value:.6g}" for value in values), *metrics]))
    path = tmp_path / "nano.safetensors.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_log_is_read_as_losses_and_metrics(log: Path) -> None:
    found = training_curves.read(log)
    assert list(found.losses) == ["video", "points", "action"] and list(found.metrics) == [
        "val_action_mse",
        "val_copy_mse",
    ]
    assert found.samples.tolist() == [3200.0 * i for i in range(1, 41)]
    assert np.flatnonzero(np.isfinite(found.metrics["val_action_mse"])).tolist() == [9, 19, 29, 39]
    log.write_text(log.read_text() + "2050,1312")  # a row in the writing
    assert len(training_curves.read(log).samples) == 40


def test_metrics_need_no_common_name(log: Path) -> None:
    log.write_text(log.read_text().replace("val_action_mse", "psnr_db").replace("val_copy_mse", "points_mm"))
    assert list(training_curves.read(log).metrics) == ["psnr_db", "points_mm"]
    every = [
        line if line.startswith("step") or not line.endswith(",,") else line + "7"
        for line in log.read_text().splitlines()
    ]
    log.write_text("\n".join(every))
    assert list(training_curves.read(log).losses) == ["video", "points", "action"]


def test_figure_shows_every_curve(log: Path) -> None:
    found = training_curves.read(log)
    made = training_curves.figure(found, "nano")
    losses, *metrics = made.axes
    assert len(losses.lines) == 6 and losses.get_yscale() == "log"
    assert [axes.get_title() for axes in metrics] == ["val_action_mse: 0.025", "val_copy_mse: 0.25"]
    points = [[32000, 0.1], [64000, 0.05], [96000, 0.0333333], [128000, 0.025]]
    assert np.asarray(metrics[0].lines[0].get_xydata()).tolist() == points


def test_png_lies_beside_the_log(log: Path) -> None:
    out = training_curves.draw(log)
    assert out == log.with_name("nano.safetensors.png")
    assert np.ptp(matplotlib.image.imread(out)) > 0.5
    before = out.read_bytes()
    assert training_curves.draw(log).read_bytes() == before


def test_trainings_share_the_panels_of_what_two_of_them_measured(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "pi0.safetensors.csv"
    other.write_text(log.read_text().replace("val_copy_mse", "val_gripper_error"))
    assert (
        training_curves.is_log(log)
        and not training_curves.is_log(tmp_path)
        and not training_curves.is_log(Path(__file__))
    )
    read = [training_curves.read(log), training_curves.read(other)]
    assert training_curves.shared_metrics(read) == ["val_action_mse"]
    assert training_curves.shared_metrics(read[:1]) == ["val_action_mse", "val_copy_mse"]
    (out,) = training_curves.together([log, other], tmp_path / "figures")
    assert out.name == "training.png" and np.ptp(matplotlib.image.imread(out)) > 0.5
    assert out.read_bytes() != training_curves.together([log], tmp_path / "alone")[0].read_bytes()
    with pytest.raises(ValueError, match="one name"):
        training_curves.together([log, log], tmp_path)
    other.write_text(log.read_text().replace("val_", "val_other_"))
    with pytest.raises(ValueError, match="no metric is measured by two of nano, pi0"):
        training_curves.together([log, other], tmp_path)


def test_smoothing_keeps_the_mean_and_the_length() -> None:
    values = np.array([0.0, 3.0, 6.0, 3.0])
    assert training_curves.smooth(values, 3).tolist() == [1.5, 3.0, 4.0, 4.5]
    assert training_curves.smooth(values, 1).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("text", "said"), [("a,b\n1,2\n", "is no training log"), (HEADER + "\n", "no rows yet"), ("", "is no training log")]
)
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        training_curves.draw(path)
    with pytest.raises(ValueError, match="cannot read"):
        training_curves.draw(tmp_path / "nowhere.csv")
