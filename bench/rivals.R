# R packages in a loop, timed inside R by proc.time over the fits alone.
#
#   Rscript rivals.R NAME FOLDER CORES
#
# FOLDER holds problem.csv (one line: D, n, K, width = p or d, step_gain, log_likelihood = a typical one) and arrays of doubles in row-major order: y.bin, x.bin,
# weights.bin, ... ; results go to fits.csv (one row a dataset: iterations, own log-likelihood, weights, ...) and
# seconds.txt. CORES > 1 runs the loop under parallel::mclapply.

arguments <- commandArgs(trailingOnly = TRUE)
name <- arguments[1]
folder <- arguments[2]
cores <- as.integer(arguments[3])
problem <- read.csv(file.path(folder, "problem.csv"))

read <- function(what, ...) {
  # Row-major with the dataset first is column-major with the dataset last.
  shape <- c(...)
  values <- readBin(file.path(folder, paste0(what, ".bin")), "double", prod(shape))
  array(values, shape)
}

D <- problem$D
n <- problem$n
K <- problem$K
width <- problem$width
iterations <- 10000L
relative <- problem$step_gain / abs(problem$log_likelihood)  # flexmix and mclust stop by a relative gain

mixtools_fits <- function() {
  library(mixtools)
  y <- read("y", n, D)
  x <- read("x", n, D)
  weights <- read("weights", K, D)
  coefficients <- read("coefficients", width, K, D)
  scale <- read("scale", K, D)
  function(i) {
    sink(nullfile())  # it prints a line a fit
    on.exit(sink())
    found <- regmixEM(y[, i], x[, i], lambda = weights[, i], beta = coefficients[, , i], sigma = scale[, i], k = K,
                      epsilon = problem$step_gain, maxit = iterations)
    # A fall by rounding makes it start again at random: then it is another fit.
    steps <- if (found$restarts > 0) NA else length(found$all.loglik) - 1
    c(steps, found$loglik, found$lambda, found$beta, found$sigma)
  }
}

flexmix_fits <- function() {
  suppressMessages(library(flexmix))
  y <- read("y", n, D)
  x <- read("x", n, D)
  responsibilities <- read("responsibilities", K, n, D)
  function(i) {
    found <- flexmix(y ~ x, data = data.frame(y = y[, i], x = x[, i]), k = K, cluster = t(responsibilities[, , i]),
                     control = list(tolerance = relative, iter.max = iterations, minprior = 0))
    all <- parameters(found)
    c(found@iter, as.numeric(logLik(found)), prior(found), all[1:width, ], all[width + 1, ])
  }
}

mclust_fits <- function() {
  suppressMessages(library(mclust))
  y <- read("y", width, n, D)
  responsibilities <- read("responsibilities", K, n, D)
  control <- emControl(tol = rep(relative, 2), itmax = rep(iterations, 2))
  function(i) {
    found <- me(t(y[, , i]), "VVV", t(responsibilities[, , i]), control = control, warn = FALSE)
    p <- found$parameters
    c(attr(found, "info")[["iterations"]], found$loglik, p$pro, p$mean, p$variance$sigma)
  }
}

one <- switch(name, mixtools = mixtools_fits, flexmix = flexmix_fits, mclust = mclust_fits)()
invisible(one(1))  # lazy loading and the byte-code compiler
began <- proc.time()[["elapsed"]]
fits <- if (cores > 1) parallel::mclapply(seq_len(D), one, mc.cores = cores) else lapply(seq_len(D), one)
seconds <- proc.time()[["elapsed"]] - began
failed <- !vapply(fits, is.numeric, TRUE)
fits[failed] <- list(rep(NA, length(fits[!failed][[1]])))
write.table(do.call(rbind, fits), file.path(folder, "fits.csv"), sep = ",", row.names = FALSE, col.names = FALSE)
writeLines(format(seconds, digits = 15), file.path(folder, "seconds.txt"))
