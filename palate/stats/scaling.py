"""Scaling laws: loss from model size and data, and the optimal batch, learning rate and model size.

    L(N, D) = E + A / N^alpha + B / D^beta                  prefactors (Hoffmann et al. 2022)
            = E + (N_c / N)^alpha + (D_c / D)^beta          scales (Kaplan et al. 2020): N_c = A^(1 / alpha)

N and D are in any units as long as they stay the same; A, B, N_c and D_c depend on them. Published tables mix the two
forms, and a prefactor read as a scale gives nonsense, so a law knows both.

The fit is Hoffmann's approach 3 as corrected by Besiroglu et al. (2024, arXiv:2404.10102): the sum, not the mean, of
Huber losses (delta 1e-3) of log residuals, by L-BFGS-B with analytic gradients from many starts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, nnls
from scipy.stats import t

from palate.errors import DataError
from palate.records import Estimate

Floats = NDArray[np.float64]
DELTA = 1e-3  # Huber's, in log loss
FLOPS = 6.0  # C = 6 N D: forward and backward of a transformer whose attention is cheap beside its matrices
_PARAMETERS = 5
_NO_FLOOR = 1e-5  # of the mean loss: a smaller E is none, a hundredth of Huber's delta


@dataclass(frozen=True)
class LossLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta."""

    A: float
    B: float
    E: float
    alpha: float
    beta: float

    @classmethod
    def from_scales(cls, N_c: float, D_c: float, E: float, alpha: float, beta: float) -> "LossLaw":
        """The law written as E + (N_c / N)^alpha + (D_c / D)^beta."""
        return cls(N_c**alpha, D_c**beta, E, alpha, beta)

    @property
    def scales(self) -> tuple[float, float]:
        """(N_c, D_c), where a term alone is a loss of one; the largest float where a term above one does not fall."""
        with np.errstate(divide="ignore", over="ignore"):
            powers = [np.float64(c) ** (1 / np.float64(e)) for c, e in ((self.A, self.alpha), (self.B, self.beta))]
        size, tokens = map(float, np.nan_to_num(powers))
        return size, tokens

    def loss(self, N: ArrayLike, D: ArrayLike) -> Floats:
        return self.E + self.A * np.asarray(N, float) ** -self.alpha + self.B * np.asarray(D, float) ** -self.beta

    @property
    def exponent(self) -> float:
        """a of N_opt ~ C^a where compute is proportional to N D; a half where neither term falls, so no a is better."""
        both = self.alpha + self.beta
        return self.beta / both if both else 0.5

    def optimal(self, C: ArrayLike, flops: float = FLOPS) -> tuple[Floats, Floats]:
        """(N, D) of least loss under C = flops N D, in the law's units (Hoffmann et al. 2022, eq. 4).

        Another accounting of compute, such as one where attention counts, has another optimum and another exponent.
        """
        product = np.asarray(C, float) / flops
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        N = ratio * product**self.exponent
        return N, product / N


@dataclass(frozen=True)
class PowerLaw:
    """y = k x_1^p_1 x_2^p_2 ...: the optimal batch or learning rate for (D, N), the optimal model size for (C,)."""

    k: float
    powers: tuple[float, ...]

    def __call__(self, *x: ArrayLike) -> Floats:
        return self.k * np.prod([np.asarray(one, float) ** power for one, power in zip(x, self.powers)], axis=0)


# arXiv:2411.17470, video diffusion transformers. N in 1e9 parameters, D in 1e9 tokens, C in FLOPs, batches in tokens.
# The paper's table heads A and B as scales; only read as prefactors do they give its two published predictions. Its
# optimal model size comes from its own accounting of compute, and is not `VIDEO_LOSS.optimal`, which assumes 6 N D.
VIDEO_LOSS = LossLaw(A=0.0082, B=0.0373, E=0.4856, alpha=0.3188, beta=0.2917)
VIDEO_BATCH = PowerLaw(2.1797e4, (0.8080, 0.1906))
VIDEO_RATE = PowerLaw(0.0002, (-0.0453, -0.1619))
VIDEO_SIZE = PowerLaw(1.5787, (0.4146,))


@dataclass(frozen=True)
class Runs:
    """Finished training runs: parameters N, tokens D, compute C and final loss L, each (n,) and positive."""

    N: Floats
    D: Floats
    C: Floats
    L: Floats

    def __post_init__(self) -> None:
        for name, column in vars(self).items():
            if not (np.isfinite(column) & (column > 0)).all():
                row = int(np.argmin(np.isfinite(column) & (column > 0)))
                raise DataError(f"{name} of run {row + 1} is {column[row]}", "give positive numbers, or leave it out")

    def __len__(self) -> int:
        return len(self.L)

    def select(self, rows: NDArray[np.bool_ | np.intp]) -> "Runs":
        """The runs at a mask or at indices."""
        return Runs(self.N[rows], self.D[rows], self.C[rows], self.L[rows])

    def without_highest(self, count: int) -> "Runs":
        """Leaves out the `count` runs of highest loss."""
        return self.select(np.sort(np.argsort(self.L, kind="stable")[: len(self) - count]))


