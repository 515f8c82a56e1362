#!/usr/bin/env bash
# Set up whatever is missing, then run the demo. Its options: see `onefold demo --help`. Relative paths count from where
# you are.
set -euo pipefail
project=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
(
    cd "$project"
    # shellcheck source=scripts/setup.sh
    . scripts/setup.sh
    make_venv
    install_locked requirements.lock
    install_project
    install_etcd
)
exec "$project/.venv/bin/onefold" demo "$@"
