"""DreamZero's adapter: observations in, imagined frames and actions out.

At every query the newest real frame is encoded. It becomes frame 0 of an empty cache, or, if exactly one chunk has been
played since the last query, the chunk's real frames are injected behind what the cache holds, until it is full and is
reset. Imagined frames never enter it. Noise is a function of (episode seed, env step, candidate), so that two rollouts
of an episode that differ only in what is clamped start from the same noise.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wambench.interface import ControlConvention, Observation, Plan, canvas, unknown_name
from wambench.policies import check_arguments, weight_files
from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.actions import smoothing
from wambench.policies.actions.commands import to_commands
from wambench.policies.dreamzero import choice, nano, sampling
from wambench.policies.dreamzero.dit import Frames
from wambench.policies.dreamzero.solvers import SamplerConfig
from wambench.policies.networks.noise import generator_at
from wambench.policies.perception import encoder as encoding
from wambench.policies.perception import renderer as rendering
from wambench.policies.perception.encoder import state_features
from wambench.policies.perception.renderer import Renderer, Told
from wambench.policies.perception.scene import SceneFeatures, Words, encode_words
from wambench.policies.weight_files import digest

if TYPE_CHECKING:
    from wambench.policies.dreamzero.official.policy import OfficialDreamZero

WEIGHTS = "dreamzero-nano.safetensors"
MODES = ("joint", "video_first", "inverse", "no_video")
HISTORIES = ("cache", "sliding", "none")
SCHEDULES = ("exact", "repeat4", "single")
CANDIDATE_APART = 7_919  # added to the step for each further candidate, so that their noise differs


@dataclass(frozen=True)
class EncodedFrame:
    """One real frame as the policy knows it.

    Attributes:
        frame: (h, w, 3) uint8 canvas.
        latent: (Z, y, x).
        points: (C, 4).
        state: (S,) features.
    """

    frame: Tensor
    latent: Tensor
    points: Tensor
    state: Tensor


@dataclass
class DreamZeroSession:
    """One episode as the policy knows it.

    Attributes:
        seed: Of the episode.
        words: The instruction.
        seen: Real frames by env step.
        memories: Caches of real frames, by whether the instruction is hidden.
        newest: Env step of the newest real frame (-1 before the first).
        dream: What was imagined last, as frames (K, h, w, 3) and as the model knows it.
        instruction: The words themselves.
    """

    seed: int
    words: Words
    seen: dict[int, EncodedFrame] = field(default_factory=dict)
    memories: dict[bool, sampling.GenerationMemory] = field(default_factory=dict)
    newest: int = -1
    dream: tuple[np.ndarray, Frames] | None = None
    instruction: str = ""


def load_nano(path: Path) -> tuple[nano.SmallDreamZero, dict]:
    """Returns a model in evaluation mode and its metadata; a missing, damaged or foreign file raises ValueError."""
    build = nano.SmallDreamZeroConfig.from_dict
    return weight_files.load_model(path, "dreamzero", lambda config: nano.SmallDreamZero(build(config)))


def find_renderer(name: str | None, encoder: Path, device: str) -> Renderer | None:
    """Returns the renderer of `DreamZeroOptions.renderer`; one of another encoder raises ValueError."""
    if name is None:
        return None
    renderer, meta = rendering.load(name)
    if meta.get("encoder") != digest(encoder):
        raise ValueError(f"{name}: trained with another encoder than {encoder}")
    return renderer.to(device)


@dataclass(frozen=True)
class DreamZeroOptions:
    """What `DreamZero` is made of and how it answers: the arguments of `--policy-args`.

    Attributes:
        weights: Weights file, or the name of a shipped one (None: `WEIGHTS`).
        encoder: Encoder file the model was trained with (None: found among the shipped ones).
        renderer: File of the renderer that draws imagined frames (None: latents are decoded).
        steps: Denoising steps.
        solver: "euler" or "unipc".
        shift: Of the noise levels: above 1 stays longer at high noise (the 14B model uses 5).
        caching: Reuse of velocities between steps (DiT caching): "none", "static" (of 16 steps only `evaluations` are
            computed) or "dynamic" (while successive velocities point the same way).
        evaluations: Of static caching: 5, 6, 7 or 8.
        video_final: Noise level at which the video's schedule ends while actions go to 0 (Flash's decoupled schedule).
        execute: Actions of each chunk to carry out before the next query.
        mode: "joint" denoises video and actions together, "video_first" the video and then the actions for it,
            "inverse" the same, but the actions are not told the instruction (inverse dynamics of the imagined video),
            "no_video" leaves the video at noise and returns no frames. None: "joint", or "video_first" for separate
            networks, which have neither "joint" nor "no_video".
        history: "cache" injects the real frames of each chunk that was played and starts again when the window of
            `max_chunks` is full (the paper's hard reset), "sliding" drops the oldest frames instead, "none" starts from
            the newest frame every time.
        schedule: Which real frames stand for a chunk: "exact" those of its own frame times, if it was played to its end
            (else the cache starts again); "repeat4" those a client sends that takes four frames of a chunk and repeats
            each (a third of the chunk and its end); "single" the last ones that were queried, however long ago.
        guidance: Weight of the instruction on the imagined video (classifier-free guidance); 1: none.
        candidates: Futures to imagine at each query, of which one is carried out.
        lookahead: Chunks that each candidate is imagined ahead before it is compared.
        choose: Which candidate: "agreement" the one most like the others, "goal" the one that comes nearest to what the
            instruction asks for, "random" any, as a control (`choice`).
        smooth: Filter each chunk of actions (`smoothing`).
        device: "cpu" or "cuda".

    A value that no model can take raises ValueError; what depends on the model is checked when it is loaded.
    """

    weights: str | None = None
    encoder: str | None = None
    renderer: str | None = None
    steps: int = 2
    solver: str = "euler"
    shift: float = 1.0
    caching: str = "none"
    evaluations: int = 8
    video_final: float = 0.0
    execute: int = 4
    mode: str | None = None
    history: str = "cache"
    schedule: str = "exact"
    guidance: float = 1.0
    candidates: int = 1
    lookahead: int = 1
    choose: str = choice.CHOICES[0]
    smooth: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        names = (
            ("mode", self.mode or MODES[0], MODES),
            ("history", self.history, HISTORIES),
            ("schedule", self.schedule, SCHEDULES),
            ("choose", self.choose, choice.CHOICES),
        )
        for what, asked, known in names:
            if asked not in known:
                raise unknown_name(what, asked, known)
        if self.candidates < 1 or self.lookahead < 1 or not 0.0 <= self.guidance < 100.0:
            raise ValueError(
                f"candidates and lookahead must be at least 1, got {self.candidates}, {self.lookahead}; "
                f"guidance {self.guidance}"
            )

    def sampling(self) -> sampling.Sampling:
        """Returns how a chunk is denoised; a solver or caching that does not exist raises ValueError."""
        config = SamplerConfig(self.steps, self.solver, self.shift, self.video_final, self.caching, self.evaluations)
        return sampling.Sampling(config, self.guidance)

    def mode_for(self, separate: bool, path: Path) -> str:
        """Returns the mode to play in; one that separate networks do not have raises ValueError naming their file."""
        mode = self.mode or ("video_first" if separate else "joint")
        if separate and mode in ("joint", "no_video"):
            raise ValueError(f"{path}: separate networks have no mode {mode!r}; there are video_first and inverse")
        return mode


def policy(weights: str | None = None, **options: Any) -> DreamZero | OfficialDreamZero:
    """Returns the policy of a weights file of ours, or of an official checkpoint (a folder, or a name on the hub).

    Args:
        weights: See above; None is the shipped nano model.
        options: Other fields of `DreamZeroOptions`, or of `official.policy.OfficialOptions` for a checkpoint.

    An option that does not exist raises ValueError naming those that do.
    """
    if weights is not None:
        from wambench.policies.dreamzero.official import policy as official

        if official.is_official(weights):
            return official.policy(weights, **options)
    check_arguments(DreamZeroOptions, options, "dreamzero")
    return DreamZero(DreamZeroOptions(weights, **options))


class DreamZero:
    """A world action model as a policy.

    Args:
        options: See `DreamZeroOptions`; None: the shipped model with the defaults.

    A missing, damaged or unfitting file, or an option that does not fit the model, raises ValueError naming it.
    """

    def __init__(self, options: DreamZeroOptions | None = None) -> None:
        self.options = options = options or DreamZeroOptions()
        path = weight_files.find(options.weights, WEIGHTS)
        model, meta = load_nano(path)
        encoder_path = weight_files.encoder_for(path, meta, options.encoder)
        reader, _ = encoding.load(encoder_path)
        self.chunk_steps = model.config.chunk_steps
        if not 1 <= options.execute <= self.chunk_steps or options.steps < 1:
            raise ValueError(
                f"execute must be in 1..{self.chunk_steps} and steps at least 1, got {options.execute}, {options.steps}"
            )
        if options.smooth:
            smoothing.check(self.chunk_steps)
        self.mode = options.mode_for(model.config.ablation == "separate", path)
        if options.candidates > 1 and options.choose != "random":
            choice.check_imagines(self.mode, model.config.ablation)
        self.sampling = options.sampling()
        self.convention = ControlConvention()
        self.device = options.device
        self.model = model.to(self.device)
        self.encoder = reader.to(self.device)
        self.renderer = find_renderer(options.renderer, encoder_path, self.device)
        self.weights_hash = digest(path)[:16]
        self.corpus = str(meta.get("corpus", "unknown"))
        self.meta = meta
        self._session: DreamZeroSession | None = None

    @property
    def frame_offsets(self) -> list[int]:
        """Env steps from a query to each frame of the chunk it imagines."""
        config = self.model.config
        return [config.stride * (i + 1) for i in range(config.dit.frames_per_chunk)]

    def session(self, instruction: str, seed: int) -> DreamZeroSession:
        """Returns the state of a new episode, for `act_batch`."""
        words = encode_words([instruction], self.model.config.points).to(self.device)
        return DreamZeroSession(seed, words, instruction=instruction)

    def resume(self, session: DreamZeroSession) -> None:
        """Goes on with an episode that `session` began (`interface.Batched`)."""
        self._session = session

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""
        self._session = self.session(instruction, seed)

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the next chunk of actions and the frames it imagines."""
        return self.act_batch([self._current()], [history])[0]

    def act_guided(self, history: Sequence[Observation], previous: np.ndarray, delay: int) -> Plan:
        """Returns the next chunk, which goes on from the actions that are being played (`interface.Guided`).

        By inpainting; a model that was trained with prefixes is given them instead, as many as it knows.
        """
        began = time.perf_counter()
        played = self._standardised(previous)
        trained = int(self.meta.get("prefix", 0))
        if trained:
            how = replace(self.sampling, prefix=played[: min(delay, trained)])
        else:
            how = replace(self.sampling, inpaint=rtc.guidance_of(played, delay, self.chunk_steps))
        session = self._ready(history)
        return self._plan(session, history, time.perf_counter() - began, how)

    def act_batch(self, sessions: Sequence[DreamZeroSession], histories: Sequence[Sequence[Observation]]) -> list[Plan]:
        """Returns the plans of several episodes; each is what `act` would answer.

        On a GPU frames are encoded together, and chunks of episodes with equally many frames in their caches denoised
        together: answers differ from those of `act` in rounding. On a CPU, where workers have cores of their own, one
        comes after the other, and answers are the same bit by bit.
        """
        if self.device == "cpu" and len(sessions) > 1:
            return [self.act_batch([one], [seen])[0] for one, seen in zip(sessions, histories, strict=True)]
        began = time.perf_counter()
        self._look(sessions, histories)
        share = (time.perf_counter() - began) / max(1, len(sessions))
        plain = self.mode in ("joint", "no_video") and self.options.candidates == 1 and self.sampling.guidance == 1.0
        if not plain or len(sessions) == 1:
            return [self._plan(session, history, share) for session, history in zip(sessions, histories, strict=True)]
        asked = list(zip(sessions, histories, strict=True))
        began = time.perf_counter()
        drawn = self._sample_batch([(session, history[-1].step) for session, history in asked])
        sample_s = (time.perf_counter() - began) / len(sessions)
        return [self._plan(*one, share, given=(*chunk, sample_s)) for one, chunk in zip(asked, drawn, strict=True)]

    def imagine(self, history: Sequence[Observation], actions: np.ndarray | None = None) -> np.ndarray:
        """Returns (K, h, w, 3) uint8 imagined frames, the actions left at noise, or (H, A) given ones in [-1, 1]."""
        session = self._ready(history)
        given = None if actions is None else self._standardised(actions)[None]
        how = replace(self.sampling, action=False)
        video, _ = self._sample(session, history[-1].step, False, how, given=given)
        session.dream = self._decode(session, video), video
        return session.dream[0]

    def dream(self, history: Sequence[Observation], chunks: int) -> np.ndarray:
        """Returns (chunks * K, h, w, 3) uint8 frames of a future that goes on from what was imagined itself.

        No real frame is injected between the chunks, and the state of the robot stays what it is now. So it shows how
        far the video can be trusted as a simulator.

        Args:
            history: As for `act`.
            chunks: At least 1; the frames are for the env steps of `frame_offsets`, then for those one chunk later.
        """
        if chunks < 1:
            raise ValueError(f"a dream has at least 1 chunk, not {chunks}")
        session = self._ready(history)
        step = history[-1].step
        video, _ = self._sample(session, step, False, replace(self.sampling, action=False))
        futures = [video, *self._continued(session, step, video, 0, chunks)]
        return np.concatenate([self._decode(session, future) for future in futures])

    def extract(self, history: Sequence[Observation], frames: np.ndarray) -> np.ndarray:
        """Returns the model's own actions (H, A) for a given future.

        What it imagined itself last is taken as it imagined it: decoding and encoding lose some of it.

        Args:
            history: As for `act`.
            frames: (K, h, w, 3) uint8 canvases at the env steps of `frame_offsets` from now.
        """
        expected = (len(self.frame_offsets), *self.encoder.config.canvas, 3)
        if frames.shape != expected or frames.dtype != np.uint8:
            raise ValueError(f"future frames must be {expected} uint8, got {frames.shape} {frames.dtype}")
        session = self._ready(history)
        if session.dream is not None and np.array_equal(frames, session.dream[0]):
            clamp = session.dream[1]
        else:
            pair = encoding.as_tensors(frames, np.full((len(frames), 8), np.nan, np.float32))
            latents, points = self.encoder.encode(pair[0].to(self.device), pair[1].to(self.device))
            clamp = self.model.frames(latents[None], points[None])
        _, actions = self._sample(session, history[-1].step, self.mode == "inverse", self.sampling, clamp)
        return self._commands(actions)

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """Returns (N, h, w, 3) uint8 frames encoded and decoded: the ceiling of pictures made of latents alone."""
        latents = self.encoder.latents(torch.from_numpy(np.ascontiguousarray(frames)).to(self.device))
        return self.encoder.decode(latents).cpu().numpy()

    def _current(self) -> DreamZeroSession:
        if self._session is None:
            raise ValueError("reset must be called before the first query")
        return self._session

    def _ready(self, history: Sequence[Observation]) -> DreamZeroSession:
        session = self._current()
        self._look([session], [history])
        return session

    def _look(self, sessions: Sequence[DreamZeroSession], histories: Sequence[Sequence[Observation]]) -> None:
        """Encodes the frames that each session needs and brings its caches up to now."""
        wanted: list[tuple[DreamZeroSession, Observation]] = []
        for session, history in zip(sessions, histories, strict=True):
            if not history:
                raise ValueError("history is empty; its last entry must be the current observation")
            injected = set(self._injected(session))
            useful = (o for o in history[:-1] if o.step in injected)
            wanted += [(session, o) for o in (*useful, history[-1]) if o.step not in session.seen]
        if wanted:
            frames = np.stack([canvas(o, self.convention.cameras) for _, o in wanted])
            if frames.shape[1:3] != self.encoder.config.canvas:
                raise ValueError(f"frames are {frames.shape[1:3]}, the encoder expects {self.encoder.config.canvas}")
            pair = encoding.as_tensors(frames, np.stack([o.state for _, o in wanted]))
            states = pair[1].to(self.device)
            latents, points = self.encoder.encode(pair[0].to(self.device), states)
            features = state_features(states)
            for i, (session, observation) in enumerate(wanted):
                session.seen[observation.step] = EncodedFrame(pair[0][i], latents[i], points[i], features[i])
        for session, history in zip(sessions, histories, strict=True):
            self._advance(session, history[-1].step)

    def _injected(self, session: DreamZeroSession) -> list[int]:
        """Returns the env steps of the frames that will stand for the chunk being played."""
        if self.options.schedule == "single":
            return sorted(session.seen)[-len(self.frame_offsets) :]
        offsets = self.frame_offsets
        if self.options.schedule == "repeat4":
            every = self.convention.frame_stride
            third = max(every, round(self.model.config.chunk_steps / 3 / every) * every)
            offsets = [third, *offsets[1:]]
        return [session.newest + ahead for ahead in offsets]

    def _advance(self, session: DreamZeroSession, now: int) -> None:
        """Injects what stands for the chunk that was played into the caches, or empties them."""
        if now == session.newest:
            return
        steps = self._injected(session)
        if self.options.schedule == "single":
            steps = [steps[0]] * (len(self.frame_offsets) - len(steps)) + steps
        played = self.options.schedule == "single" or (steps[-1] == now and all(step in session.seen for step in steps))
        window = self.model.config.dit.window
        fits = all(memory.start + len(steps) < window for memory in session.memories.values())
        if (
            session.memories
            and played
            and (self.options.history == "sliding" or (self.options.history == "cache" and fits))
        ):
            frames = self._frames(session, steps)
            for hidden, memory in session.memories.items():
                words = self._words(session, hidden)
                session.memories[hidden] = sampling.remember(self.model, frames, words, memory)
        else:
            session.memories = {}
        session.newest = now
        kept = steps[1:] if self.options.schedule == "single" else []
        session.seen = {step: seen for step, seen in session.seen.items() if step == now or step in kept}

    def _frames(self, session: DreamZeroSession, steps: Sequence[int]) -> Frames:
        seen = [session.seen[step] for step in steps]
        latents = torch.stack([s.latent for s in seen])
        points = torch.stack([s.points for s in seen])
        return self.model.frames(latents[None], points[None])

    def _words(self, session: DreamZeroSession, hidden: bool) -> Words:
        return session.words.hide(torch.tensor([hidden], device=self.device))

    def _memory(self, session: DreamZeroSession, step: int, hidden: bool) -> tuple[sampling.GenerationMemory, Tensor]:
        """Returns the memory and the state vector at `step`, the instruction shown or hidden."""
        words = self._words(session, hidden)
        seen = session.seen[step]
        if hidden not in session.memories:
            session.memories[hidden] = sampling.remember(self.model, self._frames(session, [step]), words)
        known = torch.ones(1, 1, 1, device=self.device)
        points = seen.points[None, None]
        scene = SceneFeatures(seen.latent[None, None], points, seen.state[None, None], known, points)
        return session.memories[hidden], self.model.states(scene, words)

    def _sample(
        self,
        session: DreamZeroSession,
        step: int,
        hidden: bool,
        how: sampling.Sampling,
        clamp: Frames | None = None,
        candidate: int = 0,
        given: Tensor | None = None,
    ) -> tuple[Frames, Tensor]:
        """Returns the chunk's frames and its standardised actions (H, A)."""
        memory, state = self._memory(session, step, hidden)
        generator = generator_at(session.seed, step + CANDIDATE_APART * candidate)
        noise = sampling.draw_noise(self.model.config, [generator]).to(self.device)
        unguided = None if how.guidance == 1.0 else self._memory(session, step, True)
        video, actions = sampling.sample(self.model, memory, state, noise, how, clamp, unguided, given)
        return video, actions[0]

    def _sample_batch(self, asked: Sequence[tuple[DreamZeroSession, int]]) -> list[tuple[Frames, Tensor]]:
        """Returns for each session and step what `_sample` does, those with equally long memories computed together."""
        ready = [self._memory(session, step, False) for session, step in asked]
        drawn: list[tuple[Frames, Tensor] | None] = [None] * len(asked)
        for start in {memory.start for memory, _ in ready}:
            rows = [i for i, (memory, _) in enumerate(ready) if memory.start == start]
            generators = [generator_at(asked[i][0].seed, asked[i][1]) for i in rows]
            noise = sampling.draw_noise(self.model.config, generators).to(self.device)
            memory = sampling.GenerationMemory.joined([ready[i][0] for i in rows])
            state = torch.cat([ready[i][1] for i in rows])
            how = replace(self.sampling, video=self.mode != "no_video")
            video, actions = sampling.sample(self.model, memory, state, noise, how)
            assert video.vectors is not None
            for n, i in enumerate(rows):
                drawn[i] = Frames(video.latents[n : n + 1], video.vectors[n : n + 1]), actions[n]
        return [one for one in drawn if one is not None]

    def _candidate(
        self, session: DreamZeroSession, step: int, number: int, how: sampling.Sampling
    ) -> tuple[Frames, Tensor]:
        """Returns the frames and standardised actions of one future."""
        how = replace(how, video=self.mode != "no_video")
        if self.mode in ("joint", "no_video"):
            return self._sample(session, step, False, how, candidate=number)
        video, _ = self._sample(session, step, False, replace(how, action=False), candidate=number)
        return video, self._sample(session, step, self.mode == "inverse", how, video, number)[1]

    def _choose(self, session: DreamZeroSession, step: int, how: sampling.Sampling) -> tuple[Frames, Tensor]:
        """Returns the candidate that is carried out."""
        futures = [self._candidate(session, step, number, how) for number in range(self.options.candidates)]
        return futures[self._number(session, step, futures)] if len(futures) > 1 else futures[0]

    def _number(self, session: DreamZeroSession, step: int, futures: Sequence[tuple[Frames, Tensor]]) -> int:
        """Returns which candidate is chosen by what each imagines, `lookahead` chunks ahead."""
        ends = [self._dream(session, step, video, number) for number, (video, _) in enumerate(futures)]
        goal = self._goal(session) if self.options.choose == "goal" else None
        lots = generator_at(session.seed, step + CANDIDATE_APART * len(futures))  # no candidate's noise
        points = self.model.points(torch.cat(ends)).cpu()
        return choice.choose(self.options.choose, points, session.seen[step].points.cpu(), goal, lots)

    def _goal(self, session: DreamZeroSession) -> choice.Goal:
        return choice.goal_of(session.instruction, self.model.config.points, session.words.slots[0].cpu())

    def _dream(self, session: DreamZeroSession, step: int, video: Frames, number: int) -> Tensor:
        """Returns the vector token (1, n) after `lookahead` imagined chunks of a candidate."""
        *_, last = video, *self._continued(session, step, video, number, self.options.lookahead)
        assert last.vectors is not None
        return last.vectors[:, -1]

    def _continued(
        self, session: DreamZeroSession, step: int, video: Frames, number: int, chunks: int
    ) -> Iterator[Frames]:
        """Yields the chunks that follow an imagined one, up to `chunks` with it, on a copy of the cache."""
        memory, state = self._memory(session, step, False)
        memory = copy.deepcopy(memory, {id(self.model.dit): self.model.dit})
        for chunk in range(1, chunks):
            memory = sampling.remember(self.model, video, self._words(session, False), memory)
            generator = generator_at(session.seed, step + CANDIDATE_APART * number + chunk)
            noise = sampling.draw_noise(self.model.config, [generator]).to(self.device)
            plain = replace(self.sampling, guidance=1.0, action=False)
            video, _ = sampling.sample(self.model, memory, state, noise, plain)
            yield video

    def _plan(
        self,
        session: DreamZeroSession,
        history: Sequence[Observation],
        encode_s: float,
        how: sampling.Sampling | None = None,
        given: tuple[Frames, Tensor, float] | None = None,
    ) -> Plan:
        """Returns the plan of a chunk that is sampled now, or was (`given`: its frames, actions and seconds)."""
        step = history[-1].step
        began = time.perf_counter()
        video, actions = self._choose(session, step, how or self.sampling) if given is None else given[:2]
        sampled = time.perf_counter()
        frames = self._decode(session, video) if self.mode != "no_video" else None
        decoded = time.perf_counter()
        sample_s = sampled - began if given is None else given[2]
        timings = {"encode_s": encode_s, "sample_s": sample_s, "decode_s": decoded - sampled}
        plan = Plan(self._commands(actions), self.options.execute, timings=timings)
        if frames is None:
            return plan
        session.dream = frames, video
        steps = np.array([step + ahead for ahead in self.frame_offsets])
        return replace(plan, frames=frames, frame_steps=steps, frame_hands=self._hands(session, history[-1], video))

    def _hands(self, session: DreamZeroSession, now: Observation, video: Frames) -> np.ndarray | None:
        """Returns (K, 4) where the vector tokens place the hand and how far they open the fingers (`Plan.frame_hands`).

        What is imagined counts from what is read of the frame now, so that an error of reading that stays cancels out.
        None for a model whose key points were never learned.
        """
        names = self.model.config.points
        blind = self.model.config.ablation in choice.BLIND or not set(encoding.HAND) <= set(names)
        if video.vectors is None or blind:
            return None
        places = [
            points[..., [names.index(name) for name in encoding.HAND], :3].cpu().numpy().astype(np.float64)
            for points in (session.seen[session.newest].points, self.model.points(video.vectors[0]))
        ]
        widths = [np.linalg.norm(place[..., 1, :] - place[..., 2, :], axis=-1) for place in places]
        moved = places[1][..., 0, :] - places[0][..., 0, :]
        width = float(now.state[6] - now.state[7]) + widths[1] - widths[0]
        return np.concatenate([now.state[:3] + moved, width.clip(min=0.0)[:, None]], axis=1)

    def _decode(self, session: DreamZeroSession, video: Frames) -> np.ndarray:
        """Returns (K, h, w, 3) uint8 frames of one sample: drawn from the newest real frame, or decoded latents."""
        latents = video.latents[0].transpose(0, 1)
        if self.renderer is None:
            return self.encoder.decode(latents).cpu().numpy()
        assert video.vectors is not None
        seen = session.seen[session.newest]
        now = Told(seen.latent.expand_as(latents), seen.points.expand(len(latents), -1, -1))
        then = Told(latents, self.model.points(video.vectors[0]))
        base = seen.frame.to(self.device).expand(len(latents), -1, -1, -1)
        return self.renderer.draw(base, now, then).cpu().numpy()

    def _standardised(self, actions: np.ndarray) -> Tensor:
        """Returns (..., A) actions of the environment as the model knows them."""
        raw = torch.as_tensor(actions, dtype=torch.float32, device=self.device)
        return (raw - self.model.action_mean) / self.model.action_std

    def _commands(self, actions: Tensor) -> np.ndarray:
        """Returns (H, A) float32 actions in [-1, 1] with a gripper that opens or closes, of standardised ones."""
        raw = (actions * self.model.action_std + self.model.action_mean).cpu().numpy()
        return to_commands(raw, self.options.smooth)
