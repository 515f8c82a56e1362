"""`onefold completion`: what a shell needs in order to complete our commands and options, by typer's own means."""

from __future__ import annotations

import os

from typer import completion

from onefold.errors import UserError

SHELLS = ("bash", "zsh", "fish")


def prepare() -> None:
    """Make the command line answer a shell that asks how a line goes on."""
    completion.completion_init()  # type: ignore[attr-defined]


def script(shell: str | None) -> str:
    """For `shell`; None: the one in `SHELL`. Raises `UserError` for one that we do not know."""
    asked = shell or os.path.basename(os.environ.get("SHELL", ""))
    if asked not in SHELLS:
        what = f"there is no completion for {asked}" if asked else "it is not known which shell you use"
        raise UserError(what, f"name one: {', '.join(SHELLS)}")
    text: str = completion.get_completion_script(  # type: ignore[attr-defined]
        prog_name="onefold", complete_var="_ONEFOLD_COMPLETE", shell=asked
    )
    return text
