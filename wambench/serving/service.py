"""`wambench serve`: a policy, a protocol and a port."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import wambench
from wambench import policies
from wambench.evaluation.worker import Make
from wambench.interface import ControlConvention, mismatches, unknown_name
from wambench.policies.remote import adapter as adapters
from wambench.policies.remote.adapter import Adapter
from wambench.policies.remote.client import EXTENSION, VERSION
from wambench.policies.remote.codec import needed
from wambench.serving.conversation import Conversation
from wambench.serving.host import PolicyHost, offered


@dataclass(frozen=True)
class Served:
    """How a protocol is served.

    Attributes:
        module: Has `bound`, `port_of` and `serve_forever`.
        port: That the protocol's own servers have.
        adapters: Of its clients, one for each convention that it can carry.
    """

    module: str
    port: int
    adapters: tuple[str, ...]


PROTOCOLS: Mapping[str, Served] = MappingProxyType(
    {
        "openpi": Served("wambench.serving.openpi", 8000, ("libero", "droid-position", "droid-velocity")),
        "roboarena": Served("wambench.serving.roboarena", 8000, ("roboarena", "roboarena-velocity")),
        "gr00t": Served("wambench.serving.gr00t", 5555, ("gr00t-libero", "gr00t-droid")),
        "vla-eval": Served("wambench.serving.vla_eval", 8000, ("vla-eval",)),
    }
)
MEBIBYTE = 2**20


@dataclass(frozen=True)
class ServeConfig:
    """What is served, and where.

    Attributes:
        policy: As of a run; `policies.PRIVILEGED`, which need a simulator, cannot be served.
        protocol: A name of `PROTOCOLS`.
        policy_args: Keyword arguments of the policy's class.
        adapter: What clients send and read: a shipped adapter or a TOML file; None for the one of this protocol and of
            the policy's convention.
        host: Address to listen at; anything but the loopback is warned about.
        port: None for the usual one of the protocol, 0 for any that is free.
        seed: Of the first episode of clients that do not tell one.
        clients: At a time.
        largest_mb: Largest message in MiB.

    Raises:
        ValueError: Says what was asked, what exists, and the nearest match.
    """

    policy: str
    protocol: str
    policy_args: Mapping[str, Any] = field(default_factory=dict)
    adapter: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    seed: int = 0
    clients: int = 8
    largest_mb: int = 64

    def __post_init__(self) -> None:
        policies.check_name(self.policy)
        if self.policy in policies.PRIVILEGED:
            raise ValueError(f"the {self.policy} reads the simulator it acts in: it cannot be served")
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)
        if self.port is not None and not 0 <= self.port < 65536:
            raise ValueError(f"port must be 0 to 65535, not {self.port}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, not {self.seed}")
        for name in ("clients", "largest_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.adapter is not None and adapters.load(self.adapter).protocol != self.protocol:
            raise ValueError(f"adapter {self.adapter} is for {adapters.load(self.adapter).protocol}")


@dataclass(frozen=True)
class Service:
    """A policy that is being served.

    Attributes:
        config: What was asked.
        host: The policy.
        adapter: What clients send and read.
        tell: Is told of clients and errors, line by line.
    """

    config: ServeConfig
    host: PolicyHost
    adapter: Adapter
    tell: Callable[[str], None]

    @property
    def extension(self) -> dict[str, Any]:
        """What our own clients are told of the policy."""
        policy: Any = self.host.policy
        return {
            "version": VERSION,
            "wambench": wambench.__version__,
            "policy": policies.short_name(self.config.policy),
            "policy_args": {name: str(value) for name, value in self.config.policy_args.items()},
            "weights_hash": getattr(policy, "weights_hash", None),
            "corpus": getattr(policy, "corpus", None),
            "offers": [] if self.config.protocol == "vla-eval" else offered(policy),  # it asks step by step
            "adapter": self.adapter.to_dict(),
        }

    @property
    def metadata(self) -> dict[str, Any]:
        """What the server says of itself."""
        return {EXTENSION: self.extension}

    def conversation_of(self) -> Conversation:
        """Returns the conversation of a new client; ValueError if there are too many."""
        return Conversation(self.host, self.adapter, self.config.seed)


def serve(config: ServeConfig, tell: Callable[[str], None]) -> None:
    """Serves until interrupted.

    Args:
        config: What and where. The port is taken before the policy is loaded.
        tell: Is told where, who comes, and what goes wrong.

    Raises:
        ValueError: The port is taken, a package is missing, or no adapter carries the policy's convention.
    """
    module = importlib.import_module(PROTOCOLS[config.protocol].module)
    needed("msgpack")
    port = PROTOCOLS[config.protocol].port if config.port is None else config.port
    largest = config.largest_mb * MEBIBYTE
    with contextlib.closing(module.bound(config.host, port, largest)) as listening:
        if not is_loopback(config.host):
            tell(
                f"warning: whoever reaches {config.host} can use this server; it asks for no password and encrypts "
                "nothing"
            )
        host = PolicyHost(Make(config.policy, config.policy_args, smooth=False), config.clients)
        try:
            service = Service(config, host, served_adapter(config, host.policy.convention), tell)
            address = f"{config.host}:{module.port_of(listening)}"
            tell(f"{config.policy} answers {config.protocol} at {address}: --policy {config.protocol}://{address}")
            module.serve_forever(listening, service, largest)
        finally:
            host.close()


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def served_adapter(config: ServeConfig, convention: ControlConvention) -> Adapter:
    """Returns what clients of a policy send and read; ValueError if no adapter carries its convention.

    Pictures are asked for in the policy's own size and with everything since the last call; clients that send other
    sizes, or the present alone, are understood all the same.
    """
    names = (config.adapter,) if config.adapter else PROTOCOLS[config.protocol].adapters
    found = {name: adapters.load(name) for name in names}
    fitting = [adapter for adapter in found.values() if not lacking(adapter, convention)]
    if not fitting:
        why = "; ".join(f"{name}: {', '.join(lacking(one, convention))}" for name, one in found.items())
        raise ValueError(f"no adapter of {config.protocol} carries what {config.policy} reads and answers ({why})")
    made = fitting[0]
    images = {key: dataclasses.replace(picture, size=None) for key, picture in made.images.items()}
    return dataclasses.replace(
        made,
        convention=convention,
        images=images,
        history=(),
        everything=True,
        execute=None,
        metadata={},
        sessions=0,
        video=adapters.Video(),
    )


def lacking(adapter: Adapter, convention: ControlConvention) -> list[str]:
    """Returns what of a policy's convention an adapter does not carry, and does not make up for."""
    differing = {line.split(":")[0] for line in mismatches(adapter.convention, convention)}
    fields = sorted(differing - {"image_size", "video_hz", "cameras"})
    seen = {picture.camera for picture in adapter.images.values()}
    return fields + [f"no picture of {camera}" for camera in convention.cameras if camera not in seen]
