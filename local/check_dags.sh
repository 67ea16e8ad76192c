#!/usr/bin/env bash
# Check that every code location of a directory (default: dags) loads, with the packages that the container has.
# `make check-dags`, pre-commit (.pre-commit-hooks.yaml) and pipelines (examples/) call it; it installs them first.
set -euo pipefail

home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$home/local/bootstrap.sh" container
PYTHONPATH=$home exec "$home/.venv/container/bin/python" -m local.check_dags "$@"
