"""The one added line: restore the images of every call of a model before it sees them."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .adapters import asked, find_input, is_ultralytics, name_of
from .facades import follow, restored_yolo, with_network
from .inputs import ImageInput
from .restorer import Restorer


class RestoreThen(nn.Module):
    """A model with a restorer in front; it is called exactly as the model is.

    The images are restored at the size and in the encoding at which they enter the model; all
    other arguments and the output pass untouched. The model itself is not changed. Gradients
    flow through the restorer, and `.to`, `.eval`, deepcopy, pickle, state_dict, torch.compile and
    torch.export treat the pair as any nn.Module.

    The pair looks at the values of the first images only (see Warns), and under torch.compile and
    torch.export at none. The embedded restorer refuses NaN on the CPU; on a GPU, which is never
    waited for after the first images, an image with NaN reaches the model as NaN altogether.

    Args:
        model: a recogniser: an nn.Module, or any callable that takes images.
        restorer: images (N, 3, H, W), RGB in [0, 1], float32 -> the same. Default: the embedded
            "fast" one, on the model's device. Your own is taken as it is: move it to the model's
            device, or move the pair.
        pixels: how the model expects its pixels, if it does not tell or tells wrong: a PixelSpec,
            or anything `PixelSpec.of` reads. `explain()` says what was found.

    Some objects call their network by themselves: ultralytics' YOLO, torchreid's
    FeatureExtractor, Hugging Face's pipelines, Detectron2's DefaultPredictor. They are called as
    before, and so are the methods that lead to the network (`predict`, `track`, `val`); what
    calls the network is a double that shares it, so the object itself is not changed. It takes
    files as well as tensors, gives no gradients, and the restorer follows it to its device.

    Attributes:
        model, restorer: as given.
        input: the ImageInput found, where images enter the model and how they are encoded.

    Attributes of the model that are values can be read off the pair. Its methods and submodules
    cannot, since calling them would skip the restorer: use `pair.model`.

    Raises:
        UnknownPixels: nothing says how the model expects its pixels.
        TypeError: the model is no image model, or the restorer cannot be called; the pair is called
            with something else than float tensors.
        ValueError: the model or the images are not of 3 channels; NaN or infinite first images.

    Warns:
        PixelRangeWarning: the first images do not look as their encoding says.
        UserWarning: on the first call, the model is in training mode.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        restorer: Callable[[Tensor], Tensor] | None = None,
        *,
        pixels: object = None,
    ):
        super().__init__()
        if isinstance(model, RestoreThen):
            raise TypeError("the model has a restorer in front already: wrap its `.model`")
        if not callable(model):
            raise TypeError(f"the model must be callable, came {type(model).__name__}")
        if isinstance(model, type):
            raise TypeError(f"came the class {model.__name__}: pass a model, {model.__name__}(...)")
        if not (restorer is None or callable(restorer)):
            raise TypeError(
                f"the restorer must be callable, came {type(restorer).__name__}: pass "
                "Restorer.from_pretrained(...) or your own; how pixels are encoded is pixels="
            )
        self.input = find_input(model, pixels)
        self.model: Any = model
        self.restorer = default_restorer(model) if restorer is None else restorer
        self.training = getattr(model, "training", False)
        self._checked = False
        self._doubles: list[Any] = []  # bare, nn.Module would take it for a part of the pair

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns for the same call with restored images."""
        if self.input.network:
            return self._double()(*args, **kwargs)
        args, kwargs = self.input.map(args, kwargs, self._restore)
        return self.model(*args, **kwargs)

    def _double(self) -> Any:
        """Of an object that calls its network by itself, one whose network gets restored images."""
        if not self._doubles:
            self._doubles.append(self._make_double())
        return self._doubles[0]

    def _make_double(self) -> Any:
        if is_ultralytics(self.model):
            return restored_yolo(self.model, self._restore)
        name = str(self.input.network)
        network = getattr(self.model, name)
        inner = RestoreThen(network, self.restorer, pixels=self.input.pixels)
        return with_network(self.model, name, inner)

    def _restore(self, images: Tensor) -> Tensor:
        if not (torch.compiler.is_compiling() or self._checked):
            self.input.pixels.check(images)
            if not self.input.network and getattr(self.model, "training", False):
                warnings.warn(TRAINING, stacklevel=2)
            self._checked = True
        if self.input.network:
            follow(self.restorer, images.device)
        return self.input.pixels.through(images, self.restorer)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # not yet there while unpickling
            if name in ("model", "restorer", "input", "_doubles") or name.startswith("__"):
                raise
        value = getattr(self._double() if self.input.network else self.model, name)
        if callable(value) and name not in self.input.roads:
            raise AttributeError(
                f"{name} of the model would run without the restorer: "
                f"if you mean that, call pair.model.{name}"
            )
        return value

    def train(self, mode: bool = True, **settings: Any) -> Any:
        """As of any nn.Module; a YOLO's own `train` would train the detector."""
        if not is_ultralytics(self.model):
            return super().train(mode)
        if settings or not isinstance(mode, bool):
            self._double().train()
        self.training = mode
        if isinstance(self.restorer, nn.Module):
            self.restorer.train(mode)
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self._doubles = []  # it may keep a copy of the network where that has been
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which make doubles of their own: a YOLO's holds a lock."""
        return {**self.__dict__, "_doubles": []}

    def explain(self) -> str:
        """What was found about the model, in lines for people to read."""
        weights = first_parameter(self.model)
        size = self.input.size
        lines = {
            "model": f"{name_of(self.model)} ({type(self.model).__module__})",
            "images": whereabouts(self.input),
            "pixels": str(self.input.pixels),
            "known from": self.input.source,
            "asked": "nobody" if self.input.source == "given" else ", ".join(asked(self.model)),
            "size": "published for {} x {}".format(*size) if size else "the model does not tell",
            "device": "unknown" if weights is None else str(weights.device),
            "dtype": "unknown" if weights is None else str(weights.dtype),
            "restorer": summary(self.restorer),
        }
        return "\n".join(f"{key:<11} {value}" for key, value in lines.items())

    def __repr__(self) -> str:
        return f"RestoreThen({name_of(self.model)} <- {self.input}; {summary(self.restorer)})"


TRAINING = (
    "the model is in training mode: batch normalisation and dropout change its results. "
    "Call .eval() on the pair unless you are training"
)


def default_restorer(model: object) -> Restorer:
    weights = first_parameter(model)
    restorer = Restorer.from_pretrained("fast")
    return restorer if weights is None else restorer.to(weights.device)


def first_parameter(model: object) -> Tensor | None:
    network = model if isinstance(model, nn.Module) else getattr(model, "model", None)
    return next(network.parameters(), None) if isinstance(network, nn.Module) else None


def whereabouts(found: ImageInput) -> str:
    argument = found.argument or "first argument"
    if found.network:
        return f"{argument}: as it takes them; restored where they enter its {found.network}"
    if found.key:
        return f"{argument}: a list of dicts, {found.key!r} in each is (3, H, W)"
    return f"{argument}: (N, 3, H, W), or a list of (3, H, W)"


def summary(restorer: Callable[[Tensor], Tensor]) -> str:
    """One line; nn.Module's own repr of a network has hundreds."""
    details = restorer.extra_repr() if isinstance(restorer, nn.Module) else ""
    return f"{name_of(restorer)}({details})" if details else name_of(restorer)
