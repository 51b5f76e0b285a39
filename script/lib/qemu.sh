# SPDX-License-Identifier: Apache-2.0
# A QEMU that can be a vfio-user client, beside whatever the machine has. Source it after log.sh, cache.sh, debs.sh.
#
# vfio-user-pci is in QEMU from 11.1 on, which Debian packages in trixie-backports. It is kept in a folder of its own
# with the libraries it was built for, and runs through its own dynamic loader.

QEMU_SUITES=trixie,trixie-backports
QEMU_PACKAGES=(qemu-system-x86 qemu-utils)
QEMU_PROGRAMS=(qemu-system-x86_64 qemu-storage-daemon qemu-img)

# write_qemu_wrapper FILE DIR PROGRAM: a script that runs PROGRAM of the unpacked tree DIR.
write_qemu_wrapper() {
  local file=$1 dir=$2 program=$3 data=
  # exec: the process that the caller started is QEMU itself, so that its pid can be signalled and waited for.
  # QEMU_MODULE_DIR: it would otherwise look for its modules in the machine's own folders.
  [ "$program" != qemu-system-x86_64 ] || data="-L '$dir/usr/share/qemu' -L '$dir/usr/share/seabios'"
  cat >"$file" <<END
#!/bin/sh
QEMU_MODULE_DIR='$dir/usr/lib/x86_64-linux-gnu/qemu' exec '$dir/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2' \\
  --library-path '$dir/usr/lib/x86_64-linux-gnu' '$dir/usr/bin/$program' $data "\$@"
END
  chmod +x "$file"
}

# qemu_stamp: the name of the folder that holds the present recipe's result.
qemu_stamp() {
  content_hash "$LIB/qemu.sh"
}

# install_qemu: leaves $CACHE/bin/{qemu-system-x86_64,qemu-storage-daemon,qemu-img}.
install_qemu() {
  local stamp dir program
  stamp=$(qemu_stamp)
  dir=$CACHE/qemu-$stamp
  if [ ! -e "$dir/complete" ]; then
    local fresh=$dir.new
    say "bringing QEMU from $QEMU_SUITES into $CACHE (about 40 MB)"
    rm -rf -- "$fresh" "$fresh".apt.*
    unpack_debs "$fresh" "$QEMU_SUITES" "${QEMU_PACKAGES[@]}"
    mkdir "$fresh/check"
    write_qemu_wrapper "$fresh/check/qemu" "$fresh" qemu-system-x86_64
    "$fresh/check/qemu" -device help 2>&1 | grep -q '"vfio-user-pci"' ||
      die "the QEMU of $QEMU_SUITES does not offer vfio-user-pci" \
        "it must be 11.1 or later: $("$fresh/check/qemu" --version 2>&1 | head -n 1)"
    say "$("$fresh/check/qemu" --version | head -n 1) offers vfio-user-pci"
    rm -r -- "$fresh/check"
    touch "$fresh/complete"
    replace_dir "$fresh" "$dir"
    forget_old 2 "$CACHE"/qemu-*/
  fi
  for program in "${QEMU_PROGRAMS[@]}"; do
    if ! grep -qsF "$dir/usr/bin/$program'" "$CACHE/bin/$program"; then
      mkdir -p "$CACHE/bin"
      write_qemu_wrapper "$CACHE/bin/.$program.new" "$dir" "$program"
      mv -T -- "$CACHE/bin/.$program.new" "$CACHE/bin/$program"
    fi
  done
}
