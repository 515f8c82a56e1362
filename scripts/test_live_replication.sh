#!/usr/bin/env bash
# The one gate, the same here and in CI: set up whatever is missing, then format, lint, types and imports; the core's
# tests, with its coverage by them; then all others, in the order edge, live and so on. The last line is the summary of
# these. Arguments go to their pytest; with any, they are there to choose tests, the core's among them, without coverage.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=scripts/setup.sh
. scripts/setup.sh
set_up requirements-dev.lock requirements.lock
want git vim ip:iproute2 node:nodejs chromium chromedriver:chromium-driver

export PATH="$PWD/.venv/bin:$PATH"
ruff format --check .
ruff check .
mypy
lint-imports
if [ $# -eq 0 ]; then
    python -m pytest -q tests/core --cov --cov-report=term-missing:skip-covered --cov-fail-under=100
    set -- --ignore tests/core
fi
exec python -m pytest -m "not slow and not faults" "$@"
