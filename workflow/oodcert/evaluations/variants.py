"""What the parts of the published evaluation share: the variants of a quantity, their networks, and their rows."""

from functools import partial

import numpy as np
import pandas as pd

from oodcert.authors_code import networks
from oodcert.authors_code.flags import Case, acting, protocol


def variants(work, *flags):
    """(corrected_flag, protocol) under the published protocol, and with each of the flags that act made sound."""
    return [("", protocol("")), *made_sound(work, *flags)]


def made_sound(work, *flags):
    """(corrected_flag, protocol) with each of the flags that act made sound."""
    settings = work.settings
    case = Case(
        settings["method_spec"], settings["num_classes"], work.ood_names, settings["images"], settings["test_images"]
    )
    return [(flag, protocol(flag)) for flag in acting(flags, case)]


def opened(work, sigma, flags, noisy=True):
    """The context of the method's network under a protocol; the images that pass through it are counted."""
    return work.network(partial(networks.network, protocol=flags, noisy=noisy), sigma)


def rows(work, name, corrected_flag, quantity, values, ids=None):
    """Rows of one quantity of one set, by default of the images of `work`."""
    ids = work.sets[name].ids if ids is None else ids
    columns = {
        "sample": ids,
        "corrected_flag": corrected_flag,
        "quantity": quantity,
        "value": np.asarray(values, np.float64),
    }
    return pd.DataFrame({"method": work.method, "set": name, **columns})
