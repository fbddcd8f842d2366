"""`oodcert cost`: what a profile will take, from its config: passes, hours, disk and memory."""

from __future__ import annotations

import argparse

from oodcert.cli.arguments import POSITIVE_INT, Commands, Help

DESCRIPTION = """Says what a profile of the workflow will take before anything starts: images through each network
(forward and backward), rule by rule and method by method, hours at given or measured rates, disk and memory."""
EXAMPLE = """example:
  oodcert cost --config config/cifar-lite.yaml --throughput classifier=20000 discriminator=20000 denoiser=1500 --gpus 2

Nothing is trained, downloaded or written, but for --csv."""


def add_arguments(commands: Commands) -> None:
    """Adds the command to those of the parser."""
    command = commands.add_parser(
        "cost",
        help="passes, hours, disk and memory of a profile",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=Help,
    )
    add = command.add_argument
    add(
        "--config",
        required=True,
        nargs="+",
        metavar="FILE",
        help="of the profile; later files override earlier ones key by key, as with snakemake --configfile",
    )
    add("--mirror", metavar="DIR", help="the folder of image sets (data_mirror of the config)")
    rates = command.add_mutually_exclusive_group().add_argument
    rates(
        "--throughput",
        nargs="+",
        metavar="COMPONENT=RATE",
        help="images a second that a network passes forward, for the hours: of a component, or of classifier for all "
        "classifiers that are not named; a backward pass counts as two forward ones",
    )
    rates("--measure", action="store_true", help="measure these rates on the config's device, here")
    add("--gpus", type=POSITIVE_INT, default=1, metavar="N", help="devices that share the hours")
    add("--csv", metavar="FILE", help="write the table of passes, a row per job and component")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Prints the cost of the profile, and writes the table of passes to options.csv.

    Args:
        options: the parsed arguments of the command.

    Raises:
        InputError: on a config or rates that can't be used.
    """
    from oodcert.cli.cost_report import print_cost

    print_cost(options)
