"""The documentation of the configuration, made from its models: `python -m oodcert.config.document` writes it.

It writes config/README.md, which explains every key, and workflow/schemas/config.schema.json, the JSON schema for
editors. A test keeps both in step with the models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo

from oodcert import paths
from oodcert.config.components import known_components
from oodcert.config.explain import expected, fields_of, unwrapped
from oodcert.config.models import (
    DenseNetNetwork,
    MLPDenoiser,
    Networks,
    Recipe,
    ResNetNetwork,
    UNetDenoiser,
    WideResNetNetwork,
    WidthNetwork,
    config_model,
)
from oodcert.runtime.files import atomic

README = paths.ROOT / "config" / "README.md"
SCHEMA = paths.ROOT / "workflow" / "schemas" / "config.schema.json"
NETWORKS: dict[str, type] = {
    "Networks `cnn`, `resnet18`, `ibp_cnn_s` and `ibp_cnn_xl`": WidthNetwork,
    "Networks `resnet` and `patch_resnet`": ResNetNetwork,
    "Network `wideresnet`": WideResNetNetwork,
    "Network `densenet`": DenseNetNetwork,
    "Denoiser: a UNet": UNetDenoiser,
    "Denoiser: `mlp`": MLPDenoiser,
}
INTRO = """<!-- Written by `python -m oodcert.config.document` from workflow/oodcert/config/models.py. -->
# The configuration

One YAML file describes one profile: its image sets, methods, networks, trainings and evaluations. `config.yaml` is the
digits profile, which takes minutes on a laptop. `cifar-lite.yaml` is the small CIFAR-10 profile, and `paper.yaml` the
profile of the paper.

Configs are layered. With `--configfile A B` the keys of B replace those of A, section by section, so B holds only what
differs (`paper-cifar100.yaml` lies over `paper.yaml`). With `--config key=value` a single key is replaced for one run:

```
snakemake --configfile config/paper.yaml config/paper-cifar100.yaml --config device=cuda
```

Every key is needed unless the tables below give a default. Unknown keys are refused with the name of the key. Lengths
and noise are in the pixel scale [0, 1]. [docs/extending.md](../docs/extending.md) shows how to add a method, a network
or images of your own.
"""
SCHEMA_INTRO = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$comment": "Written by `python -m oodcert.config.document` from workflow/oodcert/config/models.py.",
}


def readme() -> str:
    """The text of config/README.md."""
    model = config_model()
    return "\n".join([INTRO, "## Top level\n", *_table(model.model_fields, ""), *_sections(model, "")]).rstrip() + "\n"


def schema() -> str:
    """The text of the JSON schema. Its patterns are written as JSON Schema has them."""
    text = json.dumps(SCHEMA_INTRO | config_model().model_json_schema(), indent=2)
    return text.replace(r"\\A", "^").replace(r"\\z", "$") + "\n"


def _sections(model: type, path: str) -> Iterator[str]:
    """The sections below a model, in the order of its fields."""
    for key, field in fields_of(model).items():
        place = f"{path}{key}"
        if place == "networks":
            yield from _networks()
        elif place == "training":
            yield from _training()
        elif section := _section_of(field):
            yield from _section(f"{place}.NAME" if _is_mapping(field) else place, section)
            yield from _sections(section, f"{place}.")


def _section(title: str, model: type) -> Iterator[str]:
    """One section: its heading, what it is about, and the table of its keys."""
    yield f"\n## `{title}`\n\n{model.__doc__}\n"
    yield from _table(fields_of(model), f"{title}.")


def _table(fields: Mapping[str, FieldInfo], path: str, links: bool = True) -> Iterator[str]:
    yield "| key | meaning | allowed | default |\n|:--|:--|:--|:--|"
    for key, field in fields.items():
        default = "" if field.is_required() else f"`{json.dumps(field.default)}`"
        linked = links and _section_of(field)
        name = f"[`{key}`](#{_anchor(path + key, field)})" if linked else f"`{key}`"
        yield _row(name, _joined(field.description), "a section" if linked else _allowed(field), default)


def _networks() -> Iterator[str]:
    """The sections on networks: which component has which, and the keys of each kind of network."""
    yield f"\n## `networks`\n\n{Networks.__doc__}\n"
    yield from _table(Networks.model_fields, "", links=False)
    yield _row(
        ", ".join(f"`{name}`" for name in known_components() if name not in Networks.model_fields),
        "The network of that component, in the place of that of `classifier`.",
        "the name of a network and its keys; for a component that is trained on interval bounds ibp_cnn_s or "
        "ibp_cnn_xl",
        "that of `classifier`",
    )
    for title, model in NETWORKS.items():
        yield f"\n### {title}\n\n{model.__doc__}\n"
        yield from _table(fields_of(model), "")


def _training() -> Iterator[str]:
    """The sections on recipes: the keys of all, and those that training files declare beside them."""
    yield from _section("training.COMPONENT", Recipe)
    yield "\nSome components need further keys:\n\n| component | key | meaning | allowed |\n|:--|:--|:--|:--|"
    recipes = fields_of(unwrapped(config_model().model_fields["training"].annotation)[0])
    for name in known_components():
        for key, field in fields_of(_section_of(recipes[name])).items():
            if key not in Recipe.model_fields:
                meaning = _joined(field.description) or f"See workflow/oodcert/training/{name}.py."
                yield _row(f"`{name}`", f"`{key}`", meaning, _allowed(field))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _allowed(field: FieldInfo) -> str:
    return expected(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)


def _section_of(field: FieldInfo) -> type | None:
    """The model of a field that is a section, or a mapping of names to sections."""
    bare, _ = unwrapped(field.annotation)
    options: Iterable[Any] = (bare, *(unwrapped(one)[0] for one in get_args(bare)))
    models = [one for one in options if fields_of(one)]
    return models[0] if len(models) == 1 else None


def _anchor(place: str, field: FieldInfo) -> str:
    """The anchor of a section's heading, as GitHub makes it."""
    suffix = "component" if place == "training" else "name" if _is_mapping(field) else ""
    return (place + suffix).replace(".", "").lower()


def _is_mapping(field: FieldInfo) -> bool:
    return get_origin(unwrapped(field.annotation)[0]) is dict


def _joined(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    for path, text in ((README, readme()), (SCHEMA, schema())):
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
