"""Settings given beside `node.toml`: as environment variables (`ONEFOLD_QUIET_MS`) and as options of `onefold run`
(`--quiet-ms`). An option wins over a variable, a variable over the file, the file over the default.

Both are text, and mean what the same setting means in the file; relative paths count from the working directory. The
supervisor hands its options on to its children as variables.

The supervisor, which stays resident, imports this: only light modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from onefold.errors import BadSetting
from onefold.settings import BY_NAME, BY_OPTION, BY_VARIABLE, PLAIN, VARIABLE_PREFIX, Setting, option, variable

OTHERS = frozenset(
    (
        "ONEFOLD_CONFIG",  # the file itself (`onefold.find`)
        # what the tests are told
        "ONEFOLD_CHURN_SECONDS",
        "ONEFOLD_EXAMPLES",
        "ONEFOLD_MODEL_EXAMPLES",
        "ONEFOLD_SEED",
        "ONEFOLD_SIMULATION_SECONDS",
        # what a hook is told, which may call us
        "ONEFOLD_HOOK",
        "ONEFOLD_INDEX",
        "ONEFOLD_NODE",
        "ONEFOLD_PATHS",
        "ONEFOLD_PATHS_COUNT",
        "ONEFOLD_PATHS_FILE",
    )
)
"""Variables of ours that are no settings."""

SERVICE = re.compile(r"ONEFOLD(_[A-Z0-9]+)*_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""What Kubernetes tells every container about a service called `onefold`, or `onefold-…`."""

CONFIG = "--config"
SWITCHES = {
    f"--{no}{option(setting).removeprefix('--')}": (setting.name, text)
    for setting in PLAIN
    if setting.kind == "switch"
    for no, text in (("", "true"), ("no-", "false"))
}
"""Options without a value: the setting of each, and the value that it stands for."""

TRUE, FALSE = frozenset(("true", "yes", "on", "1")), frozenset(("false", "no", "off", "0"))


class Origin(NamedTuple):
    """Where a value comes from. `kind` is "default", "file", "environment" or "option"; `name` is the setting's there
    (of the file: its path)."""

    kind: str
    name: str = ""


DEFAULT = Origin("default")


class Given(NamedTuple):
    """A value as the file would hold it, and where it comes from."""

    raw: Any
    origin: Origin


def from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    """The settings in `environment`, by name. Raises `BadSetting` for a variable that looks like one and is none."""
    found = {}
    for name, text in environment.items():
        if name in BY_VARIABLE:
            setting = BY_VARIABLE[name]
            found[setting.name] = Given(raw(setting, text), Origin("environment", name))
        elif name.startswith(VARIABLE_PREFIX) and name not in OTHERS and not SERVICE.fullmatch(name):
            raise _unknown(name)
    return found


def from_options(options: Mapping[str, str]) -> dict[str, Given]:
    """The settings in `options`: texts by the names of their settings."""
    found = {}
    for name, text in options.items():
        setting = BY_NAME[name]
        value = raw(setting, text)
        shown = option(setting)
        found[name] = Given(value, Origin("option", f"--no-{shown.removeprefix('--')}" if value is False else shown))
    return found


def as_environment(options: Mapping[str, str]) -> dict[str, str]:
    """`options` as the variables that say the same."""
    return {variable(BY_NAME[name]): text for name, text in options.items()}


def parse(arguments: Sequence[str]) -> tuple[str, dict[str, str]] | None:
    """What `--config` and the options of settings in `arguments` say; None when that is not all, or something is wrong:
    then it is for the command line, which explains itself."""
    config: str | None = None
    options: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        name, equals, text = word.partition("=")
        if name in SWITCHES and not equals:
            setting, text = SWITCHES[name]
            options[setting] = text
            continue
        if name != CONFIG and (name not in BY_OPTION or BY_OPTION[name].kind == "switch"):
            return None
        value = text if equals else next(words, None)
        if value is None:
            return None
        if name == CONFIG:
            config = value
        else:
            options[BY_OPTION[name].name] = value
    return None if config is None else (config, options)


def raw(setting: Setting, text: str) -> Any:
    """`text` as the file would hold it; `text` itself where it cannot be that, which then is what is wrong with it."""
    match setting.kind:
        case "number":
            return int(text) if re.fullmatch(r"-?\d+(_\d+)*", text, re.ASCII) else text
        case "switch":
            return True if text.lower() in TRUE else False if text.lower() in FALSE else text
        case "addresses":
            return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _unknown(name: str) -> BadSetting:
    import difflib

    names = [variable.removeprefix(VARIABLE_PREFIX) for variable in BY_VARIABLE]
    close = difflib.get_close_matches(name.removeprefix(VARIABLE_PREFIX), names, 1)
    fix = f"did you mean `{VARIABLE_PREFIX}{close[0]}`?" if close else "unset it, or see docs/settings.md"
    return BadSetting(f"the environment variable `{name}` is no setting", fix)
