"""Studies on a cluster: a client of dask.distributed for `Study.run(directory, client=...)`."""

from typing import Any

from emjax.base.status import DataError
from emjax.extras.optional import require


def connect(address: str, seconds: float = 30.0) -> Any:
    """A client of the scheduler at `address`, such as "tcp://10.0.0.1:8786"; use it as a context manager.

    Errors: MissingExtraError; DataError where no scheduler answers within so many seconds.
    """
    distributed = require("distributed", "cluster")
    try:
        return distributed.Client(address, timeout=seconds)
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())[:120]
        raise DataError(f"--cluster {address}: no scheduler answers ({why}); start one by `dask scheduler`") from None
