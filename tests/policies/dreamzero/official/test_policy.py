"""A checkpoint in the official layout as a policy: tiny, with the released networks' names, on DROID observations."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.parity.dit import config_from, load
from tests.policies.dreamzero.official.test_checkpoint import GOLDEN, MODEL, tiny_tensors, write_tiny_checkpoint
from wambench.conventions import DROID
from wambench.interface import ControlConvention, Guided, Observation, Plan, Policy, mismatches
from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.dreamzero.dit import CONFIGS, DiT, Frames
from wambench.policies.dreamzero.inference import ChunkGenerator, ChunkNoise, Encoders, FirstFrame, Prompt, _Packing
from wambench.policies.dreamzero.official import droid
from wambench.policies.dreamzero.official import encoders as wan
from wambench.policies.dreamzero.official.checkpoint import VAE, Checkpoint
from wambench.policies.dreamzero.official.parts import transformer_config, view_size
from wambench.policies.dreamzero.official.policy import (
    OfficialDreamZero,
    OfficialOptions,
    from_canvas,
    is_official,
    to_canvas,
)  # fmt: skip

pytestmark = pytest.mark.slow

for library in ("diffusers", "transformers", "ftfy", "yaml"):
    pytest.importorskip(library)

VIEW = (16, 24)
SIZES = {
    "num_heads": 2, "frame_seqlen": 6, "num_frame_per_block": 2, "num_action_per_block": 24,
    "num_state_per_block": 1, "max_chunk_size": 4,
}  # fmt: skip
LOW, HIGH = np.linspace(-0.6, -0.1, 8), np.linspace(0.2, 0.9, 8)  # of actions; the last is the gripper's
WORDS = ("robot", "shows", "view", "press", "open", "the", "button", "drawer", "wrist", "static", "quality")
FAST: dict[str, Any] = {"steps": 2, "caching": "none"}


def write_official(folder: Path, tensors: dict[str, Tensor] | None = None, **sizes: Any) -> Path:
    """Writes what `write_tiny_checkpoint` leaves out: the layout of a chunk, statistics, view size, a tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    write_tiny_checkpoint(folder, tensors)
    head = {"image_encoder_cfg": {"num_heads": 4}, "diffusion_model_cfg": SIZES | sizes}
    (folder / "config.json").write_text(json.dumps({"action_head_cfg": {"config": head}}))
    low, high = LOW.tolist(), HIGH.tolist()
    action = {
        "joint_position": {"q01": low[:7], "q99": high[:7]},
        "gripper_position": {"q01": low[7:], "q99": high[7:]},
    }
    state = {
        "joint_position": {"q01": [-2.0] * 7, "q99": [2.0] * 7},
        "gripper_position": {"q01": [0.0], "q99": [1.0]},
    }
    metadata = {"oxe_droid": {"statistics": {"state": state, "action": action}}}
    (folder / "experiment_cfg" / "metadata.json").write_text(json.dumps(metadata))
    conf = "relative_action: true\nimage_resolution_height: 16\nimage_resolution_width: 24\n"
    (folder / "experiment_cfg" / "conf.yaml").write_text(conf)
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(("<pad>", "<unk>", *WORDS))}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a tiny official checkpoint."""
    return write_official(tmp_path_factory.mktemp("official") / "tiny")


@pytest.fixture(scope="module")
def policy(folder: Path) -> OfficialDreamZero:
    """Returns the policy of the tiny checkpoint with two steps of denoising."""
    return OfficialDreamZero(OfficialOptions(str(folder), **FAST))


@functools.cache
def observe(step: int) -> Observation:
    """Returns what is seen at a step: noise that moves slowly, so that each frame is its own."""
    rng = np.random.default_rng(step)
    base = np.random.default_rng(0).integers(0, 200, (3, 180, 320, 3))
    images = (base + rng.integers(0, 55, (3, 1, 1, 3))).astype(np.uint8)
    state = np.concatenate([np.linspace(-1.0, 1.0, 7) + 0.01 * step, [(step % 48) / 48]])
    return Observation(step, dict(zip(DROID.cameras, images, strict=True)), state)


def seen(query: int, length: int = 24) -> list[Observation]:
    """Returns the observations since the last query, when chunks of a length are carried out."""
    if query == 0:
        return [observe(0)]
    return [observe(step) for step in range((query - 1) * length + 3, query * length + 1, 3)]


def play(policy: OfficialDreamZero, queries: int, seed: int = 7, instruction: str = "Press the button") -> list[Plan]:
    policy.reset(instruction, seed)
    return [policy.act(seen(query)) for query in range(queries)]


def same(a: Sequence[Plan], b: Sequence[Plan]) -> bool:
    return all(np.array_equal(x.actions, y.actions) for x, y in zip(a, b, strict=True))


# ------------------------------------------------------------------------------------------------- answers


def test_six_queries(policy: OfficialDreamZero) -> None:
    assert isinstance(policy, Policy) and policy.convention == DROID and len(policy.weights_hash) == 16
    policy.reset("Press the button", 7)
    starts, tokens = [], []
    for query in range(6):
        plan = policy.act(seen(query))
        session = policy._session
        assert session is not None
        starts.append(session.head.start)
        tokens.append(session.head.cached_tokens // 6)
        assert plan.actions.shape == (24, 8) and np.isfinite(plan.actions).all() and plan.execute == 24
        assert plan.frames is not None and plan.frame_steps is not None
        assert plan.frames.shape == (8, 180, 960, 3) and plan.frames.dtype == np.uint8
        assert plan.frame_steps.tolist() == [24 * query + 3 * i for i in range(1, 9)]
        assert set(plan.timings) == {"encode_s", "sample_s", "decode_s"}
    assert starts == [1, 3, 5, 7, 1, 3]  # a new cache life after 4 chunks
    assert tokens == [1, 3, 5, 7, 1, 3]


def test_equal_seeds_give_equal_answers(policy: OfficialDreamZero) -> None:
    first, again, other = play(policy, 2), play(policy, 2), play(policy, 2, seed=8)
    assert same(first, again) and not same(first, other)
    assert first[1].frames is not None and again[1].frames is not None
    assert np.array_equal(first[1].frames, again[1].frames)
    assert not same(first, play(policy, 2, instruction="Open the drawer"))
    sessions = [policy.session("Press the button", 7), policy.session("Press the button", 8)]
    assert same(policy.act_batch(sessions, [seen(0)] * 2), [first[0], other[0]])


def by_hand(folder: Path, queries: int, seed: int) -> list[np.ndarray]:
    """Returns the actions of the first queries, put together from `ChunkGenerator` and `droid` frame by frame."""
    file = GOLDEN / "policy_head_dit_weights.safetensors"
    layout = {"frames_per_chunk": 2, "actions_per_chunk": 24, "states_per_chunk": 1, "max_chunks": 4}
    model = load(file, replace(config_from(file, heads=2, grid=(2, 3)), **layout))  # type: ignore[arg-type]
    weights = tiny_tensors()
    vae, text, clip = wan.load_vae(weights), wan.load_text(weights), wan.load_clip(weights, heads=4)
    words = droid.tokenizer(str(folder))

    def first(frame: Tensor) -> FirstFrame:
        image = droid.pixels(frame)[:, :, 0]
        return FirstFrame(clip(image), vae.condition(image, 33))

    encoders = Encoders(
        lambda frames: Frames(vae.encode(droid.pixels(frames))),
        lambda prompt: Prompt(text.embed(*words(str(prompt)))),
        first,
    )
    head = ChunkGenerator(
        model, encoders, OfficialDreamZero(OfficialOptions(str(folder), **FAST)).head_config, droid.NEGATIVE_PROMPT
    )
    answers = []
    for query in range(queries):
        steps = [0] if query == 0 else range(24 * (query - 1), 24 * query + 1, 3)  # 9 frames, the first one known
        views = [[torch.from_numpy(observe(s).images[name]) for s in steps] for name in DROID.cameras]
        left, right, wrist = (torch.stack(view) for view in views)
        canvas = droid.canvas_droid(left, right, wrist, VIEW)[None]
        state = observe(24 * query).state
        scaled = np.append(np.clip(state[:7] / 2.0, -1.0, 1.0), np.clip(2.0 * state[7] - 1.0, -1.0, 1.0))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + 24 * query)
        noise = ChunkNoise(
            Frames(torch.randn(1, 16, 2, 4, 6, generator=generator)), torch.randn(1, 24, 8, generator=generator)
        )
        chunk = head.act(
            canvas, torch.from_numpy(scaled).float()[None, None], [droid.prompt("Press the button")], noise
        )
        assert chunk.action is not None
        relative = (chunk.action[0].numpy() + 1.0) / 2.0 * (HIGH - LOW) + LOW
        answers.append(np.clip(relative + np.append(state[:7], 0.0), *DROID.limits()))
    return answers


def test_actions_are_those_of_the_parts(folder: Path, policy: OfficialDreamZero) -> None:
    for plan, expected in zip(play(policy, 6), by_hand(folder, 6, seed=7), strict=True):
        np.testing.assert_allclose(plan.actions, expected, atol=1e-5)


def test_a_second_query_at_a_step_changes_nothing(policy: OfficialDreamZero) -> None:
    plans = play(policy, 3)
    policy.reset("Press the button", 7)
    policy.act(seen(0))
    assert plans[1].frames is not None
    extracted = policy.extract(seen(1), plans[1].frames)
    imagined = policy.imagine(seen(1))
    assert same([policy.act(seen(1))], plans[1:2])
    assert np.array_equal(policy.extract(seen(1), plans[1].frames), extracted)  # own video in, twice
    assert extracted.shape == (24, 8) and imagined.shape == (8, 180, 960, 3)
    other = policy.extract(seen(1), np.flip(plans[1].frames, axis=2).copy())
    assert not np.allclose(other, extracted)
    assert same([policy.act(seen(2))], plans[2:])
    with pytest.raises(ValueError, match="step 24 lies before the last query at 48"):
        policy.act(seen(1))


def test_clamping_the_own_latents_repeats_itself(policy: OfficialDreamZero) -> None:
    policy.reset("Press the button", 7)
    policy.act(seen(0))
    session = policy._session
    assert session is not None
    own = policy._generate(session).video
    clamped = [policy._generate(session, clamp=own) for _ in range(2)]
    assert torch.equal(clamped[0].video.latents, own.latents)
    assert clamped[0].action is not None and clamped[1].action is not None
    assert torch.equal(clamped[0].action, clamped[1].action)


# ------------------------------------------------------------------------------------------------- real-time chunking


@pytest.mark.parametrize(
    "options", [{}, {"mode": "video_first"}, {"mode": "no_video"}, {"batched": False}, {"guidance": 1.0}]
)
def test_a_chunk_continues_the_one_being_played(folder: Path, options: dict[str, Any]) -> None:
    policy = OfficialDreamZero(OfficialOptions(str(folder), **(FAST | {"steps": 5} | options)))
    assert isinstance(policy, Guided) and policy.chunk_steps == 24
    first, free = play(policy, 2)
    old = first.actions[8:].astype(np.float64) + 0.3 * (HIGH - LOW)  # somewhere else than it would go
    answers = []
    for previous, delay in ((old, 8), (old[:0], 0)):
        policy.reset("Press the button", 7)
        policy.act(seen(0))
        answers.append(policy.act_guided(seen(1), previous, delay))
    guided, nothing_known = answers
    assert guided.frames is None if options.get("mode") == "no_video" else guided.frames is not None
    gaps = [np.abs((plan.actions[:8] - old[:8]) / (HIGH - LOW)).mean() for plan in (guided, free)]
    assert gaps[0] < 0.3 * gaps[1]
    moved = np.abs((guided.actions - free.actions) / (HIGH - LOW)).mean(axis=1)
    assert moved[16:].mean() < 0.5 * moved[:8].mean()  # nothing was known of the last eight
    np.testing.assert_allclose(nothing_known.actions, free.actions, atol=1e-4)
    if options.get("mode") != "video_first":
        return
    assert guided.frames is not None and free.frames is not None
    np.testing.assert_array_equal(guided.frames, free.frames)  # the video was there before


def test_old_actions_are_told_relative_to_the_state_now(policy: OfficialDreamZero) -> None:
    """Absolute actions come back from the model's numbers for the state they were put into, and for no other."""
    actions = np.random.default_rng(0).uniform(-3.0, 3.0, (5, 8))  # far outside of the quantiles: nothing is clamped
    now, before = observe(24).state, observe(0).state
    told = torch.from_numpy(policy.statistics.actions_to_model(actions, now))
    np.testing.assert_allclose(policy.statistics.to_robot(told, now), actions, atol=1e-6)
    back = policy.statistics.to_robot(told, before)
    np.testing.assert_allclose(back - actions, np.append(before[:7] - now[:7], 0.0)[None].repeat(5, 0), atol=1e-6)


