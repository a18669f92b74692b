"""One graph for other runtimes: the restorer alone, or restorer, normalisation and recogniser."""

import copy
import importlib.util
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .pixels import PixelSpec

# batch, height, width: what the graph is traced with, and what it is compared on
TRACED = (2, 96, 128)
COMPARED = ((1, 97, 131), (3, 128, 128), (2, 160, 96))
TOLERANCE = 1e-4

Run = Callable[[Tensor], Tensor]


class Graph(nn.Module):
    """Images (N, 3, H, W), RGB in [0, 1] -> restored, or what the recogniser says of them."""

    def __init__(self, restorer: nn.Module, recogniser: nn.Module | None, pixels: PixelSpec):
        super().__init__()
        self.restorer, self.recogniser, self.pixels = restorer, recogniser, pixels

    def forward(self, images: Tensor) -> Tensor:
        restored = self.restorer(images)
        return (
            restored if self.recogniser is None else self.recogniser(self.pixels.encode(restored))
        )


def export(
    restorer: nn.Module,
    file: str | Path,
    recogniser: nn.Module | None = None,
    pixels: object = None,
    *,
    size: int | None = None,
) -> float:
    """Write a graph as .onnx or .pt2, once it gives what torch gives.

    The graph takes "images" (N, 3, H, W), float32 RGB in [0, 1], and gives "output"; batch, height
    and width are free. With a recogniser its normalisation is inside: images go in as for the
    restorer alone. The file is run on three shapes, by ONNX Runtime or torch, before it gets its
    name; an older file of this name is replaced then. The networks themselves stay as they are.

    Args:
        restorer: as RestoreThen has it.
        file: the suffix decides: .onnx, or .pt2 for torch.export.
        recogniser: a network that returns one tensor; None exports the restorer alone.
        pixels: how the recogniser expects its pixels: what `PixelSpec.of` reads.
        size: side in pixels of a recogniser that takes one size only; the batch stays free.

    Returns:
        The largest difference from torch, as a share of torch's largest number, or of 1 if that
        is smaller.

    Raises:
        ValueError: another suffix, an extra that is missing, a network that cannot be exported, or
            a graph that differs by more than 1e-4: no file is left.
    """
    path = Path(file)
    write_and_run = choose(path)
    spec = PixelSpec() if recogniser is None else PixelSpec.of(pixels)
    graph = copy.deepcopy(Graph(restorer, recogniser, spec)).eval().cpu()
    half_written = path.with_name(path.name + ".part" + path.suffix)
    try:
        # the exporters warn of their own insides; what they made is compared
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            run = write_and_run(trace(graph, size), half_written)
            worst = max(difference(run, graph, shape) for shape in shapes(COMPARED, size))
        if not worst <= TOLERANCE:
            raise ValueError(f"the graph differs from torch by {worst:.1e}: it is not kept")
        os.replace(half_written, path)
    except (ValueError, OSError):
        raise
    # what cannot be converted or run is said by the exporters in errors of their own
    except Exception as error:
        raise ValueError(f"the graph cannot be written or run: {first_line(error)}") from error
    finally:
        half_written.unlink(missing_ok=True)
    return worst


def choose(path: Path) -> Callable[[Any, Path], Run]:
    """The writer for the suffix; said before minutes are spent on tracing."""
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} into")
    if path.suffix == ".pt2":
        return program_file
    if path.suffix != ".onnx":
        raise ValueError(f"{path.name} ends neither in .onnx nor in .pt2")
    missing = [m for m in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(m)]
    if missing:
        raise ValueError(f"ONNX needs {', '.join(missing)}: pip install 'vrdir-plug[export]'")
    return onnx_file


def shapes(sizes: Sequence[tuple[int, int, int]], size: int | None) -> list[tuple[int, ...]]:
    """(N, 3, H, W) of each, at the one size if there is one."""
    return [(n, 3, size or height, size or width) for n, height, width in sizes]


def trace(graph: nn.Module, size: int | None) -> Any:
    """The graph as a torch.export program, with free sizes."""
    (shape,) = shapes([TRACED], size)
    free = torch.export.Dim.DYNAMIC
    sizes = {0: free} if size else {0: free, 2: free, 3: free}
    try:
        output = graph(torch.rand(shape))
        if not isinstance(output, Tensor):
            raise TypeError(f"it returns a {type(output).__name__}, expected one tensor")
        return torch.export.export(graph, (torch.rand(shape),), dynamic_shapes={"images": sizes})
    # tracing runs the user's network, and its errors are as many as there are networks
    except Exception as error:
        hint = "" if size else "; if the recogniser takes one size only, say which (size=224)"
        raise ValueError(f"the network cannot be exported: {first_line(error)}{hint}") from error


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def program_file(program: Any, path: Path) -> Run:
    torch.export.save(program, path)
    return torch.export.load(path).module()


def onnx_file(program: Any, path: Path) -> Run:
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["output"]}
    made: Any = torch.onnx.export(program, (), dynamo=True, verbose=False, optimize=False, **names)
    folded(made.model)
    made.save(path)
    try:
        return session_of(path)
    # ONNX Runtime has an error for each way to be invalid, and rewritten some graphs are valid
    except Exception:
        made.optimize()
        made.save(path)
        return session_of(path)


def folded(model: Any) -> None:
    """What is the same for all images is computed, in place. The exporter's own optimiser rewrites
    operations, too: runtimes do that themselves, and it takes as long as all else."""
    from onnx_ir.passes import common
    from onnxscript import optimizer

    optimizer.inline(model)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    common.DeduplicateInitializersPass()(model)
    common.CommonSubexpressionEliminationPass()(model)


def session_of(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def difference(run: Run, graph: nn.Module, shape: tuple[int, ...]) -> float:
    """Of the two outputs for a random image, as a share of torch's largest number, or of 1."""
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    expected, output = graph(images), run(images)
    if output.shape != expected.shape:
        raise ValueError(f"the graph gives {tuple(output.shape)} for {shape}: it is not kept")
    return float((output - expected).abs().max() / expected.abs().max().clamp(min=1))
