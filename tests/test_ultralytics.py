"""Every road through a YOLO is restored; letterboxes and the user's object are not."""

import copy
import functools
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
import ultralytics
from cases import livened
from PIL import Image
from torch import Tensor, nn

from vrdir_plug.adapters import find_input
from vrdir_plug.detection import Detection
from vrdir_plug.evaluation import Sample
from vrdir_plug.facades import follow
from vrdir_plug.pixels import UNIT, PixelSpec
from vrdir_plug.wrap import RestoreThen

Picture = npt.NDArray[np.uint8]
GREY = 114 / 255  # of ultralytics' letterboxes


# ultralytics' own have 300 queries and six layers of decoder
RTDETR = """
nc: 80
backbone:
  - [-1, 1, Conv, [16, 3, 4]]
  - [-1, 1, Conv, [32, 3, 4]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [[1, 2], 1, RTDETRDecoder, [nc, 32, 20, 4, 4, 1]]
"""


def rtdetr() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rtdetr-tiny.yaml"
        file.write_text(RTDETR, encoding="utf-8")
        return ultralytics.RTDETR(str(file))


@functools.cache
def built(name: str) -> Any:
    torch.manual_seed(0)
    model = rtdetr() if name == "rtdetr" else ultralytics.YOLO(f"{name}.yaml")
    model.overrides.update(imgsz=64, verbose=False, save=False, plots=False)
    livened(model.model.eval())
    return model


def yolo(name: str = "yolo11n") -> Any:
    return copy.deepcopy(built(name))


def picture(height: int, width: int, seed: int = 0) -> Picture:
    """BGR tiles, none of them near the grey of letterboxes."""
    tiles = np.random.default_rng(seed).choice([10, 60, 200, 250], (4, 4, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(tiles).resize((width, height), Image.Resampling.NEAREST))


class Recorder:
    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(images.clone())
        return images

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [tuple(images.shape) for images in self.seen]


def negative(images: Tensor) -> Tensor:
    return 1 - images


def numbers(results: Any) -> list[Tensor]:
    """Of each result, whatever its task."""
    return [
        part.data.float()
        for result in results
        for name in ("boxes", "masks", "keypoints", "obb", "probs", "semantic_mask", "depth")
        if (part := getattr(result, name, None)) is not None
    ]


def assert_same(results: Any, expected: Any) -> None:
    torch.testing.assert_close(numbers(results), numbers(expected), rtol=1e-5, atol=1e-5)


TASKS = [
    "yolo11n",
    "yolov8n",
    "yolo26n",
    "yolo11n-seg",
    "yolo11n-pose",
    "yolo11n-obb",
    "yolo11n-cls",
    "yolo26n-sem",
    "yolo26n-depth",
    "rtdetr",
]
every_task = pytest.mark.parametrize("name", TASKS)


@every_task
def test_every_task_is_restored_and_the_users_object_is_not(name: str) -> None:
    # as tall as wide, so that there is no border, and a negative in place of the picture
    model, image = yolo(name), picture(64, 64)
    before = model(image, conf=1e-9)
    assert numbers(before)
    recorder = Recorder()
    assert_same(RestoreThen(model, recorder)(image, conf=1e-9), before)
    expected = torch.from_numpy(image[..., ::-1].copy()).movedim(-1, 0)[None] / 255
    torch.testing.assert_close(recorder.seen, [expected], rtol=0, atol=1e-6)

    restored = RestoreThen(model, negative).predict(image, conf=1e-9)
    assert_same(restored, yolo(name)(255 - image, conf=1e-9))
    assert np.array_equal(restored[0].orig_img, image)
    with pytest.raises(AssertionError):
        assert_same(restored, before)
    assert_same(model(image, conf=1e-9), before)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.model.modules())


def test_rtdetr_is_stretched_so_all_of_it_is_restored() -> None:
    model, recorder = yolo("rtdetr"), Recorder()
    assert len(RestoreThen(model, recorder)(picture(40, 80), conf=1e-9)) == 1
    assert recorder.shapes == [(1, 3, 64, 64)]


