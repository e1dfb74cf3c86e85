"""Adjusting a classifier to a region where classes are more or less frequent than in training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covermap.errors import ConfigError, InputError

_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class RegionPrior:
    """How frequent the classes are in a region.

    Attributes:
        prior: (K,) float64, q, sums to 1.
        shift: (K,) float64, log q − log π: what to add to the logits of the network; −inf for a
            class that is not there.
        iterations: steps that were made.
        converged: whether the last one changed no share by more than the tolerance.
        likelihoods: log-likelihood per pixel (nats, up to a constant) before each step and after
            the last; never falls.
    """

    prior: NDArray[np.float64]
    shift: NDArray[np.float64]
    iterations: int
    converged: bool
    likelihoods: tuple[float, ...]


def estimate_prior(
    probabilities: NDArray[np.floating],
    trained: NDArray[np.floating],
    *,
    weights: NDArray[np.floating] | None = None,
    pseudo: float = 0.0,
    iterations: int = 1000,
    tolerance: float = 1e-6,
) -> RegionPrior:
    """Estimate how frequent the classes are in a region by expectation maximisation.

    Saerens, Latinne and Decaestecker 2002, section 2.2: from probabilities p_n learned
    under the prior π, q ← mean_n of p_n(l) q(l) / π(l), each divided by its sum over l. What looks
    the same must mean the same class in both places, and p must be calibrated: that of an
    overconfident network gives shares of its hard classes.

    Args:
        probabilities: (N, K) float, at least 0, rows sum to 1; of pixels without labels.
        trained: (K,) float, π, at least 0; a class of 0 is left out.
        weights: (N,) float, at least 0, how often each row counts; all once by default.
        pseudo: pixels' worth of the training prior mixed in, at least 0 (the Dirichlet prior
            1 + pseudo · π); `likelihoods` then includes its term.
        iterations: most steps.
        tolerance: greatest change of a share at which steps end.

    Returns:
        The estimate.

    Raises:
        InputError: there is no pixel, or the numbers do not fit or are negative or not finite.
        ConfigError: no class has a share in training, or `pseudo` is negative.
    """
    p, pi, count = _checked(probabilities, trained, weights, pseudo)
    used = pi > 0
    ratio = p[:, used] / pi[used]
    q = pi[used].copy()
    total, history, change = count.sum() + pseudo, [], np.inf
    done = 0
    for done in range(iterations + 1):
        mixed = ratio @ q
        history.append(_likelihood(mixed, q, pi[used], count, pseudo))
        if change <= tolerance or done == iterations:
            break
        held = count / np.maximum(mixed, _LEAST)
        new = (q * (held @ ratio) + pseudo * pi[used]) / total
        new /= new.sum()
        change, q = float(np.abs(new - q).max()), new
    prior = np.zeros(len(pi))
    prior[used] = q
    shift = np.full(len(pi), -np.inf)
    there = prior > 0
    shift[there] = np.log(prior[there]) - np.log(pi[there])
    return RegionPrior(prior, shift, done, change <= tolerance, tuple(history))


def _likelihood(
    mixed: NDArray[np.float64],
    q: NDArray[np.float64],
    pi: NDArray[np.float64],
    count: NDArray[np.float64],
    pseudo: float,
) -> float:
    value = count @ np.log(np.maximum(mixed, _LEAST))
    if pseudo:
        value += pseudo * (pi @ np.log(np.maximum(q, _LEAST)))
    return float(value / count.sum())


def _checked(
    probabilities: NDArray[np.floating],
    trained: NDArray[np.floating],
    weights: NDArray[np.floating] | None,
    pseudo: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    p, pi = np.asarray(probabilities, np.float64), np.asarray(trained, np.float64)
    count = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    if p.ndim != 2 or pi.shape != p.shape[1:] or count.shape != p.shape[:1]:
        raise InputError(
            f"Probabilities {p.shape}, prior {pi.shape} and weights {count.shape} do not fit; "
            "expected (N, K), (K,) and (N,)."
        )
    if not all(np.isfinite(array).all() and (array >= 0).all() for array in (p, pi, count)):
        raise InputError("Probabilities, prior and weights must be finite and at least 0.")
    if not count.sum() > 0:
        raise InputError("There is no pixel to estimate the classes' shares from.")
    if not pi.sum() > 0 or pseudo < 0:
        raise ConfigError(
            f"Training prior {pi.tolist()} and pseudo-count {pseudo}: expected a share above 0 for "
            "some class, and a count of at least 0."
        )
    return p, pi / pi.sum(), count


class ProbabilitySample:
    """A bounded, uniform sample of the pixels of a region, whatever order they come in.

    Each pixel gets a random key from (seed, part, place in the part); those with the smallest keys
    stay. So parts may come in any order, from any number of workers, and the sample is the same.
    """

    def __init__(self, classes: int, size: int = 200_000, seed: int = 0) -> None:
        """Start empty.

        Args:
            classes: number of classes K.
            size: most pixels kept.
            seed: of the keys.
        """
        self.size, self._seed = size, seed
        self._keys: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._rows: NDArray[np.float32] = np.zeros((0, classes), np.float32)

    def add(self, probabilities: NDArray[np.floating], part: int) -> None:
        """Take in the pixels of one part, such as a block of a map.

        Args:
            probabilities: (N, K) float, rows sum to 1.
            part: number of the part, at least 0; each must come once.
        """
        draws = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(part,)))
        keys = draws.integers(0, 2**64, len(probabilities), np.uint64)
        if len(self._keys) == self.size and self.size:
            low = keys < self._keys[-1]
            keys, probabilities = keys[low], probabilities[low]
        keys = np.concatenate([self._keys, keys])
        order = np.argsort(keys, kind="stable")[: self.size]
        rows = np.concatenate([self._rows, probabilities.astype(np.float32)])
        self._keys, self._rows = keys[order], rows[order]

    @property
    def rows(self) -> NDArray[np.float32]:
        """(n, K) float32, the pixels kept, n at most `size`, in the order of their keys."""
        return self._rows
