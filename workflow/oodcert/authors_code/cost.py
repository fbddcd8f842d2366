"""What the published evaluation passes through a method's networks. Imports no torch."""

from collections import Counter

from oodcert.authors_code.flags import Case, acting
from oodcert.config.method_specs import components_of, is_randomised
from oodcert.data.noise_sets import NOISE
from oodcert.runtime.padding import padded_count


def cost(config, method_spec):
    """Images, rows of evidence, and passes, part -> (forward, backward), of one method; all are exact."""
    return _Cost(config, method_spec).total()


class _Cost:
    """Counts what oodcert.evaluations.authors_code does, step by step, in `rows`, `forward` and `backward`."""

    def __init__(self, config, method_spec):
        data, self.settings = config["data"], config["evaluation"]
        self.own, self.method_spec = self.settings["published"], method_spec
        self.images, self.ood, self.joint = self.own["images"], data["ood"], method_spec["discriminator"]
        self.case = Case(method_spec, data["num_classes"], tuple(self.ood), self.images, data["test_images"])
        self.randomised = is_randomised(method_spec)
        self.rows, self.forward, self.backward = 0, Counter(), Counter()

    def total(self):
        for step in (self._scores, self._bounds, self._attacks, self._votes, self._labels):
            step()
        parts = components_of(self.method_spec)
        passes = {part: (self.forward[part], self.backward[part]) for part in parts}
        return (1 + len(self.ood)) * self.images, self.rows, passes

    def _protocols(self, *flags):
        return 1 + len(acting(flags, self.case))

    def _pass(self, images, backward=0, denoised=None):
        """Images through every part; denoised: through the denoiser, where that is shared."""
        for part in components_of(self.method_spec):
            self.forward[part] += denoised if part == "denoiser" and denoised is not None else images
            self.backward[part] += backward

    def _one_draw(self):
        """Scores of one set by one noise draw."""
        return padded_count(self.images, min(self.settings["batch_size"], self.images))

    def _all_draws(self):
        """Scores of one set, of a randomised method by all draws of the clean evaluation."""
        draws = self.settings["draws"] if self.randomised else 1
        size = min(self.settings["batch_size"], self.images * draws)
        return draws * padded_count(self.images, max(1, size // draws))

    def _scored(self, protocols, sets):
        """Scores of sets under each protocol, one of which has D18 made sound where that acts."""
        self._pass(sets * ((protocols - self.randomised) * self._one_draw() + self.randomised * self._all_draws()))

    def _scores(self):
        protocols = self._protocols("D8", "D9", "D13", "D18", "D22")
        self._scored(protocols, 1 + len(self.ood))
        self.rows += protocols * self.images * (2 + len(self.ood))

    def _bounds(self):
        """Interval bounds, which take two passes of a network."""
        bounds = self._protocols("D10", "D11", "D13") * len(self.ood) * self.images
        if self.joint:
            self.forward["discriminator"] += 2 * (bounds + 1)  # and of one image alone
        elif not self.method_spec["denoiser"]:
            self.forward[self.method_spec["classifier"]] += 2 * bounds
        self.rows += bounds + 2 * self.joint

    def _attacks(self):
        protocols = self._protocols("D8", "D9", "D13", "D14", "D18", "D19", "D22")
        apgd, pgd, draws = (self.settings["attack_linf"][key] for key in ("apgd", "pgd", "draws"))
        of_pgd = (1 + 2 * pgd["restarts"]) * (1 + pgd["iterations"])
        gradients = of_pgd * (protocols + self.randomised * (draws - 1))  # of all draws with D18 made sound
        gradients += apgd["restarts"] * (1 + apgd["iterations"])  # with D14 made sound
        through = len(self.ood) * self.images * gradients
        self._pass(through, through)
        self._scored(protocols, 5 * len(self.ood))  # the clean image and the points of four attacks
        self.rows += protocols * self.images * len(self.ood)

    def _votes(self):
        sets, others = 1 + len(self.ood), len(set(self.ood) - set(NOISE))
        together, again, anew = (self._protocols(*flags) for flags in (("D9", "D13", "D22"), ("D1",), ("D6",)))
        drawn = padded_count(self.images * (self.own["n0"] + self.own["n"]), self.settings["batch_size"])
        for protocols, several in ((together, sets), (again - 1, sets), (anew - 1, others)):
            self._pass(protocols * several * drawn, denoised=min(protocols, 1) * several * drawn)
            self._pass(protocols * several * self.images)  # the one pass
            self.rows += protocols * several * 3 * self.images
        self.rows += (together + again - 1) * self.images  # voted_right

    def _labels(self):
        """AutoAttack "rand": one pass of one image first, two passes an attack beside its gradients."""
        if not self.randomised:
            return
        protocols, budget = self._protocols("D9", "D13", "D17"), self.settings["attack_id"]["randomised"]
        gradients = self.images * 2 * (1 + budget["iterations"]) * budget["eot"]
        self._pass(protocols * (1 + gradients + 2 * self.images), protocols * gradients)
        self._pass(protocols * 4 * self._one_draw() + 3 * self._all_draws())
        self.rows += (protocols + 1) * self.images
