#!/usr/bin/env bash
# Make the virtual environments below .venv/ that are named as arguments: controller, local, container, test, bench, scan, supply, awx.
#
# Needs a Python >= 3.12 (PYTHON=/path/to/python3 chooses one) and the package index, nothing else. Installs exactly what
# the locks say, hashes checked, and only when a lock has changed. Nothing is installed outside of the checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly NEWEST_FIRST=(python3.12 python3.13 python3.14 python3 python)
began=$SECONDS

# Progress is no output of the command: `make status FORMAT=json` installs first, too.
say() { printf '[%4d s] %s\n' "$((SECONDS - began))" "$*" >&2; }

fail() {
  printf '\nERROR: %s\n' "$*" >&2
  exit 1
}

lock_of() {
  case $1 in
    controller) echo requirements.txt ;;
    local | test | bench | scan | supply | awx) echo "requirements/$1.txt" ;;
    container) echo docker/requirements.txt ;;
    *) fail "'$1' is no environment. Choices: controller local container test bench scan supply awx, e.g. local/bootstrap.sh controller local" ;;
  esac
}

# Print the path of the interpreter behind a command, if it works and is at least of the version given as 3.N. A pyenv
# shim is first in PATH and fails if no version is selected: so run it, don't only look for it.
works() {
  "$1" -c 'import sys
if sys.version_info < (3, int(sys.argv[1])): sys.exit(1)
print(sys.executable)' "$2" 2>/dev/null
}

# Print all interpreters of at least version 3.$1, best first.
pythons() {
  local name candidate
  if [ -n "${PYTHON:-}" ]; then
    works "$PYTHON" "$1" || fail "PYTHON=$PYTHON is no Python >= 3.$1 that works. Unset it, or name another interpreter."
    return
  fi
  for name in "${NEWEST_FIRST[@]}"; do
    while IFS= read -r candidate; do works "$candidate" "$1" || true; done < <(type -ap "$name" | awk '!seen[$0]++')
  done
  for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do works "$candidate" "$1" || true; done
  if command -v uv >/dev/null; then
    candidate=$(uv python find --no-project --system --no-python-downloads ">=3.$1" 2>/dev/null) && works "$candidate" "$1" || true
  fi
}

has_ensurepip() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# uv of the pinned version, in an environment of its own, made by whatever Python can (uv itself runs without one).
install_uv() {
  local stamp python wanted
  wanted=$(hash_of requirements/uv.txt)
  stamp=.venv/uv/.stamp
  if [ -x .venv/uv/bin/uv ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/uv/bin/uv --version >/dev/null 2>&1; then
    return
  fi
  say "uv: installing $(grep -o '^uv==[0-9.]*' requirements/uv.txt)"
  rm -rf .venv/uv
  while IFS= read -r python; do
    if has_ensurepip "$python"; then
      "$python" -m venv .venv/uv
      .venv/uv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --only-binary :all: \
        -r requirements/uv.txt || fail "uv could not be installed; the reason is above. The package index must be reachable."
      echo "$wanted" >"$stamp"
      return
    fi
  done < <(pythons 9)
  if command -v uv >/dev/null; then
    python=$(pythons 12 | head -n 1)
    [ -n "$python" ] || no_python uv
    uv venv --quiet --python "$python" .venv/uv
    uv pip install --quiet --python .venv/uv/bin/python --require-hashes -r requirements/uv.txt
    echo "$wanted" >"$stamp"
    return
  fi
  python=$(pythons 9 | head -n 1)
  [ -n "$python" ] || no_python uv
  fail "$python has no ensurepip, so it cannot make a virtual environment. On Debian and Ubuntu:
    apt-get install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')   (as root; python3-venv for the default version)
or install uv (https://docs.astral.sh/uv/), which is used instead. Then run this command again."
}

no_python() {
  fail "No Python >= 3.12 was found on PATH, in ${PYENV_ROOT:-$HOME/.pyenv}/versions or by uv. One of these gets one:
    apt-get install python3 python3-venv     (as root; Debian 13, Ubuntu 24.04 or newer)
    $1 python install 3.12
    pyenv install 3.12
Or name one that is elsewhere: PYTHON=/path/to/python3 make up. Then run this command again."
}

hash_of() { cat "$@" | python_hash; }
# sha256sum is of coreutils; macOS has shasum.
python_hash() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1; }

# Make one environment equal to its lock. The stamp is written last: a step that was interrupted is done again.
sync() {
  local name=$1 lock environment wanted python path options=()
  lock=$(lock_of "$name")
  environment=.venv/$name
  # An environment holds absolute paths: a checkout that was moved needs new ones.
  wanted="$(hash_of "$lock") $PWD"
  if [ "$(cat "$environment/.stamp" 2>/dev/null)" = "$wanted" ] && works "$environment/bin/python" 12 >/dev/null; then
    return
  fi
  say "$name: installing $(grep -c '^[a-zA-Z0-9].*==' "$lock") packages of $lock"
  path=$(cut -d ' ' -f 2- "$environment/.stamp" 2>/dev/null || true)
  if [ "${path:-$PWD}" != "$PWD" ] || ! works "$environment/bin/python" 12 >/dev/null; then
    python=$(pythons 12 | head -n 1)
    [ -n "$python" ] || no_python .venv/uv/bin/uv
    "$uv" venv --quiet --clear --python "$python" "$environment"
  fi
  rm -f "$environment/.stamp" "$environment/.stamp-runtime"
  # The tasks' packages are started again and again: compiled once, they start several times as fast. So does the scanner,
  # which is run without writing byte code.
  [[ $name != container && $name != scan ]] || options+=(--compile-bytecode)
  "$uv" pip sync --quiet --require-hashes "${options[@]}" --python "$environment/bin/python" "$lock" ||
    fail "$name: the packages of $lock could not be installed; the reason is above. Put it right, then run this command again."
  echo "$wanted" >"$environment/.stamp"
}

# The container's own program, as the image holds it: installed, not run from the source tree.
install_runtime() {
  local wanted stamp=.venv/container/.stamp-runtime
  wanted=$(find docker/runtime -type f -not -path '*/__pycache__/*' -not -path '*/dist/*' | LC_ALL=C sort |
    while IFS= read -r file; do printf '%s %s\n' "$file" "$(hash_of "$file")"; done | python_hash)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
  say "container: installing docker/runtime"
  rm -f "$stamp"
  "$uv" pip install --quiet --no-deps --reinstall --no-cache --compile-bytecode \
    --python .venv/container/bin/python ./docker/runtime
  echo "$wanted" >"$stamp"
}

main() {
  local name
  [ $# -gt 0 ] || fail "Name at least one environment: controller local container test bench scan supply awx, e.g. local/bootstrap.sh controller"
  for name in "$@"; do lock_of "$name" >/dev/null; done
  # Here, because a failure in a substitution below would not end the script.
  [ -z "${PYTHON:-}" ] || pythons 12 >/dev/null
  mkdir -p .venv
  exec 9>.venv/.lock
  if command -v flock >/dev/null && ! flock -n 9; then
    say "Waiting for another bootstrap in this checkout"
    flock 9
  fi
  install_uv
  uv=$PWD/.venv/uv/bin/uv
  # It may know interpreters that are on no PATH.
  PATH=$PATH:$PWD/.venv/uv/bin
  for name in "$@"; do
    sync "$name"
    [ "$name" != container ] || install_runtime
  done
}

main "$@"
