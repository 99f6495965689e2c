"""EM for a mixture of simple regressions as a good user would write it: one loop in numba, datasets in parallel.

It stops when a step gains less than `step_gain` nats, and knows nothing of collapse, of restarts or of bad data.
"""

# numba is optional: only rivals.py imports this file, and only where numba is installed.
import numpy as np
from numba import njit, prange  # type: ignore[import-not-found]

LOG_2PI = np.log(2.0 * np.pi)


@njit(cache=False, fastmath=True)
def _one(y, x, weights, coefficients, scale, step_gain, max_iterations):
    """Fit one dataset in place; the number of E-steps."""
    n, n_components = y.shape[0], weights.shape[0]
    sums = np.empty((n_components, 6))
    density = np.empty(n_components)
    before = -np.inf
    for iteration in range(1, max_iterations + 1):
        sums[:] = 0.0
        log_likelihood = -0.5 * n * LOG_2PI
        for i in range(n):
            total = 0.0
            for k in range(n_components):
                z = (y[i] - coefficients[k, 0] - coefficients[k, 1] * x[i]) / scale[k]
                density[k] = weights[k] / scale[k] * np.exp(-0.5 * z * z)
                total += density[k]
            log_likelihood += np.log(total)
            for k in range(n_components):
                r = density[k] / total
                e = y[i] - coefficients[k, 0] - coefficients[k, 1] * x[i]
                sums[k, 0] += r
                sums[k, 1] += r * x[i]
                sums[k, 2] += r * x[i] * x[i]
                sums[k, 3] += r * e
                sums[k, 4] += r * e * x[i]
                sums[k, 5] += r * e * e
        if log_likelihood - before < step_gain:
            return iteration
        before = log_likelihood
        for k in range(n_components):
            count, sx, sxx, se, sxe, see = sums[k]
            slope = (count * sxe - sx * se) / (count * sxx - sx * sx)
            intercept = (se - slope * sx) / count
            coefficients[k, 0] += intercept
            coefficients[k, 1] += slope
            weights[k] = count / n
            scale[k] = np.sqrt((see - intercept * se - slope * sxe) / count)
    return max_iterations


@njit(cache=False, parallel=True)
def fit(y, x, weights, coefficients, scale, step_gain, max_iterations):
    """Fit D datasets in place: y, x (D, n), weights, scale (D, K), coefficients (D, K, 2). Iterations (D,)."""
    iterations = np.empty(y.shape[0], np.int64)
    for d in prange(y.shape[0]):
        iterations[d] = _one(y[d], x[d], weights[d], coefficients[d], scale[d], step_gain, max_iterations)
    return iterations
