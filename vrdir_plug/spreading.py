"""Restoring files on a Ray cluster: a worker for each model, and every file once.

Ray places the workers, starts one anew that dies, and gives it the files it was at again; those of
which the output is there by then are not restored twice. Needs the extra `ray`.
"""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .files import Photo
from .restoring import Item, Work, reason

PART = 32  # files given to a worker at a time; what is begun again when it dies
TRIES = 3  # a file that kills every worker it meets must not do so for ever

Files = list[tuple[Path, Path]]
Outcome = tuple[str | None, bool]  # what went wrong; whether 16 bits became 8


def on_ray(workers: int | None = None) -> Callable[[Work, Iterable[Item]], Iterator[Item]]:
    """An engine for `restoring.restore_files`: the files are spread over a Ray cluster.

    The cluster is that of `ray.init` or RAY_ADDRESS, else one is made on this machine. All machines
    must see the files by the same names, and have the device that is named.

    Args:
        workers: how many, each with a model of its own; default one for each GPU of the cluster,
            or for each CPU core where the device is "cpu".

    Raises:
        ValueError: workers is not positive, or ray is not installed.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be positive, came {workers}")
    if not importlib.util.find_spec("ray"):
        raise ValueError("spreading files needs ray: pip install 'vrdir-plug[ray]'")

    def spread(work: Work, waiting: Iterable[Item]) -> Iterator[Item]:
        import ray

        ours = not ray.is_initialized()
        if ours:
            ray.init(log_to_driver=False)
        try:
            yield from finished(start(work, workers), waiting)
        finally:
            if ours:
                ray.shutdown()

    return spread


class Worker:
    """One process of the cluster, with its model."""

    def __init__(self, work: Work):
        self.work = work

    def restore(self, files: Files) -> list[Outcome]:
        """Restore (source, target); those are left out that were done before a worker died."""
        items = [Item(*file) for file in files]
        todo = [item for item in items if self.work.overwrite or not item.target.exists()]
        done = {item.source: item for item in self.work.results(todo)}
        return [outcome(done.get(item.source, item)) for item in items]


def outcome(item: Item) -> Outcome:
    return item.error, bool(item.photo and item.photo.reduced)


def start(work: Work, workers: int | None) -> list[Any]:
    """Workers on the cluster, at least one."""
    import ray

    kind = "CPU" if work.device.type == "cpu" else "GPU"
    count = workers or max(1, int(ray.cluster_resources().get(kind, 1)))
    resources = {"num_cpus": 1, "num_gpus": int(kind == "GPU")}
    remote: Any = ray.remote(max_restarts=-1, max_task_retries=TRIES, **resources)(Worker)
    shared = ray.put(work)
    return [remote.remote(shared) for _ in range(count)]


def finished(free: list[Any], waiting: Iterable[Item]) -> Iterator[Item]:
    """All items, done or with an error; no more are taken than there are workers for."""
    running: dict[Any, tuple[Any, list[Item]]] = {}
    waiting = iter(waiting)
    while True:
        while free and (part := list(islice(waiting, PART))):
            worker = free.pop()
            # the worker's folder is another
            files = [(item.source.absolute(), item.target.absolute()) for item in part]
            running[worker.restore.remote(files)] = worker, part
        if not running:
            return
        yield from next_finished(free, running)


def next_finished(free: list[Any], running: dict[Any, tuple[Any, list[Item]]]) -> Iterator[Item]:
    """The items of the part that is done first; its worker is free then."""
    import ray

    (first, *_), _ = ray.wait(list(running))
    worker, part = running.pop(first)
    free.append(worker)
    try:
        outcomes = ray.get(first)
    except ray.exceptions.RayError as error:
        outcomes = [lost(item, reason(error)) for item in part]
    for item, (wrong, reduced) in zip(part, outcomes, strict=True):
        yield replace(item, error=wrong, photo=Photo(np.empty(0), reduced=reduced))


def lost(item: Item, why: str) -> Outcome:
    """Of a part whose worker died too often, what was written is there."""
    return (None if item.target.exists() else f"the worker died {TRIES + 1} times: {why}"), False
