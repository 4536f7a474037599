import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from record_strategies import any_record

from palate.records import (
    RECORDS,
    Case,
    Comparison,
    Estimate,
    Judgement,
    Run,
    Sample,
    Score,
    Verdict,
    content_hash,
)

CASE = Case(suite="s", prompt="a red circle", tags={"subject": "shape", "count": "1"}, conditions={"a": "b", "c": "d"})
SAMPLE, COMPARISON = "sample-" + "0" * 24, "comparison-" + "0" * 24

FREE_TEXT = {
    "suite",
    "prompt",
    "system",
    "study",
    "annotator",
    "source",
    "policy",
    "scorer",
    "task",
    "code",
    "name",
    "metric",
}


@given(any_record())
@settings(max_examples=30)
def test_json_round_trip(record):
    kind = RECORDS[record.kind]
    for again in (kind.model_validate_json(record.model_dump_json()), kind.model_validate(record.model_dump())):
        assert again == record
        assert again.id == record.id
    assert RECORDS[record.id.split("-")[0]] is kind


def test_ids_do_not_depend_on_process_or_key_order():
    turned = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(CASE.model_dump(mode="json").items())
    }
    program = "import sys; from palate.records import Case; print(Case.model_validate_json(sys.stdin.read()).id)"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(turned),
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )
        assert done.stdout.strip() == CASE.id
    # Written down, because an id that changes makes every store unreadable.
    assert CASE.id == "case-2d6b4ec9e49963374a7f6474"


@given(any_record(), st.data())
@settings(max_examples=30)
def test_an_id_changes_with_every_field(record, data):
    content = record.model_dump(mode="json")
    field = data.draw(st.sampled_from(sorted(FREE_TEXT & content.keys())))
    assert type(record).model_validate({**content, field: content[field] + "."}).id != record.id


def test_the_hash_is_that_of_canonical_json():
    # printf '{"a":"é","b":1}' | sha256sum
    known = "aa58fba8483623bed37c1b02edfccbdd9a53123837c20bfa4cb4049993a2872e"
    assert content_hash({"b": 1, "a": "é"}) == known
    with pytest.raises(ValueError, match="Out of range"):
        content_hash(float("nan"))


def test_records_are_frozen_and_closed():
    with pytest.raises(ValidationError, match="frozen"):
        CASE.prompt = "another"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Case.model_validate({"suite": "s", "prompt": "p", "colour": "red"})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "make",
    [
        lambda number: Score(sample=SAMPLE, scorer="x", value=number),
        lambda number: Score(sample=SAMPLE, scorer="x", value=0.0, detail={"y": number}),
        lambda number: Sample(case=CASE.id, system="a", sampler={"scale": number}),
        lambda number: Estimate(value=number, low=0, high=1, n=1, method="m"),
    ],
)
def test_nan_and_infinity_are_refused(make, number):
    with pytest.raises(ValidationError):
        make(number)


@pytest.mark.parametrize("verdicts", [{}, {"overall": "good"}])
@pytest.mark.parametrize("skip", [None, "does not play"])
def test_verdicts_or_a_skip_and_not_both(verdicts, skip):
    content = {"comparison": COMPARISON, "annotator": "a", "simulated": False, "source": "t"}
    content |= {"verdicts": verdicts, "skip": skip}
    if bool(verdicts) != bool(skip):
        assert Judgement.model_validate(content).model_dump(mode="json").items() >= content.items()
    else:
        with pytest.raises(ValidationError, match="and not both"):
            Judgement.model_validate(content)


def test_what_is_not_known_needs_a_reason():
    with pytest.raises(ValidationError, match="skip needs a reason"):
        Judgement(comparison=COMPARISON, annotator="a", simulated=False, source="t", skip="")
    with pytest.raises(ValidationError, match="a value or a failure"):
        Score(sample=SAMPLE, scorer="x")
    with pytest.raises(ValidationError, match="must say why"):
        Estimate(value=1, low=None, high=None, n=1, method="m")
    with pytest.raises(ValidationError, match="two different samples"):
        Comparison(study="s", case=CASE.id, candidate=SAMPLE, baseline=SAMPLE, candidate_side=None)
    judged = {"comparison": COMPARISON, "annotator": "a", "simulated": False, "source": "t"}
    with pytest.raises(ValidationError, match="verdicts"):
        Judgement.model_validate({**judged, "verdicts": {"overall": "better"}})


@given(st.sampled_from(Verdict))
def test_verdicts_swap_back(verdict):
    assert verdict.swapped.swapped == verdict
    assert verdict.counted.swapped == verdict.swapped.counted


def test_a_changed_copy_has_an_id_of_its_own_and_is_checked():
    case = Case(suite="s", prompt="one")
    assert case.id != case.model_copy(update={"prompt": "two"}).id == Case(suite="s", prompt="two").id
    with pytest.raises(ValidationError):
        case.model_copy(update={"prompt": ""})


def test_a_run_refuses_what_json_cannot_say():
    with pytest.raises(ValidationError):
        Run(task="t", recipe={"lr": float("nan")}, code="c", seed=0)
