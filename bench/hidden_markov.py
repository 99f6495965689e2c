"""Gaussian hidden Markov models, T = 200, K = 3, against hmmlearn in a loop and dynamax under vmap, equal iterations.

    python bench/hidden_markov.py [--datasets N] [--rounds R]

Everyone takes the same number of EM iterations from the same starts, whatever is gained; the log-likelihoods that emjax
finds at everyone's parameters are compared. hmmlearn takes a part of the datasets, dynamax all of them in one
compiled call (its own E- and M-step under `jit(vmap(scan))`; its `fit_em` is a Python loop over iterations). The
priors of both are switched off (dynamax's, on mean and variance jointly, has its mode at the maximum of the likelihood
with these values). Compilation apart.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import emjax
from bench import _model_samples, timing

ITERATIONS = 50
OF_HMMLEARN = 50  # datasets
FLAT = 1.0 + 1e-9  # of dynamax's Dirichlet priors, whose mode is NaN at 1 where a probability comes to 0
CLAIMS = {"hmmlearn": 30.0, "dynamax": 2.0}
MODEL = emjax.HiddenMarkov(emjax.Gaussian("spherical"), 3)


def emjax_fits(y: np.ndarray, start: Any, iterations: int = ITERATIONS) -> emjax.Fits:
    """As many EM iterations for every dataset."""
    stop = emjax.Stop(tol=1e-300, max_iterations=iterations)
    return emjax.fit_many(MODEL, emjax.Data(y), 0, start=start, stop=stop, certificate=False, acceleration=None)


def hmmlearn_fits(y: np.ndarray, start: Any) -> tuple[Any, float]:
    """Parameters in emjax's record, and seconds."""
    from hmmlearn.hmm import GaussianHMM  # type: ignore[import-not-found]

    def one(rows: np.ndarray, at: Any) -> Any:
        model = GaussianHMM(3, "diag", min_covar=0.0, covars_prior=0.0, tol=-np.inf, n_iter=ITERATIONS, init_params="")
        model.startprob_, model.transmat_ = at.latent.initial, at.latent.transitions
        model.means_, model.covars_ = at.family.means, at.family.covariances[:, :, 0]
        model.fit(rows[:, None])
        return _record(model.startprob_, model.transmat_, model.means_, np.reshape(model.covars_, (3, -1))[:, :1])

    starts = [jax.tree.map(lambda a: np.asarray(a)[i], start) for i in range(len(y))]  # noqa: B023
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        found = [one(rows, at) for rows, at in zip(y, starts, strict=True)]
        taken = time.perf_counter() - began
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found), taken


def _record(initial: Any, transitions: Any, means: Any, variances: Any) -> emjax.MixtureParams:
    initial, transitions = np.asarray(initial), np.asarray(transitions)
    chain = emjax.MarkovParams(
        initial / initial.sum(-1, keepdims=True), transitions / transitions.sum(-1, keepdims=True)
    )
    return emjax.MixtureParams(chain, emjax.GaussianParams(np.asarray(means), np.asarray(variances)[..., None]))


def dynamax_fits(start: Any) -> Callable[[Any], Any]:
    """A compiled function of y (D, T): log-likelihoods and parameters of all."""
    import jax.numpy as jnp
    from dynamax.hidden_markov_model import DiagonalGaussianHMM  # type: ignore[import-not-found]

    hmm = DiagonalGaussianHMM(
        3, 1, initial_probs_concentration=FLAT, transition_matrix_concentration=FLAT, emission_prior_concentration=-1.5,
        emission_prior_scale=0.0, emission_prior_mean_concentration=0.0,
    )  # fmt: skip

    def one(y: Any, at: Any) -> Any:
        params, properties = hmm.initialize(
            jax.random.PRNGKey(0), method="prior", initial_probs=at.latent.initial,
            transition_matrix=at.latent.transitions, emission_means=at.family.means,
            emission_scale_diags=jnp.sqrt(at.family.covariances[:, :, 0]),
        )  # fmt: skip

        def step(carry: Any, _: Any) -> Any:
            params, state = carry
            statistics, total = jax.vmap(lambda rows: hmm.e_step(params, rows, None))(y[None, :, None])
            return hmm.m_step(params, properties, statistics, state), jnp.sum(total)

        state = hmm.initialize_m_step_state(params, properties)
        return jax.lax.scan(step, (params, state), None, length=ITERATIONS)[0][0]

    compiled = jax.jit(jax.vmap(one))
    given = jax.tree.map(jnp.asarray, start)
    return lambda y: jax.block_until_ready(compiled(jnp.asarray(y), given))


def judged(y: np.ndarray, params: Any) -> np.ndarray:
    """Log-likelihoods at given parameters, (D,)."""
    return emjax_fits(y, params, 1).log_likelihood


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    settings = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    y = np.asarray(_model_samples.series(np.random.default_rng(1), settings.datasets).y)
    start = emjax_fits(y, None, 1).params
    some = slice(0, OF_HMMLEARN)
    its_start = jax.tree.map(lambda a: a[some], start)
    theirs = dynamax_fits(start)
    found: dict[str, Any] = {}

    def keep(name: str, run: Callable[[], Any]) -> Callable[[], None]:
        return lambda: found.__setitem__(name, run())

    taken = timing.alternate(
        {
            "emjax": keep("emjax", lambda: emjax_fits(y, start)),
            "dynamax": keep("dynamax", lambda: theirs(y)),
            "hmmlearn": keep("hmmlearn", lambda: hmmlearn_fits(y[some], its_start)),
        },
        settings.rounds,
    )
    a_dataset = {name: [s / (OF_HMMLEARN if name == "hmmlearn" else len(y)) for s in taken[name]] for name in taken}
    dynamax = found["dynamax"]
    of_dynamax = _record(
        dynamax.initial.probs, dynamax.transitions.transition_matrix, dynamax.emissions.means,
        np.square(dynamax.emissions.scale_diags),
    )  # fmt: skip
    # Where a variance collapses, dynamax's parameters are NaN.
    there = np.all([np.isfinite(a).reshape(len(y), -1).all(axis=1) for a in jax.tree.leaves(of_dynamax)], axis=0)
    of_dynamax = jax.tree.map(lambda a, b: np.where(there.reshape(-1, *[1] * (a.ndim - 1)), a, b), of_dynamax, start)
    # emjax reports the log-likelihood of its last E-step; after ITERATIONS of M-steps theirs is one step further.
    own = emjax_fits(y, start, ITERATIONS + 1)
    sound = own.status != emjax.Status.DEGENERATE  # emjax stops where a state collapses, and the others go on
    gaps = {
        "hmmlearn": (judged(y[some], found["hmmlearn"][0]) - own.log_likelihood[some])[sound[some]],
        "dynamax": (judged(y, of_dynamax) - own.log_likelihood)[sound & there],
    }
    print(timing.machine())
    print(
        f"{len(y)} datasets, {ITERATIONS} iterations; compared: {np.sum(sound)}, where no state collapses for emjax\n"
    )
    lines = []
    for name, claim in CLAIMS.items():
        ratio = timing.ratio(a_dataset[name], a_dataset["emjax"])
        gap = gaps[name]
        text = f"{ratio.text()} x; median difference {np.median(np.abs(gap)):.1e}, largest {np.max(np.abs(gap)):.1e}"
        lines.append(timing.Claim(f"{name}: >= {claim:g} x", text, ratio.median >= claim))
    print(timing.claims(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
