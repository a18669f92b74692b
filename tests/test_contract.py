"""What RestoreThen promises, asked of every kind of model."""

import copy
import functools
import io
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES, Case, HomeMade, imagenet
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils._pytree import tree_leaves
from torchvision.models import resnet18

from vrdir_plug.adapters import ADAPTERS, find_input
from vrdir_plug.pixels import IMAGENET, UNIT, PixelRangeWarning, UnknownPixels
from vrdir_plug.restorer import Restorer
from vrdir_plug.wrap import RestoreThen

NETWORKS = [case for case in CASES if isinstance(case.model(), nn.Module)]


def ids(case: Case) -> str:
    return case.name


every_case = pytest.mark.parametrize("case", CASES, ids=ids)
every_differentiable = pytest.mark.parametrize(
    "case", [case for case in CASES if not case.calls], ids=ids
)
every_network = pytest.mark.parametrize("case", NETWORKS, ids=ids)


class Recorder(nn.Module):
    """The identity, and what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return images


class Brighten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Tensor) -> Tensor:
        return images + self.gain * (1 - images)


def identity(images: Tensor) -> Tensor:
    return images


def pair_of(case: Case, restorer: Callable[[Tensor], Tensor] = identity) -> RestoreThen:
    return RestoreThen(case.model(), restorer, pixels=case.pixels)


def outputs(result: Any) -> Tensor:
    """All numbers of an output, of whatever structure."""
    return torch.cat([leaf.double().flatten() for leaf in tree_leaves(result)])


def run(case: Case, model: Callable[..., Any]) -> Any:
    """All numbers a model makes of the case's images."""
    return case.numbers(model(case.images()))


def assert_same(result: Any, expected: Any) -> None:
    torch.testing.assert_close(outputs(result), outputs(expected), rtol=1e-5, atol=1e-5)


# --- the promises ----------------------------------------------------------------------------


@every_case
def test_with_the_identity_the_output_is_the_models_own(case: Case) -> None:
    assert_same(run(case, pair_of(case)), run(case, case.model()))


@every_case
def test_the_restorer_sees_the_rgb_images_we_started_from_once(case: Case) -> None:
    recorder = Recorder()
    pair_of(case, recorder)(case.images())
    clean = case.clean()
    expected = [image[None] for image in clean] if case.as_list else [torch.stack(clean)]
    assert len(recorder.seen) == len(expected)
    for seen, image in zip(recorder.seen, expected, strict=True):
        torch.testing.assert_close(seen, image, rtol=0, atol=1e-6)


@every_case
def test_what_the_restorer_returns_is_what_the_model_sees(case: Case) -> None:
    brighter = [case.encode(image + 0.5 * (1 - image)) for image in case.clean()]
    expected = case.model()(brighter if case.as_list else torch.stack(brighter))
    result = run(case, pair_of(case, Brighten()))
    assert_same(result, case.numbers(expected))
    with pytest.raises(AssertionError):
        assert_same(result, run(case, case.model()))


@every_case
def test_images_may_come_by_name(case: Case) -> None:
    recorder = Recorder()
    pair = pair_of(case, recorder)
    assert pair.input.argument
    result = pair(**{pair.input.argument: case.images()})
    assert_same(case.numbers(result), run(case, case.model()))
    assert recorder.seen


@every_case
def test_the_callers_images_stay_as_they_are(case: Case) -> None:
    images, before = case.images(), case.images()
    pair_of(case, Brighten())(images)
    for image, original in zip(tree_leaves(images), tree_leaves(before), strict=True):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(original))


@every_network
def test_the_users_model_stays_as_it_is(case: Case) -> None:
    model = case.model()
    assert isinstance(model, nn.Module)
    output, state = run(case, model), copy.deepcopy(model.state_dict())
    pair = RestoreThen(model, Brighten(), pixels=case.pixels)
    pair(case.images())
    assert pair.model is model and not pair.training
    assert not any(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert_same(model.state_dict(), state)
    assert_same(run(case, model), output)


@every_differentiable
def test_gradients_reach_the_restorer(case: Case) -> None:
    restorer = Brighten()
    leaves = tree_leaves(pair_of(case, restorer)(case.images()))
    sum(leaf.square().mean() for leaf in leaves if leaf.requires_grad).backward()
    assert restorer.gain.grad is not None and restorer.gain.grad.abs() > 0


@every_case
def test_copies_work_and_are_independent(case: Case) -> None:
    pair = pair_of(case, Brighten())
    expected = run(case, pair)
    twins: list[Any] = [copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))]
    for twin in twins:
        assert_same(run(case, twin), expected)
        nn.init.zeros_(twin.restorer.gain)
        assert_same(run(case, pair), expected)