def test_the_correction_is_the_gradient_through_the_model(policy: OfficialDreamZero) -> None:
    """The corrected velocity of the loop against finite differences of the weighted error, number by number."""
    policy.reset("Press the button", 7)
    session = policy._observe(policy._current(), seen(0))
    head: Any = session.head
    noise = policy._noise(session)
    packing = _Packing.of(noise.video, head.last, 2)
    assert session.state is not None and noise.action is not None
    state = policy.statistics.to_model(session.state, policy.config.state_dim)[None, None]
    old = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
    inpaint = rtc.Guidance(old, rtc.prefix_weights(4, 16, 24))
    at: Any = (packing, packing.pack(noise.video))
    levels: Any = ((500, 500), (0.5, 0.5), state)

    def energy(x: Tensor) -> float:
        clean = x - 0.5 * head._velocity(*at, x, *levels)[1]
        return float(0.5 * ((old - clean).square() * inpaint.weights[:, None]).double().sum())

    _, corrected = head._inpainted(*at, noise.action, *levels, inpaint)
    with torch.no_grad():
        plain = head._velocity(*at, noise.action, *levels)[1]
        got, expected = [], []
        for index in list(np.ndindex(*noise.action.shape))[::7]:
            moved = torch.zeros_like(noise.action)
            moved[index] = 1e-2
            slope = (energy(noise.action + moved) - energy(noise.action - moved)) / 2e-2
            got.append(float((corrected - plain)[index]))
            expected.append(rtc.guidance_weight(0.5) * slope)
    np.testing.assert_allclose(got, expected, atol=5e-3 * np.abs(expected).max())


