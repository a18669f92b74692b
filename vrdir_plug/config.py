"""The sizes of the network."""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class RestorerConfig:
    """Every size of the network; saved beside the weights.

    Args:
        profile: name of this set of sizes.
        channels: feature channels C of the encoder.
        units: one entry per ISE block: the widths of its spatial unit, the first level at the
            features' own resolution, each further one at half of that of the one before; empty
            for DNC and FGM alone, as published.
        branches: of the gate, one per family of degradations; ours keeps the last for clean images.
        grid: side of the square grid on which FGM takes the spectrum; 0 takes it at the
            features' own resolution.
        skip: rebuild on top of the normalised image (ours) or from features only (the paper).
        published: the modules as the paper's authors code them (VGG encoder at H/2, DNC gates
            that see only the mean, transposed-convolution decoder with a sigmoid).
        bypass: images with a degradation score below this come back bit-identical; 0: none do.
            It is calibrated after training.
        enhanced_from: images are enhanced (PixelDNC, E, ISE, SAD) where FGM gives the branch
            before the last, that of blur and compression, a larger share than this, and altogether
            from twice as much on; others stay as filters and light leave them. 0: all are.
            It is chosen before the stage "enhanced" of a training, up to which all are.
        denoiser: width of the network behind NoiseFilter; 0: there is none.
        weather: width of the network that takes away what lies over a scene, before all else, at
            its finest level; an even number; 0: there is none.
    """

    profile: str
    channels: int
    units: tuple[tuple[int, ...], ...]
    branches: int = 5
    grid: int = 16
    skip: bool = True
    published: bool = False
    bypass: float = 0.0
    enhanced_from: float = 0.0
    denoiser: int = 0
    weather: int = 0

    def __post_init__(self) -> None:
        sizes = [self.channels, self.branches, *(w for widths in self.units for w in widths)]
        # a stranger's config must not be able to ask for all memory
        if not all(isinstance(size, int) and 0 < size <= 1024 for size in sizes):
            raise ValueError(f"channels, branches and widths must be from 1 to 1024, came {sizes}")
        deepest = max(map(len, self.units), default=0)
        if self.channels < 4 or not 0 < len(self.units) <= 8 or deepest > 4:
            raise ValueError(f"expected 4 channels or more, 1 to 8 units of up to 4 widths: {self}")
        if self.denoiser not in range(1025):
            raise ValueError(f"denoiser must be a width from 0 to 1024, came {self.denoiser}")
        if self.weather not in range(0, 1025, 2):
            raise ValueError(f"weather must be an even width from 0 to 1024, came {self.weather}")
        if self.published and self.denoiser:
            raise ValueError("the published network has no filter for noise: set denoiser=0")
        if self.published and self.weather:
            raise ValueError("the published network has no filter for weather: set weather=0")
        if self.grid not in range(257):
            raise ValueError(f"grid must be a whole number from 0 to 256, came {self.grid}")
        for name in ("bypass", "enhanced_from"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be a score from 0 to 1, came {value}")
            if self.published and value:
                raise ValueError(f"the published gate has no branch to tell {name}: set 0")
        if self.published and self.skip:
            raise ValueError("the published decoder has no input skip: set skip=False")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RestorerConfig":
        """Rebuild from JSON values; a field missing or unknown raises ValueError."""
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise ValueError(
                f"the config has the fields {sorted(values)}, expected {sorted(names)}: "
                "it was written by another version of vrdir-plug"
            )
        return cls(**{**values, "units": tuple(tuple(unit) for unit in values["units"])})


PROFILES = (
    RestorerConfig("fast", 32, ((32,),)),
    RestorerConfig("strong", 32, ((32,),), denoiser=64, weather=64),
    RestorerConfig("paper", 128, ((),), branches=3, grid=0, skip=False, published=True),
)


def config_of(profile: str) -> RestorerConfig:
    """The sizes of a named profile; ValueError lists the names there are."""
    for config in PROFILES:
        if config.profile == profile:
            return config
    names = ", ".join(config.profile for config in PROFILES)
    raise ValueError(f"there is no profile {profile!r}; the profiles are: {names}")
