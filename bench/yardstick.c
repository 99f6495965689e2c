/* EM for mixtures of K linear regressions with P coefficients, many lanes (one dataset from one start) at once: what a
 * good C programmer would write, and so the yardstick of bench/cpu.py.
 *
 *   gcc -O3 -march=native -ffast-math -fopenmp -DP=2 -DK=2 -shared -fPIC yardstick.c -lmvec -lm
 *
 * P counts the intercept. One pass over the data per iteration, in blocks that stay in the first-level cache; loops over
 * points are vectorised by the compiler (the exponential by glibc's libmvec), loops over P and K unrolled; lanes run on
 * all cores. float64, one scale a component. The stopping rule, the degeneracy rule and the statuses are those of
 * emjax/engine/stopping.py and emjax's LinearRegression.flags, with the default settings. */
#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PACKED (P * (P + 1) / 2)
#define BLOCK 256 /* K^BLOCK must stay below 1e308: the logarithm of a block's product of normalisers is taken once */
#define HALF_LOG_2PI 0.91893853320467274178
#define UNROLL _Pragma("GCC unroll 16")

_Static_assert(P >= 1 && P <= 6 && K >= 2 && K <= 8, "P from 1 to 6, K from 2 to 8");

enum { RUNNING, CONVERGED, MAX_ITERATIONS, DEGENERATE = 5, NON_FINITE, DECREASED, PRECISION_LIMIT };

typedef struct {
    double weight[K], coefficients[K][P], scale[K];
} Params;

typedef struct {
    double log_likelihood, total[K], xx[K][PACKED], xe[K][P], ee[K];
} Statistics;

typedef struct {
    double objective, gain, remaining, noise;
    int aitken_hits, floor_hits;
} Progress;

/* -ffast-math lets the compiler assume that isfinite() holds: look at the exponent's bits. */
static int is_finite(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits >> 52 & 0x7ff) != 0x7ff;
}

/* Log densities, weights included, become responsibilities in place; returns the block's log-likelihood. */
static inline double responsibilities(double r[K][BLOCK], int m) {
    double peaks = 0, product = 1;
#if K == 2
    double odds[BLOCK] __attribute__((aligned(64)));
    for (int i = 0; i < m; i++) {
        peaks += fmax(r[0][i], r[1][i]);
        r[1][i] -= r[0][i];
        odds[i] = -fabs(r[1][i]);
    }
    for (int i = 0; i < m; i++) odds[i] = exp(odds[i]);
    for (int i = 0; i < m; i++) {
        double normaliser = 1 + odds[i], high = 1 / normaliser, low = odds[i] * high;
        product *= normaliser;
        r[0][i] = r[1][i] > 0 ? low : high;
        r[1][i] = r[1][i] > 0 ? high : low;
    }
#else
    for (int i = 0; i < m; i++) {
        double peak = r[0][i];
        UNROLL for (int k = 1; k < K; k++) peak = fmax(peak, r[k][i]);
        UNROLL for (int k = 0; k < K; k++) r[k][i] -= peak;
        peaks += peak;
    }
    for (int k = 0; k < K; k++)
        for (int i = 0; i < m; i++) r[k][i] = exp(r[k][i]);
    for (int i = 0; i < m; i++) {
        double normaliser = 0;
        UNROLL for (int k = 0; k < K; k++) normaliser += r[k][i];
        product *= normaliser;
        double inverse = 1 / normaliser;
        UNROLL for (int k = 0; k < K; k++) r[k][i] *= inverse;
    }
#endif
    return peaks + log(product);
}

