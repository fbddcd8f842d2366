import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from oodcert.config.models import Recipe
from oodcert.errors import InputError
from oodcert.training import loop
from oodcert.training.loop import Data, fit, fit_classifier
from oodcert.training.resume import save_state

RECIPE = Recipe(
    start_from=None,
    epochs=4,
    batch_size=4,
    learning_rate=0.05,
    schedule="steps",
    weight_decay=0.01,
    augmentation="none",
)


@pytest.fixture
def every_epoch(monkeypatch):
    """Checkpoints after every epoch, however short."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0)


def data(n=10, outliers=7, seed=0):
    """Noise, the i-th image with i in its first pixel; outliers count on from 100."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n + outliers, 1, 8, 8), dtype=torch.uint8, generator=generator)
    images[:n, 0, 0, 0], images[n:, 0, 0, 0] = torch.arange(n), torch.arange(100, 100 + outliers)
    return Data(images[:n], torch.arange(n) % 2, images[n:])


def marks(images):
    return (images[:, 0, 0, 0] * 255).round().int().tolist()


def network(seed=0):
    """With batch norm's buffers and dropout's draws."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2))


class Learned(nn.Module):
    """A loss with a parameter, a buffer that its terms depend on, and random numbers."""

    def __init__(self, network):
        super().__init__()
        self.network, self.scale, self.unused = network, nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))
        self.steps = 0

    def forward(self, batch):
        self.steps += 1
        self.seen += batch.images.mean()
        noise = torch.randn(batch.images.shape, generator=batch.generator)
        outputs = self.network(torch.cat([batch.images + 0.1 * noise, batch.outliers]))
        id_rows, ood_rows = outputs.chunk(2)
        spread = (self.scale * ood_rows + self.seen).square().mean() + 0 * self.unused
        return {"id": cross_entropy(id_rows, batch.labels), "outliers": 0.01 * spread}


def sgd(loss, **run):
    return fit_classifier(loss.network, loss, data(), RECIPE.changed(augmentation="auto"), seed=3, **run)


def adam(loss, **run):
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    recipe = RECIPE.changed(augmentation="flip_crop")
    return fit(loss.network, loss, data(), recipe, optimizer=optimizer, milestones=(0.5,), decay=0.1, seed=3, **run)


def same_bits(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def interrupt(run, loss, path, after, monkeypatch):
    """Runs a training that is stopped once its checkpoint after `after` epochs is written."""

    def save(path, mark, epoch, *state):
        save_state(path, mark, epoch, *state)
        if epoch == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save_state", save)
        run(loss, checkpoint=path)


@pytest.mark.parametrize("run", [sgd, adam])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_training_resumes_to_the_same_bits(run, after, tmp_path, monkeypatch, every_epoch):
    whole, path = Learned(network()), tmp_path / "plain.checkpoint"
    curve = run(whole)
    interrupt(run, Learned(network()), path, after, monkeypatch)
    resumed = Learned(network())
    again = run(resumed, checkpoint=path)
    assert resumed.steps == 3 * (4 - after)
    assert same_bits(whole.state_dict(), resumed.state_dict()) and again.equals(curve)
    assert list(tmp_path.iterdir()) == [path]


def test_a_training_that_is_asked_for_again_gives_the_same(tmp_path, every_epoch):
    first, second, path = Learned(network()), Learned(network()), tmp_path / "state"
    assert sgd(first, checkpoint=path).equals(sgd(second, checkpoint=path))
    assert second.steps == 3 and same_bits(first.state_dict(), second.state_dict())


def test_a_kill_in_mid_write_leaves_the_checkpoint_before(tmp_path, monkeypatch, every_epoch):
    whole, path = Learned(network()), tmp_path / "state"
    sgd(whole)
    interrupt(sgd, Learned(network()), path, 2, monkeypatch)
    path.with_name(".state.partial").write_bytes(path.read_bytes()[:1000])
    resumed = Learned(network())
    sgd(resumed, checkpoint=path)
    assert resumed.steps == 6 and same_bits(whole.state_dict(), resumed.state_dict())
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_write_leaves_the_checkpoint_before(tmp_path, monkeypatch, every_epoch):
    path = tmp_path / "state"
    interrupt(sgd, Learned(network()), path, 1, monkeypatch)
    before = path.read_bytes()

    def full_disk(state, file):
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError):
        sgd(Learned(network()), checkpoint=path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def flip_a_weight(raw, loss):
    """One bit of a weight: a file that torch.load reads without complaint."""
    weight = loss.network[1].weight.detach().numpy().tobytes()
    place = raw.index(weight)
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda raw, _: b"",
        lambda raw, _: b"no archive",
        lambda raw, _: raw[: len(raw) // 2],
        lambda raw, _: raw[:-1],
        flip_a_weight,
    ],
    ids=["empty", "text", "half", "last byte", "bit"],
)
def test_a_corrupt_checkpoint_is_ignored_and_said_so(corrupt, tmp_path, monkeypatch, capsys, every_epoch):
    whole, stopped, path = Learned(network()), Learned(network()), tmp_path / "state"
    sgd(whole)
    interrupt(sgd, stopped, path, 2, monkeypatch)
    path.write_bytes(corrupt(path.read_bytes(), stopped))
    capsys.readouterr()
    anew = Learned(network())
    sgd(anew, checkpoint=path)
    lines = [line for line in capsys.readouterr().err.splitlines() if str(path) in line]
    assert len(lines) == 1 and "damaged" in lines[0]
    assert anew.steps == 12 and same_bits(whole.state_dict(), anew.state_dict())


def test_a_file_with_code_in_it_is_not_run(tmp_path, capsys):
    path, loss = tmp_path / "state", Learned(network())
    torch.save({"fingerprint": print}, path)
    sgd(loss, checkpoint=path)
    assert "damaged" in capsys.readouterr().err and loss.steps == 12


CHANGES = {
    "settings": {"recipe": RECIPE.changed(weight_decay=0.02)},
    "epochs": {"recipe": RECIPE.changed(epochs=5)},
    "seed": {"seed": 4},
    "milestones": {"milestones": (0.25,)},
    "decay": {"decay": 0.2},
    "momentum": {"momentum": 0.8},
    "values of the data": {"images": 1},
    "size of the data": {"outliers": 6},
    "weights at the start": {"weights": 1},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_checkpoint_of_another_training_is_ignored_and_said_so(change, tmp_path, capsys, every_epoch):
    def run(recipe=RECIPE, momentum=0.9, weights=0, images=0, outliers=7, **other):
        loss = Learned(network(weights))
        optimizer = torch.optim.SGD(loss.parameters(), lr=0.05, momentum=momentum)
        run = {"milestones": (0.5,), "decay": 0.1, "seed": 3, "checkpoint": tmp_path / "state", **other}
        fit(loss.network, loss, data(outliers=outliers, seed=images), recipe, optimizer=optimizer, **run)
        return loss.steps

    run()
    assert run() == 3 and "another training" not in capsys.readouterr().err
    assert run(**change) == 3 * change.get("recipe", RECIPE).epochs
    assert capsys.readouterr().err.count("is of another training: ignored, and training starts anew.") == 1


def test_checkpoints_keep_their_distance_and_spare_the_last_epoch(tmp_path, monkeypatch):
    clock, saved = iter(range(0, 1000, 25)), []
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(loop, "save_state", lambda path, mark, epoch, *_: saved.append(epoch))
    loss = Learned(network())
    fit_classifier(loss.network, loss, data(), RECIPE.changed(epochs=7), seed=0, checkpoint=tmp_path / "state")
    # the clock moves by 25 s at every look: one an epoch, and one more after a checkpoint
    assert saved == [3, 6]


@pytest.mark.parametrize("outliers", [3, 10, 23])
def test_an_epoch_covers_every_image_once_and_the_outliers_evenly(outliers):
    seen = []

    def loss(batch):
        assert len(batch.images) == len(batch.outliers) == len(batch.labels)
        assert batch.images.dtype == batch.outliers.dtype == torch.float32
        assert batch.labels.tolist() == [mark % 2 for mark in marks(batch.images)]
        assert batch.images.min() >= 0 and batch.images.max() <= 1
        seen.append((marks(batch.images), marks(batch.outliers), batch.progress))
        return {"id": weight.square().sum()}

    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    fit(nn.Identity(), loss, data(10, outliers), RECIPE, optimizer=optimizer, milestones=(), decay=1.0, seed=0)
    assert [progress for *_, progress in seen] == pytest.approx([i / 12 for i in range(12)])
    epochs = [seen[first : first + 3] for first in range(0, 12, 3)]
    orders = [[mark for chosen, *_ in epoch for mark in chosen] for epoch in epochs]
    others = [[mark - 100 for _, outliers_used, _ in epoch for mark in outliers_used] for epoch in epochs]
    assert all(sorted(order) == list(range(10)) for order in orders) and orders[0] != orders[1]
    assert others[0] != others[1]
    for other in others:
        counts = torch.bincount(torch.tensor(other), minlength=outliers)
        assert counts.max() - counts.min() <= 1


def test_the_curve_is_the_mean_over_images():
    def loss(batch):
        first, second = batch.images.mean(), len(batch.images) * weight.sum()
        values.append((len(batch.images), first.item(), float(len(batch.images))))
        return {"first": first, "second": second}

    values, weight = [], nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    recipe = RECIPE.changed(epochs=1)
    curve = fit(nn.Identity(), loss, data(), recipe, optimizer=optimizer, milestones=(), decay=1.0, seed=0)
    first, second = (sum(size * term[i] for size, *term in values) / 10 for i in (0, 1))
    assert second == (16 + 16 + 4) / 10
    assert curve.columns.tolist() == ["epoch", "term", "value"] and curve["epoch"].tolist() == [1] * 4
    assert curve["term"].tolist() == ["first", "second", "total", "learning_rate"]
    assert curve["value"].tolist() == pytest.approx([first, second, first + second, 0.0])


def test_the_learning_rate_falls_at_its_milestones():
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([{"params": [weight]}, {"params": [nn.Parameter(torch.ones(1))], "lr": 1.0}], lr=0.5)
    curve = fit(
        nn.Identity(),
        lambda batch: {"id": weight.sum()},
        data(),
        RECIPE.changed(epochs=8),
        optimizer=optimizer,
        milestones=(0.5, 0.75),
        decay=0.1,
        seed=0,
    )
    rates = curve.loc[curve["term"] == "learning_rate", "value"]
    assert rates.tolist() == pytest.approx([0.5] * 4 + [0.05] * 2 + [0.005] * 2)
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.01)


def test_the_learning_rate_follows_half_a_cosine():
    weight = nn.Parameter(torch.ones(1))
    run = {"optimizer": torch.optim.SGD([weight], lr=2.0), "milestones": (0.5,), "decay": 0.1, "seed": 0}
    curve = fit(nn.Identity(), lambda _: {"id": weight.sum()}, data(), RECIPE.changed(schedule="cosine"), **run)
    rates = curve.loc[curve["term"] == "learning_rate", "value"]
    assert rates.tolist() == pytest.approx([2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_term_that_is_not_finite_is_named_before_it_does_harm(bad):
    def loss(batch):
        value = bad if batch.progress >= 0.5 else 1.0
        if batch.progress >= 0.5:
            before.update({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return {"id": module[1].weight.square().sum(), "energy": value * module[1].bias.square().sum()}

    module, before = network(), {}
    with pytest.raises(InputError, match=rf"'energy' became {bad} in epoch 3 of 4: lower .* learning_rate"):
        fit_classifier(module, loss, data(), RECIPE, seed=0)
    assert same_bits(before, module.state_dict())


def test_a_batch_that_does_not_fit_is_refused_with_a_size_that_does():
    """Training with half of a batch would be another training."""
    tried = []

    def loss(batch):
        tried.append((len(batch.images), len(batch.labels)))
        if len(batch.images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return {"id": module[1].weight.square().sum()}

    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    size = RECIPE.batch_size
    with pytest.raises(InputError, match=rf"batch of {size} .*Tried.*fits: set this component's batch_size .* to that"):
        fit_classifier(module, loss, data(), RECIPE, seed=0)
    assert tried[0] == (size, size) and tried[-1][0] == 1
    assert same_bits(before, module.state_dict())


def test_mining_picks_the_outliers_of_each_epoch():
    def mine(network, outliers, generator):
        assert network is module and not network.training and not torch.is_grad_enabled()
        assert torch.equal(outliers, everything.outliers)
        picked.append(torch.randperm(len(outliers), generator=generator)[:3])
        return picked[-1]

    def loss(batch):
        assert module.training and torch.is_grad_enabled()
        epoch = int(batch.progress * 4)
        used[epoch] |= {mark - 100 for mark in marks(batch.outliers)}
        return {"id": module[1].weight.square().sum()}

    module, everything, picked, used = network(), data(outliers=20), [], [set() for _ in range(4)]
    fit_classifier(module, loss, everything, RECIPE, seed=0, mine=mine)
    assert used == [set(indices.tolist()) for indices in picked] and used[0] != used[1]
    again, picked = picked, []
    fit_classifier(module, loss, everything, RECIPE, seed=0, mine=mine)
    assert all(map(torch.equal, picked, again))


def test_a_loss_modules_parameters_are_trained_without_weight_decay():
    loss = Learned(network())
    fit_classifier(loss.network, loss, data(), RECIPE.changed(weight_decay=1.0), seed=0)
    assert loss.scale != 1 and loss.unused == 1


def test_weight_decay_acts_on_the_network():
    module = network()
    before = module[5].weight.norm()
    fit_classifier(module, lambda batch: {"id": 0 * module(batch.images).sum()}, data(), RECIPE, seed=0)
    assert module[5].weight.norm() < before


def test_training_leaves_the_global_generator_alone_and_does_not_read_it():
    first, second = Learned(network()), Learned(network())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    sgd(first)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    sgd(second)
    assert same_bits(first.state_dict(), second.state_dict())


def test_a_losss_random_numbers_are_fresh_in_every_batch_and_independent_of_augmentation():
    def drawn(augmentation):
        def loss(batch):
            draws.append(torch.rand((), generator=batch.generator).item())
            return {"id": weight.sum()}

        draws, weight = [], nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        recipe = RECIPE.changed(augmentation=augmentation)
        fit(nn.Identity(), loss, data(), recipe, optimizer=optimizer, milestones=(), decay=1.0, seed=0)
        return draws

    assert len(set(drawn("none"))) == 12 and drawn("none") == drawn("auto")


@pytest.mark.parametrize("augmentation", ["none", "auto"])
def test_training_without_outliers(augmentation):
    def loss(batch):
        assert batch.outliers.shape == (0, 1, 8, 8)
        return {"id": cross_entropy(module(batch.images), batch.labels)}

    module = network()
    fit_classifier(module, loss, data(outliers=0), RECIPE.changed(augmentation=augmentation, batch_size=5), seed=0)
