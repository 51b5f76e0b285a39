# SPDX-License-Identifier: Apache-2.0
# Where things that are brought from outside live. Source it after log.sh.

# cache_dir: prints the cache folder. The same rule stands in src/dev and tests/guest.
cache_dir() {
  printf '%s\n' "${LANEPOOL_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/lanepool}"
}

# content_hash FILE...: one short hash over names and contents, so that a stamp changes when a recipe does.
content_hash() {
  # Names without their folder: the same recipe in two checkouts is one image.
  local file
  for file in "$@"; do
    printf '%s\n' "${file##*/}"
    cat -- "$file"
  done | sha256sum | cut -c1-16
}

# replace_dir FROM TO: puts the finished folder FROM in TO's place. An interrupted run leaves TO absent or whole.
replace_dir() {
  local from=$1 to=$2
  if [ -e "$to" ]; then
    rm -rf -- "$to.old"
    mv -T -- "$to" "$to.old"
  fi
  touch -- "$from"  # packages bring their own date for the top folder, and forget_old goes by it
  mv -T -- "$from" "$to"
  rm -rf -- "$to.old"
}

# forget_old COUNT DIR/...: keeps the newest COUNT of these folders, so that going back and forth between branches
# builds nothing anew, and the cache does not grow for ever.
forget_old() {
  local keep=$1 old
  shift
  while IFS= read -r old; do
    rm -rf -- "$old"
  done < <(for old in "$@"; do [ -L "${old%/}" ] || printf '%s %s\n' "$(stat -c %Y "$old")" "$old"; done |
    sort -rn | tail -n "+$((keep + 1))" | cut -d' ' -f2-)
}

# point_link LINK TARGET: makes LINK a link to TARGET, in one step.
point_link() {
  local link=$1 target=$2
  [ "$(readlink "$link" 2>/dev/null)" != "$target" ] || return 0
  ln -sfn "$target" "${link%/*}/.${link##*/}.new"
  mv -T -- "${link%/*}/.${link##*/}.new" "$link"
}
