"""One episode: a simulator and a policy in, an `Episode` out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from wambench.evaluation.clock import Clock, PolicyFailed, Virtual
from wambench.evaluation.failures import full, reason, status_of
from wambench.interface import Chunk, Episode, EpisodeSpec, Observation, Outcome, Policy, Simulator

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
    """Returns the finished episode; an exception ends it, and `status` says whether policy or simulator raised it.

    The status is "policy_error" if the policy raised or answered with an invalid plan, "timeout" if it raised
    TimeoutError (a policy behind a socket that did not answer in time), "env_error" if the simulator or
    the machine failed (a full disk, no memory); `error` has the reason in one line, `traceback` the whole of it, and
    the other fields hold everything up to then.

    Args:
        simulator, policy: Who takes part; `begin` and `reset` are called here.
        spec: The episode.
        observers: Called with (None, first outcome), then with every chunk and its outcome.
        time_limit_s: Wall-clock seconds after which the policy is asked no more; status "timeout". They are counted
            from the episode's first observation, so that compiling a scene takes none of them.
        instruction: What the policy is told instead of the episode's own instruction.
        clock: What runs while the policy computes; None: nothing, the simulator waits.
    """
    started = time.perf_counter()
    clock = clock or Virtual()
    outcome = NOTHING
    chunks: list[Chunk] = []
    seen: list[Observation] = []
    status, error, trace = "ok", "", ""
    try:
        outcome = sim.begin(spec)
        begun = time.perf_counter()
        seen.extend(outcome.observations)
        for observe in observers:
            observe(None, outcome)
        clock.begin(sim, policy, spec if instruction is None else replace(spec, instruction=instruction))
        while not (outcome.terminated or outcome.truncated):
            if time.perf_counter() - begun > time_limit_s:
                status, error = "timeout", f"longer than {time_limit_s:g} s"
                break
            step = outcome.steps
            chunk, outcome = clock.turn(outcome)
            if outcome.steps <= step:
                raise RuntimeError(f"the simulator did not advance from step {step}")
            seen.extend(outcome.observations)
            chunks.append(chunk)
            for observe in observers:
                observe(chunk, outcome)
    except PolicyFailed as failed:
        cause = failed.__cause__ or failed
        status, error, trace = status_of(cause), reason(cause), full(cause)
    except (Exception, SystemExit) as raised:
        status, error, trace = "env_error", reason(raised), full(raised)
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
        traceback=trace,
        first_touched=outcome.first_touched,
        nearest=outcome.nearest,
    )
