"""Names: what is built can be taken apart, and nothing else can."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infermesh import names
from infermesh.errors import InvalidInput

ENDS = st.sampled_from("az09")
IDS = st.builds("{}{}{}".format, ENDS, st.text("ab9_-.", max_size=61), ENDS).filter(lambda text: ".." not in text)
VERSIONS = st.integers(1, 10**17)


@given(IDS, VERSIONS, IDS)
def test_names_are_taken_apart_as_they_were_built(model: str, version: int, other: str) -> None:
    assert names.parse("models/*", names.model_name(model)) == (model,)
    assert names.parse("models/*/versions/*", names.version_name(model, version)) == (model, str(version))
    assert names.parse("models/*/aliases/*", names.alias_name(model, other)) == (model, other)
    assert names.parse("deployments/*", names.deployment_name(other)) == (other,)
    assert names.parse("workers/*", names.worker_name(other)) == (other,)
    assert names.parse_target(names.target_of(other, str(version))) == (other, str(version))


@given(st.text(max_size=80))
def test_ids_are_checked_as_the_contract_says(text: str) -> None:
    good = (
        0 < len(text) <= 63
        and all(c in "abcdefghijklmnopqrstuvwxyz0123456789-_." for c in text)
        and text[0].isalnum()
        and text[-1].isalnum()
        and ".." not in text
    )
    if good:
        assert names.check_id("model", text) == text
    else:
        with pytest.raises(InvalidInput, match="model id"):
            names.check_id("model", text)


@pytest.mark.parametrize("bad", ["", "A", "-a", "a-", "a/b", "a..b", "a b", "ä", "a\n", "a" * 64, "../etc", "²"])
def test_ids_that_are_none(bad: str) -> None:
    with pytest.raises(InvalidInput):
        names.check_id("model", bad)
    with pytest.raises(InvalidInput):
        names.check_alias(bad)


@pytest.mark.parametrize("bad", ["1", "007", "latest", "none"])
def test_aliases_that_mean_something_else(bad: str) -> None:
    with pytest.raises(InvalidInput, match="meaning of their own"):
        names.check_alias(bad)
    assert names.check_id("model", bad) == bad


@given(st.text(max_size=20))
def test_versions_are_positive_decimal_numbers(text: str) -> None:
    expected = text.isascii() and text.isdigit() and len(text) <= 18 and not text.startswith("0")
    assert names.is_version(text) is (expected and text != "")


def test_a_version_fits_64_bits() -> None:
    assert names.is_version("9" * 18)
    assert not names.is_version("9" * 19)


@pytest.mark.parametrize(
    "bad",
    ["", "md5:" + "0" * 64, "sha256:" + "0" * 63, "sha256:" + "A" * 64, "sha256:" + "0" * 64 + "\n", "0" * 64],
)
def test_digests_that_are_none(bad: str) -> None:
    with pytest.raises(InvalidInput, match="digest"):
        names.check_digest(bad)


@given(st.binary(min_size=32, max_size=32))
def test_digests(raw: bytes) -> None:
    assert names.check_digest("sha256:" + raw.hex()) == "sha256:" + raw.hex()


@pytest.mark.parametrize(
    ("pattern", "bad"),
    [
        ("models/*", "deployments/a"),
        ("models/*", "models/"),
        ("models/*", "models/a/"),
        ("models/*", "/models/a"),
        ("models/*", "models/a/versions/1"),
        ("models/*/versions/*", "models/a/versions/"),
        ("models/*/versions/*", "models/../versions/1"),
        ("models/*/versions/*", "models/a/aliases/prod"),
        ("models/*", "*"),
        ("models/*", "models/*"),
    ],
)
def test_names_of_another_form(pattern: str, bad: str) -> None:
    with pytest.raises(InvalidInput):
        names.parse(pattern, bad)


@given(st.sampled_from(["models/*", "models/*/aliases/*", "workers/*"]), st.text(max_size=60))
def test_whatever_comes_is_a_name_or_invalid_input(pattern: str, text: str) -> None:
    try:
        ids = names.parse(pattern, text)
    except InvalidInput:
        return
    rest = iter(ids)
    assert "/".join(next(rest) if part == "*" else part for part in pattern.split("/")) == text


@pytest.mark.parametrize(
    ("pattern", "name", "kind"),
    [
        ("models/*", "models/A", "model"),
        ("models/*/versions/*", "models/a/versions/A", "version"),
        ("models/*/aliases/*", "models/a/aliases/A", "alias"),
        ("deployments/*", "deployments/A", "deployment"),
        ("workers/*", "workers/A", "worker"),
        ("uploads/*", "uploads/A", "upload"),
    ],
)
def test_the_malformed_part_is_named(pattern: str, name: str, kind: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{kind} id: ") as caught:
        names.parse(pattern, name)
    assert caught.value.violations[0][0] == f"{kind}_id"


@given(IDS, IDS)
def test_targets_of_different_deployments_differ(one: str, other: str) -> None:
    assume(one != other)
    assert names.target_of(one, "1") != names.target_of(other, "1")