# ------------------------------------------------------------------------------------------------- frames


def test_imagined_views_lie_where_the_cameras_see_them() -> None:
    """A view through the canvas and back is the camera's own picture, up to the resampling, but for the border."""
    ramp = np.linspace(20, 230, 320, dtype=np.float32)[None, :] + np.linspace(0, 20, 180, dtype=np.float32)[:, None]
    views = [
        np.repeat(np.clip(ramp * share, 0, 255).astype(np.uint8)[None, :, :, None], 3, 3) for share in (1, 0.8, 0.6)
    ]
    tiled = from_canvas(to_canvas(views, droid.VIEW_SIZE), (180, 320))
    assert tiled.shape == (1, 180, 960, 3)
    for i, view in enumerate(views):
        back = tiled[:, :, 320 * i : 320 * (i + 1)].astype(int)
        assert np.abs(back - view)[:, 6:174, 10:310].max() <= 2
        assert np.array_equal(back[:, :4], np.repeat(back[:, 4:5], 4, axis=1))  # the border repeats its edge


def test_frames_that_are_handed_over(folder: Path) -> None:
    """Each schedule gets through to the model: number of frames at two queries, then the first frame of the chunk."""
    taken: dict[str, list[int]] = {}
    for protocol in ("exact", "repeat4", "single", "none"):
        options = {"history": "none"} if protocol == "none" else {"schedule": protocol}
        policy = OfficialDreamZero(OfficialOptions(str(folder), **(FAST | options)))
        policy.reset("press", 0)
        session = policy._session
        assert session is not None
        sizes: list[int] = []
        prepare = session.head.prepare

        def watch(frames: Tensor, prompts: Any, sizes: list[int] = sizes, prepare: Any = prepare) -> bool:
            sizes.append(frames.shape[1])
            return prepare(frames, prompts)

        session.head.prepare = watch  # type: ignore[method-assign]
        for query in range(2):
            policy.act(seen(query))
        taken[protocol] = [*sizes, session.head.start]
    assert taken == {"exact": [1, 9, 3], "repeat4": [1, 4, 3], "single": [1, 4, 3], "none": [1, 1, 1]}


