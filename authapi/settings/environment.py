"""The environment: which of its variables are settings."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from authapi.settings.group import PREFIX

# The variables that Kubernetes sets in each pod for each service of the namespace ("Service", in
# "Discovering services"): with a service called authapi, or authapi-db, they begin as settings do.
_SERVICE_LINK = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINKED_PORT = re.compile(r"(\w+_)?PORT")
_LINKED_URL = re.compile(r"(tcp|udp|sctp)://.*")

logger = logging.getLogger("authapi.settings")


def read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of the settings that are set, by name without the prefix.

    An empty text counts as unset: that is what `AUTHAPI_X=${X:-}` in a compose file comes to.
    """
    ours = {
        name.removeprefix(PREFIX): text
        for name, text in environ.items()
        if name.startswith(PREFIX) and text
    }
    links = sorted(name for name, text in ours.items() if _is_service_link(name, text))
    if links:
        logger.warning(
            "%s%s%s ignored: Kubernetes sets them for a Service. Set enableServiceLinks: false "
            "in the pod, or give the Service another name",
            PREFIX,
            links[0],
            f" and {len(links) - 1} more are" if len(links) > 1 else " is",
        )
    return {name: text for name, text in ours.items() if name not in links}


def _is_service_link(name: str, text: str) -> bool:
    is_port = _LINKED_PORT.fullmatch(name) and _LINKED_URL.fullmatch(text)
    return bool(is_port or _SERVICE_LINK.fullmatch(name))
