// SPDX-License-Identifier: Apache-2.0
#include "smartio/loan_protocol.h"

#include "smartio/config_image_for_test.h"

#include <gmock/gmock.h>

namespace lanepool::smartio {
namespace {

using testing::HasSubstr;

const LoanKey key{0x80001, 7, 3};

Range<Iova> iovas(uint64_t start, uint64_t size) { return *Range<Iova>::create({start}, size); }

Opened sample() {
    Opened opened;
    opened.bars[0] = {16384, BusAddress{0x400000}, true, true, {{0x1000, 0x1000}, {0x3000, 0x1000}}};
    opened.bars[4] = {4096, BusAddress{0x800000}, true, false, {}};
    opened.vectors = {1, 32, 128};
    opened.memory_survives_reset = true;
    opened.flush_address = BusAddress{0x900000};
    opened.config.assign(4096, std::byte{0x5a});
    return opened;
}

// Every length but the right one is refused, and none is read beyond.
template <class Decode>
void expect_only_whole(const std::vector<std::byte>& body, Decode decode) {
    for (size_t size = 0; size <= body.size() + 8; ++size) {
        auto bytes = body;
        bytes.resize(size);
        EXPECT_EQ(decode(bytes).has_value(), size == body.size()) << size;
    }
}

TEST(LoanProtocol, RequestsComeBackAsTheyWereSent) {
    const MapRequest map{key, iovas(0x100000, 0x2000), BusAddress{0x30000000}, Access::read_write};
    EXPECT_EQ(decode_map(encode(map)), map);
    const PlaceRequest place{key, ntb::Partition{47}, BusAddress{0x30000000}, 0x2001, Access::read_write};
    EXPECT_EQ(decode_place(encode(place)), place);
    EXPECT_EQ(decode_placed(encode(Placed{{~uint64_t{0}}})), (Placed{{~uint64_t{0}}}));
    const CreateSegmentRequest create{key, 0xffffffff, SegmentScope::device, 1};
    EXPECT_EQ(decode_create_segment(encode(create)), create);
    for (const auto scope : {SegmentScope::loan, SegmentScope::device})
        EXPECT_EQ(decode_segment(encode(SegmentRequest{key, 3, scope})), (SegmentRequest{key, 3, scope}));
    const ConnectedSegment connected{{0x123000}, 0x2000};
    EXPECT_EQ(decode_connected_segment(encode(connected)), connected);
    const UnmapRequest unmap{key, iovas(~uint64_t{0xfff}, 0x1000)};
    EXPECT_EQ(decode_unmap(encode(unmap)), unmap);
    const SetIrqsRequest irqs{
        key, pci::Irq::msi, BusAddress{0x5000}, {true, false, true, true, false, false, false, false, true}};
    EXPECT_EQ(decode_set_irqs(encode(irqs)), irqs);
    const SetIrqsRequest off{key, pci::Irq::intx, BusAddress{0}, {}};
    EXPECT_EQ(decode_set_irqs(encode(off)), off);
    const MaskIrqRequest mask{key, pci::Irq::intx, 0, true};
    EXPECT_EQ(decode_mask_irq(encode(mask)), mask);
    const ConfigWriteRequest write{key, 4, 0x406};
    EXPECT_EQ(decode_config_write(encode(write)), write);
    EXPECT_EQ(decode_key(encode(write)), key);
    EXPECT_EQ(decode_key(encode_key(key)), key);
    EXPECT_EQ(decode_opened(*encode(sample())), sample());
}

TEST(LoanProtocol, OnlyWholeMessagesAreTaken) {
    expect_only_whole(encode_key(key), decode_bare);
    expect_only_whole(encode(MapRequest{key, iovas(0, 4096), {}, Access::read_only}), decode_map);
    expect_only_whole(encode(UnmapRequest{key, iovas(0, 4096)}), decode_unmap);
    expect_only_whole(encode(PlaceRequest{key, {}, {}, 4096, Access::read_only}), decode_place);
    expect_only_whole(encode(Placed{{4096}}), decode_placed);
    expect_only_whole(encode(CreateSegmentRequest{key, 1, SegmentScope::loan, 4096}), decode_create_segment);
    expect_only_whole(encode(SegmentRequest{key, 1, SegmentScope::loan}), decode_segment);
    expect_only_whole(encode(ConnectedSegment{{4096}, 4096}), decode_connected_segment);
    expect_only_whole(encode(SetIrqsRequest{key, pci::Irq::msi, {}, std::vector<bool>(9, true)}),
                      decode_set_irqs);
    expect_only_whole(encode(MaskIrqRequest{key, pci::Irq::intx, 0, true}), decode_mask_irq);
    expect_only_whole(encode(ConfigWriteRequest{key, 4, 0}), decode_config_write);
    expect_only_whole(*encode(sample()), decode_opened);
}

// BODY with the byte at OFFSET replaced.
std::vector<std::byte> with(std::vector<std::byte> body, size_t offset, unsigned value) {
    body[offset] = static_cast<std::byte>(value);
    return body;
}

TEST(LoanProtocol, FieldsThatSayNothingSensibleAreRefused) {
    const auto map = encode(MapRequest{key, iovas(0x1000, 0x1000), {}, Access::read_only});
    EXPECT_FALSE(decode_map(with(map, 48, 2)));                 // an unknown flag
    EXPECT_FALSE(decode_map(with(map, 52, 1)));                 // reserved
    EXPECT_FALSE(decode_map(with(map, 33, 0)));                 // size 0
    EXPECT_FALSE(decode_map(with(with(map, 31, 0xff), 39, 1))); // wraps around
    const auto place =
        encode(PlaceRequest{key, ntb::Partition{3}, BusAddress{0x1000}, 0x1000, Access::read_only});
    EXPECT_TRUE(decode_place(place));
    EXPECT_FALSE(decode_place(with(place, 44, 2)));                 // an unknown flag
    EXPECT_FALSE(decode_place(with(place, 40, 48)));                // no such partition
    EXPECT_FALSE(decode_place(with(place, 41, 1)));                 // nor this
    EXPECT_FALSE(decode_place(with(place, 33, 0)));                 // size 0
    EXPECT_FALSE(decode_place(with(with(place, 31, 0xff), 39, 1))); // wraps around
    const auto create = encode(CreateSegmentRequest{key, 1, SegmentScope::loan, 0x1000});
    EXPECT_FALSE(decode_create_segment(with(create, 33, 0))); // size 0
    EXPECT_FALSE(decode_create_segment(with(create, 28, 2))); // an unknown flag
    EXPECT_FALSE(decode_segment(with(encode(SegmentRequest{key, 1, SegmentScope::loan}), 29, 1)));
    EXPECT_FALSE(decode_connected_segment(encode(ConnectedSegment{{4096}, 0})));
    EXPECT_FALSE(decode_connected_segment(encode(ConnectedSegment{{~uint64_t{0}}, 2})));
    const auto irqs = encode(SetIrqsRequest{key, pci::Irq::msi, {}, {true}});
    EXPECT_FALSE(decode_set_irqs(with(irqs, 24, 3)));    // the error interrupt is the lender's
    EXPECT_FALSE(decode_set_irqs(with(irqs, 29, 0xff))); // too many
    EXPECT_FALSE(decode_mask_irq(with(encode(MaskIrqRequest{key, pci::Irq::intx, 0, true}), 32, 2)));
    EXPECT_FALSE(decode_mask_irq(with(encode(MaskIrqRequest{key, pci::Irq::intx, 0, true}), 29, 1)));
    EXPECT_FALSE(decode_config_write(encode(ConfigWriteRequest{key, 5, 0})));
    EXPECT_FALSE(decode_config_write(encode(ConfigWriteRequest{key, 4096, 0})));
}

TEST(LoanProtocol, AnOpenedDeviceIsChecked) {
    const auto refused = [](Opened opened) { return !decode_opened(*encode(opened)).has_value(); };
    auto opened = sample();
    opened.bars[0].mappable[1] = {0x1800, 0x1000}; // overlaps
    EXPECT_TRUE(refused(opened));
    opened.bars[0].mappable[1] = {0x3000, 0x2000}; // beyond the end
    EXPECT_TRUE(refused(opened));
    opened.bars[0].mappable[1] = {0x3000, ~uint64_t{0}};
    EXPECT_TRUE(refused(opened));
    opened = sample();
    opened.bars[0].size_bytes = 12288;
    EXPECT_TRUE(refused(opened));
    opened.bars[0].size_bytes = 0;
    EXPECT_TRUE(refused(opened));
    opened = sample();
    opened.bars[4].address = {~uint64_t{0}};
    EXPECT_TRUE(refused(opened));
    opened = sample();
    opened.flush_address = {~uint64_t{0} - 2};
    EXPECT_TRUE(refused(opened));
    EXPECT_FALSE(refused(sample()));
}

TEST(LoanProtocol, AnMsixTableThatIsApartIsThere) {
    auto opened = sample();
    EXPECT_FALSE(has_msix_table(opened)) << "chains that are broken";
    opened.msix_table_apart = true;
    EXPECT_EQ(decode_opened(*encode(opened)).error().code(), Errc::protocol);
    opened.config = test::sample_config();
    EXPECT_TRUE(has_msix_table(opened));
    EXPECT_EQ(decode_opened(*encode(opened)), opened);
    for (const uint32_t place : {0x3fe0u, 0x4000u, 0xfffffff8u, 1u, 6u, 7u}) { // BAR 0's end, others
        pci::set32(opened.config, test::at::msix + 4, place);
        EXPECT_FALSE(decode_opened(*encode(opened))) << place;
    }
    pci::set32(opened.config, test::at::msix + 4, 0x3de8 & ~7u);
    EXPECT_TRUE(decode_opened(*encode(opened)));
    opened.config[pci::config::capabilities] = std::byte{0};
    EXPECT_FALSE(decode_opened(*encode(opened)));
    opened.msix_table_apart = false;
    EXPECT_TRUE(decode_opened(*encode(opened)));
    for (const unsigned flags : {4u, 8u, 0x80u})
        EXPECT_FALSE(decode_opened(with(*encode(sample()), 2, flags))) << flags;
}

TEST(LoanProtocol, WhatDoesNotFitIsNotSent) {
    auto opened = sample();
    opened.bars[0].mappable.assign(max_loan_areas + 1, {});
    EXPECT_EQ(encode(opened).error().code(), Errc::no_space);
    opened = sample();
    opened.config.resize(100);
    EXPECT_EQ(encode(opened).error().code(), Errc::no_space);
}

TEST(LoanProtocol, UnknownKindsAreNotSupported) {
    EXPECT_EQ(loan_request(0x100), LoanRequest::open);
    EXPECT_EQ(loan_request(0x108), LoanRequest::config_status);
    EXPECT_EQ(loan_request(0x109), LoanRequest::place);
    EXPECT_EQ(loan_request(0x10c), LoanRequest::remove_segment);
    for (const uint16_t kind : {0x0ff, 0x10d, 0xffff})
        EXPECT_EQ(loan_request(kind).error().code(), Errc::not_supported);
}

TEST(LoanProtocol, AnotherVersionIsNamed) {
    auto body = *encode(sample());
    body[0] = std::byte{9};
    const auto opened = decode_opened(body);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code(), Errc::not_supported);
    EXPECT_THAT(opened.error().message(), HasSubstr("version 9"));
}

} // namespace
} // namespace lanepool::smartio
