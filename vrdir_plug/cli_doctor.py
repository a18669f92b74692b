"""``vrdir doctor``: printing; the work is in `doctor`."""

import argparse
from typing import Any

from .doctor import examine

EXAMPLES = """\
example:
  vrdir doctor > report.txt    to go with a bug report

exit codes: 0 all is well, 1 something is not (marked with !)"""


def add_doctor(commands: Any) -> None:
    command = commands.add_parser(
        "doctor",
        help="versions, devices, what is found where, and a self-test of the weights",
        description="Print versions, devices and places, and compare what the embedded weights "
        "give on every device with the numbers that were recorded. Needs no network.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_doctor)


def run_doctor(arguments: argparse.Namespace) -> int:
    well = True
    for what, found, fine in examine():
        print(f"{' ' if fine else '!'} {what:<16} {found}")
        well = well and fine
    return 0 if well else 1