def test_the_letterbox_is_not_restored() -> None:
    entered: list[Tensor] = []
    model = yolo()
    pair = RestoreThen(model, negative)
    pair(picture(64, 64))
    pair.predictor.model.register_forward_pre_hook(lambda _, args: entered.append(args[0].clone()))
    images = [picture(32, 64), picture(64, 48)]
    pair(images, batch=2)
    wide, tall = entered[0]
    for border in (wide[:, :16], wide[:, 48:], tall[:, :, :8], tall[:, :, 56:]):
        torch.testing.assert_close(border, torch.full_like(border, GREY))
    for entry, image in ((wide[:, 16:48], images[0]), (tall[:, :, 8:56], images[1])):
        rgb = torch.from_numpy(image[..., ::-1].copy()).movedim(-1, 0) / 255
        torch.testing.assert_close(entry, 1 - rgb)


def test_geometry_is_found_anew_when_it_changes() -> None:
    recorder = Recorder()
    pair = RestoreThen(yolo(), recorder)
    for size in ((32, 64), (32, 64), (64, 48), (64, 64)):
        pair(picture(*size), rect=False)
    pair(picture(32, 64), imgsz=96, rect=False)
    heights = [shape[-2:] for shape in recorder.shapes]
    assert heights == [(32, 64), (32, 64), (64, 48), (64, 64), (48, 96)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(3):
        Image.fromarray(picture(48, 64, i)).save(tmp_path / f"{i}.png")
    return tmp_path


def video(path: Path, frames: int = 4) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for i in range(frames):
        writer.write(picture(48, 64, i))
    writer.release()
    return path


Source = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        (lambda folder: folder / "0.png", [(48, 64)]),
        (lambda folder: str(folder / "0.png"), [(48, 64)]),
        (lambda folder: (folder / "0.png").as_uri(), None),
        (lambda folder: folder, [(48, 64)] * 3),
        (lambda folder: str(folder / "*.png"), [(48, 64)] * 3),
        (lambda folder: Image.open(folder / "0.png"), [(48, 64)]),
        (lambda folder: picture(48, 64), [(48, 64)]),
        (lambda folder: [picture(48, 64), picture(64, 32)], [(48, 64), (64, 32)]),
        (lambda folder: torch.rand(2, 3, 64, 32), [(64, 32)]),
        (lambda folder: video(folder / "film.avi"), [(48, 64)] * 4),
    ],
    ids=[
        "path",
        "string",
        "file URL",
        "folder",
        "pattern",
        "PIL",
        "array",
        "list",
        "tensor",
        "video",
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["list", "stream"])
def test_every_source_is_restored(
    folder: Path, source: Source, sizes: list[tuple[int, int]] | None, stream: bool
) -> None:
    recorder = Recorder()
    pair, images = RestoreThen(yolo(), recorder), source(folder)
    if sizes is None:  # ultralytics knows no file URLs; the pair raises what it raises
        with pytest.raises(FileNotFoundError):
            list(pair.predict(images, stream=stream))
        return
    results = list(pair.predict(images, stream=stream))
    assert [shape[-2:] for shape in recorder.shapes] == sizes
    assert len(results) == sum(shape[0] for shape in recorder.shapes)


def test_tracks_persist_and_are_the_pairs_own() -> None:
    model, recorder = yolo(), Recorder()
    pair = RestoreThen(model, recorder)
    callbacks = copy.deepcopy({event: len(calls) for event, calls in model.callbacks.items()})
    pair.track(picture(64, 64), persist=True)
    trackers = pair.predictor.trackers
    list(pair.track([picture(64, 64)], persist=True, stream=True))
    assert pair.predictor.trackers is trackers
    assert recorder.shapes == [(1, 3, 64, 64)] * 2
    assert {event: len(calls) for event, calls in model.callbacks.items()} == callbacks
    assert model.predictor is None


def test_callbacks_added_before_wrapping_are_called() -> None:
    model, calls = yolo(), []
    model.add_callback("on_predict_start", lambda predictor: calls.append("before"))
    pair = RestoreThen(model, negative)
    pair(picture(64, 64))
    assert calls == ["before"]
    with pytest.raises(AttributeError, match=r"pair\.model\.add_callback"):
        _ = pair.add_callback


