"""Labels of stored fits: components exchanged, put back and counted; factor loadings by sign, order and rotation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from emjax.studies import Results, labelling, loadings
from emjax.studies.records import Cell, Entry
from tests.study_cells import MOVES, Z, exchanged, figure, mixture_cell

# --- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("align", ["auto", "overlap", "distance", "order:means[0]", "order:scale"])
def test_labels_are_put_back(align: str) -> None:
    """Half of the replicates have their labels exchanged: everything moves together, and the truth stays."""
    own = mixture_cell(swapped=False, failures=False)
    (found,) = Results([mixture_cell(failures=False)], align=align).aligned
    used = np.ones(200, bool)
    if align == "order:scale":  # scales overlap: there the order decides, not what the truth was
        used = own.outcomes.estimate[:, 4] < own.outcomes.estimate[:, 5]
        assert 150 < np.sum(used) < 200
    for name in ("estimate", "se", "lower", "upper", "covariance", "truth"):
        np.testing.assert_array_equal(getattr(found.outcomes, name)[used], getattr(own.outcomes, name)[used], name)


def test_as_fitted_mixes_the_components() -> None:
    cell = mixture_cell(failures=False)
    (found,) = Results([cell], align=None).aligned
    np.testing.assert_array_equal(found.outcomes.estimate, cell.outcomes.estimate)
    assert figure(Results([cell], align=None).performance(["bias"]), "bias").estimate > 1.0


def test_distances_are_in_standard_errors() -> None:
    """A parameter that is known a hundred times less well must not decide, however far apart its estimates are."""
    cell = mixture_cell(swapped=False, failures=False)
    estimate, se, truth = (np.array(a) for a in (cell.outcomes.estimate, cell.outcomes.se, cell.outcomes.truth))
    estimate[:, [0, 1]], se[:, [0, 1]], truth[:, [0, 1]] = [9.0, 0.0], 100.0, [0.0, 9.0]
    cell = cell._replace(outcomes=cell.outcomes._replace(estimate=estimate, se=se, truth=truth))
    np.testing.assert_array_equal(Results([cell], align="distance").aligned[0].outcomes.estimate, estimate)


def test_the_size_of_an_error() -> None:
    """The median standard error of both components; without any, quartiles of their estimates; never 0."""
    cell = mixture_cell(swapped=False, failures=False)
    own = cell.outcomes
    assert labelling.names_of(cell) == ("weights", "means[0]", "scale")
    np.testing.assert_allclose(labelling.coordinates(cell)[2][1], np.median(own.se[:, [2, 3]]))
    without = cell._replace(outcomes=own._replace(se=np.full(own.se.shape, np.nan)))
    low, high = np.percentile(own.estimate[:, [2, 3]], [25, 75])
    np.testing.assert_allclose(labelling.coordinates(without)[2][1], (high - low) / 1.349)
    same = without._replace(outcomes=without.outcomes._replace(estimate=np.zeros(own.se.shape)))
    np.testing.assert_array_equal(labelling.coordinates(same)[2], 1.0)


def test_automatic_alignment_without_true_labels_is_by_distance() -> None:
    cell = mixture_cell(overlap=False)
    assert labelling.chosen(cell, "auto") == "distance"
    assert labelling.chosen(mixture_cell(), "auto") == "overlap"
    without = Results([cell]).aligned[0].outcomes
    np.testing.assert_array_equal(without.estimate, Results([cell], align="distance").aligned[0].outcomes.estimate)


def test_a_method_with_other_components_than_the_truth_is_left_as_fitted_and_the_report_says_so() -> None:
    cell = mixture_cell(overlap=False, method="other")
    other = cell._replace(outcomes=cell.outcomes._replace(truth=np.full((200, 7), np.nan)))
    made = Results([mixture_cell(), other])
    np.testing.assert_array_equal(made.aligned[1].outcomes.estimate, other.outcomes.estimate)
    assert "- other: components as they were fitted" in made.report()
    assert "- EM: components aligned by overlap" in made.report()


def test_methods_without_a_replicate_in_common_have_no_disagreement() -> None:
    cell = mixture_cell(method="later")
    later = cell._replace(outcomes=cell.outcomes._replace(replicate=np.arange(200, 400)))
    assert ("EM", "later") not in zip(
        *(Results([mixture_cell(), later]).disagreements()[n] for n in ("first", "second"))
    )


def test_order_follows_the_rank_of_the_truth() -> None:
    """True means 0 and 3 given as 3 and 0: the larger estimate belongs to component 0."""
    cell = exchanged(mixture_cell(swapped=False, failures=False), np.ones(200, bool))
    cell = cell._replace(outcomes=cell.outcomes._replace(truth=cell.outcomes.truth[:, MOVES[1, 0]]))
    (found,) = Results([cell], align="order:means[0]").aligned
    np.testing.assert_array_equal(found.outcomes.estimate, cell.outcomes.estimate)
    unknown = cell._replace(outcomes=cell.outcomes._replace(truth=np.full((200, 7), np.nan)))
    (found,) = Results([unknown], align="order:means[0]").aligned
    assert np.all(found.outcomes.estimate[:, 2] < found.outcomes.estimate[:, 3])


def three_components(n: int = 60) -> tuple[Cell, Cell]:
    """Means and the rows of a transition matrix of a chain, labels shuffled; and the cell before."""
    generator = np.random.default_rng(1)
    names = [("means[0]", k) for k in range(3)] + [(f"transition[{j}]", k) for k in range(3) for j in range(3)]
    entries = tuple(Entry(*name) for name in names)
    place = {entry: i for i, entry in enumerate(entries)}
    moves = {}
    for order in itertools.permutations(range(3)):
        own = [place[Entry("means[0]", order[k])] for k in range(3)]
        own += [place[Entry(f"transition[{order[j]}]", order[k])] for k in range(3) for j in range(3)]
        moves[order] = np.array(own)
    truth = np.concatenate([[0.0, 4.0, 8.0], np.arange(9.0) / 10])
    estimate = truth + 0.1 * generator.normal(size=(n, 12))
    base = mixture_cell(n=n, failures=False).outcomes
    parts = {"estimate": estimate, "se": np.abs(estimate), "lower": estimate - 1, "upper": estimate + 1}
    outcomes = base._replace(**parts, truth=np.tile(truth, (n, 1)), reason=np.zeros((n, 12), int))
    outcomes = outcomes._replace(covariance=np.zeros((n, 0, 0)), overlap=np.zeros((n, 0, 0)))
    plain = Cell({}, "EM", entries, moves, outcomes)
    shuffled = labelling.relabelled(plain, np.stack([generator.permutation(3) for _ in range(n)]))
    return plain, shuffled


def test_both_axes_of_a_transition_matrix_move() -> None:
    plain, shuffled = three_components()
    assert labelling.names_of(shuffled) == ("means[0]",)
    (found,) = Results([shuffled], align="distance").aligned
    for name in ("estimate", "se", "lower", "upper"):
        np.testing.assert_array_equal(getattr(found.outcomes, name), getattr(plain.outcomes, name))


def test_permutations_compose_to_the_identity() -> None:
    plain, _ = three_components()
    order = np.stack([np.random.default_rng(i).permutation(3) for i in range(60)])
    back = np.argsort(order, axis=1)
    there = labelling.relabelled(plain, order)
    assert not np.array_equal(there.outcomes.estimate, plain.outcomes.estimate)
    again = labelling.relabelled(there, back)
    np.testing.assert_array_equal(again.outcomes.estimate, plain.outcomes.estimate)


def test_a_component_that_keeps_its_place() -> None:
    """Noise is the third component and is never exchanged; moves of others are not there."""
    moves = {(0, 1, 2): MOVES[0, 1], (1, 0, 2): MOVES[1, 0]}
    cell = mixture_cell(failures=False)
    overlap = np.pad(cell.outcomes.overlap, ((0, 0), (0, 1), (0, 1)), constant_values=1e6)
    cell = cell._replace(moves=moves, outcomes=cell.outcomes._replace(overlap=overlap))
    assert labelling.n_exchangeable(cell) == 2
    expected = mixture_cell(swapped=False, failures=False).outcomes.estimate
    for align in ("overlap", "distance"):
        np.testing.assert_array_equal(Results([cell], align=align).aligned[0].outcomes.estimate, expected)


def test_how_often_alignments_and_methods_disagree() -> None:
    cell = mixture_cell(failures=False)
    overlap = np.array(cell.outcomes.overlap)
    overlap[:10] = overlap[:10, ::-1]  # ten replicates in which the true labels tell otherwise
    odd = cell._replace(outcomes=cell.outcomes._replace(overlap=overlap), method="odd")
    table = Results([cell, odd]).disagreements()
    found = {(a, b): (d, n) for a, b, d, n in zip(table["first"], table["second"], table["differ"], table["n_sim"])}
    assert found["EM: overlap", "EM: distance"] == (0, 200)
    assert found["odd: overlap", "odd: distance"] == (10, 200)
    assert found["EM", "odd"] == (10, 200)
    i = list(table["first"]).index("odd: overlap")
    assert table["estimate"][i] == 0.05
    assert table["lower"][i] < 0.05 < table["upper"][i]


# --- factor loadings ------------------------------------------------------------------------------------------------


def factors(n: int = 40) -> tuple[Cell, np.ndarray]:
    """Loadings (4, 2) with signs and order of the factors lost, and each fit's loadings before."""
    generator = np.random.default_rng(0)
    truth = np.array([[0.9, 0.1], [0.8, -0.2], [0.2, 0.7], [-0.1, 0.6]])
    names = [f"loadings[{i},{j}]" for i in range(4) for j in range(2)] + ["uniquenesses[0]"]
    before = truth + 0.05 * generator.normal(size=(n, 4, 2))
    sign, order = generator.choice([-1.0, 1.0], (n, 1, 2)), np.stack([generator.permutation(2) for _ in range(n)])
    fitted = np.take_along_axis(before, order[:, None, :], axis=2) * sign
    estimate = np.concatenate([fitted.reshape(n, 8), np.full((n, 1), 0.3)], axis=1)
    se = np.full((n, 9), 0.05)
    base = mixture_cell(n=n, failures=False).outcomes
    outcomes = base._replace(
        estimate=estimate,
        se=se,
        lower=estimate - 0.1,
        upper=estimate + 0.2,
        truth=np.tile(np.append(truth.ravel(), 0.3), (n, 1)),
        reason=np.zeros((n, 9), int),
        overlap=np.zeros((n, 0, 0)),
        covariance=np.zeros((n, 0, 0)),
    )
    cell = Cell({}, "ML", tuple(Entry(name, "all") for name in names), {(0,): np.arange(9)}, outcomes)
    return cell, before.reshape(n, 8)


