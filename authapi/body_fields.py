"""Fields that several request bodies have, as the API document describes them.

NOTE: these bounds are checked by the rules of the operations, which say in a sentence what is
wrong. So they stand in the schema alone, and msgspec does not check them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Username = Annotated[
    str,
    Meta(
        description="1 to 80 letters, marks, digits, dots, underscores and hyphens, at least one "
        "letter or digit.",
        examples=["ada"],
        extra_json_schema={"minLength": 1, "maxLength": 80},
    ),
]
Email = Annotated[
    str,
    Meta(
        description="An email address with a domain in ASCII.",
        examples=["ada@example.com"],
        extra_json_schema={"format": "email", "maxLength": 254},
    ),
]
NewPassword = Annotated[
    str,
    Meta(
        description="8 characters or more (a setting), and not easy to guess.",
        examples=["first programmer 1843"],
        extra_json_schema={"format": "password", "minLength": 8, "maxLength": 1_024},
    ),
]
Password = Annotated[
    str,
    Meta(
        description="The current password.",
        examples=["first programmer 1843"],
        extra_json_schema={"format": "password"},
    ),
]
UsernameOrEmail = Annotated[
    str, Meta(description="An email if it has an @, else a username.", examples=["ada"])
]
MailedToken = Annotated[
    str, Meta(description="The token of the mailed link.", examples=["AbJ2m6Ew0"])
]
