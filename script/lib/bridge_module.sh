# SPDX-License-Identifier: Apache-2.0
# kernel/lanepool_bridge for the kernels of whole hosts: brings their headers and builds the module, with every warning an
# error. Source it after log.sh, cache.sh, debs.sh, image.sh, host_image.sh.
#
# $CACHE/kernel-headers/VERSION holds Debian's headers of the very kernel that whole hosts boot;
# $CACHE/bridge/VERSION/lanepool_bridge.ko is what tests/hosts/bridge_test.py loads.

BRIDGE_SOURCE=$ROOT/kernel/lanepool_bridge

# install_bridge_modules: leaves $CACHE/bridge/{6.1,6.12}, building what is missing. Needs the images of whole hosts.
install_bridge_modules() {
  local entry version suites release stamp dir
  mkdir -p "$CACHE/bridge" "$CACHE/kernel-headers"
  for entry in "${HOST_KERNELS[@]}"; do
    read -r version suites <<<"$entry"
    release=$(cat "$CACHE/hosts/$version/release")
    install_kernel_headers "$version" "$suites" "$release"
    stamp=$release-$(content_hash "$BRIDGE_SOURCE"/{*.[ch],Kbuild} "$LIB/bridge_module.sh")
    dir=$CACHE/bridge/$stamp
    if [ ! -e "$dir/lanepool_bridge.ko" ]; then
      build_bridge_module "$CACHE/kernel-headers/$version" "$release" "$dir.new"
      replace_dir "$dir.new" "$dir"
      forget_old 3 "$CACHE/bridge/$version."*-*/
    fi
    if [ "$(readlink "$CACHE/bridge/$version" 2>/dev/null)" != "$stamp" ]; then
      ln -sfn "$stamp" "$CACHE/bridge/.$version.new"
      mv -T -- "$CACHE/bridge/.$version.new" "$CACHE/bridge/$version"
    fi
  done
}

# install_kernel_headers VERSION SUITES RELEASE: leaves $CACHE/kernel-headers/VERSION.
install_kernel_headers() {
  local version=$1 suites=$2 release=$3 dir=$CACHE/kernel-headers/$1
  [ "$(cat "$dir/release" 2>/dev/null)" != "$release" ] || return 0
  say "bringing headers of Linux $release"
  rm -rf -- "$dir.new"
  mkdir -p "$dir.new"/{debs,apt/lists/partial,apt/archives/partial}
  download_kernel_headers "$suites" "$release" "$dir.new/debs" "$dir.new/apt"
  local deb
  for deb in "$dir.new"/debs/*.deb; do
    dpkg-deb --extract "$deb" "$dir.new"
  done
  rm -rf -- "$dir.new"/{debs,apt}
  printf '%s\n' "$release" >"$dir.new/release"
  # They name their own place in the file system, where they are not.
  sed -i "s,/usr/src,$dir/usr/src," "$dir.new/usr/src/linux-headers-$release/Makefile"
  replace_dir "$dir.new" "$dir"
}

# download_kernel_headers SUITES RELEASE DEST WORK: the packages, without what they depend on: this machine compiles.
download_kernel_headers() {
  local suites=$1 release=$2 dest=$3 work=$4 suite mirror debian package packages=()
  mirror=$(debian_mirror)
  : >"$work/status"
  for suite in ${suites//,/ }; do
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$suite"
  done >"$work/sources.list"
  local options=(
    -q -o Dir::State="$work" -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status"
    -o Dir::Cache="$work" -o Dir::Cache::archives="$work/archives"
    -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o Acquire::Languages=none
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3
  )
  apt-get "${options[@]}" update </dev/null >"$work/log" 2>&1 ||
    { tail -n 15 "$work/log" >&2; die "apt-get could not read $suites at $mirror" "check the network"; }
  debian=$(apt-cache "${options[@]}" show "linux-headers-$release" 2>/dev/null | awk '$1 == "Version:" { print $2; exit }')
  [ -n "$debian" ] || die "Debian no longer has headers of Linux $release" \
    "remove $CACHE/host-kernel-* and $CACHE/hosts, and run script/bootstrap: it brings the present kernel"
  packages=("linux-headers-$release=$debian")
  for package in $(apt-cache "${options[@]}" depends "linux-headers-$release=$debian" |
    awk '$1 == "Depends:" && $2 ~ /^linux-(headers|kbuild)-/ { print $2 }'); do
    packages+=("$package=$debian")
  done
  (cd "$dest" && apt-get "${options[@]}" download "${packages[@]}" </dev/null >"$work/log" 2>&1) ||
    { tail -n 15 "$work/log" >&2; die "could not bring headers of Linux $release from $mirror" "check the network"; }
}

# build_bridge_module HEADERS RELEASE OUT: makes the folder OUT with lanepool_bridge.ko.
build_bridge_module() {
  local headers=$1/usr/src/linux-headers-$2 out=$3 compiler
  say "building lanepool_bridge for Linux $2"
  rm -rf -- "$out"
  mkdir -p "$out/work"
  cp "$BRIDGE_SOURCE"/{*.[ch],Kbuild} "$out/work/"
  # What this kernel was built with, if it is there; debug information would be most of what the guest loads.
  compiler=$(command -v gcc-12 || command -v gcc)
  make -C "$headers" M="$out/work" CC="$compiler" W=1 KCFLAGS=-Werror CONFIG_DEBUG_INFO= CONFIG_DEBUG_INFO_BTF_MODULES= \
    -j"$(nproc)" modules </dev/null >"$out/log" 2>&1 ||
    { tail -n 20 "$out/log" >&2; die "lanepool_bridge does not build for Linux $2 with $compiler" "see the messages above"; }
  mv "$out/work/lanepool_bridge.ko" "$out/"
  rm -rf -- "$out/work"
}
