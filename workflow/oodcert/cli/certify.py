"""`oodcert certify`: the guaranteed detection metrics of a network on image sets, with table and figure."""

from __future__ import annotations

import argparse

from oodcert.cli.arguments import ALPHA, CONFIDENCE, POSITIVE, POSITIVE_INT, RADIUS, Commands, Help

DESCRIPTION = """Certifies a network's score by randomized smoothing. Writes, for every OOD set, sigma, bound and l2
radius, the detection metrics that no perturbation of the OOD images within the radius can make worse, with a
confidence. The detector smooths the score over many passes a query, or takes one pass a query, which certifies in a
minute and reaches further."""
EXAMPLE = """example:
  oodcert certify --network mynets:resnet18 --weights resnet18.safetensors --id cifar10.npz --ood svhn.npz textures/ \\
    --sigma 0.12 0.25 --radii 0.25 0.5 --images 500 --size 32 --out certified
  the same with --detector one-pass --out one-pass

Pixels are in [0, 1]: sigma and the radii are in that scale, and normalisation belongs inside the network.
exit codes: 0 done, 1 input or files that can't be used, 2 wrong usage, 130 interrupted (the same command resumes)."""
BOUNDS = ["percentile", "cdf", "gaussian", "lipschitz"]


def add_arguments(commands: Commands) -> None:
    """Adds the command to those of the parser."""
    command = commands.add_parser(
        "certify",
        help="guaranteed detection metrics of a network",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=Help,
    )
    _add_inputs(command)
    _add_certificate(command)
    command.add_argument("--out", metavar="DIR", default="certified", help="folder of the results")
    command.add_argument(
        "--profile-trace",
        metavar="FILE",
        help="write a Chrome trace (.json or .json.gz) of ten seconds of the certification: the first ones, or those "
        "after two minutes",
    )
    command.add_argument("--dry-run", action="store_true", help="print the network calls and their time, write nothing")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Certifies all sets into the folder options.out, or with options.dry_run says what that would take.

    Args:
        options: the parsed arguments of the command.

    Raises:
        InputError: on arguments or files that can't be used, and if the folder holds other results.
    """
    from oodcert.cli.certification import certify_image_sets

    certify_image_sets(options)


def _add_inputs(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("network and images").add_argument
    add(
        "--network",
        required=True,
        metavar="MODULE:NAME",
        help="nn.Module, or function or class that gives one when "
        "called without arguments: images [N, C, H, W] in [0, 1] to logits; the current folder is importable",
    )
    add("--weights", metavar="FILE", help="its weights: .safetensors, or a state dict by torch.save")
    add(
        "--score",
        default="msp",
        metavar="SCORE",
        help="msp, energy, max_logit, atom, or MODULE:FUNCTION from logits [N, K] to [N]; higher: in-distribution",
    )
    add(
        "--id",
        required=True,
        metavar="PATH",
        help="in-distribution images: a folder, or an npz file of uint8 `images` [N, H, W, C]",
    )
    add(
        "--ood",
        required=True,
        metavar="PATH",
        nargs="+",
        action="extend",
        help="out-of-distribution images, likewise; every set is named by its file or folder",
    )
    add(
        "--images",
        type=POSITIVE_INT,
        metavar="N",
        help="at most N images of every set, evenly spaced over it (default: all)",
    )
    add(
        "--size",
        type=POSITIVE_INT,
        metavar="PIXELS",
        help="resize every image's shorter side and cut out the centre (default: images as they are, all of one size)",
    )
    add(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="where to run; auto takes a GPU if there is one",
    )
    add(
        "--batch-size",
        type=POSITIVE_INT,
        metavar="B",
        help="noisy images a forward pass (default: 500, or fewer if they are large)",
    )
    add(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="of the network; in bfloat16 it runs compiled on a GPU, where that is fast, and noise is other noise",
    )


def _add_certificate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("certificate").add_argument
    add("--sigma", type=POSITIVE, nargs="+", default=[0.25], help="standard deviations of the noise")
    add(
        "--radii",
        type=RADIUS,
        nargs="+",
        default=[0.0, 0.25, 0.5],
        metavar="R",
        help="l2 radii; 0 is always among them",
    )
    add(
        "--detector",
        choices=["smoothed", "one-pass"],
        default="smoothed",
        help="what is certified: the detector that takes the median or mean score over n noisy passes a query, or the "
        "one that takes a single noisy pass",
    )
    add(
        "--n",
        type=POSITIVE_INT,
        help="noise draws (network calls) for each image and sigma (default: 10000; 16 with --detector one-pass)",
    )
    add("--confidence", type=CONFIDENCE, default=0.99, help="of the metrics at one sigma and radius")
    _add_smoothed(command)
    _add_one_pass(command)
    add("--seed", type=int, default=0, help="of the noise")


def _add_smoothed(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("certificate of the smoothed detector").add_argument
    add("--alpha", type=ALPHA, help="error probability of each single bound (default: 0.001)")
    add(
        "--bounds",
        nargs="+",
        choices=BOUNDS,
        help=f"(default: {' '.join(BOUNDS)}; percentile alone for the unbounded energy, max_logit and atom)",
    )
    add(
        "--sampling",
        choices=["fixed", "adaptive"],
        help="n draws for every image; or at most n, as long as more would foreseeably change an ID image's bounds, or "
        "an OOD image's share in the guaranteed AUC, by over 0.02 (AUPR and FPR95 stay guaranteed, but may be looser) "
        "(default: fixed)",
    )


def _add_one_pass(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("certificate of the one-pass detector").add_argument
    add(
        "--population",
        action="store_true",
        help="state it of the populations that the images are drawn from, each by itself; one draw an image",
    )
    add(
        "--tries",
        type=POSITIVE_INT,
        metavar="K",
        help="queries that an adversary has for each OOD image, one of which must be accepted (default: 1)",
    )
