"""What decides the rows of an evaluation: recorded beside its evidence, and all that its function may read."""

from __future__ import annotations

from typing import Any

from oodcert.config.external_weights import networks_of
from oodcert.config.method_specs import MethodSpec
from oodcert.config.models import Config
from oodcert.runtime.settings import Settings


class NetworkJob(Settings):
    """Settings of every job that runs networks."""

    seed: int
    device: str
    threads: int
    image_shape: tuple[int, int, int]
    num_classes: int


class MethodJob(NetworkJob):
    """Settings of every job that evaluates a method."""

    test_images: int
    batch_size: int
    method_spec: MethodSpec
    networks: dict[str, dict[str, Any]]


class DeployedJob(MethodJob):
    """Settings of a job that evaluates a method as it is deployed."""

    sigma: float
    draws: int


def network_job(config: Config) -> dict[str, Any]:
    """The values of NetworkJob."""
    shared = {"seed": config.seed, "device": config.device, "threads": config.threads}
    return shared | {"image_shape": config.data.image_shape, "num_classes": config.data.num_classes}


def method_job(config: Config, method: str) -> dict[str, Any]:
    """The values of MethodJob."""
    spec = config.methods[method]
    return {
        **network_job(config),
        "test_images": config.data.test_images,
        "batch_size": config.evaluation.batch_size,
        "method_spec": spec,
        "networks": networks_of(spec.components, config),
    }


def deployed_job(config: Config, method: str) -> dict[str, Any]:
    """The values of DeployedJob."""
    deployed = {"sigma": config.evaluation.sigma, "draws": config.evaluation.draws}
    return method_job(config, method) | deployed
