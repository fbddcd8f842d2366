"""Networks of all kinds: what they give is taken where it has one meaning, and refused in words where it has not."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

from oodcert.certification.certify import certify
from oodcert.certification.certify_labels import certify_labels
from oodcert.models.detector import Detector
from oodcert.models.wrappers import DenoisedNetwork, JointNetwork, NoisyNetwork
from oodcert.statistics.metrics import ood_metrics
from refusals import assert_refused

GENERATOR = torch.Generator().manual_seed(1)
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def plain(outputs=3):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    return nn.Sequential(*layers).eval()


class Changed(nn.Module):
    """A network whose input and output pass through functions."""

    def __init__(self, output=lambda logits: logits, input=lambda images: images):
        super().__init__()
        self.network, self.output, self.input = plain(), output, input

    def forward(self, images):
        return self.output(self.network(self.input(images)))


@dataclass
class Output:
    logits: torch.Tensor
    loss: None = None


Named, Nameless = namedtuple("Named", "features logits"), namedtuple("Nameless", "first second")
EXPECTED = Detector(plain()).score(IMAGES)


def scored(network):
    return Detector(network).score(IMAGES)


def judged(network):
    """The network's scores, by each public function that takes it; all of them refuse what one refuses."""
    try:
        scores = scored(network)
    except ValueError as error:
        for call in (
            lambda: certify(Detector(network), IMAGES, 0.1, [0.0], n=40, alpha=0.1, bounds=["percentile"]),
            lambda: certify_labels(network, IMAGES, [0] * 4, 0.1, n0=10, n=20, alpha=0.1),
        ):
            assert_refused(call)
        raise error
    table = certify(Detector(network), IMAGES, 1e-6, [0.0], n=40, alpha=0.1, bounds=["percentile"])
    assert torch.allclose(torch.tensor(table["estimate"].to_numpy()), scores, atol=1e-2)
    labels = certify_labels(network, IMAGES, [0] * 4, 1e-6, n0=10, n=20, alpha=0.1)["prediction"]
    assert labels.tolist() == plain()(IMAGES).argmax(1).tolist()
    return scores


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: (z, None),
        lambda z: [z],
        lambda z: (torch.zeros(len(z), 4, 2, 2), z),
        lambda z: {"loss": None, "logits": z},
        Output,
        lambda z: Named(z[:, :2], z),
    ],
)
def test_logits_are_taken_out_of_what_holds_them(wrap):
    assert torch.equal(judged(Changed(wrap)), EXPECTED)
    assert torch.equal(scored(NoisyNetwork(Changed(wrap), 0.0)), EXPECTED)
    joint = JointNetwork(Changed(wrap), plain(1), 3)
    assert torch.equal(joint(IMAGES), JointNetwork(plain(), plain(1), 3)(IMAGES))


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda z: (z, z), "2 are tensors [N, K]"),
        (lambda z: {"features": z}, "dict of features"),
        (lambda z: Nameless(z, None), "Nameless"),
        (lambda z: z.detach().numpy(), "ndarray"),
        (lambda z: None, "NoneType"),
        (lambda z: z[:, :1], "has one output"),
        (lambda z: z[:, 0], "torch.cat([torch.zeros_like(z), z], 1)"),
        (lambda z: z[:, :, None], "logits [N, K] needed"),
        (lambda z: (100 * z).long(), "torch.int64"),
        (lambda z: z > 0, "torch.bool"),
        (lambda z: z * 1j, "torch.complex64"),
        (lambda z: z * torch.nan, "NaN or infinite logits"),
        (lambda z: z.softmax(0), "in a batch with other images"),
        (lambda z: z / 0 if z.missing else z, "AttributeError"),
    ],
)
def test_other_outputs_are_refused_by_every_function(wrap, words):
    network = Changed(wrap)
    with pytest.raises(ValueError) as caught:
        judged(network)
    assert words in str(caught.value)


@pytest.mark.parametrize("probabilities", [lambda z: z.softmax(1), lambda z: functional.one_hot(z.argmax(1), 3) * 1.0])
def test_probabilities_are_refused_where_a_softmax_would_be_taken_again(probabilities):
    for score in ("msp", "energy", "atom"):
        assert_refused(lambda score=score: Detector(Changed(probabilities), score).score(IMAGES), "probabilities")
    assert torch.allclose(Detector(Changed(lambda z: z.softmax(1)), "max_logit").score(IMAGES), EXPECTED, atol=1e-6)
    labels = certify_labels(Changed(probabilities), IMAGES, [0] * 4, 1e-6, n0=10, n=20, alpha=0.1)
    assert labels["prediction"].tolist() == plain()(IMAGES).argmax(1).tolist()


def test_logits_that_sum_to_one_on_images_alone_are_no_probabilities():
    class Halves(nn.Module):
        def forward(self, images):
            mean = images.mean((1, 2, 3))
            return torch.stack([mean, 1 - mean], 1)

    assert scored(Halves()).shape == (4,)


