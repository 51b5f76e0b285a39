// SPDX-License-Identifier: Apache-2.0
#include "inventory/save.h"

#include "inventory/reader.h"
#include "inventory/tree.h"

namespace lanepool::inventory {

namespace {

constexpr size_t most_bytes = size_t{64} << 20;

// Keeps the lines of a file that have one of PARTS in them.
void keep_lines(Tree& tree, const std::string& path, std::initializer_list<std::string_view> parts) {
    const auto text = tree.read(path, most_bytes);
    if (!text) return;
    std::string kept;
    for (const auto line : split(*text, '\n'))
        for (const auto part : parts)
            if (line.find(part) != std::string_view::npos) {
                kept.append(line) += '\n';
                break;
            }
    tree.add_file(path, kept);
}

// A command line has what is nobody else's business; so has the list of interrupts.
void slim(Tree& tree, const Machine& machine) {
    if (tree.exists("/proc/cmdline")) tree.add_file("/proc/cmdline", machine.host.command_line + "\n");
    if (tree.exists("/proc/interrupts"))
        tree.add_file("/proc/interrupts", machine.host.interrupt_remapping.value_or(false) ? " IR-\n" : "");
    for (const char* list : {"modules.dep", "modules.builtin"})
        keep_lines(tree, "/lib/modules/" + machine.host.kernel_release + "/" + list, {"/vfio", "/iommufd"});
}

} // namespace

Result<Saved> save_machine(const Roots& roots, const std::filesystem::path& folder) {
    DiskFiles files(roots);
    Tree tree;
    RecordingFiles recording(files, tree, most_bytes);
    const auto machine = read_machine(recording, "none");
    if (recording.full())
        return fail(Errc::no_space, "this machine's files take more than {} MiB, so they are not saved",
                    most_bytes >> 20);
    slim(tree, machine);
    TRY(tree.write(folder));
    return Saved{tree.entries(), tree.bytes()};
}

} // namespace lanepool::inventory