def test_a_yolo_that_has_predicted_is_copied_without_its_predictor() -> None:
    """As docs/recognisers.md says; with it, ultralytics' own copies fail."""
    model = yolo()
    model(picture(64, 64))
    pair = RestoreThen(model, negative)
    with pytest.raises(TypeError, match="lock"):
        copy.deepcopy(pair)
    model.predictor = None
    image = picture(64, 64)
    assert_same(copy.deepcopy(pair)(image, conf=1e-9), pair(image, conf=1e-9))


def test_embeddings_are_restored() -> None:
    model, image = yolo(), picture(64, 64)
    expected = yolo().embed(255 - image)[0]
    torch.testing.assert_close(RestoreThen(model, negative).embed(image)[0], expected)


def data_set(root: Path) -> Path:
    """Pictures of several sizes, each with a box on it."""
    for part in ("images", "labels"):
        (root / part).mkdir()
    for i, size in enumerate([(64, 64), (32, 64), (64, 48)]):
        Image.fromarray(picture(*size, i)).save(root / "images" / f"{i}.png")
        (root / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n", encoding="utf-8")
    file = root / "data.yaml"
    names = "\n".join(f"  {i}: '{i}'" for i in range(80))
    file.write_text(f"path: {root}\ntrain: images\nval: images\nnames:\n{names}\n", "utf-8")
    return file


@pytest.mark.parametrize("rect", [False, True])
def test_validation_is_restored_within_the_letterboxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rect: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    recorder, model = Recorder(), yolo()
    settings = {"data": str(data_set(tmp_path)), "batch": 2, "rect": rect}
    pair = RestoreThen(model, recorder)
    metrics = pair.val(**settings)
    sizes = {shape[-2:] for shape in recorder.shapes}
    assert sizes == {(64, 64), (32, 64), (64, 48)}
    assert sum(shape[0] for shape in recorder.shapes) == 3
    assert all((images - GREY).abs().amax(1).min() > 0.05 for images in recorder.seen)
    assert metrics.results_dict == yolo().val(**settings).results_dict
    assert pair.metrics is metrics and model.metrics is None


POSE = " ".join(["0.5 0.5 2"] * 17)
LABELS = {
    "yolo11n": "0.5 0.5 0.5 0.5",
    "yolo11n-seg": "0.2 0.2 0.8 0.2 0.8 0.8",
    "yolo11n-pose": f"0.5 0.5 0.5 0.5 {POSE}",
    "yolo11n-obb": "0.2 0.2 0.8 0.2 0.8 0.8 0.2 0.8",
    "rtdetr": "0.5 0.5 0.5 0.5",
}


def validated(root: Path, name: str, invert: bool, restorer: Any = None) -> list[Tensor]:
    """What enters the network in a validation of pictures, or of their negatives."""
    entered: list[Tensor] = []
    root.mkdir()
    file = data_set(root)
    with file.open("a", encoding="utf-8") as more:
        more.write("kpt_shape: [17, 3]\n")
    for label in (root / "labels").iterdir():
        label.write_text(f"0 {LABELS[name]}\n", encoding="utf-8")
    for photo in (root / "images").iterdir():
        if invert:
            Image.fromarray(255 - np.asarray(Image.open(photo))).save(photo)
    model = yolo(name)
    # ultralytics copies the network, hooks and all
    model.model.register_forward_pre_hook(lambda _, args: entered.append(args[0].clone()))
    (RestoreThen(model, restorer) if restorer else model).val(data=str(file), batch=2, rect=False)
    assert [len(batch) for batch in entered[-2:]] == [2, 1]
    return entered[-2:]  # what came before has warmed the network up


@pytest.mark.parametrize("name", LABELS)
def test_a_validation_of_every_task_sees_restored_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    restored = validated(tmp_path / "as they are", name, False, negative)
    expected = validated(tmp_path / "negatives", name, True)
    # RT-DETR stretches, and a negative is rounded the other way
    torch.testing.assert_close(restored, expected, rtol=0, atol=1.01 / 255)


def test_classification_is_validated_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for part in ("train", "val"):
        for label in "ab":
            (tmp_path / "data" / part / label).mkdir(parents=True)
            Image.fromarray(picture(64, 80)).save(tmp_path / "data" / part / label / "0.png")
    recorder = Recorder()
    RestoreThen(yolo("yolo11n-cls"), recorder).val(data=str(tmp_path / "data"))
    assert recorder.shapes == [(2, 3, 64, 64)]


def test_the_users_own_predictor_and_validator_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    class Mine(ultralytics.models.yolo.detect.DetectionPredictor):  # type: ignore[misc]
        pass

    class Judge(ultralytics.models.yolo.detect.DetectionValidator):  # type: ignore[misc]
        pass

    recorder = Recorder()
    pair = RestoreThen(yolo(), recorder)
    pair.predict(picture(64, 64), predictor=Mine)
    first = pair.predictor
    pair.predict(picture(64, 64), predictor=Mine)
    assert isinstance(first, Mine) and pair.predictor is first
    pair.val(validator=Judge, data=str(data_set(tmp_path)))
    assert sum(shape[0] for shape in recorder.shapes) == 5


def test_names_fusing_and_conversion_are_as_ever() -> None:
    model = yolo()
    recorder = Recorder()
    pair = RestoreThen(model, recorder)
    assert pair.names == model.names and pair.task == "detect"
    pair(picture(64, 64))
    pair.to(torch.float32)
    fused = pair.fuse(verbose=False)
    assert isinstance(fused, ultralytics.YOLO)
    fused(picture(64, 64))
    pair(picture(64, 64))
    assert len(recorder.seen) == 3
    assert not hasattr(model.model.model[0], "bn")


def test_the_double_forgets_its_copy_of_the_network_when_the_pair_is_converted() -> None:
    pair = RestoreThen(yolo(), negative)
    pair(picture(64, 64))
    with torch.no_grad():
        for parameter in pair.model.parameters():
            parameter.mul_(2)
    pair.double().float()
    assert_same(pair(picture(64, 64), conf=1e-9), pair.model(255 - picture(64, 64), conf=1e-9))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("train", "train the detector first, then wrap it"),
        ("tune", "train the detector first, then wrap it"),
        ("export", "without the restorer"),
        ("benchmark", "without the restorer"),
    ],
)
def test_what_would_leave_the_restorer_out_is_refused_with_the_reason(
    name: str, reason: str
) -> None:
    pair = RestoreThen(yolo(), negative)
    with pytest.raises(TypeError, match=reason):
        getattr(pair, name)(data="coco8.yaml")
    with pytest.raises(AttributeError, match=r"pair\.model\.save"):
        _ = pair.save