def stuck(layer):
    """A layer that stays in training mode."""
    layer.train()
    layer.train = lambda mode=True: layer
    return layer


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), plain()),
        nn.Sequential(stuck(nn.BatchNorm2d(3)), plain()),
        torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear}),
        Changed(input=lambda x: (x - x.mean(0)) / (x.std(0) + 0.1)),
        Changed(input=lambda x: x / x.max()),
        Changed(input=lambda x: (x + x.roll(1, 0)) / 2),
        Changed(output=lambda z: z * len(z)),
        Changed(output=lambda z: z.sort(0).values),
    ],
)
def test_a_network_that_looks_at_the_rest_of_the_batch_is_refused(network):
    with pytest.raises(ValueError, match="other logits in a batch with other images"):
        judged(network)
    assert_refused(lambda: scored(DenoisedNetwork(plain(), lambda x, _: x - x.mean(0), 0.1)), "in a batch")


@pytest.mark.parametrize(
    "random",
    [
        lambda: NoisyNetwork(plain(), 0.3),
        lambda: Changed(input=lambda x: functional.dropout(x, 0.3)),
        lambda: Changed(input=lambda x: x + torch.randn(x.shape, generator=GENERATOR)),
    ],
)
def test_a_random_network_is_no_network_that_looks_at_the_batch_and_its_stream_stays(random):
    detector = Detector(random())
    before = torch.get_rng_state()
    detector.try_on(IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    assert detector.score(IMAGES).shape == (4,)


class Counting(nn.Module):
    """Counts its passes."""

    passes = 0

    def forward(self, images):
        self.passes += 1
        return images


def test_the_trial_calls_no_hook_and_changes_no_state():
    network, seen = nn.Sequential(Counting(), plain()), []
    network.register_forward_hook(lambda *_: seen.append(1))
    Detector(network).score(IMAGES)
    assert len(seen) == network[0].passes == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.mul_(0.5),
        lambda x: functional.relu(x.sub_(0.2), inplace=True),
        lambda x: x.__setitem__((slice(None), 0), 0.0) or x,
    ],
)
def test_a_network_works_on_a_copy_of_the_images(change):
    images, network = IMAGES.clone(), Changed(input=change)
    judged_scores = Detector(network).score(images)
    assert torch.equal(images, IMAGES)
    Detector(network).raw_score(images)
    certify(Detector(network), images, 0.1, [0.0], n=20, alpha=0.1, bounds=["percentile"])
    certify_labels(network, images, [0] * 4, 0.1, n0=5, n=20, alpha=0.1)
    assert torch.equal(images, IMAGES)
    assert torch.equal(judged_scores, Detector(Changed(input=lambda x: change(x.clone()))).score(images))
    array = IMAGES.numpy().copy()
    Detector(network).score(array)
    assert (array == IMAGES.numpy()).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_every_precision_get_images_of_their_own(dtype):
    scores = judged(plain().to(dtype))
    assert scores.dtype == torch.float64 and torch.allclose(scores, EXPECTED, atol=2e-3)
    for images in (IMAGES.double(), IMAGES.double().numpy(), IMAGES.numpy().astype(">f4")):
        assert torch.equal(Detector(plain().to(dtype)).score(images), scores)
    mixed = JointNetwork(DenoisedNetwork(plain().to(dtype), lambda x, _: x, 0.1), plain(1), 3)
    assert torch.allclose(scored(mixed), scored(JointNetwork(plain(), plain(1), 3)), atol=2e-3)


def exported(network, least=1):
    batch = torch.export.Dim("batch", min=least, max=4096)
    return torch.export.export(network, (IMAGES,), dynamic_shapes=({0: batch},)).module()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    "form",
    [
        exported,
        lambda network: nn.Sequential(exported(network)),
        torch.jit.script,
        lambda network: torch.jit.trace(network, IMAGES),
        lambda network: torch.jit.freeze(torch.jit.script(network)),
        nn.DataParallel,
        torch.fx.symbolic_trace,
        lambda network: torch.compile(network, backend="eager"),
        lambda network: network.requires_grad_(False),
    ],
)
def test_every_form_of_a_network_works(form):
    assert torch.allclose(judged(form(plain())), EXPECTED, atol=1e-6)