def test_loadings_by_sign_and_order() -> None:
    cell, before = factors()
    (found,) = Results([cell]).aligned
    np.testing.assert_array_equal(found.outcomes.estimate[:, :8], before)
    low, high = found.outcomes.lower[:, :8] - before, found.outcomes.upper[:, :8] - before
    assert np.all(low < 0) and np.all(high > 0)  # a limit below became one above
    same = np.isclose(low, -0.1)
    np.testing.assert_allclose(np.where(same, high, -low), 0.2)
    assert 0.2 < np.mean(same) < 0.8
    np.testing.assert_array_equal(found.outcomes.estimate[:, 8], 0.3)
    assert "aligned to the true ones by signs" in Results([cell]).report()


def test_loadings_by_procrustes() -> None:
    """A rotation of the truth is turned back; with covariances of equal, independent errors SEs stay what they are."""
    cell, _ = factors()
    angle = np.linspace(0, 3, 40)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    truth = cell.outcomes.truth[0, :8].reshape(4, 2)
    estimate = np.array(cell.outcomes.estimate)
    estimate[:, :8] = (truth @ turn).reshape(40, 8)
    outcomes = cell.outcomes._replace(estimate=estimate)
    turned = loadings.aligned(cell._replace(outcomes=outcomes), "procrustes")
    np.testing.assert_allclose(turned.outcomes.estimate[:, :8], np.tile(truth.ravel(), (40, 1)), atol=1e-12)
    assert np.all(np.isnan(turned.outcomes.se[:, :8]))
    known = outcomes._replace(covariance=np.tile(0.05**2 * np.eye(9), (40, 1, 1)))
    turned = loadings.aligned(cell._replace(outcomes=known), "procrustes")
    np.testing.assert_allclose(turned.outcomes.se, 0.05)
    np.testing.assert_allclose(turned.outcomes.upper[:, :8] - turned.outcomes.estimate[:, :8], Z * 0.05)
    of_row = np.array([[4.0, 1.0], [1.0, 1.0]])  # of the two loadings of the first variable
    one = np.zeros((40, 9, 9))
    one[:, :2, :2] = of_row
    turned = loadings.aligned(cell._replace(outcomes=outcomes._replace(covariance=one)), "procrustes")
    expected = turn @ of_row @ np.swapaxes(turn, 1, 2)  # what was turned by R is turned back by R'
    np.testing.assert_allclose(turned.outcomes.covariance[:, :2, :2], expected, atol=1e-12)
    np.testing.assert_allclose(turned.outcomes.se[:, :2] ** 2, np.diagonal(expected, axis1=1, axis2=2))