def test_a_training_mode_does_not_start_a_training() -> None:
    restorer = nn.Conv2d(3, 3, 1)
    pair = RestoreThen(yolo(), restorer)
    assert pair.eval() is pair and not restorer.training
    assert pair.train() is pair and restorer.training and not pair.model.model.training


def test_the_network_inside_can_be_wrapped_and_exported() -> None:
    pair = RestoreThen(yolo("yolo11n-cls").model, negative, pixels=UNIT)
    images = torch.rand(1, 3, 64, 64)
    program = torch.export.export(pair, (images,))
    torch.testing.assert_close(program.module()(images), pair(images))


def test_both_ways_to_export_that_the_refusal_names_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    yolo_, image = yolo(), picture(32, 64)
    pair = RestoreThen(yolo_, negative)
    with pytest.raises(TypeError) as refused:
        pair.export(format="onnx")
    commands = [line.strip() for line in str(refused.value).splitlines() if line.startswith("  ")]
    alone, whole = commands
    names = {
        "RestoreThen": functools.partial(RestoreThen, restorer=negative),
        "YOLO": ultralytics.YOLO,
        "UNIT": UNIT,
        "copy": copy,
        "torch": torch,
        "pair": pair,
        "yolo": yolo_,
    }
    settings: dict[str, Any] = {"imgsz": 64, "conf": 1e-9, "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters warn of themselves
        wrapped = eval(alone.replace("'onnx'", "'onnx', imgsz=64, simplify=False"), names)
        results = wrapped(image, **settings)
        assert_same(results, ultralytics.YOLO("yolo11n.onnx")(255 - image, **settings))
        eval(whole.replace("640, 640", "64, 64"), names)
    session = onnxruntime.InferenceSession("pair.onnx", providers=["CPUExecutionProvider"])
    images = torch.rand(1, 3, 64, 64)
    output = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    with torch.no_grad():
        expected = yolo_.model(1 - images)[0]
    torch.testing.assert_close(torch.from_numpy(output), expected, rtol=1e-3, atol=1e-3)


def test_exported_models_are_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of itself
        file = yolo("yolo11n-cls").export(format="torchscript", imgsz=64)
        model, recorder = ultralytics.YOLO(file, task="classify"), Recorder()
        image = picture(64, 64)
        results = RestoreThen(model, recorder)(image, imgsz=64, verbose=False)
        assert_same(results, model(image, imgsz=64, verbose=False))
    assert recorder.shapes == [(1, 3, 64, 64)]


def test_a_classifier_that_normalises_says_so() -> None:
    model = yolo("yolo11n-cls")
    mean, std = (0.5, 0.25, 0.75), (0.5, 0.125, 0.25)
    model.model.transforms = ultralytics.data.augment.classify_transforms(64, mean, std)
    assert find_input(model).pixels == PixelSpec(mean, std)
    recorder = Recorder()
    image = picture(64, 64)
    RestoreThen(model, recorder)(image)
    rgb = torch.from_numpy(image[..., ::-1].copy()).movedim(-1, 0)[None] / 255
    torch.testing.assert_close(recorder.seen, [rgb], rtol=0, atol=1e-6)


def test_what_is_prompted_is_refused() -> None:
    with pytest.raises(TypeError, match="YOLOWorld is prompted"):
        RestoreThen(ultralytics.YOLO("yolov8s-worldv2.yaml"), negative)


def test_models_of_other_channels_are_refused() -> None:
    model = yolo()
    model.model.yaml["channels"] = 1
    with pytest.raises(ValueError, match="1 channels"):
        RestoreThen(model, negative)


def test_the_restorer_follows_the_images() -> None:
    restorer = nn.Conv2d(3, 3, 1)
    follow(restorer, torch.device("meta"))
    assert {weights.device.type for weights in restorer.parameters()} == {"meta"}
    follow(negative, torch.device("meta"))


def test_explain_says_who_calls_the_network() -> None:
    text = RestoreThen(yolo(), negative).explain()
    assert "source: as it takes them; restored where they enter its model" in text


RECOGNISERS = Path(__file__).parents[2] / "shared" / "data" / "recognisers"


@pytest.mark.parametrize("file", ["yolov8n.pt", "yolo26n.pt", "yolov8n-seg.pt"])
def test_real_weights(file: str) -> None:
    if not (RECOGNISERS / file).exists():
        pytest.skip(f"no {file} in {RECOGNISERS}")
    from skimage.data import astronaut

    image = astronaut()[..., ::-1].copy()
    model = ultralytics.YOLO(RECOGNISERS / file)
    expected = model(image, imgsz=320, verbose=False)
    assert "person" in expected[0].verbose()
    recorder = Recorder()
    assert_same(RestoreThen(model, recorder)(image, imgsz=320, verbose=False), expected)
    assert recorder.shapes == [(1, 3, 320, 320)]
    # resizing rounds to 8 bits, a negative the other way
    restored = RestoreThen(model, negative)(255 - image, imgsz=320, verbose=False)
    torch.testing.assert_close(restored[0].boxes.data, expected[0].boxes.data, rtol=0.02, atol=1)


def test_vrdir_evaluate_shows_a_restorer_what_the_pair_shows_it(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((100, 60), Image.Resampling.BICUBIC).save(tmp_path / "0.png")
    seen: list[Tensor] = []

    def record(images: Tensor) -> Tensor:
        seen.append(images.clone())
        return images

    RestoreThen(yolo(), record).predict(str(tmp_path / "0.png"), imgsz=64)
    task = Detection([], {}, lambda images: images, size=64)
    loaded = task.load(Sample("0.png", tmp_path / "0.png", 1))
    torch.testing.assert_close(loaded[None], seen[-1], atol=1.5 / 255, rtol=0)
