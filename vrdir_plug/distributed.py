"""Restoring files on the machines of a Ray cluster: `pip install 'vrdir-plug[ray]'`.

Ray Data hands the files out, starts a worker that died again and gives it its files once more.
"""

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from .extras import library
from .restoring import Item, Outcome, Summary, Work, follow, is_video


def restore_files(
    sources: Iterable[str | Path],
    restorer: Callable[[Tensor], Tensor],
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    device: str = "auto",
    batch_size: int = 16,
    most_megapixels: float = 50,
    on_failure: Callable[[Path, str], None] | None = None,
) -> Summary:
    """`restoring.restore_files` on a Ray cluster: sources and outputs lie where all machines see
    them, under the same paths.

    The cluster is the one that this process is connected to, that RAY_ADDRESS names, or that runs
    on this machine; where there is none, one is started here and stopped at the end. A worker that
    dies is started again and restores what it was given once more. Failures are named by their
    absolute path. The list of files is in memory, unlike there.

    Args:
        restorer: one that can be pickled; each worker has its own.
        workers: how many restore at a time, each with one GPU or one CPU and the memory of a run
            of its own; None: as many as the cluster has.
        device: "cpu", "cuda", or "auto": GPUs if the cluster has any.

    The other arguments are those of `restoring.restore_files`.

    Raises:
        FileNotFoundError: a source is not there.
        ConnectionError: there is no cluster at RAY_ADDRESS.
        ValueError: as `restoring.restore_files`; Ray is not installed; the cluster has no such
            device.
        OSError: a worker could not begin, or the restorer raised what is no failure of one file;
            Ray's account follows.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"on Ray, device must be auto, cpu or cuda, came {device!r}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be positive, came {workers}")
    ray, _ = (library(name, "ray") for name in ("ray", "ray.data"))
    work = Work(restorer, batch_size, most_megapixels, overwrite).on("cpu")

    def results(waiting: Iterator[Item], todo: int) -> Iterator[Outcome]:
        if not todo:
            return  # without a cluster
        with cluster(ray):
            kind, most = room(ray, device)
            size = min(workers or most, todo)
            groups = grouped(map(absolute, waiting), min(4 * batch_size, todo // size))
            tasks = [{"items": pickle.dumps(group)} for group in groups]
            yield from on_actors(ray, tasks, (work, device), {kind: 1}, size)

    return follow(results, sources, out, overwrite, on_failure)


class Worker:
    """What each of Ray's actors runs: it holds one restorer."""

    def __init__(self, work: Work, device: str):
        self.work = work.on(device)

    def __call__(self, task: dict[str, bytes]) -> dict[str, bytes]:
        """Restore a task's items. Done again after a death, it comes to the same: what has been
        written is left, or with `overwrite` made anew."""
        return {"outcomes": pickle.dumps(list(self.work.results(pickle.loads(task["items"]))))}


@contextmanager
def cluster(ray: Any) -> Iterator[None]:
    """Connected for as long as this lasts, or longer if it was before."""
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what is one is raised as well
    try:
        yield
    finally:
        ray.shutdown()


def room(ray: Any, device: str) -> tuple[str, int]:
    """What a worker takes one of, "num_gpus" or "num_cpus", and how many the cluster has."""
    resources = ray.cluster_resources()
    wanted = "GPU" if device == "cuda" or (device == "auto" and "GPU" in resources) else "CPU"
    if resources.get(wanted, 0) < 1:
        raise ValueError(f"the Ray cluster has no {wanted}: name another device, or add a machine")
    return f"num_{wanted.lower()}s", int(resources[wanted])


def grouped(waiting: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Lists of images, to be batched; a video is a task alone."""
    group: list[Item] = []
    for item in waiting:
        if is_video(item):
            yield [item]
            continue
        group.append(item)
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group


def absolute(item: Item) -> Item:
    """Workers run in other folders."""
    return replace(item, source=item.source.absolute(), target=item.target.absolute())


def on_actors(
    ray: Any,
    tasks: list[dict[str, bytes]],
    settings: tuple[Work, str],
    reserved: dict[str, int],
    size: int,
) -> Iterator[Outcome]:
    """What became of all items, task by task; by Ray Data's defaults those of the dead are retried.

    Args:
        tasks, settings: what a `Worker` is called and made with.
        reserved: what Ray keeps for each of `size` workers.
    """
    # a row is a task: Ray Data would cut rows of single files by their bytes, not by their number
    data = ray.data.from_items(tasks, override_num_blocks=max(1, len(tasks)))
    data.context.enable_progress_bars = data.context.print_on_execution_start = False
    pool = ray.data.ActorPoolStrategy(size=size)
    done = data.map(Worker, fn_constructor_args=settings, compute=pool, **reserved)
    try:
        for row in done.iter_rows():
            yield from pickle.loads(row["outcomes"])
    except ray.exceptions.RayError as error:
        raise OSError(f"Ray's workers could not go on: {error}") from error
