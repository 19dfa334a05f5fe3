"""The baselines end to end on the toy world: trained by the one command, loaded from a file, acting by the contract."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.policies.conftest import observe
from wambench.evaluation.plan_validation import validate_plan
from wambench.interface import Observation
from wambench.policies.dreamzero import nano
from wambench.policies.perception.scene import PRESENT, SceneFeatures, encode_words
from wambench.policies.training import dataset, train
from wambench.policies.training import flops as training_flops
from wambench.policies.training import vla as vla_training
from wambench.policies.training.config import TrainConfig
from wambench.policies.vla import base as vla
from wambench.policies.weight_files import digest, read_weights

pytestmark = pytest.mark.slow


def config(kind: str, folders: tuple[Path, ...], encoder_file: Path, out: Path, **budget: float) -> TrainConfig:
    """Returns the config of a short training."""
    names = tuple(map(str, folders))
    return TrainConfig(kind, "tiny", names, str(out), encoder=str(encoder_file), lr=3e-3, batch=16, **budget)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pi0_file(demos: Path, video: Path, encoder_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights") / "pi0.safetensors"
    return train.train(config("pi0", (demos, video), encoder_file, out, steps=150))


def actor(weights: Path, encoder_file: Path, **options: int | str) -> vla.Actor:
    return vla.Actor("pi0", str(weights), str(encoder_file), **options)  # type: ignore[arg-type]


def scene(step: int = 0, shift: float = 0.0) -> Observation:
    cubes = np.array([[0.15 + shift, 0.1, 0.0], [-0.2, 0.1, 0.0]])
    return observe(step, cubes, np.array([0.0, -0.1, 0.0]))


def test_it_learns_and_says_what_it_cost(pi0_file: Path) -> None:
    with Path(f"{pi0_file}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["action"]) < 0.8 * float(rows[0]["action"])
    judged = [float(row["val_action_mse"]) for row in rows if row["val_action_mse"]]
    assert judged[-1] < judged[0]
    _, meta = read_weights(pi0_file, "pi0")
    assert meta["corpus"] == "demos" and meta["samples"] == 150 * 16  # video has no actions: not read
    assert meta["useful_samples"] == meta["samples"]
    assert meta["flops"] == pytest.approx(meta["flops_per_sample"] * meta["samples"], rel=1e-6)


def test_operations_are_those_of_the_products(demos: Path, encoder_file: Path, pi0_file: Path, tmp_path: Path) -> None:
    job = vla_training.job(config("pi0", (demos,), encoder_file, tmp_path / "x", steps=1), 0, lambda: None)
    each = training_flops.per_sample(job)
    assert all(p.grad is None for p in job.model.parameters())
    words = 3  # "reach red cube"; 8 patches, 1 scene, 1 state, 16 actions
    n, s, inputs = 8 + 1 + words, 17, vla.Inputs(("red_cube", "blue_cube", "hand"), (8, 6, 12))

    def layer(tokens: int, width: int, hidden: int, keys: int, last: bool = False) -> int:
        own = 2 * tokens * width * 2 * 12  # keys and values of one head of 12
        if last:
            return own
        return own + 2 * tokens * (2 * width * 24 + 3 * width * hidden) + 4 * tokens * keys * 24

    stem = 2 * (8 * inputs.patch_width * 32 + inputs.scene_width * 32 + 32 * 32 + words * 64 * 32)
    experts = layer(n, 32, 64, n) + layer(n, 32, 64, n, True) + 2 * layer(s, 24, 48, n + s)
    ends = 2 * (11 * 24 + 16 * (7 * 24 + 48 * 24 + 24 * 24 + 24 * 7))
    forward = stem + experts + ends
    # backward is twice the forward pass, but no gradient flows to what is given
    given = 2 * (8 * inputs.patch_width * 32 + inputs.scene_width * 32 + words * 64 * 32 + 11 * 24 + 16 * 7 * 24)
    assert each == pytest.approx(3 * forward - given, rel=0.01)


def test_a_budget_of_operations_sets_the_steps(demos: Path, encoder_file: Path, tmp_path: Path) -> None:
    out, budget = tmp_path / "pi05.safetensors", 3e9
    train.train(config("pi05", (demos,), encoder_file, out, flops=budget))
    _, meta = read_weights(out, "pi05")
    assert meta["flops"] == pytest.approx(budget, rel=0.1) and "--flops 3e+09" in meta["command"]
    with pytest.raises(ValueError, match="flops must be positive, stand alone"):
        config("pi05", (demos,), encoder_file, out, flops=budget, steps=3)
    assert training_flops.steps_for(10.0, 1.0, 4) == 3 and training_flops.steps_for(0.1, 1.0, 4) == 1


def test_training_starts_from_a_file_and_shares_work(
    demos: Path, encoder_file: Path, pi0_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "more.safetensors"
    start = config("pi0", (demos,), encoder_file, out, steps=2)
    train.train(replace(start, init=str(pi0_file), lr=1e-9, workers=2))
    (old, _), (new, meta) = (read_weights(path, "pi0") for path in (pi0_file, out))
    assert meta["samples"] == 2 * 16 * 2 and set(old) == set(new)
    for name, value in old.items():
        torch.testing.assert_close(new[name], value, atol=1e-3, rtol=1e-2)
    with pytest.raises(ValueError, match="holds 'pi0' weights, not 'pi05'"):
        train.train(replace(start, policy="pi05", init=str(pi0_file)))


def test_plans_follow_the_contract_and_repeat(pi0_file: Path, encoder_file: Path) -> None:
    policy, answers = actor(pi0_file, encoder_file), []
    for seed in (5, 5, 6):
        policy.reset("reach the red cube", seed)
        answers.append([validate_plan(policy.act([scene()]), policy.convention), policy.act([scene(4), scene(8)])])
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(*answers[:2], strict=True))
    assert not np.array_equal(answers[0][0].actions, answers[2][0].actions)
    plan = answers[0][0]
    assert plan.actions.shape == (16, 7) and plan.execute == 4 and plan.frames is None
    assert set(plan.actions[:, 6]) <= {-1.0, 1.0}


def test_it_has_no_memory(pi0_file: Path, encoder_file: Path) -> None:
    policy = actor(pi0_file, encoder_file)
    policy.reset("reach the red cube", 0)
    policy.act([scene(0, 0.1)])
    after = policy.act([scene(4, -0.1), scene(8)]).actions
    policy.reset("reach the red cube", 0)
    assert np.array_equal(policy.act([scene(8)]).actions, after)


@pytest.mark.parametrize(("device", "tolerance"), [("cpu", 0.0), ("cpu:0", 1e-5)])
def test_a_batch_gives_the_answers_of_single_calls(
    pi0_file: Path, encoder_file: Path, device: str, tolerance: float
) -> None:
    """Bit by bit on "cpu"; any other device, here the same by another name, computes the batch together."""
    policy = actor(pi0_file, encoder_file, device=device)
    asked = [("reach the red cube", 1), ("reach the blue cube", 2)]
    seen = [[scene(0)], [scene(4, 0.05)]]
    together = policy.act_batch([policy.session(*one) for one in asked], seen)
    for one, history, plan in zip(asked, seen, together, strict=True):
        policy.reset(*one)
        np.testing.assert_allclose(policy.act(history).actions, plan.actions, rtol=0, atol=tolerance)


def test_bad_requests_are_named(pi0_file: Path, encoder_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'pi05'"):
        vla.module_of("pi5")
    with pytest.raises(ValueError, match="holds 'encoder' weights, not 'pi0'"):
        actor(encoder_file, encoder_file)
    with pytest.raises(ValueError, match="trained with another encoder"):
        vla.Actor("pi0", str(pi0_file))
    with pytest.raises(ValueError, match=r"execute must be in 1\.\.16"):
        actor(pi0_file, encoder_file, execute=17)
    (tmp_path / "manifest.json").write_text('{"points": ["red_cube"], "corpus": "video", "frame_every": 2}')
    with pytest.raises(ValueError, match="no demonstrations with actions"):
        train.train(config("pi0", (tmp_path,), encoder_file, tmp_path / "x", steps=1))
    with pytest.raises(ValueError, match="reset must be called"):
        actor(pi0_file, encoder_file).act([scene()])
    policy = actor(pi0_file, encoder_file)
    policy.reset("reach the red cube", 0)
    with pytest.raises(ValueError, match="history is empty"):
        policy.act([])


def test_what_is_observed_is_what_dreamzero_sees(demos: Path, encoder_file: Path, pi0_file: Path) -> None:
    """The state vector of DreamZero nano is the state, whether it is known, and the baselines' scene vector."""
    clips = dataset.load_clips([demos], digest(encoder_file))
    at = torch.tensor([[3], [30]])
    known = torch.ones(2, 1, 1)
    points = clips.points[at]
    scene = SceneFeatures(clips.latents[at].float(), points, clips.features[at], known, points)
    names = ("red_cube", "blue_cube", "hand")
    words = encode_words(["reach the red cube", "reach the blue cube quickly"], names)
    model = nano.SmallDreamZero(nano.config_for("tiny", names, (8, 6, 12)))
    inputs = vla.Inputs(names, (8, 6, 12), presence=PRESENT)
    seen = vla.observe(scene, words, model.points_mean, inputs)
    torch.testing.assert_close(model.states(scene, words)[:, 0, 12:], seen.scene)
    assert seen.words.shape[1] == 4 and seen.mask.tolist() == [[True] * 3 + [False], [True] * 4]
    latent = scene.latents[0, 0]
    torch.testing.assert_close(seen.patches[0, 5], latent[:, 3:6, 3:6].flatten())  # second row, second column
    blank = replace(scene, latents=scene.latents * 0)
    assert not vla.observe(blank, words, model.points_mean, inputs).patches.any()
