#!/usr/bin/env bash
# Run the checks in stages and stop at the first that fails. Stages: lint, scan, pytest, molecule; "all" runs them all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PATH=$PWD/.venv/test/bin:$PATH
export PATH
# Thousands of processes import Ansible, boto3 and Dagster: with byte code kept beside them they start twice as fast.
unset PYTHONDONTWRITEBYTECODE
# The tests must neither see nor touch an AWS account of yours.
for variable in "${!AWS_@}"; do unset "$variable"; done

summary=()

# stage <title> <command...>: run it, note how long it took, end everything if it fails.
stage() {
  local title=$1 began=$SECONDS
  shift
  printf '\n=== %s\n' "$title"
  if "$@"; then
    summary+=("ok      $title ($((SECONDS - began)) s)")
  else
    summary+=("FAILED  $title ($((SECONDS - began)) s): $*")
    finish 1
  fi
}

finish() {
  printf '\n=== Summary after %d s\n' "$SECONDS"
  printf '  %s\n' "${summary[@]}"
  if [ "$1" = 0 ]; then echo "All passed."; else echo "The rest was not run."; fi
  exit "$1"
}

lint() {
  local scripts python
  mapfile -t scripts < <(git grep -lE '^#!.*\b(ba)?sh\b' -- '*.sh' .ci)
  mapfile -t python < <(git ls-files '*.py' | grep -v '^plugins/' || true)
  stage "ruff check" ruff check .
  stage "ruff format" ruff format --check .
  stage "mypy" mypy "${python[@]}"
  # The plug-ins are imported below `module_utils`, as Ansible does; so they are checked on their own.
  stage "mypy plugins" mypy plugins
  stage "yamllint" yamllint .
  stage "ansible-lint" ansible-lint
  stage "shellcheck" shellcheck "${scripts[@]}"
  stage "hadolint" .venv/supply/bin/hadolint docker/Dockerfile
}

# What checkov finds in the requests of each topology, the Dockerfile and all files; tests/scan/exceptions.yml.
scan() { stage "checkov" python -m tests.scan; }

# tests/conftest.py says what stays together. Three at a time on two cores: most of the time they wait.
run_pytest() { stage "pytest" pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 15; }

case ${1:-all} in
  lint) lint ;;
  scan) scan ;;
  pytest) run_pytest ;;
  molecule) stage "molecule" molecule test ;;
  all)
    lint
    scan
    run_pytest
    stage "molecule" molecule test
    ;;
  *)
    echo "ERROR: '$1' is no stage. Choices: all lint scan pytest molecule, e.g. local/test.sh lint" >&2
    exit 2
    ;;
esac
finish 0