def runs(L: ArrayLike, N: ArrayLike | None = None, D: ArrayLike | None = None, C: ArrayLike | None = None) -> Runs:
    """Runs from the loss and two or three of size, data and compute; a missing one follows from C = 6 N D.

    Raises:
        DataError: fewer than two are given, or something is not a positive number.
    """
    n, d, c = (None if one is None else np.asarray(one, float) for one in (N, D, C))
    if n is None and d is not None and c is not None:
        n = c / FLOPS / d
    if d is None and n is not None and c is not None:
        d = c / FLOPS / n
    if n is None or d is None:
        raise DataError("a law needs two of parameters, tokens and compute", "name another column")
    return Runs(n, d, FLOPS * n * d if c is None else c, np.asarray(L, float))


@dataclass(frozen=True)
class Fit:
    """A fitted law, and what its bootstrap knows.

    Attributes:
        law: the minimum.
        huber: the sum of Huber losses there.
        replicas: laws fitted to resampled runs.
        n: runs.
    """

    law: LossLaw
    huber: float
    replicas: tuple[LossLaw, ...]
    n: int

    @property
    def note(self) -> str:
        """What these runs cannot tell."""
        return "" if self.law.E else "these runs show no floor: E is fitted as zero, and none is in the predictions"

    def estimate(self, of: Callable[[LossLaw], float], level: float = 0.95) -> Estimate:
        """Anything that follows from a law, such as `lambda law: law.exponent`, with its percentile interval."""
        values = np.array([of(law) for law in self.replicas])
        # numpy's usual way is too narrow where replicas are few: of 100, it would hold 93% of others like them
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="weibull")
        return Estimate(
            value=float(of(self.law)),
            low=float(low),
            high=float(high),
            n=self.n,
            level=level,
            method=f"Huber on log loss, percentile of {len(values)} bootstraps over runs",
            note=self.note,
        )


def fit(data: Runs, replicates: int = 1000, seed: int = 0) -> Fit:
    """The loss law of finished runs.

    Raises:
        DataError: fewer runs than coefficients and one more, or sizes or tokens that do not vary.
    """
    if len(data) <= _PARAMETERS:
        raise DataError(f"{len(data)} runs for five coefficients", "add runs of other sizes and lengths")
    for name, column in (("parameters", data.N), ("tokens", data.D)):
        if np.ptp(column) == 0:
            raise DataError(f"all runs have the same {name}", "add runs that differ in it")
    centre = _Centre(*(float(np.log(column).mean()) for column in (data.N, data.D, data.L)))
    shifted = np.log(np.stack([data.N, data.D, data.L])) - np.array([[centre.n], [centre.d], [centre.loss]])
    once = np.ones(len(data))
    found = [_descend(start, shifted, once) for start in _starts(shifted)]
    best, huber = min(found, key=lambda one: one[1])
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(data), once / len(data), size=replicates)
    replicas = tuple(centre.law(_descend(best, shifted, weight)[0]) for weight in draws)
    return Fit(centre.law(best), huber, replicas, len(data))


@dataclass(frozen=True)
class Extrapolation:
    """How a law fitted to smaller runs does on larger ones. The intervals are the law's, without a run's own noise.

    Attributes:
        fit: of the runs kept.
        held: the runs held out.
        predicted: their losses (held,).
        error: mean over held-out runs of |predicted / observed - 1|.
    """

    fit: Fit
    held: Runs
    predicted: tuple[Estimate, ...]
    error: Estimate


def extrapolate(data: Runs, factor: float, replicates: int = 1000, seed: int = 0) -> Extrapolation:
    """Fit the runs of at most 1 / factor of the largest compute, and predict those of more.

    Raises DataError where too few runs are left.
    """
    large = data.C * factor > data.C.max()
    fitted, held = fit(data.select(~large), replicates, seed), data.select(large)
    predicted = tuple(fitted.estimate(lambda law, n=n, d=d: float(law.loss(n, d))) for n, d in zip(held.N, held.D))
    error = fitted.estimate(lambda law: float(np.abs(law.loss(held.N, held.D) / held.L - 1).mean()))
    return Extrapolation(fitted, held, predicted, error)


@dataclass(frozen=True)
class PowerFit:
    """y = k x^p..., and the intervals of k and the powers."""

    law: PowerLaw
    k: Estimate
    powers: tuple[Estimate, ...]


