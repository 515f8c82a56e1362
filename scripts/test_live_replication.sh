#!/usr/bin/env bash
# The one gate, the same here and in CI: set up whatever is missing, then format, lint, types, imports and tests.
# The last line is pytest's summary. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=scripts/setup.sh
. scripts/setup.sh
make_venv
install_locked requirements-dev.lock requirements.lock
install_project
install_etcd

export PATH="$PWD/.venv/bin:$PATH"
ruff format --check .
ruff check .
mypy
lint-imports
exec python -m pytest --cov --cov-report=term-missing:skip-covered --cov-fail-under=100 "$@"
