"""Known answers for PLSA: the optimum is that of non-negative matrix factorisation by Kullback-Leibler loss, as
scikit-learn finds it: log-likelihood = sum n log n - sum_d n_d log n_d - KL."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

import emjax
from emjax import PLSA, Data, Stop

# Eye colour (blue, light, medium, dark) by hair colour (fair, red, medium, dark, black) of children in Caithness:
# Fisher 1940, Annals of Eugenics 10, 422-429; `caith` in the R package MASS.
CAITHNESS = np.array(
    [[326, 38, 241, 110, 3], [688, 116, 584, 188, 4], [343, 84, 909, 412, 26], [98, 48, 403, 681, 85]], float
)


def factorised(counts: np.ndarray, topics: int, seed: int = 0, start: emjax.PLSAParams | None = None) -> np.ndarray:
    """p(term | document) at the optimum of scikit-learn's multiplicative updates."""
    init = "random" if start is None else "custom"
    model = NMF(
        topics, init=init, solver="mu", beta_loss="kullback-leibler", max_iter=20_000, tol=1e-13, random_state=seed
    )
    given = {}
    if start is not None:
        left = start.topics_of_documents * counts.sum(axis=1, keepdims=True)
        given = {"W": np.ascontiguousarray(left), "H": np.ascontiguousarray(start.terms_of_topics)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        left = model.fit_transform(counts, **given)
    product = left @ model.components_
    return product / product.sum(axis=1, keepdims=True)


def log_likelihood(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """By the divergence, as the formula has it."""
    totals = counts.sum(axis=1, keepdims=True)
    seen, expected = counts > 0, totals * probabilities
    divergence = np.sum(counts[seen] * np.log(counts[seen] / expected[seen])) - counts.sum() + expected.sum()
    return float(np.sum(counts[seen] * np.log(counts[seen])) - np.sum(totals * np.log(totals)) - divergence)


def test_eye_and_hair_colour() -> None:
    found = emjax.fit(PLSA(2), Data(CAITHNESS), 1, restarts=4, stop=Stop(tol=1e-9))
    wanted = factorised(CAITHNESS, 2)
    assert found.status == emjax.Status.CONVERGED
    assert found.log_likelihood == pytest.approx(log_likelihood(CAITHNESS, wanted), abs=1e-6)
    assert found.log_likelihood == pytest.approx(-6528.583114, abs=1e-6)
    np.testing.assert_allclose(found.params.topics_of_documents @ found.params.terms_of_topics, wanted, atol=1e-5)
    assert found.n_free == 4 + 2 * 4


@pytest.mark.slow
def test_handwritten_digits() -> None:
    """96 images as documents, 64 pixels as terms, many modes: the best of 20 starts is no worse than the
    factorisation's best of 4, and it is where the factorisation goes from nearby."""
    counts = load_digits().data[:96]
    found = emjax.fit(PLSA(2), Data(counts), 1, restarts=20, certificate=False)
    assert found.status == emjax.Status.CONVERGED
    assert found.log_likelihood == pytest.approx(-107822.608404, abs=1e-4)
    assert found.log_likelihood >= max(log_likelihood(counts, factorised(counts, 2, seed)) for seed in range(4))
    # Zeros would stay zeros: from a little inside.
    inside = emjax.PLSAParams(*(0.999 * block + 0.001 / block.shape[1] for block in found.params))
    assert log_likelihood(counts, factorised(counts, 2, start=inside)) == pytest.approx(found.log_likelihood, abs=1e-3)
