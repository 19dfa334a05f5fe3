"""Training of what `wambench attribute` reads and follows videos with: the tracker and the paths."""

from __future__ import annotations

from collections.abc import Callable

from tqdm import tqdm

from wambench.attribution import paths, paths_training, tracker, tracker_training
from wambench.policies import weight_files
from wambench.policies.perception import encoder
from wambench.policies.training import loop
from wambench.policies.training.config import TrainConfig, build_seeded, describe, to_compute_dtype
from wambench.policies.training.train import Trainer
from wambench.policies.weight_files import digest

PAIRS = 8  # for each sample of a batch: their features are ready


def _tracker_job(config: TrainConfig) -> tracker_training.TrackerJob:
    reader, _ = encoder.load(config.encoder_path)
    to_compute_dtype(reader)
    episodes = tracker_training.load_episodes(config.data, reader, config.seed)
    sizes = tracker.TrackerConfig(reader.config.points, *episodes.features.shape[2:4])
    model: tracker.FrameTracker = build_seeded(config.seed, tracker.FrameTracker, sizes)
    peaks = episodes.features[:, 0, ..., 2:].float().flatten(0, 2)  # places stay as they are
    model.mean[2:] = peaks.mean(dim=0)
    model.std[2:] = peaks.std(dim=0).clamp_min(1e-2)
    if config.init:
        weight_files.load_into(model, weight_files.read_weights(config.init, "tracker")[0], config.init)
    return tracker_training.TrackerJob(model, episodes, PAIRS * config.batch)


def _paths_job(config: TrainConfig) -> paths_training.PathsJob:
    model: paths.Paths = build_seeded(config.seed, paths.Paths, paths.PathsConfig())
    return paths_training.PathsJob(model, paths_training.load_walks(config.data), PAIRS * config.batch)


def job(
    config: TrainConfig, rank: int, wait: Callable[[], object]
) -> tracker_training.TrackerJob | paths_training.PathsJob:
    """Returns the job of the tracker or of the paths."""
    return _tracker_job(config) if config.policy == "tracker" else _paths_job(config)


def finish(
    job: tracker_training.TrackerJob | paths_training.PathsJob,
    config: TrainConfig,
    state: loop.TrainState,
    flops: float,
) -> None:
    """Measures errors on held-out episodes, and writes the weights."""
    meta = describe(config, state, "tracks")
    if isinstance(job, tracker_training.TrackerJob):
        meta |= {"encoder": digest(config.encoder_path)}
        tqdm.write(tracker_training.finish(job, config.out, meta))
    else:
        tqdm.write(paths_training.finish(job, config.out, meta))


TRAINER = Trainer(job, finish)
