# SPDX-License-Identifier: Apache-2.0
# Brings packages of another Debian release into a folder without installing them. Source it after log.sh.
#
# apt gets a root of its own with an empty package database, so it resolves the whole set of dependencies, and the
# files are unpacked with dpkg-deb: nothing of the machine changes, no chroot and no root are needed.

# debian_mirror: prints the URI of the Debian archive that this machine's apt is set up with.
debian_mirror() {
  if [ -n "${LANEPOOL_MIRROR:-}" ]; then
    printf '%s\n' "$LANEPOOL_MIRROR"
    return
  fi
  local uri
  # The label tells the main archive from security and from third parties.
  uri=$(apt-get indextargets --format '$(LABEL)|$(SITE)|$(REPO_URI)' 2>/dev/null |
    awk -F'|' '$1 == "Debian" { print $3; exit }')
  [ -n "$uri" ] || die "no Debian archive in this machine's apt sources" \
    "set LANEPOOL_MIRROR to the URI of a Debian archive, or run 'apt-get update', and try again"
  printf '%s\n' "$uri"
}

# isolated_apt WORK SUITES: gives apt a root of its own below the folder WORK, with an empty package database, and reads what
# the suites have (a comma-separated list). Its options are then in APT_OPTIONS. Fails with apt's messages in WORK/log.
isolated_apt() {
  local work=$1 suites=$2 mirror suite keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -r "$keyring" ] || die "$keyring is missing" "install the package debian-archive-keyring"
  mirror=$(debian_mirror)
  mkdir -p "$work"/{lists/partial,archives/partial}
  : >"$work/status"
  for suite in ${suites//,/ }; do
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite"
  done >"$work/sources.list"
  APT_OPTIONS=(
    -q -o Dir::State="$work" -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status"
    -o Dir::Cache="$work" -o Dir::Cache::archives="$work/archives"
    -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o Acquire::Languages=none
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 -o APT::Get::List-Cleanup=false
  )
  apt-get "${APT_OPTIONS[@]}" update </dev/null >"$work/log" 2>&1
}

# apt_failed WORK WHAT: ends the script with what apt said, and removes the folder WORK.
apt_failed() {
  tail -n 15 "$1/log" >&2
  local suites
  suites=$(awk '{ printf "%s ", $4 }' "$1/sources.list")
  rm -rf -- "$1"
  die "could not bring $2 from ${suites}at $(debian_mirror)" \
    "check the network; set LANEPOOL_MIRROR if that archive does not carry ${suites% }"
}

# unpack_debs DEST SUITES PACKAGE...: unpacks the packages and all they depend on into DEST.
# SUITES is a comma-separated list; with more than one, the last is preferred.
unpack_debs() {
  local dest=$1 suites=$2 work deb
  shift 2
  work=$(mktemp -d "$dest.apt.XXXXXX")
  mkdir -p "$dest"
  isolated_apt "$work" "$suites" &&
    apt-get "${APT_OPTIONS[@]}" -y --no-install-recommends --download-only -t "${suites##*,}" install "$@" \
      </dev/null >"$work/log" 2>&1 || apt_failed "$work" "$*"
  for deb in "$work"/archives/*.deb; do
    dpkg-deb --extract "$deb" "$dest"
  done
  rm -rf -- "$work"
}
