#!/usr/bin/env bash
# Build the documentation site into site/: open site/index.html, or serve that directory, and it can be searched, too.
# Broken links are errors. Its generated pages are made by scripts/write_docs.py. Arguments go to `mkdocs build`;
# `./scripts/docs.sh --serve` serves it, and follows edits.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=scripts/setup.sh
. scripts/setup.sh
set_up requirements-dev.lock requirements.lock
export NO_MKDOCS_2_WARNING=1 # an advertisement
if [ "${1-}" = --serve ]; then
    shift
    exec .venv/bin/python -m mkdocs serve "$@"
fi
# not --quiet: warnings would not be errors then
exec .venv/bin/python -m mkdocs build --strict --clean "$@"
