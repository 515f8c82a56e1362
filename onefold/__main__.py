"""The program's entry. The resident processes start here without the command line's libraries.

`onefold run --config FILE` with options that are settings, and `onefold node` and `onefold member` likewise, are what
services and supervisors start: they stay small and start fast. Everything else, help and wrong usage included, goes
through `onefold.cli`.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    match sys.argv[1:]:
        case ["node" | "member" as what, "--config", file]:
            sys.exit(_resident(what, Path(file), {}))
        case ["node", "--config", file, "--pulse", pulse]:
            sys.exit(_resident("node", Path(file), {}, pulse))
        case ["run", *arguments]:
            from onefold.overrides import parse

            given = parse(arguments)
            if given is not None:
                sys.exit(_resident("run", Path(given[0]), given[1]))
    from onefold.cli import main as command_line

    command_line()


def _resident(what: str, file: Path, options: dict[str, str], pulse: str = "") -> int:
    from onefold.errors import OnefoldError

    try:
        from onefold.config import load

        config = load(file, options)
        if what == "node":
            # structlog would load Rich, which only a terminal needs: a sixth of the node's start, and 8 MiB.
            sys.modules["rich"] = None  # type: ignore[assignment]
            from onefold.pulse import Pulse
            from onefold.run import main as node

            return node(config, Pulse.of(pulse) if pulse else Pulse())
        if what == "member":
            from onefold.member import run as member

            member(config)
        from onefold.supervisor import run as supervise

        return supervise(config, options)
    except OnefoldError as error:
        print(f"onefold: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    main()
