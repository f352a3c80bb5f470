"""Secrets kept out of what is shown, also where another's message repeats one."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from tracing.cli.findings import Finding, Section
from tracing.export.address import told

_SECRET: Final = re.compile(r"KEY$|SECRET|TOKEN|PASSWORD|HEADERS$")
_FILES: Final = re.compile(r"CLIENT_KEY$|REDACT_KEYS$")  # paths, and names of keys
_ADDRESS: Final = re.compile(r"(?:HOST|URL|ENDPOINT|PROXY)$", re.I)
_KNOWN: Final = re.compile(r"^(?:pk-lf-|sk-lf-|pk-|sk-)")
_LONG: Final = 16
"""Characters of a secret from which on its last four may be shown."""
_LEAST: Final = 6
"""Characters of a secret that is looked for in texts."""


def is_secret(variable: str) -> bool:
    """Tell whether the value of an environment variable is nobody's business."""
    return bool(_SECRET.search(variable)) and not _FILES.search(variable)


def shown(variable: str, value: str) -> str:
    """Return the value of an environment variable as it may be seen."""
    if variable.endswith("HEADERS"):
        names = [part.partition("=")[0].strip() for part in value.split(",")]
        return ", ".join(f"{name}=…" for name in names if name)
    if is_secret(variable):
        return masked(value)
    if "://" in value or _ADDRESS.search(variable):
        return told(value)
    return value


def masked(secret: str) -> str:
    """Return the beginning that tells the kind of a key, and its last four characters."""
    known = _KNOWN.match(secret)
    tail = secret[-4:] if len(secret) >= _LONG else ""
    return f"{known[0] if known else ''}…{tail}"


class Veil:
    """Takes secrets out of findings.

    Args:
        environ: Environment variables, among them those that are secret.
        more: Other secrets, such as the values of a target's headers.
    """

    def __init__(self, environ: Mapping[str, str], more: Iterable[str] = ()) -> None:
        found = {value for name, value in environ.items() if is_secret(name)}
        found.update(_header_values(environ))
        public, secret = (environ.get(f"LANGFUSE_{kind}_KEY", "") for kind in ("PUBLIC", "SECRET"))
        found.add(base64.b64encode(f"{public}:{secret}".encode()).decode())
        for value in [*more]:
            found.update((value, value.rpartition(" ")[2]))
        secrets = (value for value in found if len(value) >= _LEAST)
        self._secrets = sorted(secrets, key=len, reverse=True)

    def over(self, section: Section) -> Section:
        """Return *section* without them."""
        return Section(
            self.text(section.title),
            [
                Finding(self.text(one.label), self.text(one.text), one.level, self.text(one.fix))
                for one in section.findings
            ],
        )

    def text(self, text: str) -> str:
        """Return *text* without them."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text


def _header_values(environ: Mapping[str, str]) -> Iterator[str]:
    for name, text in environ.items():
        if name.endswith("HEADERS"):
            for part in text.split(","):
                value = part.partition("=")[2].strip()
                for form in (value, unquote(value)):
                    yield from (form, form.rpartition(" ")[2])
