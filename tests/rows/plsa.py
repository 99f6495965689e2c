"""Probabilistic latent semantic analysis, whose parameters have a row a document."""

import numpy as np

from emjax import PLSA, Data, PLSAParams
from tests.lanes import Case
from tests.oracle.plsa import PLSAProblem
from tests.rows.common import weighted

ROOM, TERMS = 16, 6
LENGTHS = np.array([40, 25, 60, 31, 55, 20, 0])  # tokens of each document; the last says nothing, its topics are even


def plsa_params(seed: int, topics: int, of_documents: float, of_terms: float) -> PLSAParams:
    """Drawn rows of probabilities."""
    rng = np.random.default_rng(seed)
    documents = rng.dirichlet(np.full(topics, of_documents), ROOM)
    documents[len(LENGTHS) - 1] = 1.0 / topics
    return PLSAParams(documents, rng.dirichlet(np.full(TERMS, of_terms), topics))


def plsa_case(name: str, topics: int, temperature: float = 1.0) -> Case:
    """Documents counted as often as their weights say; the larger design has 600 tokens a document."""
    near, away = plsa_params(8, topics, 2.0, 1.0), plsa_params(4, topics, 20.0, 20.0)
    rng = np.random.default_rng(5)
    shares = near.topics_of_documents @ near.terms_of_topics
    counts = np.stack([rng.multinomial(length, share) for length, share in zip(LENGTHS, shares)]).astype(float)
    n_free = ROOM * (topics - 1) + topics * (TERMS - 1)
    data, weight, _ = weighted(Data(counts), True)
    return Case(
        name=name,
        model=PLSA(topics, temperature),
        data=data,
        near=near,
        away=away,
        oracle=PLSAProblem(counts, weight, 1.0 / temperature),
        n_free=n_free,
        many=Data(np.full((ROOM, TERMS), 100.0), weight=np.ones(ROOM)),
        identified=n_free - topics * (topics - 1) if temperature == 1.0 else 0,
    )


CASES: tuple[Case, ...] = (
    plsa_case("plsa", topics=2),
    plsa_case("plsa-tempered", topics=3, temperature=1.25),
)
