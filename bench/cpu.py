"""How fast emjax is on this machine's CPU: against hand-written C, against one vmapped loop, and from a cold start.

    python bench/cpu.py [--only PART ...] [--quick]

prints Markdown tables; PART is one of the names below, --quick is for trying the benchmark, not for its figures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import _accelerated, _against_c, _first_fit, _precision, _scheduling, timing
from bench._yardstick import NoCompiler

PARTS = {
    "plain": ("a. Against C, plain EM, float64", _against_c.plain),
    "accelerated": ("b. Against C, with acceleration and racing", _accelerated.accelerated),
    "tail": ("c. A heavy-tailed batch, and one vmapped loop", _scheduling.tail),
    "scaling": ("d. Ten times the datasets", _scheduling.scaling),
    "precision": ("e. float32 and float64", _precision.precisions),
    "first-fit": ("f. The first fit in a fresh process", _first_fit.first_fit),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small batches and few rounds, in a minute or two a part")
    settings = parser.parse_args()
    print(f"{timing.machine()}{'; --quick' if settings.quick else ''}", flush=True)
    for name in settings.only:
        title, part = PARTS[name]
        print(f"\n### {title}\n", flush=True)
        try:
            for text in part(settings.quick):
                print(text, flush=True)
        except NoCompiler as error:
            print(error, flush=True)


if __name__ == "__main__":
    main()
