"""A Ray cluster of any shape on this machine, and what its processes and its object stores take."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from raydisc.runtime.session import ray_session

Node = dict[str, Any]
"""The resources of a node: ``num_cpus``, ``object_store_memory``, ``resources``."""


_TRIES = 3


@contextmanager
def nodes(head: Node, *others: Node) -> Iterator[None]:
    """Start nodes (raylets) on loopback and join them; they end with the context.

    A node has as many slots as it is said to have: what is measured on them is not the speed of their work.
    """
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short, as Ray's sockets lie below it
    before = dict(os.environ)
    with os.fdopen(os.open(folder / "token", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    os.environ.update(
        RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(folder / "token"), RAY_USAGE_STATS_ENABLED="0",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # Ray's name for: listen on loopback, not on every interface
        RAY_memory_monitor_refresh_ms="0",  # the machine may be full of others
        RAY_TMPDIR=str(folder),  # or Ray would write the address where everybody can change it
    )  # fmt: skip
    cluster = None
    try:
        cluster = _started({**head, "include_dashboard": False, "temp_dir": str(folder / "ray")})
        for node in others:
            cluster.add_node(**node)
        os.environ["RAY_ADDRESS"] = cluster.address
        with ray_session():
            yield
    finally:
        if cluster is not None:
            cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def _started(head: Node) -> Any:
    """Start a cluster of one node; a busy machine may need another try, as Ray gives its processes half a minute."""
    from ray.cluster_utils import Cluster

    for left in reversed(range(_TRIES)):
        try:
            return Cluster(initialize_head=True, head_node_args=head)
        except Exception:  # Ray's own says no more of what it is
            if not left:
                raise


def object_store_bytes() -> int:
    """Bytes of objects in the object stores of all nodes."""
    import ray
    from ray._private import internal_api

    used = 0
    for node in ray.nodes():
        if node["Alive"]:
            reply = internal_api.node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], False)
            used += reply.store_stats.object_store_bytes_used
    return int(used)


def resident_of(title: str) -> int:
    """Return the resident bytes of this cluster's processes with a title that Ray gives, such as ``ray::HotCopies``."""
    token, found = os.environ["RAY_AUTH_TOKEN_PATH"], 0
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        with suppress(psutil.Error):  # it has ended, or is somebody else's
            if (process.info["cmdline"] or [""])[0].startswith(title):
                ours = process.environ().get("RAY_AUTH_TOKEN_PATH") == token
                found += process.info["memory_info"].rss if ours else 0
    return found
