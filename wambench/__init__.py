"""wambench: world action models against vision-language-action models, in simulation.

Importing it registers the Gymnasium ids "wambench/<Task>-v<version>".
"""

import importlib.util

__version__ = "0.1.0"

# Policies also run where only torch is installed.
if importlib.util.find_spec("gymnasium") is not None:
    from wambench.registration import register_all
    from wambench.task_module import load_from_environment

    register_all()
    load_from_environment()
