// SPDX-License-Identifier: Apache-2.0
//
// The register page as memory: what a program does that has pointers to the BAR and nothing else.
#include "nvme/model/host_for_test.h"

namespace lanepool::nvme::model::test {
namespace {

class Mapped : public ::testing::Test {
  protected:
    void SetUp() override { map(); }
    void map() {
        const auto extents = host_.controller->memory(pci::Region::bar0, 0, bar0_bytes);
        ASSERT_TRUE(extents && extents->size() == 1);
        ASSERT_EQ((*extents)[0].memory.size_bytes, bar0_bytes);
        bar_ = *Mapping::create((*extents)[0].memory);
    }
    uint32_t load(uint64_t offset) { return load_word(bar_.data() + offset); }
    void store(uint64_t offset, uint32_t value) { store_word(bar_.data() + offset, value); }
    uint32_t by_message(uint64_t offset) { return host_.read<uint32_t>(pci::Region::bar0, offset); }
    bool wait_status(uint32_t value) {
        return host_.poll_until([&] { return load(reg::csts) == value; });
    }

    void enable(uint32_t entries = 32) {
        host_.master();
        host_.admin = host_.make_queue(0, entries);
        store(reg::aqa, (entries - 1) | (entries - 1) << 16);
        store(reg::asq, static_cast<uint32_t>(host_.admin.sq.value));
        store(reg::asq + 4, static_cast<uint32_t>(host_.admin.sq.value >> 32));
        store(reg::acq, static_cast<uint32_t>(host_.admin.cq.value));
        store(reg::acq + 4, static_cast<uint32_t>(host_.admin.cq.value >> 32));
        store(reg::cc, cc::en(1) | cc::iosqes(6) | cc::iocqes(4));
        ASSERT_TRUE(wait_status(csts::rdy(1)));
    }
    bool works() {
        return host_.run(host_.admin, Host::admin_command(AdminOpcode::identify, 1, host_.page()))
            .status()
            .ok();
    }

