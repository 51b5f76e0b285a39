# SPDX-License-Identifier: Apache-2.0
# Debian's headers of the very kernels that whole hosts boot, and what is built with them. Source it after log.sh, cache.sh,
# debs.sh, host_image.sh.
#
# $CACHE/kernel-headers/VERSION/usr/src/linux-headers-RELEASE is what modules are built against. What is made of them for a kernel
# lies, as images do, in a folder named after the recipe's content, with a link $CACHE/NAME/VERSION to it.

# install_for_kernels NAME KEPT RECIPE BUILD: leaves $CACHE/NAME/{6.1,6.12}, building what is missing, and keeps KEPT of each.
# RECIPE is a hash of what they are made by; BUILD VERSION SUITES RELEASE OUT makes the folder OUT. Needs the images of whole hosts.
install_for_kernels() {
  local name=$1 kept=$2 recipe=$3 build=$4 entry version suites release dir
  mkdir -p "$CACHE/$name"
  for entry in "${HOST_KERNELS[@]}"; do
    read -r version suites <<<"$entry"
    release=$(cat "$CACHE/hosts/$version/release")
    dir=$CACHE/$name/$release-$recipe
    if [ ! -e "$dir" ]; then
      install_kernel_headers "$version" "$suites" "$release"
      rm -rf -- "$dir.new"
      mkdir "$dir.new"
      "$build" "$version" "$suites" "$release" "$dir.new"
      replace_dir "$dir.new" "$dir"
      forget_old "$kept" "$CACHE/$name/$version."*-*/
    fi
    point_link "$CACHE/$name/$version" "$release-$recipe"
  done
}

# install_kernel_headers VERSION SUITES RELEASE: leaves $CACHE/kernel-headers/VERSION.
install_kernel_headers() {
  local version=$1 suites=$2 release=$3 dir=$CACHE/kernel-headers/$1 fresh=$CACHE/kernel-headers/$1.new package packages=()
  [ "$(cat "$dir/release" 2>/dev/null)" != "$release" ] || return 0
  say "bringing headers of Linux $release"
  rm -rf -- "$fresh"
  mkdir -p "$fresh/debs"
  find_kernel_packages "$fresh/apt" "$suites" "$release"
  # They name the other packages: those that all flavours of this kernel share, and the programs that compile.
  for package in $(apt-cache "${APT_OPTIONS[@]}" depends "linux-headers-$release=$KERNEL_PACKAGES" |
    awk '$1 == "Depends:" && $2 ~ /^linux-(headers|kbuild)-/ { print $2 }'); do
    packages+=("$package=$KERNEL_PACKAGES")
  done
  download_debs "$fresh/apt" "$fresh/debs" "linux-headers-$release=$KERNEL_PACKAGES" "${packages[@]}"
  for package in "$fresh"/debs/*.deb; do
    dpkg-deb --extract "$package" "$fresh"
  done
  rm -rf -- "$fresh"/{debs,apt}
  printf '%s\n' "$release" >"$fresh/release"
  # They name their own place in the file system, where they are not.
  sed -i "s,/usr/src,$dir/usr/src," "$fresh/usr/src/linux-headers-$release/Makefile"
  replace_dir "$fresh" "$dir"
}

# find_kernel_packages WORK SUITES RELEASE: apt as by isolated_apt, and in KERNEL_PACKAGES the version of that kernel's packages.
find_kernel_packages() {
  isolated_apt "$1" "$2" || apt_failed "$1" "the list of packages"
  KERNEL_PACKAGES=$(apt-cache "${APT_OPTIONS[@]}" show "linux-headers-$3" 2>/dev/null | awk '$1 == "Version:" { print $2; exit }')
  [ -n "$KERNEL_PACKAGES" ] || die "Debian no longer has headers of Linux $3" \
    "remove $CACHE/host-kernel-* and $CACHE/hosts, and run script/bootstrap: it brings the present kernel"
}

# download_debs WORK DEST PACKAGE...: these packages alone, without what they depend on, as apt in WORK finds them.
download_debs() {
  local work=$1 dest=$2
  shift 2
  (cd "$dest" && apt-get "${APT_OPTIONS[@]}" download "$@" </dev/null >"$work/log" 2>&1) || apt_failed "$work" "$*"
}

# build_modules HEADERS-VERSION RELEASE FOLDER OPTION...: builds the modules in FOLDER, whose messages go to FOLDER/log.
build_modules() {
  local headers=$CACHE/kernel-headers/$1/usr/src/linux-headers-$2 release=$2 folder=$3 compiler
  shift 3
  # What this kernel was built with, if it is there; debug information would be most of what a host loads.
  compiler=$(command -v gcc-12 || command -v gcc)
  make -C "$headers" M="$folder" CC="$compiler" CONFIG_DEBUG_INFO= CONFIG_DEBUG_INFO_BTF_MODULES= -j"$(nproc)" "$@" modules \
    </dev/null >"$folder/log" 2>&1 ||
    { tail -n 20 "$folder/log" >&2; die "modules for Linux $release do not build with $compiler" "see the messages above"; }
}
