"""The table of shipped policies, and the loading of one's own.

A policy is a class with `convention`, `reset` and `act` (`wambench.interface.Policy`). Names are imported on use, so
that listing them costs nothing.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wambench.interface import ControlConvention, Policy, unknown_name
from wambench.own_modules import module_of_file, module_of_name

EXPERT = "expert"
ORACLE_CHOICE = "oracle-choice"
PRIVILEGED = (EXPERT, ORACLE_CHOICE)  # read privileged state, so the run gives them the simulator they act in
GIVEN = "given"  # an object of the caller's (`wambench.evaluate`); it cannot be asked for by name
POLICIES: Mapping[str, str] = MappingProxyType(
    {
        EXPERT: "wambench.policies.expert:ScriptedExpert",
        "noop": "wambench.policies.baselines:Noop",
        "random": "wambench.policies.baselines:Random",
        "dreamzero": "wambench.policies.dreamzero.policy:policy",
        "cem": "wambench.policies.dreamzero.planner:policy",
        ORACLE_CHOICE: "wambench.policies.dreamzero.oracle_choice:policy",
        "pi0": "wambench.policies.vla.pi0:policy",
        "pi05": "wambench.policies.vla.pi05:policy",
        "ki": "wambench.policies.vla.knowledge_insulation:policy",
        "groot": "wambench.policies.vla.groot:policy",
        "l1": "wambench.policies.vla.l1_regression:policy",
    }
)
# What a policy behind a socket is named by: SCHEME://HOST:PORT
SCHEMES: Mapping[str, str] = MappingProxyType(
    {
        "openpi": "wambench.policies.remote.openpi:policy",
        "roboarena": "wambench.policies.remote.roboarena:policy",
        "gr00t": "wambench.policies.remote.gr00t:policy",
        "vla-eval": "wambench.policies.remote.vla_eval:policy",
    }
)
# A name of the form PREFIX:PATH -> the class that takes the path as its first argument.
PREFIXES: Mapping[str, str] = MappingProxyType({"lerobot": "wambench.policies.lerobot:LeRobotPolicy"})
# Folders that lerobot-train makes around every policy, which tell one from another in no way.
_EVERYWHERE = ("checkpoints", "last", "pretrained_model")


def check_name(name: str) -> None:
    """Raises ValueError if `name` cannot be a policy; imports nothing, so some errors are left to `load`."""
    if name in POLICIES:
        return
    if "://" in name:
        _check_address(name)
        return
    prefix, path = _split_prefix(name)
    if prefix:
        if not path or not Path(path).is_dir():
            raise ValueError(f"policy {name!r}: {f'no such folder: {path}' if path else 'it names no folder'}")
        return
    source, colon, cls = name.rpartition(":")
    if not colon and name.endswith(".py"):
        classes = ", ".join(f"{name}:{cls}" for cls in _names_of(Path(name))[0]) or "none"
        raise ValueError(f"policy {name!r} names a file without its class; the file has: {classes}")
    if not colon:
        forms = ", or your own as module:Class, path/to/file.py:Class, lerobot:PATH or SCHEME://HOST:PORT"
        raise ValueError(f"{unknown_name('policy', name, POLICIES)}{forms}")
    if not source or not cls.isidentifier():
        raise ValueError(f"policy {name!r} is not of the form module:Class, path/to/file.py:Class or lerobot:PATH")
    if source.endswith(".py"):
        _check_file(Path(source), cls)
        return
    package = source.split(".")[0]
    if importlib.util.find_spec(package) is None and not (Path(package).is_dir() or Path(f"{package}.py").is_file()):
        raise ValueError(f"policy {name!r}: no module named {package!r}")


def load(name: str, arguments: Mapping[str, Any] | None = None, robot: str = "", **given: Any) -> Policy:
    """Returns a new policy.

    Args:
        name: A name of `POLICIES`, "module:Class", "path/to/file.py:Class", "SCHEME://HOST:PORT" (`SCHEMES`), or a
            prefix of `PREFIXES` with a path.
        arguments: Keyword arguments of the class.
        robot: A name of `conventions.CONVENTIONS`; a class that takes an argument `robot` is given it.
        given: Further ones that the caller supplies, such as the expert's simulator.

    Raises:
        ValueError: There is no such policy, the arguments do not fit, or the object is no policy.
    """
    made, own = _find(name)
    check_arguments(made, arguments or {}, name)
    if robot and "robot" in inspect.signature(made).parameters:
        given = {"robot": robot, **given}
    try:
        policy = made(*own, **{**given, **(arguments or {})})
    except TypeError as error:
        raise ValueError(f"policy {name!r} cannot be made: {error}") from error
    if not isinstance(policy, Policy) or not isinstance(policy.convention, ControlConvention):
        renamed = "; `spec` is now called `convention`" if hasattr(policy, "spec") else ""
        raise ValueError(
            f"policy {name!r} needs a `convention` (wambench.interface.ControlConvention) "
            f"and the methods reset and act{renamed}"
        )
    return policy


def takes(name: str, argument: str) -> bool:
    """Returns whether a policy takes an argument of a name; one that passes arguments on, by ``**``, may."""
    try:
        check_arguments(_find(name)[0], (argument,), name)
    except ValueError:
        return False
    return True


def _find(name: str) -> tuple[Any, tuple[str, ...]]:
    """Returns the class or function that makes a policy, and what the name itself gives it: an address or a path."""
    check_name(name)
    scheme, _, address = name.rpartition("://")
    prefix, path = _split_prefix(name)
    own = (address,) if scheme else (path,) if prefix else ()
    source, _, cls = {**SCHEMES, **PREFIXES, **POLICIES}.get(scheme or prefix or name, name).rpartition(":")
    module = module_of_file(Path(source), "policy") if source.endswith(".py") else module_of_name(source, "policy")
    if not hasattr(module, cls):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise unknown_name(f"class of {source}", cls, classes)
    return getattr(module, cls), own


def check_arguments(made: Callable[..., Any], arguments: Iterable[str], name: str) -> None:
    """Raises ValueError for an argument that the class or function of a policy does not take, naming those it does.

    What passes arguments on to something else, by ``**``, is left to that.
    """
    parameters = inspect.signature(made).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return
    known = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    for argument in arguments:
        if argument not in known:
            raise unknown_name(f"argument of policy {name!r}:", argument, known)


def short_name(name: str) -> str:
    """Returns how rows and folders call a policy: without the folders around it.

    "path/to/file.py:Class" is "file.py:Class", "openpi://HOST:PORT" is "openpi:HOST:PORT", and
    "lerobot:runs/act/checkpoints/004000/pretrained_model" is "lerobot:act-004000".
    """
    prefix, path = _split_prefix(name)
    if not prefix:
        return name.replace("://", ":").rsplit("/", 1)[-1]
    parts = [part for part in Path(path).parts if part not in _EVERYWHERE] or [path]
    return f"{prefix}:{'-'.join(parts[-2:] if parts[-1].isdigit() else parts[-1:])}"


def source_hash(name: str) -> str | None:
    """Returns the SHA-256 of the file that a policy is named by ("path/to/file.py:Class"), None for any other name."""
    source = POLICIES.get(name, name).rpartition(":")[0]
    return hashlib.sha256(Path(source).read_bytes()).hexdigest() if source.endswith(".py") else None


def _check_address(name: str) -> None:
    """Raises ValueError unless the name is SCHEME://HOST:PORT."""
    scheme, _, address = name.partition("://")
    if scheme not in SCHEMES:
        raise unknown_name("scheme of a policy's address", scheme, SCHEMES)
    host, _, port = address.rpartition(":")
    if not host or not re.fullmatch(r"[\w.\-\[\]:%]+", host) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"policy {name!r} is not of the form {scheme}://HOST:PORT")


def _split_prefix(name: str) -> tuple[str, str]:
    """Returns prefix and path of a name that begins with one of `PREFIXES`, ("", name) of any other."""
    prefix, colon, path = name.partition(":")
    return (prefix, path) if colon and prefix in PREFIXES else ("", name)


def _check_file(path: Path, cls: str) -> None:
    """Raises ValueError unless the file parses and defines or imports a name `cls`."""
    classes, bound = _names_of(path)
    if cls not in classes and not bound & {cls, "*"}:
        raise unknown_name(f"class of {path}", cls, classes)


def _names_of(path: Path) -> tuple[list[str], set[str]]:
    """Returns the classes that a file defines, and what else it binds; raises ValueError if it is no Python."""
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not Python: {error}") from error
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    bound: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            bound |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return classes, bound
