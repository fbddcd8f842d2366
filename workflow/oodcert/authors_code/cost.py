"""What the evaluation of the authors' code passes through a method's networks. Imports no torch."""

from __future__ import annotations

from collections import Counter

from oodcert.authors_code.flags import Case, acting
from oodcert.config.method_specs import MethodSpec
from oodcert.config.models import AuthorsCodeSettings, Config
from oodcert.data.noise_sets import NOISE
from oodcert.errors import InputError
from oodcert.runtime.padding import padded_count


def cost(config: Config, method_spec: MethodSpec) -> tuple[int, int, dict[str, tuple[int, int]]]:
    """What the evaluation of one method takes. All counts are exact.

    Args:
        config: the checked config.
        method_spec: what the method is made of.

    Returns:
        Images, rows of evidence, and component -> passes (forward, backward).

    Raises:
        InputError: if the config does not have the authors' code evaluated.
    """
    settings = config.evaluation.authors_code
    if settings is None:
        raise InputError("Config key evaluation.authors_code is null, so there is no cost: see config/config.yaml.")
    return _Cost(config, settings, method_spec).total()


class _Cost:
    """Counts what oodcert.evaluations.authors_code does, step by step, in `rows`, `forward` and `backward`."""

    def __init__(self, config: Config, settings: AuthorsCodeSettings, method_spec: MethodSpec) -> None:
        data = config.data
        self.evaluation, self.settings, self.method_spec = config.evaluation, settings, method_spec
        self.images, self.ood, self.joint = settings.images, data.ood, method_spec.discriminator
        self.case = Case(method_spec, data.num_classes, self.ood, self.images, data.test_images)
        self.randomised = method_spec.is_randomised
        self.rows = 0
        self.forward: Counter[str] = Counter()
        self.backward: Counter[str] = Counter()

    def total(self) -> tuple[int, int, dict[str, tuple[int, int]]]:
        for step in (self._scores, self._bounds, self._attacks, self._votes, self._labels):
            step()
        passes = {name: (self.forward[name], self.backward[name]) for name in self.method_spec.components}
        return (1 + len(self.ood)) * self.images, self.rows, passes

    def _scores(self) -> None:
        protocols = self._protocols("D8", "D9", "D13", "D18", "D22")
        self._score(protocols, 1 + len(self.ood))
        self.rows += protocols * self.images * (2 + len(self.ood))

    def _bounds(self) -> None:
        """Interval bounds, which take two passes of a network."""
        bounds = self._protocols("D10", "D11", "D13") * len(self.ood) * self.images
        if self.joint:
            self.forward["discriminator"] += 2 * (bounds + 1)  # and of one image alone
        elif not self.method_spec.denoiser:
            self.forward[self.method_spec.classifier] += 2 * bounds
        self.rows += bounds + 2 * self.joint

    def _attacks(self) -> None:
        protocols = self._protocols("D8", "D9", "D13", "D14", "D18", "D19", "D22")
        budget = self.evaluation.attack_linf
        of_pgd = (1 + 2 * budget.pgd.restarts) * (1 + budget.pgd.iterations)
        gradients = of_pgd * (protocols + self.randomised * (budget.draws - 1))  # of all draws with D18 corrected
        gradients += budget.apgd.restarts * (1 + budget.apgd.iterations)  # with D14 corrected
        through = len(self.ood) * self.images * gradients
        self._pass(through, through)
        self._score(protocols, 5 * len(self.ood))  # the clean image and the points of four attacks
        self.rows += protocols * self.images * len(self.ood)

    def _votes(self) -> None:
        sets, others = 1 + len(self.ood), len(set(self.ood) - set(NOISE))
        same_votes, again, anew = (self._protocols(*flags) for flags in (("D9", "D13", "D22"), ("D1",), ("D6",)))
        drawn = padded_count(self.images * (self.settings.n0 + self.settings.n), self.evaluation.batch_size)
        for protocols, several in ((same_votes, sets), (again - 1, sets), (anew - 1, others)):
            self._pass(protocols * several * drawn, denoised=min(protocols, 1) * several * drawn)
            self._pass(protocols * several * self.images)  # the one pass
            self.rows += protocols * several * 3 * self.images
        self.rows += (same_votes + again - 1) * self.images  # voted_right

    def _labels(self) -> None:
        """AutoAttack "rand": one pass of one image first, two passes an attack beside its gradients."""
        if not self.randomised:
            return
        protocols, budget = self._protocols("D9", "D13", "D17"), self.evaluation.attack_id.randomised
        gradients = self.images * 2 * (1 + budget.iterations) * budget.eot
        self._pass(protocols * (1 + gradients + 2 * self.images), protocols * gradients)
        self._pass(protocols * 4 * self._one_draw() + 3 * self._all_draws())
        self.rows += (protocols + 1) * self.images

    def _protocols(self, *flags: str) -> int:
        """Protocols of one quantity: that of the authors' code, and each acting flag corrected."""
        return 1 + len(acting(flags, self.case))

    def _pass(self, images: int, backward: int = 0, denoised: int | None = None) -> None:
        """Images through every component; denoised: through the denoiser, where that is shared."""
        for name in self.method_spec.components:
            self.forward[name] += denoised if name == "denoiser" and denoised is not None else images
            self.backward[name] += backward

    def _score(self, protocols: int, sets: int) -> None:
        """Scores of sets under each protocol, one of which has D18 corrected where that acts."""
        self._pass(sets * ((protocols - self.randomised) * self._one_draw() + self.randomised * self._all_draws()))

    def _one_draw(self) -> int:
        """Scores of one set by one noise draw."""
        return padded_count(self.images, min(self.evaluation.batch_size, self.images))

    def _all_draws(self) -> int:
        """Scores of one set, of a randomised method by all draws of the clean evaluation."""
        draws = self.evaluation.draws if self.randomised else 1
        size = min(self.evaluation.batch_size, self.images * draws)
        return draws * padded_count(self.images, max(1, size // draws))
