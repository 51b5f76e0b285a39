# SPDX-License-Identifier: Apache-2.0
# The Debian packages that building and testing take. Source it after log.sh.

# required_packages: prints the package names, one a line. This is the one list.
required_packages() {
  local llvm
  llvm=$(llvm_version)
  printf '%s\n' \
    g++ cmake ninja-build ccache lld pkg-config git \
    libcli11-dev nlohmann-json3-dev libtomlplusplus-dev libfmt-dev libspdlog-dev libexpected-dev \
    libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc \
    libsqlite3-dev libssl-dev liburing-dev libaio-dev etcd-server \
    libgtest-dev libgmock-dev \
    "clang-$llvm" "clang-tidy-$llvm" "clang-format-$llvm" "libclang-rt-$llvm-dev" "llvm-$llvm" \
    fio jq cpio make libelf-dev xz-utils zstd python3 curl util-linux procps binutils \
    ca-certificates debian-archive-keyring
}

# llvm_version: the LLVM that this Debian release packages; 16 is the one whose formatting is the rule.
llvm_version() {
  local codename
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  case $codename in
    bookworm) printf '16\n' ;;
    *) printf '19\n' ;;
  esac
}

# missing_packages: prints the required packages that are not installed.
missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort -u)
  comm -13 <(printf '%s\n' "$installed") <(required_packages | sort -u)
}

# as_root COMMAND...: runs it as root: directly, or by sudo (which asks only where there is a terminal).
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif ! command -v sudo >/dev/null; then
    die "installing packages needs root, and sudo is not installed" "run script/bootstrap as root once"
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@" || die "'sudo -n $1' was refused" "run script/bootstrap as root once, or allow sudo without a password"
  fi
}

# install_missing_packages: installs what is missing, with one apt-get update and only when something is.
install_missing_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "this machine has no apt-get" "use Debian 12 or 13"
  say "installing ${#missing[@]} packages: ${missing[*]}"
  # A broken third-party source must not stop us: what matters is whether the packages can be had.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 update >/dev/null ||
    warn "apt-get update reported an error (above); going on with what it could read"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    install --no-install-recommends "${missing[@]}" </dev/null >"$CACHE/apt.log" 2>&1 ||
    { tail -n 15 "$CACHE/apt.log" >&2; die "apt-get could not install the packages (log: $CACHE/apt.log)" \
      "check the network and the apt sources of this machine, then run script/bootstrap again"; }
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -eq 0 ] || die "still not installed: ${missing[*]}" "see $CACHE/apt.log"
}
