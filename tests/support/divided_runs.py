"""Settings of evaluations that are divided into shards and portions: two OOD sets, batches of eight, few draws."""

from untrained_runs import tiny_config


def divided_config(**changes):
    """The config of these evaluations; changes: as of Config.changed."""
    config = tiny_config(
        evaluation={"batch_size": 8, "attack_l2": {"sigmas": (0.5, 0.25)}, "attack_id": {"epsilons": (0.1, 0.03)}}
    )
    return config.changed(**changes)


def small_settings(name):
    """Changes of an evaluation's settings beside those of the config."""
    return {"epsilons": [0.1]} if name == "authors_code" else {}
