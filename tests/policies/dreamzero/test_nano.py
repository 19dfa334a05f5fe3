"""The small DreamZero: what its tokens hold, its objective, and sampling."""

from dataclasses import replace

import pytest
import torch

from wambench.policies.dreamzero import nano, sampling
from wambench.policies.dreamzero.dit import bases_of
from wambench.policies.dreamzero.solvers import SamplerConfig
from wambench.policies.perception.encoder import STATE_FEATURES
from wambench.policies.perception.scene import PRESENT, SceneFeatures, encode_words
from wambench.policies.training import augmentation, nano_loss, warm_start

POINTS = ("red_cube", "blue_cube", "hand")
CONFIG = nano.config_for("tiny", POINTS, (8, 6, 12))
LATENT = (8, 6, 12)
CALM = augmentation.Augmentation("mixed", 0, 0, 0, 0, 0, 0, 0, 0, 0)


def model_of(seed: int = 0) -> nano.SmallDreamZero:
    torch.manual_seed(seed)
    model = nano.SmallDreamZero(CONFIG)
    for name, parameter in model.named_parameters():
        if "head" in name or "decoder" in name:  # silent at the start, which would hide what leaks through
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return model.eval()


def batch_of(count: int = 4, chunks: int = 2, seed: int = 0) -> augmentation.TrainingBatch:
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 1 + 2 * chunks, 3, 4, generator=g)
    points[..., 3] = (points[..., 3] > -1).float()
    scene = SceneFeatures(
        latents=torch.randn(count, 1 + 2 * chunks, *LATENT, generator=g),
        points=points,
        state=torch.randn(count, chunks, STATE_FEATURES, generator=g),
        known=torch.ones(count, chunks, 1),
        at_chunk=points[:, : 2 * chunks : 2],
    )
    words = encode_words(["reach the red cube"] * (count - 1) + ["put the blue cube beside the red cube"], POINTS)
    ones = torch.ones(count, chunks)
    actions = torch.randn(count, chunks, 16, 7, generator=g)
    return augmentation.TrainingBatch(scene, words, actions, actions, ones, ones, ones)


def test_words_name_things() -> None:
    words = encode_words(["put the blue cube beside the red cube", "wait"], POINTS)
    assert words.slots[0, 0].argmax() == 1 and words.slots[0, 1].argmax() == 0
    assert not words.slots[1].any() and words.mask.sum(dim=1).tolist() == [6, 1]
    hidden = words.hide(torch.tensor([True, False]))
    assert not hidden.vectors[0].any() and not hidden.slots[0].any() and hidden.mask[0].sum() == 1
    assert torch.equal(hidden.vectors[1], words.vectors[1])


def test_key_points_survive_the_vector_token() -> None:
    model = model_of()
    points = torch.rand(5, 3, 4)
    points[..., 3] = 1.0
    torch.testing.assert_close(model.points(model.vectors(points)), points)
    points[..., 3] = 0.0
    moved = points.clone()
    moved[..., :3] += 1.0
    assert torch.equal(model.vectors(points), model.vectors(moved))  # an absent object has no place


def test_an_unknown_state_is_not_read() -> None:
    model, batch = model_of(), batch_of()
    unknown = replace(batch.scene, known=torch.zeros(4, 2, 1))
    other = replace(unknown, state=unknown.state + 1.0)
    assert torch.equal(model.states(unknown, batch.words), model.states(other, batch.words))
    assert not torch.equal(model.states(unknown, batch.words), model.states(batch.scene, batch.words))


def test_borrowed_style_keeps_the_picture() -> None:
    latents = torch.randn(3, 4, 2, 6, 12) * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1, 1, 1) + 3.0
    lender = torch.tensor([1, 2, 0])
    torch.testing.assert_close(
        augmentation.borrow_style(latents, lender, torch.zeros(3)), latents, atol=1e-4, rtol=1e-4
    )
    out = augmentation.borrow_style(latents, lender, torch.ones(3)).view(3, 4, 2, 6, 2, 6)
    want = latents[lender].view(3, 4, 2, 6, 2, 6)
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(statistic(out, (1, 3, 5)), statistic(want, (1, 3, 5)), atol=1e-2, rtol=1e-2)


