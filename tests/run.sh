#!/bin/sh
# Run the tests, quick ones first. Usage: tests/run.sh VENV_BIN [quick|long]
# With `quick` those alone; with `long`, the tests that repeat more often what others show are run as well.
# The store is tested on a real PostgreSQL server that the tests start and stop themselves, pages in a real browser.
set -eu
bin=$1
missing=""
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null 2>&1; then
  missing="postgresql"
fi
if ! command -v chromium >/dev/null 2>&1 && ! command -v chromium-browser >/dev/null 2>&1 &&
  ! command -v google-chrome >/dev/null 2>&1; then
  missing="$missing chromium"
fi
if [ -n "$missing" ]; then
  if command -v apt-get >/dev/null 2>&1; then
    echo "installing Debian's packages for the tests: $missing"
    as_root=""
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 -- several packages
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
  else
    echo "the tests need PostgreSQL's initdb and pg_ctl, and chromium: install them with your package manager" >&2
  fi
fi
# One thread in each of several processes: a busy second core ruins a two-thread run.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
workers="${TEST_WORKERS:-$(nproc --all 2>/dev/null || echo 2)}"
"$bin/pytest" -n "$workers" --dist loadfile --durations 10 -rs -m "not slow and not long"
[ "${2:-}" != quick ] || exit 0
# In order, not the files with most tests first: the longest ones have few tests, and would run alone at the end. One
# worker more than cores: tests of Ray wait for processes to start and to end for half of their time.
slow="slow and not long"
[ "${2:-}" = long ] && slow="slow or long"
"$bin/pytest" -n "$((workers + 1))" --dist loadfile --no-loadscope-reorder --durations 20 -m "$slow"
