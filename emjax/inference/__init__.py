"""After a fit: putting the components of many fits in one order, and everything else that is asked of it."""

from emjax.inference.alignment import align_by_distance as align_by_distance
from emjax.inference.alignment import align_by_overlap as align_by_overlap
from emjax.inference.alignment import distances as distances
from emjax.inference.alignment import order_by as order_by
from emjax.inference.alignment import overlaps as overlaps
from emjax.inference.assignment import ambiguity as ambiguity
from emjax.inference.assignment import assign as assign
from emjax.inference.relabelling import permute as permute