    Folder folder_;
    Host host_{{.folder = folder_.path(), .map_registers = true}};
    Mapping bar_;
};

TEST_F(Mapped, the_controller_is_enabled_used_and_disabled_by_memory_alone) {
    EXPECT_EQ(load(reg::vs), version(1, 4));
    EXPECT_EQ(load(reg::cap), by_message(reg::cap));
    EXPECT_EQ(load(reg::cap + 4), by_message(reg::cap + 4));
    enable();
    EXPECT_TRUE(works());
    store(reg::cc, cc::iosqes(6) | cc::iocqes(4));
    ASSERT_TRUE(wait_status(0));
    EXPECT_EQ(load(reg::aqa), 31u | 31u << 16); // a controller reset keeps the admin queue registers
    enable(16);
    EXPECT_TRUE(works());
}

TEST_F(Mapped, a_shutdown_is_noticed) {
    enable();
    store(reg::cc, load(reg::cc) | cc::shn(cc::shn_normal));
    EXPECT_TRUE(wait_status(csts::rdy(1) | csts::shst(csts::shst_complete)));
}

TEST_F(Mapped, both_ways_to_a_register_agree) {
    host_.write<uint32_t>(pci::Region::bar0, reg::aqa, 0x000f000f);
    EXPECT_EQ(load(reg::aqa), 0x000f000fu);
    store(reg::aqa, 0x00070007);
    EXPECT_EQ(by_message(reg::aqa), 0x00070007u);
    // What was stored first counts first.
    store(reg::asq, 0x5000);
    host_.write<uint32_t>(pci::Region::bar0, reg::asq, 0x6000);
    host_.poll_once();
    EXPECT_EQ(load(reg::asq), 0x6000u);
    host_.write<uint32_t>(pci::Region::bar0, reg::intms, 6);
    EXPECT_EQ(load(reg::intmc), 6u);
    host_.write<uint32_t>(pci::Region::bar0, msix_table_offset + 20, 0xfee00000);
    EXPECT_EQ(load(msix_table_offset + 20), 0xfee00000u);
    EXPECT_EQ(by_message(msix_table_offset + 20), 0xfee00000u);
}

TEST_F(Mapped, what_may_not_be_written_is_restored) {
    enable();
    const std::array read_only = {reg::cap,   reg::cap + 4, reg::vs,    reg::csts,   reg::intms,
                                  reg::intmc, reg::nssr,    reg::cmbsz, reg::pmrcap, uint64_t{0xffc}};
    std::vector<uint32_t> before;
    for (const uint64_t offset : read_only)
        before.push_back(load(offset));
    for (const uint64_t offset : read_only)
        store(offset, 0x13579bdf);
    store(reg::aqa, 0x00010001); // not while the controller is enabled
    store(reg::asq, 0x1000);
    host_.poll_once();
    for (size_t i = 0; i < read_only.size(); ++i)
        EXPECT_EQ(load(read_only[i]), before[i]) << std::hex << read_only[i];
    EXPECT_EQ(load(reg::aqa), 31u | 31u << 16);
    EXPECT_EQ(load(reg::asq), host_.admin.sq.value);
    EXPECT_TRUE(works());
}

TEST_F(Mapped, a_configuration_that_cannot_be_is_a_fatal_status) {
    store(reg::cc, cc::en(1) | cc::mps(5));
    EXPECT_TRUE(wait_status(csts::cfs(1)));
    store(reg::cc, 0);
    EXPECT_TRUE(wait_status(0));
    enable();
    EXPECT_TRUE(works());
}

TEST_F(Mapped, random_bytes_do_no_harm) {
    uint32_t random = 1;
    for (int i = 0; i < 20000; ++i) {
        random = random * 1664525 + 1013904223;
        const uint32_t value = random;
        random = random * 1664525 + 1013904223;
        store((random >> 8) % (i % 2 ? 0x40 : bar0_bytes) & ~3u, value);
        host_.poll_once();
    }
    ASSERT_TRUE(**host_.device_reset());
    map();
    host_.doorbells = host_.doorbell_page();
    enable();
    EXPECT_TRUE(works());
}

TEST_F(Mapped, a_reset_puts_fresh_memory_behind_all_of_it) {
    enable();
    ASSERT_TRUE(**host_.device_reset());
    EXPECT_EQ(by_message(reg::cc), 0u);
    const Mapping old = std::move(bar_);
    map();
    EXPECT_EQ(load(reg::vs), version(1, 4));
    EXPECT_EQ(load(reg::cc), 0u);
    // Who goes on with the old memory reaches nobody.
    store_word(old.data() + reg::cc, cc::iosqes(6));
    store_word(old.data() + reg::cc, cc::en(1) | cc::iosqes(6) | cc::iocqes(4));
    for (int i = 0; i < 10; ++i)
        host_.poll_once();
    EXPECT_EQ(load(reg::cc), 0u);
    EXPECT_EQ(load(reg::csts), 0u);
}

TEST_F(Mapped, a_reset_in_place_forgets_what_was_written_before) {
    host_.client.lanepool = false; // as QEMU: it keeps its mapping
    enable();
    store(reg::cc, 0);
    store(reg::aqa, 0x00030003);
    ASSERT_TRUE(**host_.device_reset());
    EXPECT_EQ(load(reg::aqa), 0u);
    host_.poll_once();
    EXPECT_EQ(load(reg::cc), 0u);
    EXPECT_EQ(by_message(reg::aqa), 0u);
    enable();
    EXPECT_TRUE(works());
}

TEST_F(Mapped, nobody_looks_without_a_client_or_while_it_hangs) {
    EXPECT_TRUE(host_.controller->needs_polling());
    host_.controller->set_hung(true);
    EXPECT_FALSE(host_.controller->needs_polling());
    store(reg::cc, cc::en(1));
    host_.poll_once();
    EXPECT_EQ(by_message(reg::cc), 0u);
    host_.controller->set_hung(false);
    host_.controller->disconnected();
    EXPECT_FALSE(host_.controller->needs_polling());
}

TEST(NotMapped, only_the_doorbells_are_memory) {
    const Folder folder;
    Host host({.folder = folder.path()});
    EXPECT_FALSE(host.controller->needs_polling());
    const auto extents = host.controller->memory(pci::Region::bar0, 0, bar0_bytes);
    ASSERT_TRUE(extents && extents->size() == 1);
    EXPECT_EQ((*extents)[0].offset_bytes, doorbell_page_offset);
    EXPECT_EQ((*extents)[0].memory.size_bytes, doorbell_page_bytes);
}

} // namespace
} // namespace lanepool::nvme::model::test
