"""`wambench serve`: a policy behind a socket."""

from __future__ import annotations

import argparse

from wambench.commands.arguments import Commands, Pairs, add_command, fields_of


def add(commands: Commands) -> None:
    """Adds the command."""
    example = "wambench serve --policy pi0 --protocol openpi --port 8000"
    does = "answer other people's clients with a policy, over a socket"
    it = add_command(commands, "serve", serve_command, does, example)
    it.add_argument("--policy", required=True, metavar="POLICY", help="as of run")
    it.add_argument(
        "--policy-args", nargs="+", action=Pairs, default={}, metavar="NAME=VALUE", help="arguments of its class"
    )
    it.add_argument("--protocol", required=True, metavar="PROTOCOL", help="openpi, roboarena, gr00t or vla-eval")
    what = "what clients send and read: a shipped adapter or a TOML file (default: that of the policy's convention)"
    it.add_argument("--adapter", metavar="ADAPTER", help=what)
    it.add_argument("--host", default="127.0.0.1", metavar="HOST", help="default: 127.0.0.1, this machine alone")
    it.add_argument("--port", type=int, metavar="PORT", help="default: the protocol's usual one; 0: any that is free")
    it.add_argument("--seed", type=int, default=0, metavar="K", help="of clients that do not tell one (default: 0)")
    it.add_argument("--clients", type=int, default=8, metavar="N", help="at a time (default: 8)")
    it.add_argument(
        "--largest-message", dest="largest_mb", type=int, default=64, metavar="MIB", help="in MiB (default: 64)"
    )


def serve_command(arguments: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    from wambench.serving.service import ServeConfig, serve

    try:
        serve(ServeConfig(**fields_of(ServeConfig, arguments)), lambda line: print(f"wambench: {line}", flush=True))
    except KeyboardInterrupt:
        print("\nwambench: stopped")
    return 0
