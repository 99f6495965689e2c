"""After a fit: putting the components of many fits in one order."""

from emjax.inference.alignment import align_by_distance as align_by_distance
from emjax.inference.alignment import order_by as order_by
from emjax.inference.alignment import permute as permute