OPTIONS: dict[str, dict[str, Any]] = {
    "joint": {},
    "video_first": {"mode": "video_first"},
    "no_video": {"mode": "no_video"},
    "flash": {"video_final": 0.8, "steps": 1},
    "unguided": {"guidance": 1.0},
    "two passes": {"batched": False},
    "bfloat16": {"dtype": "bfloat16"},
    "sliding": {"history": "sliding"},
    "smooth": {"smooth": True},
    "short": {"execute": 8},
    "released": {"steps": 16, "caching": "static"},
}


def test_sliding_goes_on_after_four_chunks(folder: Path) -> None:
    policy = OfficialDreamZero(OfficialOptions(str(folder), history="sliding", **FAST))
    plans = play(policy, 5)
    session = policy._session
    assert session is not None and session.head.start == 7
    assert session.head.cached_tokens == 7 * 6 and len(plans) == 5


def test_modes_and_options(folder: Path) -> None:
    answers = {}
    for name, options in OPTIONS.items():
        policy = OfficialDreamZero(OfficialOptions(str(folder), **(FAST | options)))
        policy.reset("Press the button", 7)
        answers[name] = policy.act(seen(0))
        if name == "no_video":
            assert answers[name].frames is None
            with pytest.raises(ValueError, match="imagines nothing"):
                policy.imagine(seen(0))
    assert answers["short"].execute == 8
    for name in ("video_first", "no_video", "flash", "unguided", "smooth", "released"):
        assert not np.allclose(answers[name].actions, answers["joint"].actions, atol=1e-4), name
    np.testing.assert_allclose(answers["bfloat16"].actions, answers["joint"].actions, atol=0.05)
    assert same([answers["sliding"]], [answers["joint"]])  # the first chunk of a life is the same
    np.testing.assert_allclose(answers["two passes"].actions, answers["joint"].actions, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "jont"}, "did you mean 'joint'"),
        ({"schedule": "exakt"}, "did you mean 'exact'"),
        ({"history": "slide"}, "did you mean 'sliding'"),
        ({"dtype": "int8"}, "bfloat16"),
        ({"execute": 25}, "1..24"),
        ({"steps": 4, "caching": "static"}, "caching=none"),
    ],
)
def test_options_that_do_not_exist(folder: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OfficialDreamZero(OfficialOptions(str(folder), **(FAST | options)))


# ------------------------------------------------------------------------------------------------- bad checkpoints


def test_what_is_official(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_official(str(folder)) and is_official("GEAR-Dreams/DreamZero-DROID")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "nano").write_bytes(b"")
    for other in ("weights/nano", "weights/typo.safetensors", "nano.safetensors", str(tmp_path), "a/b/c", "./nano"):
        assert not is_official(other), other


def test_misfits_are_named_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = tiny_tensors()
    del tensors[f"{MODEL}blocks.1.ffn.2.bias"]
    tensors[f"{MODEL}head.extra"] = torch.zeros(1)
    tensors[f"{VAE}conv1.bias"] = torch.zeros(3)
    tensors["action_head.stranger"] = torch.zeros(1)
    folder = write_official(tmp_path / "c", tensors)
    monkeypatch.setattr(droid, "tokenizer", lambda *_: pytest.fail("too late"))
    with pytest.raises(ValueError) as error:
        OfficialDreamZero(OfficialOptions(str(folder), **FAST))
    for words in ("1 missing", "blocks.1.ffn.2.bias", "1 unexpected", "head.extra", "conv1.bias: (3,)", "stranger"):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("no config", "no DreamZero checkpoint: config.json missing"),
        ("no statistics", "no DreamZero checkpoint: experiment_cfg/metadata.json missing"),
        ("damaged config", "damaged JSON"),
        ("silent config", "does not say frame_seqlen"),
        ("another robot", "no statistics of oxe_droid; it has those of: agibot"),
        ("six joints", r"state joint_position have shape \(6,\), expected \(7,\)"),
        ("absolute", "relative to the state"),
        ("another canvas", "make 11 x 20 tokens a frame, config.json says 6"),
        ("another model", "no tensor begins with 'action_head.model.', but weight"),
    ],
)
def test_bad_folders(tmp_path: Path, damage: str, words: str) -> None:
    folder = write_official(tmp_path / "c")
    config, metadata = folder / "config.json", folder / "experiment_cfg" / "metadata.json"
    conf, table = folder / "experiment_cfg" / "conf.yaml", json.loads(metadata.read_text())
    if damage == "no config":
        config.unlink()
    elif damage == "no statistics":
        metadata.unlink()
    elif damage == "damaged config":
        config.write_text("{")
    elif damage == "silent config":
        config.write_text(json.dumps({"action_head_cfg": {"config": {"diffusion_model_cfg": {"num_heads": 2}}}}))
    elif damage == "another robot":
        metadata.write_text(json.dumps({"agibot": table["oxe_droid"]}))
    elif damage == "six joints":
        table["oxe_droid"]["statistics"]["state"]["joint_position"] = {"q01": [0.0] * 6, "q99": [1.0] * 6}
        metadata.write_text(json.dumps(table))
    elif damage == "absolute":
        conf.write_text("relative_action: false\n")
    elif damage == "another canvas":
        conf.write_text("image_resolution_height: 88\nimage_resolution_width: 160\n")
    else:
        for file in folder.glob("*.safetensors*"):
            file.unlink()
        save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=words):
        OfficialDreamZero(OfficialOptions(str(folder), **FAST))


