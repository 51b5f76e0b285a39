// SPDX-License-Identifier: Apache-2.0
#include "dev/overlay.h"

#include <algorithm>
#include <cstring>
#include <elf.h>
#include <fstream>
#include <iterator>
#include <link.h>
#include <sys/stat.h>

namespace lanepool::dev {

namespace {

constexpr std::string_view library_folder = "/lib/x86_64-linux-gnu";
// What the kernel wants between two archives, at least.
constexpr size_t archive_alignment = 512;

Result<std::string> read_file(const std::filesystem::path& path) {
    std::ifstream stream(path, std::ios::binary);
    std::string data{std::istreambuf_iterator<char>(stream), {}};
    if (!stream.is_open() || stream.bad()) return fail(Errc::io, "cannot read {}", path.string());
    return data;
}

} // namespace

void Archive::pad() { bytes_.resize((bytes_.size() + 3) / 4 * 4); }

void Archive::entry(std::string_view name, unsigned mode, std::string_view data) {
    // Magic, then: inode, mode, user, group, links, time, size, device and special device as major and minor,
    // bytes of the name with its end, check sum.
    bytes_ +=
        fmt::format("070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
                    ++inode_, mode, 0, 0, 1, 0, data.size(), 0, 0, 0, 0, name.size() + 1, 0);
    bytes_ += name;
    bytes_ += '\0';
    pad();
    bytes_ += data;
    pad();
}

void Archive::add(std::string_view name, std::string_view data, unsigned mode) {
    name.remove_prefix(std::min(name.find_first_not_of('/'), name.size()));
    for (auto slash = name.find('/'); slash != std::string_view::npos; slash = name.find('/', slash + 1))
        if (folders_.emplace(name.substr(0, slash)).second) entry(name.substr(0, slash), S_IFDIR | 0755, {});
    entry(name, S_IFREG | mode, data);
}

std::string Archive::finish() {
    entry("TRAILER!!!", 0, {});
    folders_.clear();
    inode_ = 0;
    return std::exchange(bytes_, {});
}

Result<std::string> loadable_part(std::string_view elf) {
    const auto broken = [](const char* why) { return fail(Errc::protocol, "no program: {}", why); };
    Elf64_Ehdr header;
    if (elf.size() < sizeof header) return broken("it is too short");
    std::memcpy(&header, elf.data(), sizeof header);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_machine != EM_X86_64 || header.e_phentsize != sizeof(Elf64_Phdr))
        return broken("it is not an ELF file for x86-64");
    uint64_t end = header.e_phoff + uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
    if (header.e_phoff > elf.size() || end > elf.size()) return broken("its program headers are cut off");
    for (unsigned i = 0; i < header.e_phnum; ++i) {
        Elf64_Phdr part;
        std::memcpy(&part, elf.data() + header.e_phoff + i * sizeof part, sizeof part);
        if (part.p_offset > elf.size() || part.p_filesz > elf.size() - part.p_offset)
            return broken("a segment is cut off");
        end = std::max(end, part.p_offset + part.p_filesz);
    }
    // Nothing that runs it looks at the table of sections, which is not in it any more.
    header.e_shoff = 0;
    header.e_shnum = header.e_shstrndx = 0;
    std::string part(elf.substr(0, end));
    std::memcpy(part.data(), &header, sizeof header);
    return part;
}

namespace {

void add_library(std::vector<Library>& list, const std::filesystem::path& source,
                 const std::filesystem::path& target) {
    const bool known = std::any_of(list.begin(), list.end(),
                                   [&](const Library& library) { return library.target == target; });
    if (!known && std::filesystem::exists(source)) list.push_back({source, target});
}

int add_loaded(dl_phdr_info* info, size_t, void* list) {
    const std::filesystem::path path = info->dlpi_name;
    if (!path.is_absolute()) return 0; // the program itself, and what the kernel maps
    const bool loader = path.filename().string().starts_with("ld-linux");
    add_library(*static_cast<std::vector<Library>*>(list), path,
                loader ? path : library_folder / path.filename());
    return 0;
}

} // namespace

std::vector<Library> own_libraries() {
    std::vector<Library> list;
    ::dl_iterate_phdr(add_loaded, &list);
    const auto libc = std::find_if(list.begin(), list.end(), [](const Library& library) {
        return library.target.filename() == "libc.so.6";
    });
    if (libc == list.end()) return list;
    const auto beside = libc->source.parent_path();
    for (const char* name : {"libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2"})
        add_library(list, beside / name, library_folder / std::filesystem::path(name));
    return list;
}

Result<> write_initramfs(const std::filesystem::path& target, const std::filesystem::path& image,
                         const std::filesystem::path& program, const std::filesystem::path& module) {
    Archive archive;
    const auto loaded = [&archive](const std::filesystem::path& source, const std::string& name) -> Result<> {
        auto part = loadable_part(TRY(read_file(source)));
        if (!part) return tl::unexpected(part.error().within(source.string()));
        archive.add(name, *part, 0755);
        return {};
    };
    TRY(loaded(program, "/usr/bin/lanepool"));
    for (const auto& library : own_libraries())
        TRY(loaded(library.source, library.target));
    if (!module.empty()) archive.add("/usr/lib/lanepool/lanepool_bridge.ko", TRY(read_file(module)), 0644);

    std::string bytes = TRY(read_file(image));
    bytes.resize((bytes.size() + archive_alignment - 1) / archive_alignment * archive_alignment);
    bytes += archive.finish();
    // Hosts that run have read the old one; a new file leaves it to one that is just starting.
    auto fresh = target;
    fresh += ".new";
    std::ofstream stream(fresh, std::ios::binary | std::ios::trunc);
    stream << bytes << std::flush;
    stream.close();
    std::error_code error;
    if (stream) std::filesystem::rename(fresh, target, error);
    if (!stream || error) return fail(Errc::io, "cannot write {}; is the disk full?", target.string());
    return {};
}

} // namespace lanepool::dev
