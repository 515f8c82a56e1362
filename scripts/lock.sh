#!/usr/bin/env bash
# Make both lock files anew from pyproject.toml: exact versions, with the hashes of every file of each, so that they
# hold on every platform. The run-time lock comes first and binds the other. Versions stay as they are where they can;
# `scripts/lock.sh -U` raises them all.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
.venv/bin/python -m venv "$tools"
"$tools/bin/python" -m pip install -q --disable-pip-version-check pip-tools
compile() {
    "$tools/bin/pip-compile" -q --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-index-url \
        --no-emit-find-links --no-emit-trusted-host "$@" pyproject.toml
}
compile -o requirements.lock "$@"
compile --extra dev -c requirements.lock -o requirements-dev.lock "$@"
