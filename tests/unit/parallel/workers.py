"""Workers of a test: processes on this machine that talk by gloo, forked from one that has imported everything."""

import multiprocessing
import os
import sys
import traceback
from datetime import timedelta
from multiprocessing import forkserver
from multiprocessing.connection import Connection

import pytest
import torch
from torch import distributed

from raydisc.parallel.mesh import Layout
from raydisc.parallel.rank import Rank

_PRELOADED = ["lessons", "searches", "torch.distributed.fsdp", "torch.distributed.checkpoint"]


def run_workers(layout: Layout, function, folder, *arguments):
    """Return what `function(rank, *arguments)` returns on each worker, by rank.

    `function` stands in a module; each run needs a folder of its own to meet in.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Python 3.11 passes no other path to what preloads
        forkserver.ensure_running()
    folder.mkdir(parents=True, exist_ok=True)
    ends, processes = [], []
    for rank in range(layout.workers):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(rank, layout, str(folder / "meeting"), theirs, function, arguments), daemon=True
        )
        process.start()
        theirs.close()
        ends.append(ours)
        processes.append(process)
    results = [end.recv() for end in ends]
    for process in processes:
        process.join()
    failures = sorted((failure for _, failure in results if failure), key=lambda it: "closed by peer" in it)
    assert not failures, failures[0]  # rather its own than that another is gone
    return [result for result, _ in results]


def _work(rank, layout, meeting, pipe: Connection, function, arguments):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=layout.workers, timeout=timedelta(seconds=60)
    )
    try:
        mesh = layout.mesh("cpu") if layout.shard > 1 else None
        pipe.send((function(Rank(rank, layout, mesh), *arguments), None))
    except BaseException:
        pipe.send((None, traceback.format_exc()))
    finally:
        distributed.destroy_process_group()
