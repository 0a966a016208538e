"""Write docs/openapi.json: the API document of a service whose features are all on."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from authapi import AuthAPI, Settings, create_app
from authapi.openapi import document

PLACE = Path(__file__).parents[1] / "docs" / "openapi.json"
ALL_ON = {  # what turns on the features that are off by default
    "mail_url": "console:",
    "mail_from": "noreply@example.com",
    "pages_url": "https://app.example.com",
    "mail_login": "on",
}


# Settings that choose other responders of a route.
OTHERS: tuple[dict[str, str], ...] = ({"email_verification": "required"},)


def application(folder: str, **settings: str) -> AuthAPI:
    """Return an application with all features, on a database in a folder."""
    values = {**ALL_ON, **settings}
    return create_app(Settings(database_url=f"sqlite:///{folder}/authapi.db", **values))


def text_of(made: dict[str, Any]) -> str:
    """Return a document as a text whose changes can be read line by line."""
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        app, *others = application(folder), *(application(folder, **each) for each in OTHERS)
        PLACE.write_text(text_of(document(app, others=others)), encoding="utf-8")
        for each in (app, *others):
            each.close()


if __name__ == "__main__":
    main()
