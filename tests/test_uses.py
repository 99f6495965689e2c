"""Which fields of the data each family uses: it takes those and refuses the others."""

import numpy as np
import pytest

import emjax
from emjax import Data


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        (emjax.LinearRegression(), ("x", "offset")),
        (emjax.StudentTRegression(), ("x", "offset")),
        (emjax.PoissonRegression(), ("x", "offset")),
        (emjax.NegativeBinomialRegression(), ("x", "offset")),
        (emjax.BinomialRegression(), ("x", "offset", "trials")),
        (emjax.Poisson(), ("offset",)),
        (emjax.Binomial(), ("trials",)),
        (emjax.WithComponent(emjax.PoissonRegression(), emjax.PointMass()), ("x", "offset")),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "",
)
def test_a_member_gets_the_fields_that_it_takes(family: emjax.Family, fields: tuple[str, ...]) -> None:
    """Else a regression would be fitted without its covariates, and say nothing."""
    assert set(family.uses) == set(fields)
    assert set(emjax.Independent((emjax.Gaussian("E"), family)).uses) == set(fields)


class Forgetful(emjax.LinearRegression):
    """A regression that does not say what it uses."""

    uses = ()


@pytest.mark.parametrize(
    "family",
    [
        *(emjax.Gaussian("E"), emjax.MissingGaussian("E"), emjax.StudentT("E"), emjax.Categorical(2)),
        *(emjax.Exponential(), emjax.FactorAnalyser(1), emjax.NegativeBinomialRegression()),
        *(emjax.Gamma(), emjax.NegativeBinomial(), emjax.Poisson(), emjax.Binomial(), emjax.LinearRegression()),
        *(emjax.StudentTRegression(), emjax.PoissonRegression(), emjax.BinomialRegression(), Forgetful()),
    ],
    ids=lambda family: type(family).__name__,
)
def test_a_family_refuses_what_it_does_not_use(family: emjax.Family) -> None:
    """And takes what it does; so one that forgets to say what it uses cannot be given it."""
    y = np.ones((4, 3)) if isinstance(family, emjax.FactorAnalyser) else np.ones(4)
    family.check(Data(y, **{name: np.ones((4, 1)) if name == "x" else np.ones(4) for name in family.uses}))
    for name in {"x", "offset", "trials", "z"} - set(family.uses):
        with pytest.raises(emjax.DataError, match=rf"{type(family).__name__}.* has no|Gaussian has no covariates"):
            family.check(Data(y, **{name: np.ones((4, 1)) if name in ("x", "z") else np.ones(4)}))
