"""The adapter: a contract-keeping policy that repeats, batches, imagines and extracts."""

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.policies.conftest import observe
from wambench import policies
from wambench.interface import ControlConvention, Observation, Policy
from wambench.policies import weight_files
from wambench.policies.dreamzero import choice, nano, sampling
from wambench.policies.dreamzero.policy import DreamZero, DreamZeroOptions, load_nano

pytestmark = pytest.mark.slow

CUBES = np.array([[0.1, -0.1, 0.0], [-0.1, 0.15, 0.0]])


@pytest.fixture(scope="module")
def policy(dreamzero_file: Path, encoder_file: Path) -> DreamZero:
    return DreamZero(DreamZeroOptions(str(dreamzero_file), str(encoder_file)))


def history(*steps: int, hand: float = 0.0) -> list[Observation]:
    return [observe(step, CUBES, np.array([hand + 0.002 * step, 0.0, 0.0])) for step in steps]


def test_plan_keeps_the_contract(policy: DreamZero) -> None:
    assert isinstance(policy, Policy) and policy.convention == ControlConvention()
    assert len(policy.weights_hash) == 16 and policy.corpus == "demos+video"
    policy.reset("reach the red cube", 0)
    plan = policy.act(history(0))
    assert plan.actions.shape == (16, 7) and plan.execute == 4 and np.abs(plan.actions).max() <= 1.0
    assert set(np.unique(plan.actions[:, 6])) <= {-1.0, 1.0}
    assert plan.frames is not None and plan.frames.shape == (2, 96, 192, 3) and plan.frames.dtype == np.uint8
    assert plan.frame_steps is not None and plan.frame_steps.tolist() == [8, 16]
    assert {"encode_s", "sample_s", "decode_s"} <= set(plan.timings)


def test_same_seed_same_answers(policy: DreamZero) -> None:
    answers = []
    for seed in (3, 3, 4):
        policy.reset("reach the red cube", seed)
        policy.act(history(0))
        answers.append(policy.act(history(4, 8)).actions)
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[0] - answers[2]).max() > 1e-3


