"""The parameters of a batch of fits as a long pandas table."""

from typing import Any

from emjax.engine.results import Fits
from emjax.extras.optional import require
from emjax.inference import tables


def to_frame(fits: Fits, kind: str | None = "observed", level: float = 0.95, scale: str = "auto") -> Any:
    """One row a dataset and entry of its parameters; see `Fits.to_frame`. Errors: MissingExtraError."""
    pandas = require("pandas", "frames")
    return pandas.DataFrame(tables.columns(fits, kind, level, scale))
