#!/usr/bin/env python3
"""A Ray cluster of several nodes on this machine, to try out submission before a real one is paid for.

Gives: a head and --nodes more nodes (one raylet each) with a dashboard, all on loopback, with token authentication on.
Costs: nothing but this machine: about 1.6 GB of memory for the head with its dashboard, 0.4 GB for each further
    node, and half a minute to start on 2 cores. The nodes share the machine's cores: what is measured is not speed.
Launch: python clusters/local.py --nodes 2 > cluster.env &      (needs pip install 'ray[default]')
        . cluster.env                                           (once it is there: address and path of the token)
Submit: raydisc submit FILE                                     (then: raydisc status|logs --follow|stop|ls)
Tear down: kill %1                                              (or Ctrl-C, where it runs in the foreground)
"""

import argparse
import importlib.util
import os
import secrets
import shlex
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raydisc.runtime.private_folder import PrivateFolder

_OBJECT_STORE_BYTES = 512 * 2**20


def main() -> int:
    """Start the nodes, tell how they are reached, and stop them when told to."""
    options = _options()
    _refuse_if_impossible(options.port)
    private = _private_folder()
    folder, cluster = private.path, None
    try:
        _prepare_environment(folder)
        cluster = _start(options, folder)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray's own handler would stop the head alone
        print(_said(options, cluster.address, folder / "token"), flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if cluster is not None:
            cluster.shutdown()
        private.remove()
    return 0


def _options() -> argparse.Namespace:
    summary, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=2, help="nodes besides the head (default: 2)")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs that each node is said to have (default: 1)")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs that each node is said to have (default: 0)")
    parser.add_argument("--port", type=int, default=8265, help="of dashboard and job submission (default: 8265)")
    return parser.parse_args()


def _refuse_if_impossible(port: int) -> None:
    if shlex.quote(sys.executable) != sys.executable:  # Ray gives it to a shell, unquoted, to start a job's workers
        sys.exit(
            f"Ray cannot start the workers of jobs with the Python at '{sys.executable}', as a shell would not take "
            "this path as one word; use an environment in a folder without spaces in its name"
        )
    if importlib.util.find_spec("aiohttp") is None:
        sys.exit("jobs are submitted to Ray's dashboard, which is not installed: pip install 'ray[default]'")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(f"--port {port}: {error.strerror}; name a free one")


def _private_folder() -> "PrivateFolder":
    """Return a new folder for this user alone, which the next raydisc removes if this process is killed."""
    from raydisc.errors import InputError
    from raydisc.runtime.private_folder import PrivateFolder

    try:
        return PrivateFolder()
    except InputError as error:
        sys.exit(str(error))


def _prepare_environment(folder: Path) -> None:
    """Set the variables that Ray reads when it is imported and that its nodes pass to the jobs."""
    token = folder / "token"
    with os.fdopen(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):  # another cluster's
        os.environ.pop(name, None)
    os.environ.update(_environment(token))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_TMPDIR"] = str(folder)  # or Ray would write the address where everybody can change it
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # a job's `python`
    if path := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in path.split(os.pathsep))
    os.chdir(folder)  # Ray's own jobs import modules from the current folder, whatever lies there


def _environment(token: Path) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's name for: listen on loopback, not on every interface
    }


def _start(options: argparse.Namespace, folder: Path) -> Any:
    from ray.cluster_utils import Cluster  # joins nodes on loopback, which `ray start --address` refuses

    node = {"num_cpus": options.cpus, "num_gpus": options.gpus, "object_store_memory": _OBJECT_STORE_BYTES}
    dashboard = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": options.port}
    dashboard["dashboard_agent_listen_port"] = None  # any: another Ray on this machine may have the usual one
    # a folder for each node, as on separate machines: a node unpacks again what processes of another work in
    cluster = Cluster(initialize_head=True, head_node_args={**node, **dashboard, "temp_dir": str(folder / "ray")})
    for number in range(options.nodes):
        cluster.add_node(**node, temp_dir=str(folder / f"node{number}"))
    return cluster


def _said(options: argparse.Namespace, address: str, token: Path) -> str:
    lines = [
        f"# a head and {options.nodes} more nodes, {options.cpus} CPUs and {options.gpus} GPUs each, on loopback",
        f"export RAY_ADDRESS=http://127.0.0.1:{options.port}",
        *(f"export {name}={value}" for name, value in _environment(token).items()),
        f"# without job submission: RAY_ADDRESS={address} raydisc run FILE",
        f"# stop it: kill {os.getpid()}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