def fit_power(y: ArrayLike, *x: ArrayLike, level: float = 0.95) -> PowerFit:
    """The law of optimal batch size or learning rate from (tokens, parameters), of optimal size from compute.

    Least squares on logs, with t intervals: exact where the log errors are normal and alike.

    Raises:
        DataError: too few points, a number that is not positive, or columns that vary together.
    """
    columns = np.stack([np.asarray(one, float) for one in (y, *x)])
    if not (np.isfinite(columns) & (columns > 0)).all():
        raise DataError("a point that is not positive", "power laws are about positive numbers: leave it out")
    logs = np.log(columns)
    design = np.stack([np.ones(logs.shape[1]), *logs[1:]], axis=1)
    points, size = design.shape
    if points <= size or np.linalg.matrix_rank(design) < size:
        raise DataError(f"{points} points do not determine {size} coefficients", "add points that vary each column")
    solution = np.linalg.lstsq(design, logs[0])[0]
    residual = logs[0] - design @ solution
    variance = residual @ residual / (points - size) * np.diag(np.linalg.inv(design.T @ design))
    half = t.ppf((1 + level) / 2, points - size) * np.sqrt(variance)

    def estimate(value: float, low: float, high: float) -> Estimate:
        return Estimate(value=value, low=low, high=high, n=points, level=level, method="least squares on logs, t")

    rows = np.stack([solution, solution - half, solution + half], axis=1)
    k, powers = estimate(*np.exp(rows[0]).tolist()), tuple(estimate(*row) for row in rows[1:].tolist())
    return PowerFit(PowerLaw(float(np.exp(solution[0])), tuple(solution[1:].tolist())), k, powers)


def iso_flop(data: Runs, budgets: ArrayLike, near: float = 1.1) -> tuple[Runs, PowerFit]:
    """Hoffmann's approach 2: at each compute budget the bottom of a parabola of loss in log N, and its power law in C.

    Args:
        budgets: compute (m,).
        near: a run belongs to a budget when its compute is within this factor of it.

    Returns:
        The optimum of each budget that has one among its runs, and the law N_opt = k C^a.

    Raises:
        DataError: fewer than three budgets have an optimum.
    """
    distance = np.abs(np.log(data.C) - np.log(np.asarray(budgets, float))[:, None])
    valleys = [_valley(data.select(row < np.log(near)), budget) for row, budget in zip(distance, np.asarray(budgets))]
    optima = [one for one in valleys if one is not None]
    if len(optima) < 3:
        raise DataError(
            f"{len(optima)} compute budgets have their smallest loss inside their range of sizes",
            "train three or more sizes around the best one, at three or more budgets",
        )
    C, N, L = np.array(optima).T
    return Runs(N, C / FLOPS / N, C, L), fit_power(N, C)


def _valley(data: Runs, budget: float) -> tuple[float, float, float] | None:
    """(C, N, L) at the bottom of a parabola through a budget's runs; None where the bottom is not among them."""
    n = np.log(data.N)
    if len(np.unique(data.N)) < 4:
        return None
    middle = n.mean()
    curvature, slope, level = np.polyfit(n - middle, data.L, 2)
    bottom = -slope / (2 * curvature) if curvature > 0 else np.inf
    if not n.min() < bottom + middle < n.max():
        return None
    return float(budget), float(np.exp(bottom + middle)), float(level + slope * bottom / 2)


@dataclass(frozen=True)
class _Centre:
    """Means of log N, log D and log L. Centred, the five coefficients hardly correlate, and no start needs a unit."""

    n: float
    d: float
    loss: float

    def law(self, parameters: Floats) -> LossLaw:
        a, b, e, alpha, beta = map(float, parameters)
        A, B, E = np.exp([a + alpha * self.n + self.loss, b + beta * self.d + self.loss, e + self.loss]).tolist()
        E = E if e > np.log(_NO_FLOOR) else 0.0
        return LossLaw(A, B, E, alpha, beta)


def _starts(shifted: Floats) -> list[Floats]:
    """(a, b, e, alpha, beta) for a grid of exponents: given them A, B and E are a linear least squares problem."""
    n, d, loss = shifted
    found: list[Floats] = []
    for alpha in (0.1, 0.3, 0.6, 1.0, 2.0):
        for beta in (0.1, 0.3, 0.6, 1.0, 2.0):
            terms = np.exp(np.stack([-alpha * n, -beta * d, np.zeros_like(n)], axis=1))
            found.append(np.append(np.log(np.maximum(nnls(terms, np.exp(loss))[0], 1e-3)), [alpha, beta]))
    return found


def _descend(start: Floats, shifted: Floats, weight: Floats) -> tuple[Floats, float]:
    """The minimum near a start: parameters (5,), and the sum of Huber losses."""
    # Their sum is near 1e-3 at the minimum, where the optimiser's tolerances would stop it early.
    scale = 1e3
    n, d, loss = shifted

    def objective(at: Floats) -> tuple[float, Floats]:
        a, b, e, alpha, beta = at
        terms = np.stack([a - alpha * n, b - beta * d, np.full_like(n, e)])
        total = np.logaddexp.reduce(terms)
        residual = total - loss
        clipped = residual.clip(-DELTA, DELTA)
        shares = weight * clipped * np.exp(terms - total)  # dHuber / dterm
        gradient = np.array([*shares.sum(1), -shares[0] @ n, -shares[1] @ d])
        return scale * float(weight @ (clipped * (residual - clipped / 2))), scale * gradient

    # Beyond these a term has vanished or is the same for all runs.
    bounds = [(-30, 30), (-30, 30), (-30, 30), (0, 10), (0, 10)]
    options = {"maxiter": 2000, "maxfun": 5000, "ftol": 1e-13, "gtol": 1e-9, "maxcor": 20}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return found.x, float(found.fun / scale)
