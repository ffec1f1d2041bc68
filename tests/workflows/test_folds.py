from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from clinibundle.workflows.folds import NUMBER_OF_FOLDS, balanced_folds, fold_by_hash

STRATA = st.dictionaries(st.text(max_size=6), st.tuples(st.sampled_from("ms"), st.sampled_from(["no", "yes"])))


@given(strata=STRATA)
def test_folds_are_balanced_over_all_cases_and_over_each_stratum(strata):
    folds = balanced_folds(strata)
    assert folds.keys() == strata.keys()
    for stratum in {None, *strata.values()}:
        sizes = Counter(folds[name] for name in strata if stratum in (None, strata[name]))
        counts = [sizes.pop(fold, 0) for fold in range(NUMBER_OF_FOLDS)]
        assert not sizes
        assert max(counts) - min(counts) <= 1


@given(strata=STRATA, data=st.data())
def test_folds_do_not_depend_on_the_order_of_the_names(strata, data):
    shuffled = dict(data.draw(st.permutations(list(strata.items()))))
    assert balanced_folds(shuffled) == balanced_folds(strata)


def test_within_a_stratum_folds_do_not_follow_the_names_order():
    folds = balanced_folds({f"{number:03d}": ("one",) for number in range(50)})
    assert [folds[name] for name in sorted(folds)] != [place % NUMBER_OF_FOLDS for place in range(50)]


def test_folds_by_hash_are_the_same_on_every_machine():
    # SHA-256 by sha256sum, modulo 5 by bc: another rule would give a user's patients other folds after an update.
    assert [fold_by_hash(group) for group in ("a", "patient-7", "MCUCXR_0001_0", "Ä")] == [4, 0, 0, 2]