def test_video_without_actions_teaches_no_action() -> None:
    batch = batch_of()
    batch = replace(batch, has_actions=torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]))
    video, action, _, _ = nano_loss.draw_levels(batch, augmentation.Augmentation(), torch.Generator().manual_seed(0))
    assert (action[[0, 2]] == 1).all() and (video[[0, 2]] > 0).all()
    model = model_of()
    losses = []
    for change in (0.0, 5.0):
        actions = batch.actions.clone()
        actions[[0, 2]] += change  # nothing must depend on what stands in for missing actions
        g = torch.Generator().manual_seed(1)
        losses.append(
            nano_loss.loss(model, replace(batch, actions=actions, executed=actions), augmentation.Augmentation(), g)
        )
    for a, b in zip(*losses, strict=True):
        torch.testing.assert_close(a, b)


def test_what_cannot_be_foreseen_teaches_no_video() -> None:
    batch = replace(batch_of(), foreseen=torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    how = augmentation.Augmentation()
    video, action, _, inverse = nano_loss.draw_levels(batch, how, torch.Generator().manual_seed(0))
    assert (video[(batch.foreseen == 0) & ~inverse[:, None]] == 1).all() and action.min() < 1
    model = model_of()
    losses = []
    for change in (0.0, 5.0):
        latents = batch.scene.latents.clone()
        latents[2, 1:] += change  # the future of a sequence that cannot be foreseen
        scene = replace(batch.scene, latents=latents)
        g = torch.Generator().manual_seed(1)
        losses.append(nano_loss.loss(model, replace(batch, scene=scene), CALM, g))
    torch.testing.assert_close(losses[0][1], losses[1][1])
    assert not torch.isclose(losses[0][2], torch.zeros(()))


@pytest.mark.parametrize("seen", [0.31, 0.6, 1.0])
def test_doubt_moves_no_object(seen: float) -> None:
    model = model_of()
    batch = batch_of(2, 1)
    doubted = batch.scene.points.clone()
    doubted[..., 3] *= seen
    absent = doubted.clone()
    absent[..., 3] *= 0.9 * PRESENT / seen
    assert torch.equal(model.vectors(doubted), model.vectors(batch.scene.points))
    assert not torch.equal(model.vectors(absent), model.vectors(batch.scene.points))
    told = replace(batch.scene, at_chunk=doubted[:, :1])
    sure = replace(batch.scene, at_chunk=batch.scene.points[:, :1])
    assert torch.equal(model.states(told, batch.words), model.states(sure, batch.words))
    before = nano.SmallDreamZero(replace(CONFIG, presence=0.0))
    if seen < 1.0:
        assert not torch.equal(before.vectors(doubted), before.vectors(batch.scene.points))


def few(steps: int) -> SamplerConfig:
    return replace(sampling.FEW_STEPS, steps=steps)


def noise(count: int = 2) -> sampling.SamplingNoise:
    return sampling.draw_noise(CONFIG, [torch.Generator().manual_seed(i) for i in range(count)])


def test_sampling_repeats_clamps_and_rests() -> None:
    model, batch = model_of(), batch_of(2, 1)
    frames = model.frames(batch.scene.latents, batch.scene.points)
    memory = sampling.remember(model, frames.part(0, 1), batch.words)
    state = model.states(batch.scene, batch.words)
    video, action = sampling.sample(model, memory, state, noise(), sampling.Sampling(few(3)))
    again = sampling.sample(model, memory, state, noise(), sampling.Sampling(few(3)))
    assert torch.equal(video.latents, again[0].latents) and torch.equal(action, again[1])
    kept, own = sampling.sample(model, memory, state, noise(), sampling.Sampling(few(3)), clamp=video)
    assert kept is video
    other = replace(video, latents=video.latents + 1.0)
    assert (
        own - sampling.sample(model, memory, state, noise(), sampling.Sampling(few(3)), clamp=other)[1]
    ).abs().max() > 1e-4
    still, _ = sampling.sample(model, memory, state, noise(), sampling.Sampling(few(3), video=False))
    assert torch.equal(still.latents.transpose(1, 2), noise().video)
    _, resting = sampling.sample(model, memory, state, noise(), sampling.Sampling(few(3), action=False))
    assert torch.equal(resting, noise().action)


def test_memory_of_played_chunks_equals_training() -> None:
    """What is predicted behind a cache of real frames is what the teacher-forced pass predicts for that chunk."""
    model, batch = model_of(), batch_of(2, 2)
    frames = model.frames(batch.scene.latents, batch.scene.points)
    states, words = model.states(batch.scene, batch.words), batch.words
    context = model.dit.encode_context(words.vectors, words.mask)
    level = torch.full((2, 4), 500.0)
    with torch.no_grad():
        noisy = frames.part(1, 5)
        out = model.dit(frames, noisy, level, context, batch.actions.flatten(1, 2), level[:, ::2], states)
        memory = sampling.remember(model, frames.part(0, 1), words)
        memory = sampling.remember(model, frames.part(1, 3), words, memory)
        again = model.dit.denoise(
            memory.video.cache,
            frames.part(3, 5),
            level[:, 2:],
            3,
            context,
            batch.actions[:, 1],
            level[:, :1],
            states[:, 1:],
            base=memory.base,
        )
    assert out.action is not None and again.action is not None
    torch.testing.assert_close(out.action[:, 16:], again.action, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(out.video.latents[:, :, 2:], again.video.latents, atol=2e-5, rtol=2e-5)


def test_nothing_reads_the_clean_copies_of_the_last_chunk() -> None:
    model, batch = model_of(), batch_of(2, 2)
    frames = model.frames(batch.scene.latents, batch.scene.points)
    states = model.states(batch.scene, batch.words)
    context = model.dit.encode_context(batch.words.vectors, batch.words.mask)
    level = torch.full((2, 4), 500.0)
    with torch.no_grad():
        whole, short = (
            model.dit(seen, frames.part(1, 5), level, context, batch.actions.flatten(1, 2), level[:, ::2], states)
            for seen in (frames, frames.part(0, 3))
        )
    torch.testing.assert_close(whole.video.latents, short.video.latents, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(whole.action, short.action, atol=2e-5, rtol=2e-5)


def test_frames_are_told_their_base() -> None:
    frames = nano.Frames(torch.arange(5.0).view(1, 1, 5, 1, 1), torch.arange(5.0).view(1, 5, 1))
    bases = bases_of(CONFIG.dit, frames, range(5))
    assert bases.latents.flatten().tolist() == [0, 0, 0, 2, 2] and bases.vectors is not None
    assert bases.vectors.flatten().tolist() == [0, 0, 0, 2, 2]
    window = replace(CONFIG.dit, bidirectional=True)
    assert bases_of(window, frames, range(5)).latents.flatten().tolist() == [0, 0, 0, 0, 0]
    model, batch = model_of(), batch_of(1, 1)
    first = model.frames(batch.scene.latents, batch.scene.points).part(0, 1)
    noisy = model.frames(batch.scene.latents, batch.scene.points).part(1, 3)
    context = model.dit.encode_context(batch.words.vectors, batch.words.mask)
    memory = sampling.remember(model, first, batch.words)
    other = replace(first, latents=first.latents + 1.0)
    level = torch.full((1, 2), 500.0)
    with torch.no_grad():
        seen = [model.dit.denoise(memory.video.cache, noisy, level, 1, context, base=b) for b in (first, other)]
    assert (seen[0].video.latents - seen[1].video.latents).abs().max() > 1e-4
    with pytest.raises(ValueError, match="base is missing"):
        model.dit.denoise(memory.video.cache, noisy, level, 1, context)


def test_trimmed_words_answer_alike() -> None:
    batch = batch_of(2, 1)
    words = batch.words.trimmed()
    assert words.mask.shape[1] == 6 < batch.words.mask.shape[1]  # "put blue cube beside red cube"
    model = model_of()
    first = model.frames(batch.scene.latents, batch.scene.points).part(0, 1)
    answers = [
        sampling.sample(
            model, sampling.remember(model, first, w), model.states(batch.scene, w), noise(), sampling.Sampling()
        )[1]
        for w in (batch.words, words)
    ]
    torch.testing.assert_close(answers[0], answers[1], atol=2e-5, rtol=2e-5)


def test_overfits_one_batch() -> None:
    torch.manual_seed(0)
    model, g = nano.SmallDreamZero(CONFIG), torch.Generator().manual_seed(0)
    batch = batch_of(8, 1)
    batch = replace(batch, actions=2.0 * torch.randn(8, 1, 1, 7, generator=g).expand(8, 1, 16, 7))
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    losses = []
    for _ in range(150):
        action = nano_loss.loss(model, batch, CALM, g)[2]
        losses.append(float(action.detach()))
        optimiser.zero_grad()
        action.backward()
        optimiser.step()
    assert sum(losses[-10:]) < sum(losses[:10]) / 5


def test_bad_configs_are_named() -> None:
    with pytest.raises(ValueError, match="no small model 'nanoo'"):
        nano.config_for("nanoo", (), (24, 6, 12))
    with pytest.raises(ValueError, match="does not divide"):
        nano.config_for("nano", (), (24, 7, 12))
    assert nano.SmallDreamZeroConfig.from_dict(CONFIG.to_dict()) == CONFIG


@pytest.mark.parametrize("ablation", list(nano.ABLATIONS))
def test_ablations_train_and_sample(ablation: str) -> None:
    torch.manual_seed(0)
    model, batch = nano.SmallDreamZero(nano.config_for("tiny", POINTS, LATENT, ablation)), batch_of(4, 1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    losses = nano_loss.loss(model, batch, augmentation.Augmentation(), torch.Generator().manual_seed(0))
    assert (losses[0] == 0) == (ablation == "no_video_loss") and losses[2] > 0
    sum(losses).backward()  # type: ignore[union-attr]
    frames = model.frames(batch.scene.latents, batch.scene.points)
    memory = sampling.remember(model, frames.part(0, 1), batch.words)
    state = model.states(batch.scene, batch.words)
    video, action = sampling.sample(model, memory, state, noise(4), sampling.Sampling(few(2)))
    assert video.count == 2 and action.shape == (4, 16, 7)
    _, other = sampling.sample(model, memory, state, noise(4), sampling.Sampling(few(2)), frames.part(1, 3))
    assert (other - action).abs().max() > 1e-6


def test_without_key_points_nothing_of_them_is_read() -> None:
    for ablation, same in (("no_key_points", True), ("none", False)):
        torch.manual_seed(0)
        model, batch = nano.SmallDreamZero(nano.config_for("tiny", POINTS, LATENT, ablation)), batch_of(4, 1)
        moved = replace(batch.scene, points=batch.scene.points + 0.1, at_chunk=batch.scene.at_chunk + 0.1)
        read = [model.states(scene, batch.words) for scene in (batch.scene, moved)]
        seen = [model.vectors(scene.points) for scene in (batch.scene, moved)]
        assert torch.equal(*read) is same and torch.equal(*seen) is same


def test_separate_networks_do_not_share() -> None:
    """The video model never sees actions or state; the inverse model never sees how noisy the video was."""
    model = nano.SmallDreamZero(nano.config_for("tiny", POINTS, LATENT, "separate"))
    assert not hasattr(model.dit, "action_encoder") and hasattr(model.inverse, "action_encoder")
    assert model.config.to_dict()["ablation"] == "separate"


def test_guidance_moves_the_video_only_where_it_is_asked() -> None:
    model, batch = model_of(), batch_of(2, 1)
    frames, hidden = model.frames(batch.scene.latents, batch.scene.points), torch.ones(2, dtype=torch.bool)
    words = batch.words.hide(hidden)
    memories = [sampling.remember(model, frames.part(0, 1), w) for w in (batch.words, words)]
    states = [model.states(batch.scene, w) for w in (batch.words, words)]
    how = [sampling.Sampling(few(2), guidance=g) for g in (1.0, 1.0 + 1e-9, 3.0)]
    out = [sampling.sample(model, memories[0], states[0], noise(), h, None, (memories[1], states[1])) for h in how]
    torch.testing.assert_close(out[0][0].latents, out[1][0].latents)
    assert (out[0][0].latents - out[2][0].latents).abs().max() > 1e-4
    with pytest.raises(ValueError, match="guidance needs"):
        sampling.sample(model, memories[0], states[0], noise(), how[2])


def test_chunk_layout_is_an_option() -> None:
    config = nano.config_for("tiny", POINTS, LATENT, frames_per_chunk=1, actions_per_chunk=8)
    assert config.stride == 8 and config.dit.window == 5
    with pytest.raises(ValueError, match="even number"):
        nano.config_for("tiny", POINTS, LATENT, frames_per_chunk=3, actions_per_chunk=16)
    with pytest.raises(ValueError, match="did you mean 'separate'"):
        nano.config_for("tiny", POINTS, LATENT, "seperate")


@pytest.mark.parametrize("solver", ["euler", "unipc"])
@pytest.mark.parametrize("steps", [1, 4, 16])
def test_an_exact_model_is_followed(solver: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever predicts the clean value at every level is where it said at the end, whatever the solver."""
    model, batch = model_of(), batch_of(2, 1)
    frames = model.frames(batch.scene.latents, batch.scene.points)
    memory = sampling.remember(model, frames.part(0, 1), batch.words)
    truth = frames.part(1, 3), torch.full((2, 16, 7), 2.0)
    monkeypatch.setattr(sampling, "_evaluate", lambda *_: truth)
    how = sampling.Sampling(replace(few(steps), solver=solver))
    video, action = sampling.sample(model, memory, model.states(batch.scene, batch.words), noise(), how)
    torch.testing.assert_close(video.latents, truth[0].latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(action, truth[1], atol=1e-4, rtol=1e-4)


def test_cached_velocities_are_reused() -> None:
    model, batch = model_of(), batch_of(2, 1)
    frames = model.frames(batch.scene.latents, batch.scene.points)
    memory = sampling.remember(model, frames.part(0, 1), batch.words)
    calls = []
    handle = model.dit.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    for caching, want in (("none", 16), ("static", 8)):
        calls.clear()
        config = replace(few(16), caching=caching)
        sampling.sample(model, memory, model.states(batch.scene, batch.words), noise(), sampling.Sampling(config))
        assert len(calls) == want
    handle.remove()


def test_doubt_moves_things_alike_in_all_frames_and_never_the_hand() -> None:
    batch = batch_of(8, 2)
    how = replace(CALM, doubt=1.0, doubt_m=0.012)
    moved = augmentation.augment(batch, how, POINTS, torch.Generator().manual_seed(0)).scene
    shift = moved.points[..., :3] - batch.scene.points[..., :3]
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))
    assert not shift[:, :, 2].any() and 0.005 < float(shift[:, :, :2].std()) < 0.02
    torch.testing.assert_close(moved.at_chunk, moved.points[:, :4:2])
    same = augmentation.augment(batch, CALM, POINTS, torch.Generator().manual_seed(0)).scene
    assert torch.equal(same.points, batch.scene.points)
    torch.testing.assert_close(same.latents, batch.scene.latents)


WIDER = nano.config_for("tiny", ("blue_cube", "plate", "red_cube", "mug", "hand"), LATENT)


def first_prediction(
    model: nano.SmallDreamZero, scene: SceneFeatures, level: torch.Tensor, vectors: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Returns latents, vectors and actions that a model predicts of a noisy chunk after frame 0."""
    words = encode_words(["reach the red cube"] * 2, model.config.points)
    frames = model.frames(scene.latents, scene.points)
    based = model.config.dit.based
    with torch.no_grad():
        context = model.dit.encode_context(words.vectors, words.mask)
        cache = sampling.KVCache(model.config.dit, 2, model.dit.device, model.dit.dtype)
        base = frames.part(0, 1) if based else None
        model.dit.observe(cache, frames.part(0, 1), 0, context, base=base)
        noisy = nano.Frames(frames.latents[:, :, 1:], vectors)
        actions = torch.linspace(-1, 1, 16 * 7).view(1, 16, 7).expand(2, -1, -1)
        out = model.dit.denoise(
            cache, noisy, level, 1, context, actions, level[:, :1], model.states(scene, words), base=base
        )
    assert out.video.vectors is not None and out.action is not None
    return out.video.latents, out.video.vectors, out.action


@pytest.mark.parametrize("based", [True, False])
def test_a_widened_model_starts_where_the_old_one_stood(based: bool) -> None:
    old = nano.SmallDreamZero(replace(CONFIG, dit=replace(CONFIG.dit, based=based))).eval()
    for parameter in old.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    new = nano.SmallDreamZero(WIDER).eval()
    new.load_state_dict(warm_start.widened_dreamzero(old.state_dict(), old.config, new))
    at = torch.tensor([WIDER.points.index(name) for name in POINTS])
    scene = batch_of(2, 1).scene
    wider = replace(
        scene,
        points=torch.zeros(2, 3, 5, 4).index_copy(2, at, scene.points),
        at_chunk=torch.zeros(2, 1, 5, 4).index_copy(2, at, scene.at_chunk),
    )
    level = torch.full((2, 2), 500.0)
    vectors = torch.randn(2, 2, 12)
    more = torch.randn(2, 2, 5, 4).index_copy(2, at, vectors.unflatten(2, (3, 4)))
    latents, places, action = first_prediction(old, scene, level, vectors)
    again = first_prediction(new, wider, level, more.flatten(2))
    torch.testing.assert_close(again[0], latents, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(again[1].unflatten(2, (5, 4))[:, :, at].flatten(2), places, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(again[2], action, atol=1e-3, rtol=1e-3)
    assert (latents.std() > 0.1) and (action.std() > 0.1)


def test_a_model_cannot_forget_key_points() -> None:
    wide = nano.SmallDreamZero(WIDER)
    with pytest.raises(ValueError, match="place mug, plate, which the encoder does not read"):
        warm_start.widened_dreamzero(wide.state_dict(), WIDER, nano.SmallDreamZero(CONFIG))