def test_the_released_sizes(tmp_path: Path) -> None:
    """Names and shapes of the 14B transformer give its config, with views of the released size."""
    with torch.device("meta"):
        tensors = {MODEL + name: value for name, value in DiT(CONFIGS["14b"]).state_dict().items()}
    layout = SIZES | {"num_heads": 40, "frame_seqlen": 880}
    opened = Checkpoint(tmp_path, tensors, {"diffusion_model_cfg": layout})
    assert view_size(opened) == (176, 320)
    assert transformer_config(opened, view_size(opened)) == CONFIGS["14b"]


def test_another_layout_is_no_droid_model(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "c", num_action_per_block=48)
    with pytest.raises(ValueError, match="48 actions a chunk do not fit 8 frames of 3 steps"):
        OfficialDreamZero(OfficialOptions(str(folder), **FAST))


def test_queries_that_make_no_sense(policy: OfficialDreamZero, folder: Path) -> None:
    with pytest.raises(ValueError, match="reset must be called"):
        OfficialDreamZero(OfficialOptions(str(folder), **FAST)).act(seen(0))
    policy.reset("press", 0)
    with pytest.raises(ValueError, match="history is empty"):
        policy.act([])
    now = observe(0)
    small = Observation(0, {**now.images, "wrist": now.images["wrist"][:96, :96]}, now.state)
    with pytest.raises(ValueError, match=r"wrist is \(96, 96, 3\)"):
        policy.act([small])
    with pytest.raises(ValueError, match="future frames must be"):
        policy.extract(seen(0), np.zeros((4, 180, 960, 3), np.uint8))


