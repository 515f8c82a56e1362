#!/usr/bin/env bash
# Breaks a copy of the code, one line at a time (tests/mutations/table.py), and sees that a test fails each time. Exits
# with 0 only if all were caught. `--only G3` and `-k TEXT` choose some, `--quick` leaves out those that only clusters
# and faults catch; some of these need root.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=scripts/setup.sh
. scripts/setup.sh
set_up requirements-dev.lock requirements.lock
PYTHONPATH=tests exec .venv/bin/python -P -m mutations "$@"
