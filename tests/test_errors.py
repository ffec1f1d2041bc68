import inspect

import pytest

from clinibundle import errors
from clinibundle.errors import ClinibundleError, did_you_mean

EXIT_CODES = {
    "ClinibundleError": 1,
    "UnreadableInput": 1,
    "UnsuitableInput": 1,
    "GeometryError": 1,
    "BundleError": 1,
    "DataFolderError": 1,
    "OutputError": 1,
    "MissingExtra": 1,
    "UsageError": 2,
    "NeedsTrust": 3,
    "Dangerous": 4,
}
REFUSALS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == errors.__name__
}


def test_every_refusal_has_the_exit_code_that_the_command_line_promises():
    assert {name: kind.exit_code for name, kind in REFUSALS.items()} == EXIT_CODES


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_caught_as_one_and_says_its_sentence(name):
    with pytest.raises(ClinibundleError) as refusal:
        raise REFUSALS[name]("found this, expected that, do so")
    assert str(refusal.value) == "found this, expected that, do so"


@pytest.mark.parametrize("name", [name for name in REFUSALS if name != "ClinibundleError"])
def test_every_refusal_stands_in_the_tree_at_the_top_of_the_module(name):
    assert f"── {name} " in errors.__doc__


def test_no_refusal_is_taken_for_damage():
    assert not [kind for kind in REFUSALS.values() if issubclass(kind, errors.DAMAGE)]
    assert not issubclass(KeyboardInterrupt, errors.DAMAGE)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("lung_xry", "lung_xray"), ("nucleii", "nuclei"), ("lung_xray", "lung_xray")],
)
def test_the_closest_known_word_is_offered(word, meant):
    assert did_you_mean(word, ["lung_xray", "lung_tumor_ct", "nuclei"]) == f" (did you mean '{meant}'?)"


@pytest.mark.parametrize("word", ["", "zebra", "x"])
def test_nothing_is_offered_where_nothing_is_close(word):
    assert did_you_mean(word, ["lung_xray", "nuclei"]) == ""


def test_known_words_may_be_any_collection():
    assert did_you_mean("nucleus", (word for word in ["nuclei"])) == " (did you mean 'nuclei'?)"
    assert did_you_mean("nucleus", {}) == ""
