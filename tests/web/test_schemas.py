"""The body contract: which bytes name a task, and what is said of all others."""

import json

import pytest

from recoup.web.schemas import InvalidBody, read_task_id

TASK_ID = "0d9a3c1e-6a83-4b8c-9d52-6f2c4e1a7b10"
BODY = json.dumps({"id": TASK_ID})
NOT_JSON = ("Invalid JSON body", [])
NOT_AN_OBJECT = ("Body must be a JSON object", [])
MISSING = ("id is required", ["id"])
NOT_A_STRING = ("id must be a string", ["id"])
NOT_A_UUID = ("id must be a valid UUID", ["id"])


def refusal(body):
    """Return the message and the missing fields that *body* is refused with."""
    with pytest.raises(InvalidBody) as caught:
        read_task_id(body if isinstance(body, bytes) else body.encode())
    return str(caught.value), caught.value.missing_fields


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n", id="white space"),
        pytest.param(b"id=" + TASK_ID.encode(), id="a form"),
        pytest.param(BODY[:-1], id="cut off"),
        pytest.param(BODY + "x", id="trailing junk"),
        pytest.param(BODY + BODY, id="two values"),
        pytest.param(BODY.replace('"', "'"), id="single quotes"),
        pytest.param(f'{{"id": "{TASK_ID}",}}', id="trailing comma"),
        pytest.param(f'{{"id": "{TASK_ID}\n"}}', id="raw newline in a string"),
        pytest.param(BODY.encode() + b"\0", id="trailing NUL"),
    ],
)
def test_what_is_not_one_json_value_is_invalid_json(body):
    """Bytes that are no single JSON value are refused as such."""
    assert refusal(body) == NOT_JSON


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_json_does_not_have_are_invalid_json(constant):
    """Python's additions to JSON are refused, also in a key that is ignored otherwise."""
    assert refusal(constant) == NOT_JSON
    assert refusal(f'{{"id": "{TASK_ID}", "x": {constant}}}') == NOT_JSON


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_than_utf_8_are_invalid_json(encoding):
    """JSON in UTF-16 or UTF-32, with or without a byte order mark, is refused."""
    assert refusal(BODY.encode(encoding)) == NOT_JSON


@pytest.mark.parametrize("junk", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_invalid_utf_8_is_invalid_json(junk):
    """Bytes that are not UTF-8 are refused, also in a key that is ignored otherwise."""
    assert refusal(b'{"id": "' + TASK_ID.encode() + b'", "x": "' + junk + b'"}') == NOT_JSON


def test_a_utf_8_byte_order_mark_is_accepted():
    """One byte order mark may lead the body, as some programs write it; a second may not."""
    assert read_task_id(BODY.encode("utf-8-sig")) == TASK_ID
    assert refusal("\ufeff\ufeff" + BODY) == NOT_JSON


def outcome(body):
    """Return the task's id, or the message that *body* is refused with."""
    try:
        return read_task_id(body.encode())
    except InvalidBody as error:
        return str(error)


@pytest.mark.parametrize("depths", [range(1, 900, 50), range(995, 1201), [5_000, 100_000]])
def test_deep_nesting_is_ignored_or_refused_but_raises_nothing_else(depths):
    """However deep a value is nested, around Python's own limit too, it is never an error."""
    for nested in ("[" * depth + "]" * depth for depth in depths):
        assert outcome(nested) in ("Body must be a JSON object", "Invalid JSON body")
        assert outcome(f'{{"id": "{TASK_ID}", "x": {nested}}}') in (TASK_ID, "Invalid JSON body")


def test_nesting_without_end_is_invalid_json():
    """A hundred thousand brackets that never close are refused like any other junk."""
    assert refusal("[" * 100_000) == NOT_JSON
    assert refusal('{"id":' * 100_000) == NOT_JSON


def test_an_integer_longer_than_python_reads_is_invalid_json():
    """Python reads integers of up to 4300 digits; a longer one is refused."""
    assert refusal(f'{{"id": "{TASK_ID}", "x": {"9" * 4301}}}') == NOT_JSON
    assert refusal("9" * 5000) == NOT_JSON


@pytest.mark.parametrize("body", ["null", "true", "5", "1e400", '"x"', f'"{TASK_ID}"', "[]"])
def test_what_is_not_an_object_has_no_missing_field(body):
    """A JSON value of another type is refused as a whole."""
    assert refusal(body) == NOT_AN_OBJECT


def test_a_list_of_a_good_body_is_not_an_object():
    """A body in brackets is one task's no longer."""
    assert refusal(f"[{BODY}]") == NOT_AN_OBJECT


@pytest.mark.parametrize("key", ["ID", "Id", "task_id", " id", "_schema"])
def test_a_missing_id_is_named(key):
    """A body without the key `id`, spelled so, is told what it lacks."""
    assert refusal("{}") == MISSING
    assert refusal(json.dumps({key: TASK_ID})) == MISSING


@pytest.mark.parametrize("value", [None, 0, 5, 1.5, 10**40, True, False, [], [TASK_ID], {}])
def test_an_id_of_another_type_is_not_a_string(value):
    """An id that is no JSON string is told so, whatever it holds."""
    assert refusal(json.dumps({"id": value})) == NOT_A_STRING


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("x", id="a word"),
        pytest.param(f"{{{TASK_ID}}}", id="braces"),
        pytest.param(f"urn:uuid:{TASK_ID}", id="urn"),
        pytest.param(TASK_ID.replace("-", ""), id="no hyphens"),
        pytest.param("0d9a-3c1e6a83-4b8c-9d52-6f2c4e1a7b10", id="misplaced hyphen"),
        pytest.param("0d9a3c1e6a83-4b8c-9d52--6f2c4e1a7b10", id="doubled hyphen"),
        pytest.param(TASK_ID.replace("-", "\u2010"), id="another hyphen"),
        pytest.param(TASK_ID.replace("0", "\uff10"), id="full-width digits"),
        pytest.param(TASK_ID.replace("0", "\u0660"), id="arabic digits"),
        pytest.param(TASK_ID.replace("a", "\uff41"), id="full-width letters"),
        pytest.param(TASK_ID.replace("a", "g"), id="not hex"),
        pytest.param(TASK_ID + "\n", id="trailing newline"),
        pytest.param("\n" + TASK_ID, id="leading newline"),
        pytest.param(" " + TASK_ID, id="leading space"),
        pytest.param(TASK_ID + " ", id="trailing space"),
        pytest.param(TASK_ID[:-1] + "\ud800", id="lone surrogate in it"),
        pytest.param(TASK_ID + "\ud800", id="lone surrogate after it"),
        pytest.param(TASK_ID[:-1] + "\0", id="NUL in it"),
        pytest.param(TASK_ID + "\0", id="NUL after it"),
        pytest.param(TASK_ID + "-", id="trailing hyphen"),
        pytest.param(TASK_ID + "}", id="trailing brace"),
        pytest.param(TASK_ID[:-1], id="too short"),
        pytest.param(TASK_ID + "0", id="too long"),
        pytest.param(TASK_ID * 1000, id="many"),
    ],
)
def test_an_id_that_is_no_canonical_uuid_is_not_valid(text):
    """What isn't 8-4-4-4-12 ASCII hex digits is refused, though `uuid.UUID` may take it."""
    assert refusal(json.dumps({"id": text})) == NOT_A_UUID


