"""Trains the stage "ise" with something changed, and none after it: docs/ablations.md's rows.

`python tools/ablate.py VARIANT OPTIONS`, with the options of `vrdir train`; --start among them.
"""

import sys
from dataclasses import replace

from vrdir_plug import cli, network_stages, stages

PLACE = next(n for n, stage in enumerate(stages.STAGES) if stage.name == "ise")
ISE = stages.STAGES[PLACE]
VARIANTS = {
    "prior-frozen": replace(ISE, learns=(".ise.",), pace=0.6),
    "pixel-dnc-frozen": replace(ISE, learns=(".encoder.", ".decoder.", ".ise.")),
    "fgm-frozen": replace(ISE, learns=(".encoder.", ".decoder.", ".ise.blocks.")),  # and PixelDNC
    "all": ISE,
    "no-mixtures": replace(ISE, most=1),
    "pixels": replace(ISE, loss=network_stages.branch_loss),
}


def main(variant: str, *options: str) -> int:
    if variant not in VARIANTS:
        sys.exit(f"there is no variant {variant!r}; the variants are: {', '.join(VARIANTS)}")
    stages.STAGES = (*stages.STAGES[:PLACE], VARIANTS[variant])
    return cli.main(["train", *options])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else __doc__)
