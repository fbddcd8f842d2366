"""The names of tensors in files of weights: what wrappers put before them, and which names of a network they mean."""

from collections.abc import Iterable, Mapping

from torch import Tensor

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module")  # of DataParallel, torch.compile, …
PREFIXES = ("model", "net", "network", "backbone")  # common names of the one network that a training class holds
COUNTERS = ("n_averaged",)  # buffers of wrappers, which no network has
STEPS = "num_batches_tracked"  # of batch norms; old files lack them, and nothing depends on them


def renamed(state: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """The tensors under the names of a network, where the names differ by what wrappers put before them alone.

    Args:
        state: Name -> tensor, as a file has it.
        expected: The network's names.

    Returns:
        Name -> tensor. A tensor that is none of the network's keeps its name.
    """
    expected = set(expected)
    by_bare_name = {list(_stripped(name))[-1]: name for name in expected}
    by_bare_name |= {_without_wrappers(name): name for name in expected} | {name: name for name in expected}
    meant = {name: _meant(name, by_bare_name) for name in state if name not in COUNTERS or name in expected}
    if len(set(meant.values())) < len(meant):  # two names would mean one tensor
        return dict(state)
    return {meant[name]: tensor for name, tensor in state.items() if name in meant}


def prefix_of(state: Iterable[str], expected: Iterable[str]) -> str:
    """What stands before a name of the network in a file's names, such as "module."; "" where nothing does."""
    expected = set(expected)
    for name in state:
        meant = next((one for one in _stripped(name) if one in expected), name)
        if meant != name:
            return name.removesuffix(meant)
    return ""


def _meant(name: str, by_bare_name: Mapping[str, str]) -> str:
    return next((by_bare_name[one] for one in _stripped(name) if one in by_bare_name), name)


def _stripped(name: str) -> Iterable[str]:
    """The name, the name without wrappers, and that without one prefix after another."""
    yield name
    bare = _without_wrappers(name)
    yield bare
    first, _, rest = bare.partition(".")
    while first in PREFIXES and rest:
        yield rest
        first, _, rest = rest.partition(".")


def _without_wrappers(name: str) -> str:
    *layers, tensor = name.split(".")
    return ".".join([*(layer for layer in layers if layer not in WRAPPERS), tensor])
