#!/usr/bin/env bash
# Run the checks and stop at the first that fails. Stages: lint, scan, pytest, molecule; "all" runs pytest and, beside it,
# the others one after the other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PATH=$PWD/.venv/test/bin:$PATH
export PATH
# Thousands of processes import Ansible, boto3 and Dagster: with byte code kept beside them they start twice as fast.
unset PYTHONDONTWRITEBYTECODE
# The tests must neither see nor touch an AWS account of yours.
for variable in "${!AWS_@}"; do unset "$variable"; done

mkdir -p build
summary=$(mktemp)
trap 'rm -f "$summary"' EXIT

# stage <title> <command...>: run it, note how long it took, end everything if it fails. Whoever ends this shell with
# SIGTERM interrupts the command, too.
stage() {
  local title=$1 began=$SECONDS command
  shift
  printf '\n=== %s\n' "$title"
  "$@" &
  command=$!
  # Python programs that clean up do it on SIGINT; tests/conftest.py sees to it that it is not ignored.
  trap 'kill -INT "$command" 2>/dev/null; [ "$title" = pytest ] || kill "$command" 2>/dev/null; wait "$command"; exit 1' TERM
  if wait "$command"; then
    echo "ok      $title ($((SECONDS - began)) s)" >>"$summary"
  else
    echo "FAILED  $title ($((SECONDS - began)) s): $*" >>"$summary"
    exit 1
  fi
}

finish() {
  printf '\n=== Summary after %d s\n' "$SECONDS"
  sed 's/^/  /' "$summary"
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

# tests/conftest.py says what stays together, and what comes first. Three at a time on two cores: they also wait.
# The report is where `make test-times` takes the times from.
run_pytest() {
  stage "pytest" pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 15 \
    --junitxml build/tests.xml -o junit_family=xunit1
}

run_molecule() { stage "molecule" molecule test; }

# Linters, scanner and Molecule beside the tests. What they print comes when all of them have ended.
checks() {
  lint
  scan
  run_molecule
}

everything() {
  local log=build/checks.log tests others failed=0
  (run_pytest) &
  tests=$!
  (checks) >"$log" 2>&1 &
  others=$!
  trap 'kill "$tests" "$others" 2>/dev/null || true' INT TERM
  # What fails in the checks ends the tests; they take longest.
  wait "$others" || failed=1
  if [ "$failed" = 1 ]; then kill "$tests" 2>/dev/null || true; fi
  wait "$tests" || failed=1
  cat "$log"
  return "$failed"
}

case ${1:-all} in
  lint) (lint) || finish 1 ;;
  scan) (scan) || finish 1 ;;
  pytest) (run_pytest) || finish 1 ;;
  molecule) (run_molecule) || finish 1 ;;
  all) everything || finish 1 ;;
  *)
    echo "ERROR: '$1' is no stage. Choices: all lint scan pytest molecule, e.g. local/test.sh lint" >&2
    exit 2
    ;;
esac
finish 0
