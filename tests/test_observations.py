"""What counts as an observation: a unit of which nothing was observed adds nothing to the likelihood, or to BIC's n."""

import numpy as np
import pytest

import emjax
from emjax import Categorical, Data, Mixture, Poisson

RNG = np.random.default_rng(7)
COUNTS = RNG.poisson(3.0, 75).astype(float)
UNIT = np.repeat(np.arange(25), 3)
ITEMS = RNG.integers(0, 2, (50, 3)).astype(float)


def fits(model: Mixture, *data: Data) -> emjax.Fits:
    return emjax.fit_many(model, list(data), 0, restarts=1, certificate=False)


def test_rows_that_are_masked_count_as_rows_that_are_left_out() -> None:
    observed = np.arange(75) % 8 > 0
    masked, whole, left = fits(
        Mixture(Poisson(), 1), Data(COUNTS, observed=observed), Data(COUNTS, observed=np.ones(75, bool)),
        Data(COUNTS[observed], observed=np.ones(int(observed.sum()), bool)),
    )  # fmt: skip
    assert masked.n_observations == left.n_observations == observed.sum() and whole.n_observations == 75
    assert masked.bic == pytest.approx(left.bic, abs=1e-9)


def test_observed_that_is_no_answer_is_refused() -> None:
    with pytest.raises(emjax.DataError, match="observed holds NaN"):
        fits(Mixture(Poisson(), 1), Data(COUNTS, observed=np.full(75, np.nan)))


@pytest.mark.parametrize("gone", [0, 11, 24])
def test_a_unit_counts_while_one_of_its_rows_is_observed(gone: int) -> None:
    """The last one beside padding, too: the datasets differ in size."""
    nothing = (UNIT - gone).astype(bool)
    little = nothing | (np.arange(75) % 3 == 1)
    short = UNIT < 20
    found = fits(
        Mixture(Poisson(), 1), Data(COUNTS, unit=UNIT, observed=nothing), Data(COUNTS, unit=UNIT, observed=little),
        Data(COUNTS[short], unit=UNIT[short], observed=np.ones(60, bool)),
    )  # fmt: skip
    assert found.n_observations.tolist() == [24, 25, 20]


def test_weights_count_where_something_was_observed() -> None:
    weight = np.where(np.arange(25) == 3, 4.0, 2.0)
    found = fits(Mixture(Poisson(), 1), Data(COUNTS, unit=UNIT, observed=UNIT != 3, weight=weight))
    assert found.n_observations.tolist() == [48.0]


def test_rows_without_an_observed_item_do_not_count() -> None:
    some, more = np.array(ITEMS), np.array(ITEMS)
    some[4], some[7, 0] = np.nan, np.nan
    more[4:6] = np.nan
    found = fits(Mixture(Categorical((2, 2, 2)), 1), Data(some), Data(more), Data(ITEMS))
    assert found.n_observations.tolist() == [49, 48, 50]
