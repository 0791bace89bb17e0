"""Where a local Ray session listens, and who may read its token."""

import stat
from pathlib import Path
from typing import Any

LISTENING = """
def listening():
    import os, psutil
    pids = {os.getpid(), *(process.pid for process in psutil.Process().children(recursive=True))}
    listens = [it for it in psutil.net_connections("tcp") if it.status == "LISTEN" and it.pid in pids]
    token = os.environ["RAY_AUTH_TOKEN_PATH"]
    return {"bound": sorted({it.laddr.ip for it in listens}), "mode": os.stat(token).st_mode,
            "folder": os.stat(os.path.dirname(token)).st_mode, "pids": len(pids), "token": token}
"""
"""A function for the script of a driver, which calls it amid a session."""


def refuse_open(said: dict[str, Any]) -> None:
    """See that what the function has returned is of a session on loopback with a token of its user's alone.

    Args:
        said: What it returned, in a session that has ended.
    """
    assert said["pids"] > 3
    assert {address.removeprefix("::ffff:") for address in said["bound"]} == {"127.0.0.1"}
    assert stat.S_IMODE(said["mode"]) == 0o600
    assert stat.S_IMODE(said["folder"]) == 0o700
    assert not Path(said["token"]).exists()
