"""One episode: a simulator and a policy in, an `Episode` out."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

from wambench.evaluation.clock import Clock, Virtual
from wambench.interface import Chunk, Episode, EpisodeSpec, Observation, Outcome, Policy, SimulationDiverged, Simulator

Observer = Callable[[Chunk | None, Outcome], None]
NOTHING = Outcome((), 0, 0.0, (), False, False, False, False)


def rollout(
    sim: Simulator,
    policy: Policy,
    spec: EpisodeSpec,
    observers: Sequence[Observer] = (),
    time_limit_s: float = math.inf,
    instruction: str | None = None,
    clock: Clock | None = None,
) -> Episode:
    """Returns the finished episode; an exception ends it and is laid at the door of whoever raised it.

    The status is "policy_error" if the policy raised or answered with an invalid plan, "env_error" if the simulator
    failed; `error` has the reason, and the other fields everything up to then.

    Args:
        simulator, policy: Who takes part; `begin` and `reset` are called here.
        spec: The episode.
        observers: Called with (None, first outcome), then with every chunk and its outcome.
        time_limit_s: Wall-clock seconds after which the policy is asked no more; status "timeout".
        instruction: What the policy is told instead of the episode's own instruction.
        clock: What runs while the policy computes; None: nothing, the simulator waits.
    """
    started = time.perf_counter()
    clock = clock or Virtual()
    clock.blame = "env_error"
    outcome = NOTHING
    chunks: list[Chunk] = []
    seen: list[Observation] = []
    status, error = "ok", ""
    try:
        outcome = sim.begin(spec)
        seen.extend(outcome.observations)
        for observe in observers:
            observe(None, outcome)
        clock.begin(sim, policy, spec if instruction is None else replace(spec, instruction=instruction))
        while not (outcome.terminated or outcome.truncated):
            if time.perf_counter() - started > time_limit_s:
                status, error = "timeout", f"longer than {time_limit_s:g} s"
                break
            step = outcome.steps
            chunk, outcome = clock.turn(outcome)
            if outcome.steps <= step:
                clock.blame = "env_error"
                raise RuntimeError(f"the simulator did not advance from step {step}")
            seen.extend(outcome.observations)
            chunks.append(chunk)
            for observe in observers:
                observe(chunk, outcome)
    except SimulationDiverged as diverged:
        status, error = "env_error", reason(diverged)
    except (Exception, SystemExit) as raised:
        status, error = clock.blame, reason(raised)
    finally:
        clock.end()
    return Episode(
        spec=spec,
        status=status,
        error=error,
        progress=outcome.progress,
        success_end=outcome.success,
        success_ever=outcome.success_ever,
        stages=outcome.stages,
        steps=outcome.steps,
        wall_s=time.perf_counter() - started,
        chunks=tuple(chunks),
        observations=tuple(seen),
    )


def reason(raised: BaseException) -> str:
    """Returns an exception as one line: its type, its message, and the place it came from."""
    frames = traceback.extract_tb(raised.__traceback__)
    place = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return f"{type(raised).__name__}: {' '.join(str(raised).split())}"[:300] + place