@pytest.mark.parametrize("text", ["🦊" * 12, "'; DROP TABLE scheduled_actions; --", "<b>"])
def test_a_refusal_never_repeats_the_value(text):
    """The message is a fixed sentence, so that nothing of the caller's comes back in it."""
    assert refusal(json.dumps({"id": text}, ensure_ascii=False)) == NOT_A_UUID


def test_upper_case_is_accepted_and_lowered():
    """Letters of either case name the same task, which is always asked for in lower case."""
    assert read_task_id(BODY.upper().replace("ID", "id").encode()) == TASK_ID
    mixed = TASK_ID[:20].upper() + TASK_ID[20:]
    assert read_task_id(json.dumps({"id": mixed}).encode()) == TASK_ID


@pytest.mark.parametrize(
    "text",
    [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "0d9a3c1e-6a83-0b8c-1d52-6f2c4e1a7b10",
        "0d9a3c1e-6a83-fb8c-fd52-6f2c4e1a7b10",
    ],
)
def test_every_version_and_variant_is_accepted(text):
    """A column of type uuid holds any of them, so any of them can name a task."""
    assert read_task_id(json.dumps({"id": text}).encode()) == text


def test_escapes_in_a_string_count_as_what_they_stand_for():
    """`\\u0030` is the digit 0 to any JSON parser."""
    assert read_task_id(BODY.replace("0", "\\u0030").encode()) == TASK_ID


@pytest.mark.parametrize("value", [1, None, "\ud800", "\0", {"id": "x"}, [[]], 1e300])
def test_unknown_keys_are_ignored(value):
    """Keys that the contract doesn't know don't matter, whatever they hold."""
    body = {"account_id": value, "\ud800": value, "id": TASK_ID, "_schema": value}
    assert read_task_id(json.dumps(body).encode()) == TASK_ID


def test_of_duplicate_keys_the_last_wins():
    """A key that comes twice counts as its last value, as in the program before us."""
    assert read_task_id(f'{{"id": 5, "id": "{TASK_ID}"}}'.encode()) == TASK_ID
    assert refusal(f'{{"id": "{TASK_ID}", "id": 5}}') == NOT_A_STRING


def test_white_space_around_the_value_is_accepted():
    """A body may end with a newline, as files do."""
    assert read_task_id(f"\r\n\t {BODY}\n".encode()) == TASK_ID
