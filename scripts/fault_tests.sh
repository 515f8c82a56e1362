#!/usr/bin/env bash
# Real nodes on machines of their own (network namespaces, and disks in loop-mounted files), while somebody goes on
# writing: cables are cut, lines get bad, processes are killed or stand still, the power is lost. Needs root; the tests
# are skipped, with the reason, where namespaces or mounts are not permitted. Arguments go to pytest.
#
#   ONEFOLD_CHURN_SECONDS  for how long each of the four churns goes on (60)
#   ONEFOLD_SEED           what they do, and what happens to them (drawn, and printed); timing is never the same
#   ONEFOLD_MODEL_EXAMPLES how many examples the model test takes, per mode of writing (60); 0 leaves it out
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=scripts/setup.sh
. scripts/setup.sh
set_up requirements-dev.lock requirements.lock
want ip:iproute2 mkfs.ext4:e2fsprogs
model=()
[ "${ONEFOLD_MODEL_EXAMPLES-}" = 0 ] || model=(tests/live/test_folder_model.py)
exec .venv/bin/python -m pytest tests/faults "${model[@]}" "$@"
