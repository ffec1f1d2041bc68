from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from clinibundle.dicom.index import Index, Instance, Skipped
from clinibundle.dicom.rules import DicomWishes, Rule
from clinibundle.dicom.select import choose, judge
from clinibundle.errors import UnreadableInput, UnsuitableInput

MODALITY = Rule(name="modality", keywords=["Modality"], accept=["CR", "DX"], missing="refused", why="a film is wanted")
VIEW = Rule(name="view", keywords=["ViewPosition"], accept=["PA", "AP"], prefer=["PA"])
WORDS = Rule(
    name="description",
    keywords=["SeriesDescription", "StudyDescription"],
    refuse_words=["lateral", "lat", "cat", "lumbar spine"],
    missing="fits",
)
RULES = [MODALITY, VIEW, WORDS]


def picture(name="film", **header):
    dataset = Dataset()
    # Values in other cases and letters in a UID are no valid DICOM, and met all the same.
    with disable_value_validation():
        dataset.SeriesInstanceUID = f"1.2.3.{name.encode().hex()}"
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
    return Instance(Path(name), name, dataset)


def index(*pictures, skipped=()):
    return Index(pictures, tuple(skipped))


def wishes(*rules):
    return DicomWishes(object="radiograph", rules=list(rules or RULES))


def reason(rule, **header):
    (only,) = judge(picture(**header), [rule]).reasons
    return only


@pytest.mark.parametrize(
    ("rule", "value", "verdict", "text"),
    [
        (VIEW, "PA", "preferred", "ViewPosition is PA"),
        (VIEW, "pa", "preferred", "ViewPosition is pa"),
        (VIEW, "AP", "fits", "ViewPosition is AP"),
        (VIEW, "LL", "refused", "ViewPosition is LL, expected PA or AP"),
        (VIEW, "", "unknown", "ViewPosition is not given"),
        (VIEW, None, "unknown", "ViewPosition is not given"),
        (VIEW.model_copy(update={"otherwise": "doubtful"}), "LL", "doubtful", "ViewPosition is LL, expected PA or AP"),
        (VIEW.model_copy(update={"missing": "refused"}), None, "refused", "ViewPosition is not given"),
        (VIEW.model_copy(update={"missing": "fits"}), None, "fits", "ViewPosition is not given"),
        (VIEW.model_copy(update={"why": "so"}), "LL", "refused", "ViewPosition is LL, expected PA or AP (so)"),
        (VIEW.model_copy(update={"accept": []}), "LL", "fits", "nothing speaks against it"),
    ],
)
def test_each_verdict_comes_with_its_reason(rule, value, verdict, text):
    found = reason(rule, ViewPosition=value) if value is not None else reason(rule)
    assert (found.verdict, found.text) == (verdict, text)


def test_a_refusal_names_three_of_many_accepted_values():
    rule = Rule(name="part", keywords=["BodyPartExamined"], accept=["CHEST", "THORAX", "LUNG", "RIBS"])
    assert reason(rule, BodyPartExamined="KNEE").text.endswith("expected CHEST or THORAX or LUNG or the like")


@pytest.mark.parametrize(
    "text",
    [
        "lateral",
        "LATERAL",
        "Thorax Lateral",
        "chest (lat)",
        "CHEST_LAT",
        "pa+lat",
        "LAT2",
        "thorax lat.",
        "Lumbar Spine",
    ],
)
def test_refused_words_count_wherever_they_stand_and_in_any_case(text):
    found = reason(WORDS, SeriesDescription="", StudyDescription=text)
    assert found.verdict == "refused"
    assert found.text.startswith("its description says '")


@pytest.mark.parametrize(
    "text",
    ["collateral", "Platform PA", "bilateral", "relative", "latest", "catheter", "lumbar", "Torax catéter", "Latérna"],
)
def test_refused_words_count_only_as_whole_words(text):
    assert reason(WORDS, SeriesDescription=text).verdict == "fits"


def test_a_refused_word_outweighs_an_accepted_value():
    rule = Rule(name="view", keywords=["ViewPosition"], accept=["PA LAT"], refuse_words=["LAT"])
    assert reason(rule, ViewPosition="PA LAT").verdict == "refused"


def test_all_values_of_all_keywords_are_looked_at():
    rule = Rule(name="type", keywords=["ImageType", "SeriesDescription"], refuse_words=["localizer"], missing="fits")
    assert reason(rule, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]).verdict == "refused"
    assert reason(rule, ImageType=["ORIGINAL", "PRIMARY"], SeriesDescription="a Localizer").verdict == "refused"
    assert reason(rule, ImageType=["ORIGINAL", "PRIMARY"]).verdict == "fits"


def test_the_reasons_become_checks_and_doubt_becomes_a_warning():
    checks = judge(picture(Modality="DX"), RULES).checks()
    assert [(check.name, check.status, check.value) for check in checks] == [
        ("modality", "passed", "DX"),
        ("view", "warning", None),
        ("description", "passed", None),
    ]


