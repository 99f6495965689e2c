"""Probabilistic latent semantic analysis, whose parameters have a row a document."""

import numpy as np

from emjax import PLSA, Data, PLSAParams
from tests.lanes import Case
from tests.oracle.plsa import PLSAProblem

ROOM, TOPICS, TERMS = 16, 2, 6
LENGTHS = np.array([40, 25, 60, 31, 55, 20, 0])  # tokens of each document; the last says nothing, its topics are even


def plsa_params(seed: int, of_documents: float, of_terms: float) -> PLSAParams:
    """Drawn rows of probabilities."""
    rng = np.random.default_rng(seed)
    topics = rng.dirichlet(np.full(TOPICS, of_documents), ROOM)
    topics[len(LENGTHS) - 1] = 1.0 / TOPICS
    return PLSAParams(topics, rng.dirichlet(np.full(TERMS, of_terms), TOPICS))


def plsa_case(name: str, temperature: float, identified: int) -> Case:
    """Two topics; the larger design has 600 tokens a document."""
    near, away = plsa_params(8, 2.0, 1.0), plsa_params(4, 20.0, 20.0)
    rng = np.random.default_rng(5)
    shares = near.topics_of_documents @ near.terms_of_topics
    counts = np.stack([rng.multinomial(length, share) for length, share in zip(LENGTHS, shares)]).astype(float)
    return Case(
        name=name,
        model=PLSA(TOPICS, temperature),
        data=Data(counts),
        near=near,
        away=away,
        oracle=PLSAProblem(counts, np.ones(len(counts)), 1.0 / temperature),
        n_free=ROOM * (TOPICS - 1) + TOPICS * (TERMS - 1),
        many=Data(np.full((ROOM, TERMS), 100.0), weight=np.ones(ROOM)),
        identified=identified,
    )


CASES: tuple[Case, ...] = (
    plsa_case("plsa", 1.0, ROOM * (TOPICS - 1) + TOPICS * (TERMS - 1) - TOPICS * (TOPICS - 1)),
    plsa_case("plsa-tempered", 1.25, 0),
)
