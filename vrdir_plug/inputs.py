"""Where the images are in a call of a model, and the same call with other images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .pixels import PixelSpec


@dataclass(frozen=True)
class ImageInput:
    """The place where pixels enter a model.

    Args:
        argument: by what name the images come; None where the model does not tell. Images that do
            not come by name come first.
        pixels: how they are encoded.
        source: how the encoding is known, in words.
        size: height and width the model was published for, where that is known.
        key: where images come as one dict each, the name of the image in it: (3, H, W).
        network: by what name an object holds the network that it calls by itself; None where the
            user calls the network.
        roads: the methods of such an object that lead to the network, or do not need it.
    """

    argument: str | None
    pixels: PixelSpec
    source: str
    size: tuple[int, int] | None = None
    key: str | None = None
    network: str | None = None
    roads: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.argument or 'first argument'}: {self.pixels} ({self.source})"

    def map(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], restore: Callable[[Tensor], Tensor]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call with its images restored; those that came are not changed.

        Args:
            args, kwargs: what the model is called with. The images in it are a float tensor
                (N, 3, H, W), or a list or tuple of (3, H, W) in different sizes.
            restore: images (N, 3, H, W) -> the same shape; called once for a batch, once for each
                image of a list, and not for an empty one.

        Raises:
            TypeError: no images in the call, or not floating-point tensors.
            ValueError: another shape.
        """
        if self.argument in kwargs:
            return args, {**kwargs, self.argument: self.restored(kwargs[self.argument], restore)}
        if args:
            return (self.restored(args[0], restore), *args[1:]), kwargs
        by_name = f" or as {self.argument}=" if self.argument else ""
        raise TypeError(f"the call has no images: they come as the first argument{by_name}")

    def restored(self, images: Any, restore: Callable[[Tensor], Tensor]) -> Any:
        if self.key:
            return [self.restored_entry(entry, self.key, restore) for entry in images]
        if isinstance(images, (list, tuple)):
            for image in images:
                self.check(image, dimensions=3)
            restored = [restore(image[None])[0] for image in images]
            return restored if isinstance(images, list) else tuple(restored)
        self.check(images, dimensions=4)
        # len() would freeze the batch size in torch.export
        return restore(images) if images.shape[0] else images

    def restored_entry(self, entry: Any, key: str, restore: Callable[[Tensor], Tensor]) -> Any:
        """A dict with one image; whole numbers become floats, which the model takes as well."""
        if not isinstance(entry, Mapping) or key not in entry:
            raise TypeError(f"the model takes a list of dicts with {key!r}, came one without")
        image = entry[key].float() if isinstance(entry[key], Tensor) else entry[key]
        self.check(image, dimensions=3)
        return {**entry, key: restore(image[None])[0]}

    def check(self, images: object, dimensions: int) -> None:
        """Refuse what cannot be decoded, with the way out."""
        shape = "(N, 3, H, W)" if dimensions == 4 else "(3, H, W)"
        expected = f"the model takes float images {shape} encoded as {self.pixels}"
        if not isinstance(images, Tensor):
            raise TypeError(f"came {type(images).__name__}, but {expected}: preprocess them first")
        if not images.is_floating_point():
            raise TypeError(f"came {images.dtype}, but {expected}: convert and encode them first")
        cure = misshape(images.shape, dimensions)
        if cure:
            raise ValueError(f"came {tuple(images.shape)}, but {expected}: {cure}")


def misshape(shape: tuple[int, ...], dimensions: int) -> str | None:
    """What to do about images of this shape; None where it is right."""
    if len(shape) == 3 and dimensions == 4:
        return "add the batch dimension with images[None]"
    if len(shape) != dimensions:
        return "pass one tensor of images, or a list with one (3, H, W) tensor an image"
    channels, height, width = shape[-3:]
    if channels != 3 and width == 3:
        return "move the channels before height and width with images.movedim(-1, -3)"
    if channels == 1:
        return "repeat the grey channel with images.repeat_interleave(3, dim=-3) before normalising"
    if channels == 4:
        return "drop the alpha channel before normalising"
    if channels != 3:
        return "the restorer works on colour images"
    if height == 0 or width == 0:
        return "height and width must be at least 1"
    return None