def test_the_fingerprint_is_of_the_weights(folder: Path, policy: OfficialDreamZero, tmp_path: Path) -> None:
    tensors = tiny_tensors()
    tensors[f"{MODEL}head.head.weight"] = tensors[f"{MODEL}head.head.weight"] + 1e-3
    other = OfficialDreamZero(OfficialOptions(str(write_official(tmp_path / "c", tensors)), **FAST))
    assert (
        OfficialDreamZero(OfficialOptions(str(folder), **FAST)).weights_hash
        == policy.weights_hash
        != other.weights_hash
    )


# ------------------------------------------------------------------------------------------------- convention


def test_a_world_of_another_convention_is_refused(folder: Path, tmp_path: Path) -> None:
    from tests.stubs import line_sim
    from wambench.evaluation.config import RunConfig
    from wambench.evaluation.worker import Player

    lines = mismatches(ControlConvention(), DROID)
    assert len(lines) == 8 and "control_hz: the environment has 20.0, the policy expects 15.0" in lines
    arguments = {"weights": str(folder), **FAST}
    config = RunConfig.resolve(
        "wambench.policies.dreamzero.official.policy:policy",
        "seen",
        policy_args=arguments,
        out=tmp_path / "run",
    )
    with pytest.raises(ValueError) as error:
        Player(config, line_sim).enter("PressButton")
    for words in (
        "does not fit PressButton",
        "action: the environment has 'osc_pose_delta', the policy expects 'joint_position'",
        "cameras: the environment has ('agentview', 'wrist'), the policy expects ('exterior_1', 'exterior_2', 'wrist')",
    ):
        assert words in str(error.value)


