#!/usr/bin/env bash
# Set up whatever is missing, then run the demo. Its options: see `onefold demo --help`. Relative paths count from where
# you are.
set -euo pipefail
project=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
(
    cd "$project"
    # shellcheck source=scripts/setup.sh
    . scripts/setup.sh
    set_up requirements.lock
)
exec "$project/.venv/bin/onefold" demo "$@"
