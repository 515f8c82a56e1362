#!/usr/bin/env bash
# Whole clusters in one process, from seeds: `--seed N --trace` tells one run step by step, `--runs N` and `--minutes M`
# try many. How to read it: tests/simulation/README.md.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=scripts/setup.sh
. scripts/setup.sh
set_up requirements-dev.lock requirements.lock
PYTHONPATH=tests exec .venv/bin/python -P -m simulation "$@"