# ------------------------------------------------------------------------------------------------- a run


def test_it_plays_in_the_simulator_and_can_be_attributed(folder: Path, tmp_path: Path) -> None:
    """No robot is asked for: the checkpoint's convention brings the DROID simulator along."""
    from wambench.attribution import attribute as attribution
    from wambench.evaluation.config import RunConfig
    from wambench.evaluation.run import run
    from wambench.records import load_episode

    config = RunConfig.resolve(
        "dreamzero", "seen", ("PressButton",), policy_args={"weights": str(folder), **FAST}, episodes=1, out=tmp_path
    )
    (row,) = run(config)
    told = json.loads((tmp_path / "run.json").read_text())
    assert (row.status, row.steps, row.queries) == ("ok", 82, 4) and row.error == ""
    assert told["robot"] == "droid" and "robot" not in told["config"] and told["convention"]["image_size"] == [180, 320]
    episode = load_episode(tmp_path / "episodes" / "PressButton-v1.none.0.npz")
    assert (episode.spec.robot, episode.spec.control_hz, episode.spec.horizon) == ("droid", 15.0, 82)
    assert [one.step for one in episode.observations] == [*range(0, 82, 3), 82]  # 5 Hz, and the end
    assert [chunk.step for chunk in episode.chunks] == [0, 24, 48, 72]
    low, high = DROID.limits()
    for chunk in episode.chunks:
        plan, now = chunk.plan, next(one for one in episode.observations if one.step == chunk.step)
        assert plan.actions.shape == (24, 8) and (plan.actions >= low).all() and (plan.actions <= high).all()
        relative = plan.actions[:, :7] - now.state[:7]  # within what the checkpoint's statistics span
        assert relative.min() > 3 * LOW.min() and relative.max() < 3 * HIGH.max()
        assert plan.frames is not None and plan.frames.shape == (8, 180, 960, 3)
        assert plan.frame_steps is not None and plan.frame_steps.tolist() == [chunk.step + 3 * i for i in range(1, 9)]
    (found,) = attribution.attribute(tmp_path, None, 1)
    assert found.error == "" and "no reader of this robot's frames" in found.missing
    assert found.own_own == row.progress and found.placebo == 0.0 and 0.0 <= found.oracle_own <= 1.0
    assert np.isnan(found.own_oracle) and not found.d1 and not found.d2 and found.behaviour