def test_preferred_beats_fits_beats_unknown_beats_doubtful():
    doubtful = VIEW.model_copy(update={"otherwise": "doubtful"})
    candidates = [
        picture("doubtful", Modality="DX", ViewPosition="XX"),
        picture("unknown", Modality="DX"),
        picture("fits", Modality="DX", ViewPosition="AP"),
        picture("preferred", Modality="DX", ViewPosition="PA"),
    ]
    for best in ("preferred", "fits", "unknown", "doubtful"):
        choice = choose(index(*candidates), wishes(MODALITY, doubtful))
        assert choice.chosen.instance.name == best
        assert choice.candidates[0] is choice.chosen
        candidates.pop()


def test_refused_candidates_are_listed_last():
    choice = choose(
        index(picture("ct", Modality="CT", ViewPosition="PA"), picture("film", Modality="DX", ViewPosition="AP")),
        wishes(),
    )
    assert [candidate.instance.name for candidate in choice.candidates] == ["film", "ct"]
    assert [r.text for r in choice.candidates[1].refusals] == ["Modality is CT, expected CR or DX (a film is wanted)"]


def test_one_picture_that_is_refused_says_why():
    with pytest.raises(UnsuitableInput, match=r"does not suit this bundle: Modality is CT, expected CR or DX"):
        choose(index(picture(Modality="CT")), wishes())


def test_several_refused_pictures_say_each_reason_once():
    pictures = [
        picture("a", Modality="CT"),
        picture("b", Modality="CT"),
        picture("c", Modality="DX", ViewPosition="LL"),
    ]
    with pytest.raises(UnsuitableInput) as refusal:
        choose(index(*pictures), wishes())
    assert str(refusal.value) == (
        "none of the 3 pictures suits this bundle: Modality is CT, expected CR or DX (a film is wanted); "
        "ViewPosition is LL, expected PA or AP"
    )


def test_series_that_fit_equally_well_are_refused_with_their_uids():
    pictures = [picture("b", Modality="DX"), picture("a", Modality="CR"), picture("ct", Modality="CT")]
    with pytest.raises(UnsuitableInput) as refusal:
        choose(index(*pictures), wishes())
    assert str(refusal.value) == (
        f"2 series fit equally well; choose one with --series: 1.2.3.{b'a'.hex()}, 1.2.3.{b'b'.hex()}"
    )


def test_pictures_of_one_series_that_fit_equally_well_are_refused_with_their_names():
    pictures = [picture("one", Modality="DX"), picture("two", Modality="DX")]
    for each in pictures:
        each.header.SeriesInstanceUID = "1.2.3"
    with pytest.raises(UnsuitableInput, match=r"2 pictures of one series fit equally well \(one, two\); name the file"):
        choose(index(*pictures), wishes())


def test_a_named_series_is_chosen_though_another_fits_better():
    pictures = [picture("best", Modality="DX", ViewPosition="PA"), picture("wanted", Modality="DX", ViewPosition="AP")]
    choice = choose(index(*pictures), wishes(), pictures[1].header.SeriesInstanceUID)
    assert choice.chosen.instance.name == "wanted"
    assert len(choice.candidates) == 1


def test_a_named_series_is_still_judged():
    pictures = [picture("film", Modality="DX"), picture("ct", Modality="CT")]
    with pytest.raises(UnsuitableInput, match="Modality is CT"):
        choose(index(*pictures), wishes(), pictures[1].header.SeriesInstanceUID)


def test_a_series_that_is_not_there_is_refused():
    with pytest.raises(UnsuitableInput, match=r"no series 9\.9 in the input; leave out --series"):
        choose(index(picture(Modality="DX")), wishes(), "9.9")


@pytest.mark.parametrize(
    ("skipped", "words"),
    [
        ([], "the folder is empty: expected DICOM files or pictures"),
        ([Skipped("a.txt", "it is text")], "'a.txt' cannot be used: it is text"),
        (
            [Skipped("a.txt", "it is text"), Skipped("b", "it is rubbish")],
            "none of the 2 files is a DICOM image; the first, 'a.txt': it is text",
        ),
    ],
)
def test_without_any_picture_the_refusal_says_what_was_there(skipped, words):
    with pytest.raises(UnreadableInput) as refusal:
        choose(index(skipped=skipped), wishes())
    assert str(refusal.value) == words


def test_candidates_are_shown_by_the_end_of_their_series_uid():
    one = picture(Modality="DX")
    one.header.SeriesInstanceUID = "1.2.840.113619.2.12345678"
    assert judge(one, RULES).series == "…12345678"


def test_a_misspelt_key_of_a_rule_is_refused():
    with pytest.raises(ValidationError, match="prefers"):
        Rule(name="view", keywords=["ViewPosition"], prefers=["PA"])
