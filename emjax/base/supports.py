"""What values a parameter may take, by the field of its record: the scale on which an interval for it is symmetric."""

from __future__ import annotations

from typing import Any

REAL, POSITIVE, PROBABILITY, COVARIANCE = "real", "positive", "probability", "covariance"

_FIELDS = {
    "weights": PROBABILITY,
    "initial": PROBABILITY,
    "transitions": PROBABILITY,
    "probabilities": PROBABILITY,
    "topics_of_documents": PROBABILITY,
    "terms_of_topics": PROBABILITY,
    "scale": POSITIVE,
    "rates": POSITIVE,
    "shapes": POSITIVE,
    "sizes": POSITIVE,
    "degrees": POSITIVE,
    "uniquenesses": POSITIVE,
    "covariances": COVARIANCE,
    "scales": COVARIANCE,
}
_RECORDS = {("GammaParams", "means"): POSITIVE, ("NegativeBinomialParams", "means"): POSITIVE}


def of(params: Any) -> Any:
    """The same record with "real", "positive", "probability" or "covariance" in place of each array.

    "covariance" stands for matrices (..., d, d), positive on their diagonals. A record of one's own may say so itself,
    in an attribute or property `supports`, a dictionary by field; what nothing is known of is real.
    """
    if hasattr(params, "_fields"):
        return type(params)(*(_field(params, name) for name in params._fields))
    if isinstance(params, (tuple, list)):
        return type(params)(of(part) for part in params)
    if isinstance(params, dict):
        return {name: of(part) for name, part in params.items()}
    return REAL


def _field(record: Any, name: str) -> Any:
    value = getattr(record, name)
    if not hasattr(value, "shape"):
        return of(value)
    known = getattr(record, "supports", {}).get(name)
    return known or _RECORDS.get((type(record).__name__, name)) or _FIELDS.get(name, REAL)
