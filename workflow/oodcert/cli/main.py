"""The command line: arguments in, exit codes out. Nothing here imports torch, so that --help is instant."""

import argparse
import sys
from importlib import import_module
from math import inf

from oodcert.errors import InputError

CERTIFY = """Certifies a network's score by randomized smoothing. Writes, for every OOD set, sigma, bound and l2 radius,
the detection metrics that no perturbation of the OOD images within the radius can make worse."""
EXAMPLE = """example:
  oodcert certify --network mynets:resnet18 --weights resnet18.safetensors --id cifar10.npz --ood svhn.npz textures/ \\
    --sigma 0.12 0.25 --radii 0.25 0.5 --images 500 --size 32 --out certified

Pixels are in [0, 1]: sigma and the radii are in that scale, and normalisation belongs inside the network.
exit codes: 0 done, 1 input or files that can't be used, 2 wrong usage, 130 interrupted (the same command resumes)."""

DATA = """The image sets of data/registry.csv. Downloads are resumed, and verified against the published checksums.
docs/data.md says where each set comes from. Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted."""

COST = """Says what a profile of the workflow will take before anything starts: images through each network (forward and
backward), rule by rule and method by method, hours at given or measured rates, disk and memory."""
COST_EXAMPLE = """example:
  oodcert cost --config config/cifar-lite.yaml --throughput classifier=20000 discriminator=20000 denoiser=1500 --gpus 2

Nothing is trained, downloaded or written, but for --csv."""

AUDIT = """Recomputes every table and figure of a finished run from its evidence, and checks the evidence itself:
hashes, settings, seeds, samples, missing and duplicate rows, the order guaranteed ≥ attacked ≥ clean, and all bounds
against the order statistics of their draws. It needs no network connection, no GPU and no weights. docs/audit.md says
what each check compares, and what no audit can find."""
AUDIT_EXAMPLE = """example:
  oodcert audit results/reference/digits --html audit.html

exit codes: 0 nothing is wrong, 1 findings, or no finished run, 2 wrong usage."""


def main(argv=None):
    """Runs one command. Returns 0 when done, 1 after InputError or OSError, 130 after Ctrl-C; wrong usage exits 2."""
    options = parser().parse_args(argv)
    try:
        import_module(f"oodcert.cli.{options.command}").run(options)
    except InputError as error:
        print(f"oodcert: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    except OSError as error:
        cause = printable(" ".join(str(error).split()))
        print(f"oodcert: {cause}. Check path, permissions and disk space: the same command resumes.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("oodcert: interrupted. The same command resumes where it stopped.", file=sys.stderr)
        return 130
    return 0


def printable(text):
    """The text with the characters that would command a terminal, as names of files can, written out."""
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action):
        plain = action.default is None or action.default is False
        return action.help if plain else super()._get_help_string(action)


def parser():
    """The parser of all commands."""
    top = argparse.ArgumentParser("oodcert", description="Certified out-of-distribution detection for any network.")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    certify = commands.add_parser(
        "certify",
        help="guaranteed detection metrics of a network",
        description=CERTIFY,
        epilog=EXAMPLE,
        formatter_class=_Help,
    )
    _add_inputs(certify)
    _add_certificate(certify)
    certify.add_argument("--out", metavar="DIR", default="certified", help="folder of the results")
    certify.add_argument(
        "--profile-trace",
        metavar="FILE",
        help="write a Chrome trace (.json or .json.gz) of ten seconds of the certification: the first ones, or those "
        "after two minutes",
    )
    certify.add_argument("--dry-run", action="store_true", help="print the amount of work and its time, write nothing")
    _add_data(commands)
    _add_cost(commands)
    _add_audit(commands)
    return top


def _add_data(commands):
    data = commands.add_parser(
        "data", help="image sets of the registry: list, fetch, verify", description=DATA, formatter_class=_Help
    )
    actions = data.add_subparsers(dest="action", required=True, metavar="action")
    described = {
        "list": "every set: where it is, its size, licence and status",
        "fetch": "download sets from their official sources; what is there is verified and kept",
        "verify": "compare everything that is there with its checksums: OK, corrupt, absent or unpinned",
    }
    for name, text in described.items():
        action = actions.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", formatter_class=_Help
        )
        if name != "list":
            many = "+" if name == "fetch" else "*"
            action.add_argument("names", metavar="SET", nargs=many, help="names of sets, or all")
        action.add_argument("--folder", metavar="DIR", default="data/downloads", help="folder of the downloads")
        if name == "list":
            action.add_argument("--mirror", metavar="DIR", help="a local mirror to look in as well")


def _add_cost(commands):
    command = commands.add_parser(
        "cost",
        help="passes, hours, disk and memory of a profile",
        description=COST,
        epilog=COST_EXAMPLE,
        formatter_class=_Help,
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
        metavar="PART=RATE",
        help="images a second that a network passes forward, for the hours: of a part, or of classifier for all "
        "classifiers that are not named; a backward pass counts as two forward ones",
    )
    rates("--measure", action="store_true", help="measure these rates on the config's device, here")
    add("--gpus", type=POSITIVE_INT, default=1, metavar="N", help="devices that share the hours")
    add("--csv", metavar="FILE", help="write the table of passes, a row per job and network part")


def _add_audit(commands):
    command = commands.add_parser(
        "audit",
        help="check a finished run against its own evidence",
        description=AUDIT,
        epilog=AUDIT_EXAMPLE,
        formatter_class=_Help,
    )
    add = command.add_argument
    add("results", nargs="?", default="results/digits", help="folder of the run")
    add("--json", metavar="FILE", help="write the report as JSON")
    add("--html", metavar="FILE", help="write the report as one HTML page")
    add(
        "--spot-check",
        type=POSITIVE_INT,
        metavar="K",
        help="also certify K random rows anew from the weights (results/<profile>/models) and images (data/<profile>)",
    )
    add(
        "--seed",
        type=int,
        metavar="S",
        help="of the rows and the noise of --spot-check (default: a random one, which the report names)",
    )
    add(
        "--trust",
        action="store_true",
        help="let --spot-check import and run the networks of one's own, MODULE:NAME, that the run names",
    )


def _add_inputs(command):
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


def _add_certificate(command):
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
    add("--n", type=POSITIVE_INT, default=10_000, help="noise draws (network calls) for each image and sigma")
    add("--alpha", type=PROBABILITY, default=0.001, help="error probability of each single bound")
    add(
        "--bounds",
        nargs="+",
        choices=BOUNDS,
        help=f"(default: {' '.join(BOUNDS)}; percentile alone for the unbounded energy, max_logit and atom)",
    )
    add(
        "--sampling",
        choices=["fixed", "adaptive"],
        default="fixed",
        help="n draws for every image; or at most n, as long as more would foreseeably change an ID image's bounds, or "
        "an OOD image's part in the guaranteed AUC, by over 0.02 (AUPR and FPR95 stay guaranteed, but may be looser)",
    )
    add("--seed", type=int, default=0, help="of the noise")


def _number(name, kind, valid):
    """An argparse type: the number, or a usage error that names what is needed."""

    def convert(text):
        value = kind(text)
        if not valid(value):
            raise ValueError
        return value

    convert.__name__ = name
    return convert


BOUNDS = ["percentile", "cdf", "gaussian", "lipschitz"]
POSITIVE_INT = _number("positive whole number", int, lambda value: value > 0)
POSITIVE = _number("positive number", float, lambda value: 0 < value < inf)
RADIUS = _number("radius", float, lambda value: 0 <= value < inf)
PROBABILITY = _number("probability", float, lambda value: 0 < value < 1)
