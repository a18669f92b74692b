"""A network of which no part is at rest."""

import torch

from vrdir_plug.config import RestorerConfig
from vrdir_plug.restorer import Restorer


def moved(config: RestorerConfig) -> Restorer:
    """Every weight moved at random, every image taken to be veiled, of a narrow range, dark and of
    little contrast, and streaked and noisy by half."""
    torch.manual_seed(2)
    restorer = Restorer(config)
    # ours has more parts in a row: moved further, they make of rounding what looks like a fault
    step = 0.1 if config.published else 0.06
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.add_(step * torch.randn_like(parameter))
        if not config.published:
            restorer.light.veil_switch.switch[0] = 0
            restorer.light.range_switch.switch[0] = 1
            restorer.light.shadow_switch.switch[:] = torch.tensor([0.5, 2.0])
            restorer.light.contrast_switch.switch[:] = torch.tensor([0.3, 20.0])
            # what is multiplied by more than other parts can take shows nothing of them, nor do
            # streaks or noise that are surely there or surely not
            pixel_filter = restorer.pixel_filter
            streaks, noise = restorer.streak_filter.asks[1], pixel_filter.noise_filter.asks[1]
            response = pixel_filter.response
            for layer in (response.says, response.asks[1], streaks, noise):
                layer.weight.mul_(0.1)
                layer.bias.mul_(0.1)
            streaks.bias.fill_(0)
            restorer.zoom_filter.asks[1].weight.mul_(0.1)
            restorer.zoom_filter.asks[1].bias.fill_(0.5)  # surely blurred, for what it has
            # a short move, which way the image says
            motion = restorer.motion_filter
            motion.asks[2].weight.mul_(0.1)
            motion.asks[2].bias.mul_(0.1)
            motion.asks[2].bias[1:] += torch.tensor([-0.2, 0.2]).repeat_interleave(32)
            motion.still.fill_(2.3)  # nearly sure
            # a small disc, if any
            disc = restorer.defocus_filter.asks[2]
            disc.weight.mul_(0.1)
            disc.bias.zero_()
            disc.bias[0], disc.bias[-1] = 4.0, 3.5
            if restorer.weather_filter is not None:
                weather = restorer.weather_filter.asks[1]
                weather.weight.mul_(0.1)
                restorer.weather_filter.leave.weight.mul_(0.3)
                weather.bias.fill_(0.3)  # half of it is taken away where it is this likely
            noise.bias.fill_(0.5)  # half of it is taken away where it is this likely
    return restorer.eval()
