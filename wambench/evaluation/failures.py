"""What went wrong in an episode, as one line for its row and as a traceback for its file."""

from __future__ import annotations

import errno
import traceback

from wambench.records.rows import MACHINE

LONGEST = 300  # characters of a row's error, without the place it came from
# Full, limited or failing disk, no memory, no file handles: neither the policy nor the simulator is to blame.
ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EFBIG)


class RelayedError(Exception):
    """What was raised in another process, as this one needs it: the same row comes of it as if it was raised here.

    Attributes:
        reason: As `reason` told it there.
        traceback: As `full` told it there.
        machine: As `of_machine` told it there.
    """

    def __init__(self, reason: str, traceback: str, machine: bool) -> None:
        super().__init__(reason)
        self.reason, self.traceback, self.machine = reason, traceback, machine


def of_machine(raised: BaseException) -> bool:
    """Returns whether an exception tells of the machine, so that the same episode may go well at another time."""
    if isinstance(raised, RelayedError):
        return raised.machine
    return isinstance(raised, MemoryError) or (isinstance(raised, OSError) and raised.errno in ERRNOS)


def status_of(raised: BaseException) -> str:
    """Returns the status of an episode that ended with what a policy raised."""
    if of_machine(raised):
        return "env_error"
    return "timeout" if isinstance(raised, TimeoutError) else "policy_error"


def reason(raised: BaseException) -> str:
    """Returns an exception as one line: its type, its message, and the place it came from."""
    if isinstance(raised, RelayedError):
        return raised.reason
    frames = traceback.extract_tb(raised.__traceback__)
    place = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    said = f"{type(raised).__name__}: {' '.join(str(raised).split())}"[:LONGEST] + place
    return MACHINE + said if of_machine(raised) else said


def full(raised: BaseException) -> str:
    """Returns an exception with its traceback."""
    if isinstance(raised, RelayedError):
        return raised.traceback
    return "".join(traceback.format_exception(raised))
