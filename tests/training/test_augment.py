import pytest
import torch

from oodcert.training import augment as module
from oodcert.training.augment import augment, auto_augment, flip_crop


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n=64, channels=3, side=32):
    return torch.randint(256, (n, channels, side, side), dtype=torch.uint8, generator=generator(9))


@pytest.mark.parametrize("kind", ["none", "flip_crop", "auto"])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_type_and_input_are_kept_and_the_generator_decides(kind, channels):
    images = noise(channels=channels)
    before = images.clone()
    first, second, other = (augment(images, kind, generator(seed)) for seed in (0, 0, 1))
    assert first.shape == images.shape and first.dtype == torch.uint8 and torch.equal(images, before)
    assert torch.equal(first, second) and (torch.equal(first, other) == (kind == "none"))


@pytest.mark.parametrize("kind", ["none", "flip_crop", "auto"])
def test_no_images_are_no_images(kind):
    assert augment(noise(n=0), kind, generator()).shape == (0, 3, 32, 32)


def test_without_augmentation_images_are_what_they_were():
    assert torch.equal(augment(noise(), "none", generator()), noise())


def test_flip_crop_flips_half_and_shifts_evenly_within_black():
    """Each result is among the crops and flips of its image, cut out by slices of its own padding."""
    height, width, n = 16, 8, 3000  # padded by 2 and by 1
    images = torch.randint(1, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator(9))
    padded = torch.zeros(n, 3, height + 4, width + 2, dtype=torch.uint8)
    padded[:, :, 2:-2, 1:-1] = images
    crops = [padded[:, :, top : top + height, left : left + width] for top in range(5) for left in range(3)]
    choices = torch.stack(crops + [crop.flip(3) for crop in crops])
    result = flip_crop(images, generator())
    matches = (choices == result).flatten(2).all(2)
    assert (matches.sum(0) == 1).all()
    counts = matches.sum(1)
    assert counts.min() > 60 and counts.max() < 140  # 100 expected, standard deviation 9.8
    assert abs(counts[:15].sum() - n / 2) < 5 * (n / 4) ** 0.5


def test_padding_is_an_eighth_of_the_side():
    result = flip_crop(torch.full((500, 1, 32, 32), 255, dtype=torch.uint8), generator())
    black = (result == 0).all(3).sum(2).flatten()
    assert sorted(set(black.tolist())) == [0, 1, 2, 3, 4] and set(result.unique().tolist()) == {0, 255}


def test_auto_augment_leaves_the_global_generator_alone_and_does_not_read_it():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = auto_augment(noise(), generator())
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, auto_augment(noise(), generator()))


def test_auto_augment_draws_anew_for_every_group(monkeypatch):
    monkeypatch.setattr(module, "GROUP", 4)
    images = noise(n=1).expand(200, 3, 32, 32)
    groups = auto_augment(images, generator()).split(4)
    assert all(torch.equal(group, group[:1].expand_as(group)) for group in groups)
    distinct = {group[0].numpy().tobytes() for group in groups}
    assert len(distinct) > 20


def test_auto_augment_changes_most_images_but_not_all():
    images = noise(n=400)
    same = (auto_augment(images, generator()) == images).flatten(1).all(1).float().mean()
    assert 0.02 < same < 0.4
