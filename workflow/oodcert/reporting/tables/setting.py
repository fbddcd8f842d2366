"""The setting of a run, as far as published numbers depend on it, and where it falls short of a published one."""

from oodcert.config.external_weights import imported
from oodcert.reporting.display_names import label


def setting(config, method):
    """What a method's numbers rest on: id_set, network, epochs and images (of a test set).

    network: the name of the classifier's, or "published" or "own" where it is imported; epochs: with those of the part
    that it starts from, None where it isn't trained here.
    """
    part, imports = config["methods"][method]["classifier"], imported(config)
    networks = config["networks"]
    network = imports[part].network if part in imports else networks.get(part, networks["classifier"])
    return {
        "id_set": config["data"]["id"],
        "network": network["name"],
        "epochs": None if part in imports else _epochs(part, config["training"]),
        "images": config["data"]["test_images"],
    }


def lacking(needs, config, methods):
    """Where a run falls short of what a claim needs, as texts: [] where it doesn't.

    needs: id_set and network, names, and epochs and images, the least numbers; methods: those that the claim is about.
    Published weights have the network and the training that the claim needs.
    """
    found = {}
    for method in methods:
        here = setting(config, method)
        if here["network"] == "published":
            here |= {key: needs.get(key) for key in ("network", "epochs")}
        for key, wanted in needs.items():
            if isinstance(wanted, str):
                met, text = here[key] == wanted, f"{label(here[key])} instead of {label(wanted)}"
            else:
                met = here[key] is not None and here[key] >= wanted
                text = f"{'unknown' if here[key] is None else here[key]} {key} instead of {wanted}"
            if not met:
                found[text] = True
    return list(found)


def _epochs(part, training):
    start = training[part]["start_from"]
    return training[part]["epochs"] + (training[start]["epochs"] if start else 0)
