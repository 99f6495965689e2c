"""What `fit_many` would refuse, found without a fit: by its settings alone, or by the shapes of a dataset too."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from emjax.base.protocols import Model
from emjax.base.records import Data, Params
from emjax.engine import datasets, fitting, planning, templates
from emjax.engine.results import Settings

SETTINGS = (
    *("restarts", "stop", "degeneracy", "race", "prior", "fixed", "precision", "polish", "acceleration", "certificate"),
)
_KINDS = ("stop", "degeneracy", "polish", "acceleration", "certificate")


def of_settings(model: Model, start: Any, settings: dict[str, Any]) -> Any:
    """The parameters that `start` gives, None where it gives none. settings : those of `fit_many`, all of `SETTINGS`.

    Errors: `DataError` for what is wrong whatever the data.
    """
    own = {name: settings[name] for name in SETTINGS}
    stop, degeneracy, polish, acceleration, certificate = (own[name] for name in _KINDS)
    fitting.check_arguments(model, stop, degeneracy, polish, acceleration, certificate, None, None)
    plan, given, spread = planning.plan_for(model, Settings(strategies=(), key=(0, 0), **own), start)
    if given is not None:
        planning.one_lane_a_start(plan, own["restarts"], 1, spread)
    if own["prior"] is not None or own["fixed"] is not None:
        model.check_settings(own["prior"], own["fixed"], None)
    return given


def of_data(model: Model, like: Data, given: Any, settings: dict[str, Any]) -> Params:
    """Shapes of one dataset's parameters, None where the model has no start of its own.

    like : shapes and dtypes of one dataset. given : parameters to start from, NaN where they are not known yet.

    Errors: `DataError` for data that are not this model's, and for a prior, fixed values or a start of other shapes.
    """
    prior, fixed = settings["prior"], settings["fixed"]
    data = jax.tree.map(lambda leaf: np.zeros((1, *leaf.shape), leaf.dtype), like)
    n = like.y.shape[0]
    if like.unit is not None and like.weight is not None:  # numbered as such data must be
        data = data._replace(unit=np.minimum(np.arange(n), like.weight.shape[0] - 1)[None])
    (batch,), _ = datasets.batches(model, data)
    template = templates.of(model, batch, prior, n)
    templates.check_fixed(model, fixed, template)
    if given is not None:
        full = templates.flat(templates.given_starts(given, template, 1))
        if all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(full)):
            model.check_settings(None, None, full)
    return template
