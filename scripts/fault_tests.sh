#!/usr/bin/env bash
# Real nodes on machines of their own (network namespaces), whose cables are cut and which stand still while somebody
# goes on writing. Needs root, or the right to make namespaces; the tests are skipped without. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=scripts/setup.sh
. scripts/setup.sh
set_up requirements-dev.lock requirements.lock
want ip:iproute2
exec .venv/bin/python -m pytest tests/faults "$@"
