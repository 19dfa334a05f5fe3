"""Which of the frames that a robot has seen a client hands to the model, and when.

The model was trained on 4K + 1 equally spaced frames per executed chunk. Public clients send less:

- "8+1": all frames since the last call with the one before them (4K + 1): what training used.
- "repeat4": 4 of these 4K + 1, at about -23, -16, -8 and 0 of 24 control steps; the inference loop doubles them
  (official client).
- "single": one frame a call into a server that keeps the last 4 and repeats the oldest (simulation clients of the
  official server): with whole chunks executed they are a chunk apart each.
- "stateless": one frame a call straight into the model, which then starts anew every time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wambench.interface import unknown_name

PROTOCOLS = ("8+1", "repeat4", "single", "stateless")
REPEAT4 = (1 / 24, 8 / 24, 16 / 24, 1.0)  # where in the chunk the official client's frames lie


class FrameSchedule:
    """A client's frame buffer."""

    def __init__(self, protocol: str = "8+1", chunk_frames: int = 8) -> None:
        """Args: protocol: One of `PROTOCOLS`. chunk_frames: Raw frames of a chunk, 4K."""
        if protocol not in PROTOCOLS:
            raise unknown_name("history protocol", protocol, PROTOCOLS)
        self.protocol = protocol
        self.chunk_frames = chunk_frames
        self.forget()

    def forget(self) -> None:
        """Starts an episode."""
        self.before: Tensor | None = None

    def take(self, frames: Tensor) -> Tensor:
        """Returns what to send for (B, T, ...) frames seen since the last call, the last of which is now.

        The first call of an episode sends the newest frame alone. If a chunk was executed in part only, the oldest
        frame known is repeated in front.
        """
        newest = frames[:, -1:]
        if self.protocol == "stateless":
            return newest
        first = self.before is None
        known = frames if self.before is None else torch.cat([self.before, frames], dim=1)
        if self.protocol == "single":
            self.before = newest if self.before is None else torch.cat([self.before, newest], dim=1)[:, -4:]
            return newest if first else _padded(self.before, 4)
        self.before = newest
        if first:
            return newest
        known = _padded(known[:, -(self.chunk_frames + 1) :], self.chunk_frames + 1)
        if self.protocol == "8+1":
            return known
        return known[:, [round(share * self.chunk_frames) for share in REPEAT4]]


def _padded(frames: Tensor, count: int) -> Tensor:
    missing = count - frames.shape[1]
    return frames if missing <= 0 else torch.cat([frames[:, :1].repeat_interleave(missing, dim=1), frames], dim=1)
