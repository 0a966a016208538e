"""Header fields: each spelling of RFC 9110 is read as one value, and two values are not one."""

import pytest

from authapi.fields import bearer_token, elements, media_type, unquoted


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a\t,\tb ", ["a", "b"]),
        ("a, , b,", ["a", "", "b", ""]),
        ("a\x85,\xa0b", ["a\x85", "\xa0b"]),
        ("a b", ["a b"]),
    ],
)
def test_elements(value, found):
    """A list has its elements in order; space and tab around them are no part of them."""
    assert found == elements(value)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("", ""),
        ("a", "a"),
        ('""', ""),
        ('"a"', "a"),
        (r'"a\"b"', 'a"b'),
        (r'"a\\"', "a\\"),
        (r'"\a"', "a"),
        (r"a\b", r"a\b"),
    ],
)
def test_unquoted(text, content):
    """A quoted string is its content (RFC 9110, 5.6.4)."""
    assert content == unquoted(text)


@pytest.mark.parametrize("text", ['"', '"a', 'a"', '"a"b', '"a" "b"', '"a\\"'])
def test_a_quote_that_does_not_close(text):
    """Half a quoted string is refused."""
    with pytest.raises(ValueError, match="a quote that does not close"):
        unquoted(text)


JSON = "application/json"


@pytest.mark.parametrize(
    ("value", "kind", "parameters"),
    [
        (JSON, JSON, {}),
        ("Application/JSON", JSON, {}),
        (f" {JSON}\t", JSON, {}),
        (f"{JSON};charset=utf-8", JSON, {"charset": "utf-8"}),
        (f"{JSON} ;\tCharset=UTF-8", JSON, {"charset": "UTF-8"}),
        (f'{JSON}; charset="utf-8"', JSON, {"charset": "utf-8"}),
        (rf'{JSON}; charset="\utf\-8"', JSON, {"charset": "utf-8"}),
        (f'{JSON}; a=";b=c"; d=e', JSON, {"a": ";b=c", "d": "e"}),
        (f"{JSON};", JSON, {}),
        (f"{JSON}; ; charset=utf-8;", JSON, {"charset": "utf-8"}),
        ("application/problem+json", "application/problem+json", {}),
        # neither one value nor another
        (f"{JSON}, {JSON}", JSON, None),
        (f"{JSON};charset=utf-8, text/plain", JSON, None),
        (f"{JSON};charset=utf-8;charset=utf-8", JSON, None),
        (f"{JSON};charset=utf-8;CHARSET=latin-1", JSON, None),
        (f"{JSON};charset = utf-8", JSON, None),
        (f"{JSON};charset", JSON, None),
        (f"{JSON};charset=", JSON, None),
        (f'{JSON};charset="utf-8', JSON, None),
        (f'{JSON};charset="utf-8"x', JSON, None),
        (f"{JSON} charset=utf-8", JSON, None),
        (f"{JSON}\x85", JSON, None),
        (f"{JSON};\xa0charset=utf-8", JSON, None),
        (f"\xa0{JSON}", "", None),
        ("application /json", "", None),
        ("application", "", None),
        ("", "", None),
        (";charset=utf-8", "", None),
    ],
)
def test_media_type(value, kind, parameters):
    """A media type has any case, and its parameters any quoting; two of them are not one."""
    assert (kind, parameters) == media_type(value)


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer a.b-c_d~e+f/g==", "a.b-c_d~e+f/g=="),
        ("bearer x", "x"),
        ("BEARER x", "x"),
        ("Bearer   x", "x"),
        ("\tBearer x \t", "x"),
        # no token of RFC 6750, 2.1
        ("Bearer", ""),
        ("Bearer ", ""),
        ("Bearer\tx", None),
        ("Bearer \tx", ""),
        ("Bearer\xa0x", None),
        ("Bearer x\x85", ""),
        ("Bearer x y", ""),
        ("Bearer x, Bearer x", ""),
        ("Bearer x, Basic eDp5", ""),
        ("Basic eDp5, Bearer x", None),
        ('Bearer "x"', ""),
        ("Bearer =x", ""),
        ("Bearerx", None),
        ("Basic eDp5", None),
        ("", None),
    ],
)
def test_bearer_token(authorization, token):
    """The scheme has any case, spaces follow it, and what is no single token is empty."""
    assert token == bearer_token(authorization)