def test_programs_that_do_not_fit_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"Guard failed.*dynamic batch dimension"):
        judged(torch.export.export(plain(), (IMAGES,)).module())
    training = nn.Sequential(nn.Dropout(), plain()).train()
    assert_refused(lambda: Detector(exported(training, 2)), "exported in training mode", ".eval()")
    assert_refused(lambda: Detector(torch.export.export(plain(), (IMAGES,))), "program.module()")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Linear, "give an instance"),
        (lambda images: images, "forward of one"),
        ("network.pt", "got str"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_network_is_refused(network, words):
    assert_refused(lambda: Detector(network), words)
    assert_refused(lambda: certify_labels(network, IMAGES, [0] * 4, 0.1, n=10), words)


def test_certificates_refuse_what_is_no_detector():
    for detector in (plain(), {"a": plain()}, [Detector(plain())], None):
        assert_refused(lambda detector=detector: certify(detector, IMAGES, 0.1), "oodcert.Detector(network)")
    assert_refused(lambda: certify_labels(plain().state_dict(), IMAGES, [0] * 4, 0.1), "got Tensor")
    assert_refused(lambda: certify_labels({}, IMAGES, [0] * 4, 0.1), "No network")


def test_every_module_has_its_mode_again():
    network = nn.Sequential(nn.Dropout(), plain()).train()
    network[1].eval()
    certify_labels(network, IMAGES, [0] * 4, 0.1, n0=5, n=20, alpha=0.1)
    assert network.training and network[0].training and not network[1].training
    detector = Detector(network)
    assert not network.training
    network.train()
    assert torch.equal(detector.score(IMAGES), EXPECTED) and network.training


class Cached(nn.Module):
    """Makes a tensor in its first pass."""

    mask = None

    def forward(self, images):
        if self.mask is None:
            self.mask = torch.ones_like(images[:1])
        return (images * self.mask).mean((2, 3))


@pytest.mark.parametrize("network", [Cached, lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3))])
@pytest.mark.parametrize("inference", [False, True])
def test_what_a_network_keeps_of_its_first_pass_can_be_differentiated(network, inference):
    detector, images = Detector(network()), IMAGES.clone().requires_grad_()
    with torch.inference_mode(inference):
        detector.score(IMAGES)
    detector.raw_score(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_inference_mode_is_no_obstacle():
    with torch.inference_mode():
        images = IMAGES.clone()
        assert torch.equal(judged(plain()), EXPECTED)
        assert torch.equal(Detector(Changed(input=lambda x: x.mul_(1))).score(images), EXPECTED)
    assert torch.equal(Detector(Changed(input=lambda x: x.mul_(1))).score(images), EXPECTED)


class Sure(nn.Module):
    """The brighter, the surer: logits (0, 0, 60 x mean)."""

    def forward(self, images):
        mean = images.mean((1, 2, 3))
        return torch.stack([0 * mean, 0 * mean, 60 * mean], 1)


@pytest.mark.parametrize("score", ["msp", "atom", lambda logits: logits.softmax(1).amax(1)])
def test_scores_tell_confident_images_apart(score):
    bright, dark = (
        torch.linspace(*ends, 50).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2) for ends in ((0.45, 0.55), (0.3, 0.4))
    )
    detector = Detector(Sure(), score)
    scores = detector.score(bright), detector.score(dark)
    assert scores[0].dtype == torch.float64
    sign = -1 if score == "atom" else 1
    assert ood_metrics(sign * scores[0], sign * scores[1])["auc"] == 1.0


def test_joint_scores_tell_confident_images_apart():
    known = JointNetwork(Sure(), lambda images: images.new_full((len(images), 1), 40.0), 3)
    images = torch.linspace(0.4, 0.5, 50).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    assert (Detector(known).score(images).diff() > 0).all()


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda z: z[:, :2], "(1, 2)"),
        (lambda z: z.mean(), "()"),
        (lambda z: z[:, 0] * 1j, "complex"),
        (lambda z: z[:, 0] > 0, "torch.bool"),
        (lambda z: z[:, 0].tolist(), "list"),
        (lambda z: z[:, 0] * torch.nan, "NaN"),
        (lambda z: z @ torch.ones(3), "float64"),
    ],
)
def test_a_score_gives_one_real_number_an_image(score, words):
    assert_refused(lambda: Detector(plain(), score).score(IMAGES), words)
    assert_refused(lambda: certify(Detector(plain(), score), IMAGES, 0.1, [0.0], 20, 0.1, ["percentile"]))
    assert torch.equal(Detector(plain(), lambda z: z[:, :1]).score(IMAGES), plain()(IMAGES)[:, 0].double())


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf"), "0.1", True, [0.1], None])
def test_wrappers_refuse_what_is_no_noise(sigma):
    assert_refused(lambda: NoisyNetwork(plain(), sigma), "sigma")
    assert_refused(lambda: DenoisedNetwork(plain(), lambda x, _: x, sigma), "sigma")
    assert NoisyNetwork(plain(), torch.tensor(0.5)).sigma == 0.5


def test_wrappers_refuse_what_does_not_fit_together():
    assert_refused(lambda: NoisyNetwork("network", 0.1), "got str")
    assert_refused(lambda: NoisyNetwork(nn.Linear, 0.1), "give an instance")
    assert_refused(lambda: DenoisedNetwork(plain(), None, 0.1), "denoiser")
    for classes in (0, 2.5, True, "3"):
        assert_refused(lambda classes=classes: JointNetwork(plain(), plain(1), classes), "num_classes")
    assert_refused(lambda: JointNetwork(plain(), plain(2), 3)(IMAGES[:1]), "one logit an image")
    for denoiser in (lambda x, _: x[:1], lambda x, _: None, lambda x, _: (255 * x).byte()):
        network = DenoisedNetwork(plain(), denoiser, 0.1)
        assert_refused(lambda network=network: network(IMAGES), "The denoiser gave")
