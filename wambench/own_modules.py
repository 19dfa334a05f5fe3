"""Importing what a user names: a Python file, whose neighbours can be imported as in a script, or a module."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType


def module_of_file(path: Path, kind: str) -> ModuleType:
    """Imports a file as the module "wambench_<kind>_<name of the file>"."""
    path = path.resolve()
    sys.path.append(str(path.parent))
    name = f"wambench_{kind}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def module_of_name(name: str, kind: str) -> ModuleType:
    """Imports a module, also from the working directory; one that is not there raises ValueError."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"no module named {error.name!r} (for {kind} module {name!r})") from error
