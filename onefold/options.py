"""Options of the command line that stand for settings, made from their table."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Optional

import typer

from onefold.settings import PLAIN, Setting, default_of, option

PANEL = "Settings, instead of those in FILE"
METAVARS = {
    "name": "NAME",
    "text": "TEXT",
    "path": "PATH",
    "address": "HOST:PORT",
    "endpoint": "HOST:PORT",
    "addresses": "HOST:PORT,…",
}


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, which takes `options` (texts by the settings' names), with an option for each setting in `PLAIN`."""

    @functools.wraps(command)
    def given(**parameters: Any) -> None:
        options = {s.name: _text(v) for s in PLAIN if (v := parameters.pop(_parameter(s))) is not None}
        command(**parameters, options=options)

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "options"]
    more = [
        inspect.Parameter(_parameter(setting), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_typed(setting))
        for setting in PLAIN
    ]
    given.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    given.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *more)}
    return given


def _parameter(setting: Setting) -> str:
    return f"setting_{setting.name.replace('.', '_')}"


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else "true" if value else "false"


def _typed(setting: Setting) -> Any:
    """All but switches are text here: `onefold.config` says what is wrong with a value, wherever it comes from."""
    help = f"{setting.help} [default: {default_of(setting)}]".replace("`", "")
    name = option(setting)
    if setting.kind == "switch":
        both = f"{name}/--no-{name.removeprefix('--')}"
        return Annotated[Optional[bool], typer.Option(both, help=help, rich_help_panel=PANEL)]  # noqa: UP045
    if setting.kind == "choice":
        metavar = "|".join(setting.choices)
    else:
        metavar = METAVARS.get(setting.kind) or setting.unit.upper() or "N"
    return Annotated[Optional[str], typer.Option(name, metavar=metavar, help=help, rich_help_panel=PANEL)]  # noqa: UP045
