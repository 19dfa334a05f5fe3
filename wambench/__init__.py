"""wambench: world action models against vision-language-action models, in simulation.

Importing it registers the Gymnasium ids "wambench/<Task>-v<version>". `wambench.evaluate` plays a policy in process.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wambench.in_process import Evaluation, evaluate

__all__ = ["Evaluation", "__version__", "evaluate"]

__version__ = "0.1.0"

# Policies also run where only torch is installed.
if importlib.util.find_spec("gymnasium") is not None:
    from wambench.registration import register_all
    from wambench.task_module import load_from_environment

    register_all()
    load_from_environment()


def __getattr__(name: str) -> Any:
    """Imports what `wambench` has to offer itself when it is first asked for."""
    if name not in ("Evaluation", "evaluate"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wambench import in_process

    return getattr(in_process, name)
