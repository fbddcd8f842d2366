"""The configuration: read, checked key by key, and checked for what single keys cannot say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oodcert.config.consistency import check_consistency
from oodcert.config.explain import explain
from oodcert.config.models import Config, config_model
from oodcert.config.safe_yaml import oversized, read_yaml
from oodcert.errors import InputError

YTE = "__use_yte__"


def read_configs(paths: Iterable[str | Path]) -> Config:
    """The checked config of YAML files, later ones over earlier ones, as `snakemake --configfile A B` has it.

    Mappings are merged key by key, other values replaced.

    Args:
        paths: YAML files.

    Returns:
        The checked config.

    Raises:
        InputError: if a file is unreadable, and as check_config.
    """
    return check_config(merged_files(paths))


def merged_files(paths: Iterable[str | Path]) -> dict[str, Any]:
    """The same as plain values, not checked."""
    config: dict[str, Any] = {}
    for path in paths:
        content = read_yaml(path)
        if not isinstance(content, dict):
            raise InputError(f"Config {path} holds {type(content).__name__}, not keys: see config/config.yaml.")
        if YTE in content:
            raise InputError(
                f"Config {path} has the key {YTE}, with which snakemake would run expressions in it as Python. Take it "
                "away, and read the file before you hand it to snakemake."
            )
        config = _merged(config, content)
    return config


def check_config(config: Mapping[str, Any] | Config) -> Config:
    """The config, typed, if it is valid.

    Args:
        config: plain values as YAML has them, or a Config, which is checked again.

    Returns:
        The config as frozen models, whose attributes are its keys.

    Raises:
        InputError: naming the key, the value and the remedy.
    """
    values = config.as_json() if isinstance(config, Config) else config
    fault = oversized(values)
    if fault:
        raise InputError(f"The config can't be used: {fault}. See config/config.yaml for what it needs.")
    model = config_model()
    try:
        checked = model.model_validate(values)
    except ValidationError as error:
        raise InputError(explain(error, model, values)) from None
    check_consistency(checked)
    return checked


def _merged(config: Any, changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(config) if isinstance(config, dict) else {}
    for key, value in changes.items():
        merged[key] = _merged(merged.get(key), value) if isinstance(value, dict) else value
    return merged