@every_network
def test_the_state_goes_through_a_file(case: Case) -> None:
    pair, other = pair_of(case, Brighten()), pair_of(case, Brighten())
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.mul_(1.1)
    file = io.BytesIO()
    torch.save(pair.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same(run(case, other), run(case, pair))


@pytest.mark.parametrize(
    "case", [case for case in NETWORKS if not case.as_list and not case.calls], ids=ids
)  # torchvision's nms knows no bfloat16
def test_bfloat16_in_bfloat16_out(case: Case) -> None:
    recorder, bare = Recorder(), case.model()
    assert isinstance(bare, nn.Module)
    images = case.images().bfloat16()
    result = pair_of(case, recorder).bfloat16()(images)
    assert {leaf.dtype for leaf in tree_leaves(result)} == {torch.bfloat16}
    assert [seen.dtype for seen in recorder.seen] == [torch.float32]
    # the way to float32 and back changes no pixel by more than its last bit
    torch.testing.assert_close(
        outputs(result), outputs(bare.bfloat16()(images)), rtol=0.1, atol=0.1
    )


@every_case
def test_the_pair_moves_with_its_parts(case: Case) -> None:
    pair = pair_of(case, Brighten()).to("meta")
    assert {parameter.device.type for parameter in pair.parameters()} == {"meta"}


@every_case
def test_explain_lists_who_was_asked_in_order(case: Case) -> None:
    pair = pair_of(case)
    line = next(line for line in pair.explain().splitlines() if line.startswith("asked"))
    names = line.split(maxsplit=1)[1].split(", ")
    if case.pixels is not None:
        assert names == ["nobody"]
        return
    order = [adapter.__name__.replace("_", " ") for adapter in ADAPTERS]
    assert names == order[: len(names)]
    assert ADAPTERS[len(names) - 1](case.model()) == pair.input


@every_case
def test_repr_and_explain_say_what_was_found(case: Case) -> None:
    pair = pair_of(case, Brighten())
    assert "\n" not in repr(pair)
    for text in (repr(pair), pair.explain()):
        assert str(pair.input.pixels) in text
        assert pair.input.source in text
        assert "Brighten" in text


# --- what needs one model only -----------------------------------------------------------------


def homemade(restorer: Callable[[Tensor], Tensor] = identity) -> RestoreThen:
    torch.manual_seed(0)
    return RestoreThen(HomeMade().eval(), restorer, pixels=IMAGENET)


def batch() -> Tensor:
    return torch.stack([imagenet(image) for image in CASES[0].clean()])


def test_other_arguments_pass_untouched() -> None:
    pair = homemade()
    assert_same(pair(batch(), scale=3.0), 3 * pair(batch()))
    assert_same(pair(batch(), 3.0), 3 * pair(batch()))


def test_the_default_restorer_is_the_embedded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def from_pretrained(name: str) -> Restorer:
        asked.append(name)
        return Restorer(name)

    monkeypatch.setattr(Restorer, "from_pretrained", from_pretrained)
    pair = RestoreThen(HomeMade().to("meta"), pixels=IMAGENET)
    assert asked == ["fast"]
    assert {parameter.device.type for parameter in pair.parameters()} == {"meta"}
    assert isinstance(RestoreThen(abs, pixels=IMAGENET).restorer, Restorer)


def test_is_compiled_once_for_all_sizes() -> None:
    counter = CompileCounter()
    pair = homemade(Restorer("fast").eval())
    compiled = torch.compile(pair, backend=counter, fullgraph=True, dynamic=True)
    for size in ((2, 3, 33, 47), (3, 3, 64, 64), (4, 3, 48, 100), (2, 3, 97, 31)):
        images = IMAGENET.encode(torch.rand(size))
        assert_same(compiled(images), pair(images))
    assert counter.frame_count == 1


def test_compiles_and_exports_whole() -> None:
    pair = homemade(Brighten())
    expected = pair(batch())
    assert_same(torch.compile(pair, backend="eager", fullgraph=True)(batch()), expected)
    fresh = homemade(Brighten())
    assert_same(torch.compile(fresh, backend="eager", fullgraph=True)(batch()), expected)

    auto = torch.export.Dim.AUTO
    shapes = {"args": ({0: torch.export.Dim("batch", min=2, max=64), 2: auto, 3: auto},)}
    exported = torch.export.export(homemade(Brighten()), (batch(),), dynamic_shapes=shapes)
    other = batch()[:, :, :48].repeat(2, 1, 1, 1)
    assert_same(exported.module()(other), pair(other))


def test_values_of_the_model_are_passed_on_but_not_what_would_skip_the_restorer() -> None:
    pair = homemade()
    assert pair.num_classes == 7
    for name in ("classify", "features"):
        with pytest.raises(AttributeError, match=rf"without the restorer.*pair\.model\.{name}"):
            getattr(pair, name)
    with pytest.raises(AttributeError, match="'HomeMade' object has no attribute 'missing'"):
        _ = pair.missing
    assert not hasattr(RestoreThen.__new__(RestoreThen), "num_classes")  # as while unpickling


def test_autocast_reaches_the_model_and_leaves_the_images_their_type() -> None:
    recorder = Recorder()
    with torch.autocast("cpu", torch.bfloat16):
        assert homemade(recorder)(batch()).dtype == torch.bfloat16
    assert recorder.seen[0].dtype == torch.float32


def test_the_memory_layout_stays() -> None:
    seen: list[Tensor] = []

    def model(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    images = batch().contiguous(memory_format=torch.channels_last)
    RestoreThen(model, Brighten(), pixels=IMAGENET)(images)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_inference_mode() -> None:
    pair = homemade(Brighten())
    with torch.inference_mode():
        result = pair(batch())
    assert result.is_inference()
    assert_same(result, pair(batch()))


def test_threads_share_a_pair() -> None:
    pair = homemade(Brighten())
    batches = [batch() * scale for scale in torch.linspace(0.1, 1, 16)]
    expected = [pair(images) for images in batches]
    with ThreadPoolExecutor(4) as pool:
        for result, wanted in zip(pool.map(pair, batches), expected, strict=True):
            assert_same(result, wanted)


def test_torch_wrappers_around_the_pair() -> None:
    pair = homemade(Brighten())
    assert_same(nn.DataParallel(pair)(batch()), pair(batch()))


@pytest.fixture
def one_process() -> Iterator[None]:
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_distributed_training_of_the_restorer() -> None:
    restorer = Brighten()
    pair = homemade(restorer)
    pair.model.requires_grad_(False)
    result = nn.parallel.DistributedDataParallel(pair)(batch())
    result.square().sum().backward()
    assert_same(result, pair(batch()))
    assert restorer.gain.grad is not None and restorer.gain.grad.abs() > 0


@pytest.mark.usefixtures("one_process")
def test_a_distributed_network_inside_the_pair() -> None:
    pair = homemade(Brighten())
    inside = nn.parallel.DistributedDataParallel(pair.model).eval()
    assert find_input(inside, IMAGENET) == pair.input
    assert_same(RestoreThen(inside, Brighten(), pixels=IMAGENET)(batch()), pair(batch()))


def test_torch_wrappers_inside_the_pair() -> None:
    model = HomeMade().eval()
    pair = RestoreThen(nn.DataParallel(model).eval(), Brighten(), pixels=IMAGENET)
    assert_same(pair(batch()), RestoreThen(model, Brighten(), pixels=IMAGENET)(batch()))


def test_one_restorer_serves_several_models() -> None:
    recorder = Recorder()
    clean = torch.stack(CASES[0].clean())
    for case in CASES:
        if not case.as_list:
            pair = pair_of(case, recorder)
            pair(case.images())
            assert pair.restorer is recorder
    assert len(recorder.seen) == sum(not case.as_list for case in CASES)
    for seen in recorder.seen:
        torch.testing.assert_close(seen, clean, rtol=0, atol=1e-6)


def test_an_empty_batch_goes_to_the_model_as_it_is() -> None:
    recorder = Recorder()
    empty = torch.empty(0, 3, 64, 64)
    assert homemade(recorder)(empty).shape == (0, 7)
    assert not recorder.seen


def test_the_first_images_only_are_looked_at() -> None:
    pair = homemade()
    plain = torch.stack(CASES[0].clean())
    for _ in range(2):  # as long as it is turned into an error, it has not been heard
        with pytest.raises(PixelRangeWarning, match=r"plain \[0, 1\].*pixels=UNIT"):
            pair(plain)
    with pytest.raises(ValueError, match="NaN or infinite"):
        pair(batch() * torch.nan)
    pair(batch())
    pair(plain)


def test_a_model_in_training_mode_is_told_once() -> None:
    pair = RestoreThen(HomeMade(), identity, pixels=IMAGENET)
    assert pair.training and pair.model.training
    with pytest.warns(UserWarning, match=r"training mode.*\.eval\(\)"):
        pair(batch())
    pair(batch())
    pair = RestoreThen(HomeMade(), identity, pixels=IMAGENET).eval()
    assert not pair.model.training
    pair(batch())


class Descriptor:
    """As spandrel's: no nn.Module, but it has one; clamps, and gives no gradients."""

    input_channels = output_channels = 3

    def __init__(self, model: nn.Module, scale: int = 1):
        self.model, self.scale = model.eval(), scale

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        result: Tensor = self.model(image)
        return result.clamp_(0, 1)


def test_a_descriptor_of_a_restorer_will_do() -> None:
    restorer = Descriptor(nn.Conv2d(3, 3, 3, padding=1))
    pair, images = homemade(restorer), batch()
    result = pair(images)
    by_hand = IMAGENET.encode(restorer(IMAGENET.decode(images))).clone()
    assert_same(result, pair.model(by_hand))
    with pytest.raises(AssertionError):
        assert_same(result, pair.model(images))
    result.sum().backward()  # the recogniser can still learn behind it
    assert pair.model.head.weight.grad.abs().sum() > 0
    assert "Descriptor" in pair.explain()
    assert_same(copy.deepcopy(pair)(images), result)


def test_a_descriptor_that_enlarges_is_refused() -> None:
    enlarging = Descriptor(nn.Upsample(scale_factor=2), scale=2)
    with pytest.raises(ValueError, match=r"\(2, 3, 128, 128\) of images \(2, 3, 64, 64\)"):
        homemade(enlarging)(batch())


class Bound:
    def lighten(self, images: Tensor, by: float = 0.5) -> Tensor:
        return images + by * (1 - images)


@pytest.mark.parametrize(
    "restorer",
    [
        Bound().lighten,
        functools.partial(Bound().lighten, by=0.5),
        lambda images: images + 0.5 * (1 - images),
        torch.compile(Brighten(), backend="eager"),
    ],
    ids=["method", "partial", "lambda", "compiled"],
)
def test_anything_that_can_be_called_restores(restorer: Callable[[Tensor], Tensor]) -> None:
    assert_same(homemade(restorer)(batch()), homemade(Brighten())(batch()))


# --- wrong use ---------------------------------------------------------------------------------


def test_an_unknown_model_is_refused_with_the_ways_out() -> None:
    with pytest.raises(UnknownPixels) as caught:
        RestoreThen(HomeMade(), identity)
    assert str(caught.value) == (
        "cannot tell how HomeMade expects its pixels.\n"
        "  Pass one of\n"
        "    RestoreThen(model, pixels=IMAGENET)               # a PixelSpec\n"
        "    RestoreThen(model, pixels=weights.transforms())   # torchvision transforms\n"
        "    RestoreThen(model, pixels=processor)              # a Hugging Face image processor"
    )


def test_a_pair_is_not_wrapped_again() -> None:
    with pytest.raises(TypeError, match=r"already: wrap its `\.model`"):
        RestoreThen(homemade(), identity)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="callable, came str"):
        RestoreThen("resnet50", identity, pixels=UNIT)  # type: ignore[arg-type]


@pytest.mark.parametrize("restorer", ["fast", IMAGENET], ids=type)
def test_a_restorer_that_cannot_be_called_is_refused(restorer: Any) -> None:
    with pytest.raises(TypeError, match=rf"callable, came {type(restorer).__name__}.*pixels="):
        RestoreThen(HomeMade(), restorer, pixels=IMAGENET)


def test_a_class_is_no_model() -> None:
    with pytest.raises(
        TypeError, match=r"came the class HomeMade: pass a model, HomeMade\(\.\.\.\)"
    ):
        RestoreThen(HomeMade, identity, pixels=IMAGENET)


def test_a_restorer_that_changes_the_shape_is_refused() -> None:
    pair = RestoreThen(resnet18().eval(), lambda images: images[:, :, ::2])
    with pytest.raises(ValueError, match="must keep their shape"):
        pair(batch())


def test_images_on_the_wrong_channel_are_refused_in_words_about_the_model() -> None:
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\) encoded as RGB, ImageNet.*movedim"):
        homemade()(batch().movedim(1, -1))
