# SPDX-License-Identifier: Apache-2.0
# Progress lines and errors of the scripts. Source it; it defines functions only.

# say TEXT: one progress line.
say() {
  printf '%s: %s\n' "${0##*/}" "$*"
}

# warn TEXT: something that does not stop the work.
warn() {
  printf '%s: warning: %s\n' "${0##*/}" "$*" >&2
}

# die WHAT [NEXT]: says what failed and what to do next, and ends the script.
die() {
  printf '%s: error: %s\n' "${0##*/}" "$1" >&2
  [ $# -lt 2 ] || printf '%s: next: %s\n' "${0##*/}" "$2" >&2
  exit 1
}
