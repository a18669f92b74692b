"""The tools that make the tables of the documentation run with the package as it is."""

import architectures
import pytest
import torch

from vrdir_plug import training


@pytest.mark.parametrize("name", architectures.NETWORKS)
def test_an_architecture_starts_at_the_identity_and_learns(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "STAGES", training.STAGES)  # the tool puts its own in their place
    torch.manual_seed(0)
    images = [torch.randint(0, 256, (3, 112, 112), dtype=torch.uint8) for _ in range(4)]
    network = architectures.NETWORKS[name]()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    image = images[0][None, :, :96, :96] / 255
    with torch.inference_mode():
        assert (network(image) - image).abs().max() < 1e-4 or name == "no-skip"
    after = architectures.trained(network, images, 2, batch=4).state_dict()
    assert any(not torch.equal(after[key], tensor) for key, tensor in before.items())