/* The E-step: x (P - 1, n) without the intercept, y (n). */
static void expect(const Params *q, const double *restrict x, const double *restrict y, int n, Statistics *s) {
    double e[K][BLOCK] __attribute__((aligned(64))), r[K][BLOCK] __attribute__((aligned(64)));
    memset(s, 0, sizeof *s);
    for (int first = 0; first < n; first += BLOCK) {
        int m = n - first < BLOCK ? n - first : BLOCK;
        const double *restrict yb = y + first, *restrict xb = x + first;
        for (int k = 0; k < K; k++) {
            double constant = log(q->weight[k] / q->scale[k]) - HALF_LOG_2PI, half = 0.5 / (q->scale[k] * q->scale[k]);
            double b[P];
            memcpy(b, q->coefficients[k], sizeof b);
            for (int i = 0; i < m; i++) {
                double residual = yb[i] - b[0];
                UNROLL for (int j = 1; j < P; j++) residual -= b[j] * xb[(j - 1) * n + i];
                e[k][i] = residual;
                r[k][i] = constant - half * residual * residual;
            }
        }
        s->log_likelihood += responsibilities(r, m);
        for (int k = 0; k < K; k++) {
            double total = 0, ee = 0, xx[PACKED] = {0}, xe[P] = {0};
            for (int i = 0; i < m; i++) {
                double v[P], weight = r[k][i], weighted = weight * e[k][i];
                v[0] = 1;
                UNROLL for (int j = 1; j < P; j++) v[j] = xb[(j - 1) * n + i];
                total += weight;
                ee += weighted * e[k][i];
                xe[0] += weighted;
                UNROLL for (int j = 1; j < P; j++) {
                    double u = weight * v[j];
                    xe[j] += weighted * v[j];
                    UNROLL for (int l = 0; l <= j; l++) xx[j * (j + 1) / 2 + l] += u * v[l];
                }
            }
            xx[0] = total;
            s->total[k] += total;
            s->ee[k] += ee;
            UNROLL for (int j = 0; j < PACKED; j++) s->xx[k][j] += xx[j];
            UNROLL for (int j = 0; j < P; j++) s->xe[k][j] += xe[j];
        }
    }
}

/* Weighted least squares as a correction of the current coefficients: Cholesky, ridge 4 eps of the diagonal. */
static void maximize(const Statistics *s, Params *q, int n) {
    UNROLL for (int k = 0; k < K; k++) {
        double a[P][P], step[P];
        UNROLL for (int i = 0; i < P; i++) UNROLL for (int j = 0; j <= i; j++) {
            double sum = s->xx[k][i * (i + 1) / 2 + j] * (i == j ? 1 + 4 * DBL_EPSILON : 1);
            double floor = 4 * DBL_EPSILON * s->xx[k][i * (i + 1) / 2 + i];
            UNROLL for (int l = 0; l < j; l++) sum -= a[i][l] * a[j][l];
            a[i][j] = i == j ? 1 / sqrt(fmax(sum, fmax(floor, DBL_MIN))) : sum * a[j][j]; /* inverse diagonal */
        }
        UNROLL for (int i = 0; i < P; i++) {
            double sum = s->xe[k][i];
            UNROLL for (int l = 0; l < i; l++) sum -= a[i][l] * step[l];
            step[i] = sum * a[i][i];
        }
        UNROLL for (int i = P - 1; i >= 0; i--) {
            double sum = step[i];
            UNROLL for (int l = i + 1; l < P; l++) sum -= a[l][i] * step[l];
            step[i] = sum * a[i][i];
        }
        double squares = s->ee[k];
        UNROLL for (int i = 0; i < P; i++) {
            double image = 0;
            UNROLL for (int j = 0; j < P; j++)
                image += s->xx[k][i > j ? i * (i + 1) / 2 + j : j * (j + 1) / 2 + i] * step[j];
            squares += step[i] * (image - 2 * s->xe[k][i]);
            q->coefficients[k][i] += step[i];
        }
        squares = fmax(squares, DBL_EPSILON * DBL_EPSILON * s->ee[k]);
        q->scale[k] = sqrt(fmax(squares / fmax(s->total[k], DBL_MIN), DBL_MIN));
        q->weight[k] = s->total[k] / n;
    }
}

