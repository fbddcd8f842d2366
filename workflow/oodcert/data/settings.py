"""The settings of the image sets of a profile."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from oodcert.runtime.settings import Expects, ImageCount, Integer, Name, Number, Settings, Size, Text, unique

Side = Annotated[
    Integer,
    Field(ge=4, le=4096, multiple_of=4),
    Expects("a multiple of 4 (the networks halve the images twice)"),
]


class DataSettings(Settings):
    """Which image sets are used, and how many images of each."""

    id: Name
    """The in-distribution (ID) set: `digits`, a set of data/registry.csv, or a name under `own`."""
    outliers: Name
    """The set of outliers for outlier exposure."""
    synthetic_outliers: Annotated[Number, Field(ge=0, le=0.5), Expects("a share between 0 and 0.5")] = 0.0
    """Share of outliers that are synthetic: shuffled pixels or blocks, smooth noise, changed colours."""
    ood: Annotated[
        tuple[Name, ...], Field(min_length=1), AfterValidator(unique), Expects("a list of names of OOD sets")
    ]
    """The out-of-distribution (OOD) test sets. Tables and figures keep this order."""
    own: Annotated[
        dict[Name, Annotated[Text, Expects("the path of a folder or npz file")]],
        Expects("names of your image sets and their paths, such as `{mine: images/mine.npz}`, or {}"),
    ]
    """Your own image sets: name and path of a folder of images or of an npz file. The name can then stand above."""
    unavailable: Annotated[
        dict[Name, Annotated[Text, Expects("why, in a few words")]],
        Expects("names of OOD sets and why they are unavailable, such as `{lsun_crop: the link is dead}`, or {}"),
    ]
    """OOD sets that you cannot get: name and reason. Every table says so."""
    image_shape: Annotated[tuple[Size, Side, Side], Expects("channels, height, width")]
    """Channels, height and width of all images."""
    num_classes: Annotated[
        Integer, Field(ge=4, le=10**6), Expects("the number of ID classes, at least 4, which AutoAttack needs")
    ]
    """Number of ID classes."""
    test_images: ImageCount
    """Images of every test set in every evaluation. ID and OOD sets have equally many."""
    accuracy_images: ImageCount
    """Images of the ID test set for the clean accuracy of methods that are not randomised."""
    jpeg_quality: Annotated[Integer, Field(ge=1, le=95), Expects("a quality from 1 to 95, or null: none")] | None
    """75: all images go through JPEG of this quality, as some sets have already. null: none do."""