def test_a_played_chunk_is_injected(policy: DreamZero) -> None:
    """After a chunk that was played to its end its real frames lie in the cache; imagined ones never do."""
    policy.reset("reach the red cube", 0)
    session = policy.session("reach the red cube", 0)
    tokens = policy.model.config.dit.frame_tokens
    lengths = []
    for i in range(6):
        now = 16 * i
        policy.act_batch([session], [history(*([now - 12, now - 8, now - 4] if i else []), now)])
        lengths.append(session.memories[False].video.cache.length // tokens)
    assert lengths == [
        1,
        3,
        5,
        7,
        1,
        3,
    ]  # frame 0, then two frames a chunk; a full window of 1 + 4 * 2 would not be used
    policy.act_batch([session], [history(100)])  # a chunk that was cut short: start again
    assert session.memories[False].video.cache.length == tokens


def test_history_counts(policy: DreamZero, dreamzero_file: Path, encoder_file: Path) -> None:
    forgetful = DreamZero(DreamZeroOptions(str(dreamzero_file), str(encoder_file), history="none"))
    answers = []
    for each in (policy, forgetful):
        each.reset("reach the red cube", 0)
        each.act(history(0))
        answers.append(each.act(history(4, 8, 12, 16)).actions)
    forgetful.reset("reach the red cube", 0)
    np.testing.assert_allclose(forgetful.act(history(16)).actions, answers[1], atol=1e-5)
    assert np.abs(answers[0] - answers[1]).max() > 1e-4


@pytest.mark.parametrize(("device", "tolerance"), [("cpu", 0.0), ("cpu:0", 1e-4)])
def test_batch_equals_single_calls(dreamzero_file: Path, encoder_file: Path, device: str, tolerance: float) -> None:
    """Bit by bit on "cpu"; any other device, here the same by another name, computes the batch together."""
    policy = DreamZero(DreamZeroOptions(str(dreamzero_file), str(encoder_file), device=device))
    cases = [
        ("reach the red cube", 1, [history(0), history(4, 8, 12, 16)]),  # two frames more in its cache
        ("reach blue cube", 2, [history(0, hand=0.1)]),
        ("push the red cube", 3, [history(0, hand=0.2)]),
    ]
    single = []
    for instruction, seed, calls in cases:
        policy.reset(instruction, seed)
        single.append([policy.act(h) for h in calls][-1])
    sessions = [policy.session(instruction, seed) for instruction, seed, _ in cases]
    policy.act_batch(sessions[:1], [cases[0][2][0]])
    for a, b in zip(single, policy.act_batch(sessions, [calls[-1] for _, _, calls in cases]), strict=True):
        np.testing.assert_allclose(a.actions, b.actions, rtol=0, atol=tolerance)
        assert a.frames is not None and b.frames is not None
        assert np.abs(a.frames.astype(int) - b.frames.astype(int)).max() <= (tolerance > 0.0)
        assert a.frame_steps is not None and b.frame_steps is not None
        np.testing.assert_array_equal(a.frame_steps, b.frame_steps)


def test_imagine_and_extract(policy: DreamZero) -> None:
    policy.reset("reach the red cube", 0)
    frames = policy.imagine(history(0))
    assert frames.shape == (2, 96, 192, 3) and frames.dtype == np.uint8
    actions = policy.extract(history(0), frames)
    assert actions.shape == (16, 7) and np.abs(actions).max() <= 1.0
    np.testing.assert_array_equal(actions, policy.extract(history(0), frames))
    as_seen = policy.extract(history(0), frames ^ (np.arange(frames.size) == 0).reshape(frames.shape).astype(np.uint8))
    assert np.abs(actions - as_seen).max() > 0.0  # other frames are looked at, be it one pixel that differs
    assert np.abs(actions - policy.extract(history(0), frames[::-1].copy() // 2)).max() > 1e-3
    with pytest.raises(ValueError, match="future frames must be"):
        policy.extract(history(0), frames[:1])


def test_video_first_is_imagine_then_extract(dreamzero_file: Path, encoder_file: Path) -> None:
    policy = DreamZero(DreamZeroOptions(str(dreamzero_file), str(encoder_file), mode="video_first"))
    policy.reset("reach the red cube", 0)
    plan, frames = policy.act(history(0)), policy.imagine(history(0))
    assert plan.frames is not None
    np.testing.assert_array_equal(plan.frames, frames)
    np.testing.assert_array_equal(plan.actions, policy.extract(history(0), frames))  # the placebo changes nothing
    silent = DreamZero(DreamZeroOptions(str(dreamzero_file), str(encoder_file), mode="no_video", steps=1, execute=16))
    silent.reset("reach the red cube", 0)
    assert silent.act(history(0)).frames is None


def test_separate_networks_play_video_first_unless_asked(
    dreamzero_file: Path, encoder_file: Path, tmp_path: Path
) -> None:
    whole, meta = load_nano(dreamzero_file)
    model = nano.SmallDreamZero(replace(whole.config, ablation="separate"))
    path = tmp_path / "separate.safetensors"
    buffers = {name for name, _ in model.named_buffers()}
    weight_files.write_weights(path, model.state_dict(), buffers, meta | {"config": model.config.to_dict()})
    made = [make(path, encoder_file), make(path, encoder_file, mode="video_first")]
    assert [p.mode for p in made] == ["video_first"] * 2 and make(dreamzero_file, encoder_file).mode == "joint"
    usual, asked = (p.act(history(0)).actions for p in made)
    np.testing.assert_array_equal(usual, asked)
    with pytest.raises(ValueError, match="no mode 'joint'"):
        make(path, encoder_file, mode="joint")


def test_instruction_matters(policy: DreamZero) -> None:
    actions = []
    for colour in ("red", "blue"):
        policy.reset(f"reach the {colour} cube", 0)
        actions.append(policy.act(history(0)).actions)
    assert np.abs(actions[0] - actions[1]).max() > 1e-3


def test_misuse_is_named(policy: DreamZero, dreamzero_file: Path, encoder_file: Path, tmp_path: Path) -> None:
    policy.reset("reach the red cube", 0)
    with pytest.raises(ValueError, match="history is empty"):
        policy.act([])
    with pytest.raises(ValueError, match="unknown mode 'dream'"):
        DreamZero(DreamZeroOptions(str(dreamzero_file), str(encoder_file), mode="dream"))
    with pytest.raises(ValueError, match="execute must be"):
        DreamZero(DreamZeroOptions(str(dreamzero_file), str(encoder_file), execute=17))
    small = Observation(
        0, {"agentview": np.zeros((64, 64, 3), np.uint8), "wrist": np.zeros((64, 64, 3), np.uint8)}, np.zeros(8)
    )
    with pytest.raises(ValueError, match="the encoder expects"):
        policy.act([small])
    with pytest.raises(ValueError, match="reset must be called"):
        DreamZero(DreamZeroOptions(str(dreamzero_file), str(encoder_file))).act(history(0))


def test_an_option_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path) -> None:
    """Before anything is loaded, and for a folder in the official layout with the options of that."""
    said = r"'stesp'; did you mean 'steps'\? there are: weights, encoder, renderer, steps"
    with pytest.raises(ValueError, match=said):
        policies.load("dreamzero", {"weights": str(tmp_path / "none.safetensors"), "stesp": 3})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"'batch'; did you mean 'batched'\? there are: weights, device, steps"):
        policies.load("dreamzero", {"weights": str(tmp_path), "batch": False})


def test_unfitting_files_are_named(dreamzero_file: Path, encoder_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    whole = dreamzero_file.read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.safetensors: damaged") as caught:
            DreamZero(DreamZeroOptions(str(bad), str(encoder_file)))
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no such weights file"):
        DreamZero(DreamZeroOptions(str(tmp_path / "none.safetensors"), str(encoder_file)))
    with pytest.raises(ValueError, match="holds 'encoder' weights"):
        DreamZero(DreamZeroOptions(str(encoder_file), str(encoder_file)))
    other = tmp_path / "other.safetensors"
    other.write_bytes(encoder_file.read_bytes())
    with other.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(ValueError, match="trained with another encoder"):
        DreamZero(DreamZeroOptions(str(dreamzero_file), str(other)))


def make(dreamzero_file: Path, encoder_file: Path, **options: object) -> DreamZero:
    policy = DreamZero(DreamZeroOptions(str(dreamzero_file), str(encoder_file), **options))  # type: ignore[arg-type]
    policy.reset("reach the red cube", 0)
    return policy


def test_a_sliding_window_never_starts_again(dreamzero_file: Path, encoder_file: Path) -> None:
    policy = make(dreamzero_file, encoder_file, history="sliding")
    session = policy.session("reach the red cube", 0)
    tokens, lengths = policy.model.config.dit.frame_tokens, []
    for i in range(7):
        now = 16 * i
        policy.act_batch([session], [history(*([now - 12, now - 8, now - 4] if i else []), now)])
        lengths.append(session.memories[False].video.cache.length // tokens)
    assert lengths == [1, 3, 5, 7, 9, 9, 9]


@pytest.mark.parametrize(("schedule", "want"), [("exact", [8, 16]), ("repeat4", [4, 16]), ("single", [0])])
def test_schedules_inject_other_frames(dreamzero_file: Path, encoder_file: Path, schedule: str, want: list) -> None:
    policy = make(dreamzero_file, encoder_file, schedule=schedule)
    session = policy.session("reach the red cube", 0)
    policy.act_batch([session], [history(0)])
    assert policy._injected(session) == want
    policy.act_batch([session], [history(4, 8, 12, 16)])
    assert session.memories[False].video.cache.length == 3 * policy.model.config.dit.frame_tokens
    policy.act_batch([session], [history(20, 24)])  # a chunk that was cut short
    length = session.memories[False].video.cache.length // policy.model.config.dit.frame_tokens
    assert length == (5 if schedule == "single" else 1)


def test_switches_change_the_answer(dreamzero_file: Path, encoder_file: Path) -> None:
    plain = make(dreamzero_file, encoder_file, steps=4).act(history(4))  # two steps are the same for both solvers
    assert plain.frames is not None
    switches: list[dict[str, object]] = [
        {"guidance": 3.0}, {"candidates": 3, "lookahead": 2}, {"candidates": 3, "choose": "random"}, {"steps": 1},
        {"mode": "inverse"}, {"solver": "unipc"}, {"steps": 16, "caching": "static"}, {"video_final": 0.8},
        {"shift": 5.0},
    ]  # fmt: skip
    for options in switches:
        plan, again = (make(dreamzero_file, encoder_file, **{"steps": 4, **options}).act(history(4)) for _ in range(2))
        np.testing.assert_array_equal(plan.actions, again.actions)
        assert plan.frames is not None
        moved = np.abs(plan.frames.astype(int) - plain.frames.astype(int)).max() > 0
        assert moved or np.abs(plan.actions - plain.actions).max() > 1e-6, options
    smoothed = make(dreamzero_file, encoder_file, steps=4, smooth=True).act(history(4)).actions
    assert np.abs(np.diff(smoothed[:, :6], 3, axis=0)).mean() < np.abs(np.diff(plain.actions[:, :6], 3, axis=0)).mean()
    np.testing.assert_array_equal(smoothed[:, 6], plain.actions[:, 6])


def test_a_dream_begins_with_what_is_imagined_and_goes_on_without_real_frames(
    dreamzero_file: Path, encoder_file: Path
) -> None:
    policy = make(dreamzero_file, encoder_file)
    policy.reset("reach the red cube", 0)
    first = policy.imagine(history(0))
    policy.reset("reach the red cube", 0)
    dream = policy.dream(history(0), 3)
    assert dream.shape == (6, *first.shape[1:]) and dream.dtype == np.uint8
    np.testing.assert_array_equal(dream[:2], first)
    assert np.abs(dream[2:4].astype(int) - dream[:2]).max() > 0
    np.testing.assert_array_equal(policy.imagine(history(0)), first)  # the memory is as it was
    with pytest.raises(ValueError, match="at least 1 chunk, not 0"):
        policy.dream(history(0), 0)


def test_dreaming_ahead_leaves_the_memory_alone(dreamzero_file: Path, encoder_file: Path) -> None:
    policy = make(dreamzero_file, encoder_file, candidates=2, lookahead=3)
    session = policy.session("reach the red cube", 0)
    policy.act_batch([session], [history(0)])
    assert session.memories[False].video.cache.length == policy.model.config.dit.frame_tokens


def test_choices_take_different_futures_and_pay_for_all_of_them(
    dreamzero_file: Path, encoder_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, pause_s = sampling.sample, 0.01

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(pause_s)
        return sample(*args, **options)

    monkeypatch.setattr(sampling, "sample", slow)
    taken = []
    for choose in choice.CHOICES:
        policy = make(dreamzero_file, encoder_file, candidates=4, lookahead=2, choose=choose)
        plans = []
        for step in range(0, 48, 4):
            asked = time.perf_counter()
            plans.append(policy.act(history(step)))
            took_s = time.perf_counter() - asked
            assert 4 * 2 * pause_s <= plans[-1].timings["sample_s"] <= sum(plans[-1].timings.values()) <= took_s
        taken.append(np.stack([plan.actions for plan in plans]))
    assert all(np.abs(one - other).max() > 0 for one, other in itertools.combinations(taken, 2))


def test_a_choice_that_cannot_be_made_is_refused(dreamzero_file: Path, encoder_file: Path) -> None:
    with pytest.raises(ValueError, match="unknown choose 'gaol'; did you mean 'goal'"):
        DreamZeroOptions(choose="gaol")
    with pytest.raises(ValueError, match="mode no_video: no key points are imagined"):
        make(dreamzero_file, encoder_file, mode="no_video", candidates=2)
    make(dreamzero_file, encoder_file, mode="no_video", candidates=2, choose="random").act(history(0))