/* A scale below a hundredth of the largest, or fewer rows than coefficients plus one. */
static int collapsed(const Params *q, const Statistics *s) {
    double least = q->scale[0], largest = q->scale[0], rows = s->total[0];
    for (int k = 1; k < K; k++) {
        least = fmin(least, q->scale[k]);
        largest = fmax(largest, q->scale[k]);
        rows = fmin(rows, s->total[k]);
    }
    return least < 0.01 * largest || rows < P + 1;
}

/* Aitken's estimate of the remaining gain, in nats: emjax/engine/stopping.py line by line. */
static int judge(Progress *p, double objective, int degenerate, int iterations, int max_iterations, double tol) {
    if (!is_finite(objective)) return NON_FINITE;
    int first = iterations == 1, known = iterations > 2; /* gains to compare: none, then one, then two */
    double gain = first ? DBL_MAX : objective - p->objective;
    double slack = 1e4 * DBL_EPSILON * (1 + fabs(objective)), fall = first ? 0 : -gain;
    if (fall <= slack) p->noise = fmax(p->noise, fall);
    double floor = fmax(4 * DBL_EPSILON * fabs(objective), 4 * p->noise);
    double seen = fabs(gain) <= floor ? floor : gain;
    int geometric = known && p->gain > seen && seen >= 0;
    double rate = geometric ? seen / p->gain : 0;
    p->remaining = geometric ? seen * rate / (1 - rate) : DBL_MAX;
    int confirmed = p->aitken_hits > 0 && fabs(gain) <= floor;
    p->aitken_hits = (geometric && p->remaining < tol) || confirmed ? p->aitken_hits + 1 : 0;
    p->floor_hits = gain <= floor ? p->floor_hits + 1 : 0;
    int at_floor = p->floor_hits >= 3;
    if ((at_floor && p->aitken_hits < 2) || confirmed) p->remaining = floor;
    p->objective = objective;
    p->gain = gain;
    if (degenerate) return DEGENERATE;
    if (gain < -slack) return DECREASED;
    if (p->aitken_hits >= 2 || at_floor) return floor > tol ? PRECISION_LIMIT : CONVERGED;
    return iterations >= max_iterations ? MAX_ITERATIONS : RUNNING;
}

/* Fit lanes = n_datasets x n_starts. x (D, n, P - 1), y (D, n) as NumPy has them; start and end (D, S, sizeof Params),
 * user's units. log_likelihood is that of the parameters returned. threads: 0 for all cores. */
void fit_lanes(int n_datasets, int n_starts, int n, const double *x, const double *y, const Params *start, double tol,
               int max_iterations, int threads, Params *end, double *log_likelihood, int *status, int *iterations) {
#pragma omp parallel num_threads(threads > 0 ? threads : omp_get_num_procs())
    {
        size_t bytes = (sizeof(double) * n * P + 63) / 64 * 64;
        double *own = aligned_alloc(64, bytes), *own_y = own, *own_x = own + n;
#pragma omp for schedule(dynamic, 8)
        for (int lane = 0; lane < n_datasets * n_starts; lane++) {
            size_t d = lane / n_starts;
            for (int i = 0; i < n; i++) {
                own_y[i] = y[d * n + i];
                for (int j = 0; j < P - 1; j++) own_x[j * n + i] = x[(d * n + i) * (P - 1) + j];
            }
            Params q = start[lane];
            Statistics s;
            Progress p = {0};
            int found = RUNNING, count = 0;
            for (;;) {
                expect(&q, own_x, own_y, n, &s);
                found = judge(&p, s.log_likelihood, collapsed(&q, &s), ++count, max_iterations, tol);
                if (found != RUNNING) break;
                maximize(&s, &q, n);
            }
            end[lane] = q;
            log_likelihood[lane] = s.log_likelihood;
            status[lane] = found;
            iterations[lane] = count;
        }
        free(own);
    }
}
